"""Vision transformers: the short forward is the hooked one, Views look along their own positions, and their
runs are runs like any other."""

from __future__ import annotations

import json

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError, UsageError
from grokinterp.measures.nodes import everywhere
from grokinterp.models import Inside, VisionConfig, network_config
from grokinterp.models.base import deprecation_silenced, lens_classes
from grokinterp.tasks import TASKS, Arrays, make_task
from grokinterp.training import PRESETS, TrainConfig, Trainer

EXACT = {"rtol": 0, "atol": 1e-10}
KINDS = {
    "pixel": {"patch_size": 1, "d_model": 16, "n_heads": 2},
    "patch": {"patch_size": 4, "d_model": 16, "n_heads": 2, "n_layers": 3},
    "double": {"d_model": 16, "n_heads": 2, "local_layers": 2, "local_d_model": 8, "local_heads": 2},
    "no norm": {"patch_size": 6, "d_model": 16, "n_heads": 2, "n_layers": 1, "normalization": "none"},
    "no mlp": {"patch_size": 3, "d_model": 16, "n_heads": 2, "d_mlp": 0, "local_layers": 1, "act_fn": "gelu"},
}  # fmt: skip
LINES = make_task("line_images", flips=0.1, examples=48)


def config(name: str) -> VisionConfig:
    made = network_config({"kind": "vision", **KINDS[name]})
    assert isinstance(made, VisionConfig)
    return made


def shaken(config: VisionConfig, reads, seed: int = 1) -> dict[str, torch.Tensor]:
    """Weights in float64 of which none is 0, not even a bias."""
    generator = torch.Generator().manual_seed(seed)
    drawn = config.initial_weights(reads, seed)
    return {
        name: weight.double() + 0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in drawn.items()
    }


def task_of(*shape: int, classes: int = 3, n: int = 12) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    return gi.arrays(torch.randn(n, *shape, generator=generator), labels)


# The two forward passes


@pytest.mark.parametrize("name", KINDS)
def test_the_short_forward_and_its_gradient_are_those_of_the_hooked_network(name):
    network, reads = config(name), LINES.reads
    weights = shaken(network, reads)
    model = network.hooked(reads, weights, torch.float64)
    expected = model(LINES.inputs)[:, 0]
    learned = {key: weight.clone().requires_grad_() for key, weight in weights.items()}
    found = network.logits(learned, network.read(LINES.inputs, reads), reads)
    torch.testing.assert_close(found, expected, **EXACT)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theirs = dict(model.named_parameters())
    both = (
        torch.autograd.grad((logits * direction).sum(), [of[key] for key in weights], allow_unused=True)
        for logits, of in ((found, learned), (model(LINES.inputs)[:, 0], theirs))
    )
    for key, one, other in zip(weights, *both, strict=True):
        if one is None:  # nothing depends on it: a softmax does not see what is added to all its scores
            assert key.endswith("b_K")
            assert float(other.abs().max()) < 1e-10
        else:
            torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (4, 6, 3)])
@pytest.mark.parametrize("changes", [{"patch_size": 1}, {}, {"local_layers": 1}])
def test_arrays_of_any_rank_are_read(shape, changes):
    task = task_of(*shape)
    network = network_config({"kind": "vision", "patch_size": 2, "d_model": 8, "local_d_model": 8, **changes})
    weights = shaken(network, task.reads)
    model = network.hooked(task.reads, weights, torch.float64)
    found = network.logits(weights, network.read(task.inputs, task.reads), task.reads)
    torch.testing.assert_close(found, model(task.inputs)[:, 0], **EXACT)


def test_patches_are_cut_row_by_row_with_their_pixels_row_by_row():
    image = torch.arange(4 * 6 * 2.0).view(1, 4, 6, 2)
    network = network_config({"kind": "vision", "patch_size": 2})
    patches = network.read(image, task_of(4, 6, 2).reads)
    assert patches.shape == (1, 6, 4, 2)
    for patch, (i, j) in enumerate((i, j) for i in range(2) for j in range(3)):
        expected = image[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(0, 1)
        assert torch.equal(patches[0, patch], expected)


def test_of_binary_pixels_the_linear_map_is_an_embedding_of_the_two():
    """The prototype's first kind: tokens 0 and 1 and a class token for a HookedTransformer of the task's
    pixels."""
    network = config("pixel")
    weights = shaken(network, LINES.reads)
    with deprecation_silenced():
        tokens = lens_classes()[0](network._trunk.lens(145, 3, 8, torch.float64))
    state = {key: weight for key, weight in weights.items() if key not in ("embed.W_E", "cls_token")}
    embedding = torch.stack([torch.zeros(16), weights["embed.W_E"][0], weights["cls_token"]])
    tokens.load_state_dict({**state, "embed.W_E": embedding}, strict=False)
    words = torch.cat([torch.full((48, 1), 2), LINES.inputs.flatten(1).long()], 1)
    found = network.logits(weights, network.read(LINES.inputs, LINES.reads), LINES.reads)
    torch.testing.assert_close(tokens(words)[:, 0], found, **EXACT)


# Views


@pytest.mark.parametrize("name", KINDS)
def test_a_view_looks_along_the_positions_of_the_network(name):
    network = config(name)
    weights = shaken(network, LINES.reads)
    model = network.hooked(LINES.reads, weights, torch.float64)
    bare, handed = gi.View.of_weights(LINES, network, weights), gi.view(model, LINES)
    logits, cache = model.run_with_cache(LINES.inputs)
    side = 12 // network.patch_size
    for view in (bare, handed):
        what = "pixel" if network.patch_size == 1 else "patch"
        assert view.reads.words[:3] == ("class", f"{what} 0,0", f"{what} 0,1")
        assert view.reads.n_ctx == 1 + side**2
        assert view.reads.grid == (side, side)
        assert [block.prefix for block in view.blocks] == [f"blocks.{i}" for i in range(network.n_layers)]
        torch.testing.assert_close(view.logits, logits[:, 0], **EXACT)
        for layer in range(network.n_layers):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][:, :, 0]
            torch.testing.assert_close(view.attention[layer], pattern.transpose(0, 1), **EXACT)
            if network.d_mlp:
                hidden = cache[f"blocks.{layer}.mlp.hook_post"][:, 0]
                torch.testing.assert_close(view.neurons_of(layer), hidden, **EXACT)
        mean = gi.measure("attention.mean", view)
        assert mean.coords["pos"].values[1] == f"1: {what} 0,0"
        assert mean.shape == (network.n_layers, 2 if network.n_heads == 2 else 4, 1 + side**2)
        assert float(mean.sum("pos").min()) == pytest.approx(1, abs=1e-10)
        assert float(gi.measure("attention.self.uniform", view)) == pytest.approx(1 / (1 + side**2))


@pytest.mark.parametrize("name", ["patch", "double", "no mlp"])
def test_a_part_is_ablated_at_the_class_token(name):
    network = config(name)
    view = gi.View.of_weights(LINES, network, shaken(network, LINES.reads))
    layer = network.n_layers - 1

    def zero(z, hook):
        z[:, 0, 1] = 0
        return z

    logits = view.model.run_with_hooks(LINES.inputs, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", zero)])[:, 0]
    expected = torch.nn.functional.cross_entropy(logits, LINES.targets)
    found = gi.ablate(view, "head", (layer, 1), how="zero", draws=0).after.loss["all"]
    assert found == pytest.approx(float(expected.detach()), rel=1e-9)


def test_a_pass_that_begins_at_a_later_layer_gives_the_same_numbers():
    network = config("double")
    weights = shaken(network, LINES.reads)
    bare = gi.View.of_weights(LINES, network, weights)
    model = network.hooked(LINES.reads, weights, torch.float64)
    model.add_hook("blocks.0.hook_resid_pre", lambda x, hook: x)  # a user's hook: nothing is kept
    whole = gi.view(model, LINES)
    for hook in ("blocks.1.hook_attn_out", "blocks.0.mlp.hook_post", "local.blocks.1.hook_mlp_out"):
        edit = (hook, lambda x, hook: x * 0.5)
        seen = ["blocks.1.mlp.hook_post"]
        one, other = (view.activations(seen, edits=[edit]) for view in (bare, whole))
        for key in ("logits", *seen):
            assert torch.equal(one[key], other[key]), (hook, key)
        assert not torch.equal(one["logits"], bare.logits)
    assert bare._streams
    assert not whole._streams


@pytest.mark.parametrize("n", [48, 5])
def test_layers_inside_patches_have_a_row_for_each_patch(n):
    task = LINES.sampled(examples=n)
    network = config("double")
    view = gi.View.of_weights(task, network, shaken(network, task.reads))
    assert network.inside(task.reads) == Inside("local.", 9, 0)
    hooks = ["local.blocks.1.attn.hook_pattern", "local.blocks.1.hook_mlp_out", "local.blocks.0.attn.hook_z"]
    found = view.activations(hooks)
    _, cache = view.model.run_with_cache(task.inputs)
    assert found[hooks[0]].shape == (n, 9, 2, 17)
    assert torch.equal(found[hooks[0]], cache[hooks[0]][:, :, 0].unflatten(0, (n, 9)))
    assert torch.equal(found[hooks[1]], cache[hooks[1]][:, 0].unflatten(0, (n, 9)))
    assert torch.equal(found[hooks[2]], cache[hooks[2]][:, 0].unflatten(0, (n, 9)))
    for hook in hooks:
        assert torch.equal(view.at_answer(hook, cache[hook]), found[hook])
    assert everywhere(view, hooks[1:2])[hooks[1]].shape == (9 * n, 17, 8)
    at_rest = gi.ablate(view, hooks[1], how="mean", draws=2)

    def mean(x, hook):
        x = x.clone()
        at = x.unflatten(0, (n, 9))[:, :, 0]
        x[:, 0] = at.mean(0, keepdim=True).expand(n, -1, -1).flatten(0, 1)
        return x

    logits = view.model.run_with_hooks(task.inputs, fwd_hooks=[(hooks[1], mean)])[:, 0]
    expected = torch.nn.functional.cross_entropy(logits, task.targets)
    assert at_rest.after.loss["all"] == pytest.approx(float(expected.detach()), rel=1e-9)
    assert len(at_rest.controls) == 2


def test_every_hook_changes_the_answer():
    network = config("double")
    model = network.hooked(LINES.reads, shaken(network, LINES.reads), torch.float64)
    before = model(LINES.inputs)[:, 0]
    generator = torch.Generator().manual_seed(0)

    def shake(x, hook):
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)

    _, used = model.run_with_cache(LINES.inputs)
    assert {"hook_embed", "hook_pos_embed", "local.hook_embed", "local.ln_final.hook_scale"} <= set(used)
    for name in used:
        after = model.run_with_hooks(LINES.inputs, fwd_hooks=[(name, shake)])[:, 0]
        assert not torch.equal(before, after), name


def test_a_network_is_viewed_on_other_images_of_the_same_size_alone():
    network = config("patch")
    weights = shaken(network, LINES.reads)
    model = network.hooked(LINES.reads, weights, torch.float64)
    clean = LINES.sampled(flips=0.0)
    for view in (gi.View.of_weights(LINES, network, weights), gi.view(model, LINES)):
        torch.testing.assert_close(view.on(clean).logits, model(clean.inputs)[:, 0], **EXACT)
    with pytest.raises(UsageError, match=r"^weights do not fit the model: .*: give the task that"):
        gi.view(model, make_task("line_images", size=16, examples=8))


# Configurations


def test_a_configuration_goes_through_toml_and_json():
    made = TrainConfig.preset("double_vit")
    again = TrainConfig.make(json.loads(made.model_dump_json(exclude_none=True)))
    assert again == made
    text = '[task]\nname = "line_images"\nflips = 0.05\n[model]\nkind = "vision"\nlocal_layers = 1\n'
    assert TrainConfig.from_toml(text).model == made.model
    assert str(made.model).startswith("patches of side 4, 1 local of 32, 2 layers, d_model 64")
    changed = TrainConfig.preset("pixel_vit", **{"model.kind": "transformer", "task.name": "majority"})
    assert (changed.model.d_model, changed.model.kind) == (64, "transformer")


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        (
            {"patch_size": 5},
            {},
            "model.patch_size: 5 does not divide 12, and an example of line_images has 12 x 12 pixels: "
            "choose 1, 2, 3, 4, 6, 12",
        ),
        ({"n_heads": 5}, {}, "model: 5 heads do not divide d_model 64: change one of them, or set d_head"),
        (
            {"local_layers": 1, "local_heads": 3},
            {},
            "model: 3 local_heads do not divide local_d_model 32: change one of them",
        ),
        (
            {"local_layers": 1, "patch_size": 1},
            {},
            "model: local_layers: a patch of one pixel has nothing to attend to: set patch_size",
        ),
        ({"patch": 2}, {}, "unknown key 'model.patch'; did you mean 'patch_size'?"),
        ({"d_vocab_out": 3}, {}, "model.d_vocab_out: 3 logits are fewer than the 8 answers of line_images"),
        (
            {},
            {"name": "modular_addition", "p": 7},
            "model.kind: a vision network reads arrays of numbers, and modular_addition has tokens: choose "
            "another kind",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(model, task, message):
    def refused() -> None:
        Trainer(
            TrainConfig.make({"task": {"name": "line_images", **task}, "model": {"kind": "vision", **model}})
        )

    with pytest.raises((UsageError, ConfigError)) as raised:
        refused()
    assert str(raised.value) == message


def test_a_network_of_tokens_reads_no_images():
    with pytest.raises(
        UsageError, match=r"^model.kind: a transformer reads tokens, and line_images has none"
    ):
        Trainer(TrainConfig.make({"task": {"name": "line_images"}}))


def test_initial_weights_are_seeded():
    network = config("double")
    one, same, other = (network.initial_weights(LINES.reads, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["local.embed.W_E"], other["local.embed.W_E"])
    assert {name: tuple(weight.shape) for name, weight in one.items()} == network.shapes(LINES.reads)


# Runs


def small(name: str, **overrides: object) -> TrainConfig:
    """A preset, made so small that it is a matter of a second."""
    return TrainConfig.preset(
        name,
        **{
            "task.examples": 64,
            "model.d_model": 16,
            "model.n_heads": 2,
            "model.d_mlp": 16,
            "training.batch_size": 40,
            "training.steps": 6,
            "training.evaluate_every": 3,
            "training.stop_when": None,
            "snapshots.log": None,
            "snapshots.every": 3,
            "threads": 1,
            **({"model.local_d_model": 8, "model.local_heads": 2} if name == "double_vit" else {}),
            **overrides,
        },
    )


VITS = [name for name in PRESETS if name.endswith("_vit")]


def test_there_are_three():
    assert sorted(VITS) == ["double_vit", "patch_vit", "pixel_vit"]


FINITE = {"training.data": None, "training.batch_size": 16, "training.fraction": 0.5}


@pytest.mark.parametrize("overrides", [{}, FINITE], ids=["fresh", "finite"])
@pytest.mark.parametrize("name", VITS)
def test_a_resumed_run_ends_with_the_same_bytes_at_any_number_of_threads(name, overrides):
    def last(trainer: Trainer) -> dict[str, torch.Tensor]:
        for _ in trainer:
            pass
        return {key: weight.detach().clone() for key, weight in trainer.weights.items()}

    whole = last(Trainer(small(name, **overrides)))
    for threads in (1, 3):
        trainer = Trainer(small(name, threads=threads, **overrides))
        state = next(trainer.state() for snapshot in trainer if snapshot.step == 3)
        resumed = last(Trainer(small(name, threads=threads, **overrides), state))
        for key, weight in whole.items():
            assert torch.equal(weight, resumed[key]), key


@pytest.mark.parametrize("name", VITS)
def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_hooked_network(name):
    trainer = Trainer(small(name, **{"training.dtype": "float64"}))
    next(iter(trainer))
    with torch.no_grad():
        gradients = trainer._examples.gradients(None)
    reads, network = trainer.task.reads, trainer.config.model
    model = network.hooked(reads, trainer.weights, torch.float64)
    batch = trainer._fresh.batch(0)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(batch.inputs)[:, 0], batch.answers[:, 0])
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(loss, [parameters[key] for key in gradients])
    for (key, found), other in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", VITS)
def test_a_run_is_reported_replayed_and_verified(grokinterp, tmp_path, name):
    run = gi.train(small(name), tmp_path / "run", progress=False)
    again = gi.load_run(run.path)
    assert again.steps == [0, 3, 6]
    for command in ("verify", "analyze", "replay"):
        code, _, err = grokinterp(command, run.path)
        assert (code, err) == (0, "")
    report = json.loads((run.path / "report.json").read_text())
    skipped = report["skipped"]
    assert skipped["effective_rank.W_E"] == "examples are no tokens, so the network has no embedding"
    by_node = "node_ablation.mean"
    if name == "pixel_vit":
        assert "145 positions" in skipped[by_node]
    else:
        assert by_node in report["measures"]
    assert not report["key_frequencies"] if "key_frequencies" in report else True
    with torch.no_grad():
        logits = again.model(-1)(again.task.inputs)[:, 0]
    torch.testing.assert_close(again.view(-1).logits.float(), logits.float(), rtol=0, atol=1e-5)


def test_a_loop_of_ones_own_is_recorded(tmp_path):
    task = make_task("line_images", examples=32)
    network = config("patch")
    model = network.hooked(task.reads, network.initial_weights(task.reads, 0))
    split, section = torch.arange(32).split(16), network.model_dump()
    run = gi.record(model, task, 0, out=tmp_path / "loop", split=split, config=section)
    torch.testing.assert_close(run.view(0).logits, gi.view(model, task).logits, **EXACT)


@pytest.mark.trains
def test_the_patch_preset_learns_lines_in_a_hundred_updates():
    config = TrainConfig.preset("patch_vit", **{"training.stop_when": "test_accuracy >= 0.99", "threads": 1})
    *_, last = Trainer(config)
    assert last.step <= 200
    assert last.metrics["test_accuracy"] >= 0.99


def test_a_table_of_ones_own_is_trained_on(monkeypatch, tmp_path):
    def two_moons() -> Arrays:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(64) % 2
        points = torch.randn(64, 4, generator=generator) + 3 * labels[:, None]
        return gi.arrays(points, labels, {"first": points[:, 0]}, names=["left", "right"])

    monkeypatch.setitem(TASKS, "two_moons", two_moons)
    changes = {"training.steps": 40, "model.d_model": 8, "model.n_heads": 2, "model.patch_size": 1, **FINITE}
    config = TrainConfig.preset("patch_vit", **{"task.name": "two_moons", **changes})
    run = gi.train(config, tmp_path / "run", progress=False)
    assert run.history["test_accuracy"].iloc[-1] > 0.9
    assert run.view(-1).reads.words == ("class", "feature 0", "feature 1", "feature 2", "feature 3")
    assert run.task.factors["class"].names == ("left", "right")
    gi.analyze(run).save_html(tmp_path / "report.html")
    assert "right" in (tmp_path / "report.html").read_text()
