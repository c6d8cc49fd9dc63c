"""Other people's weights: each layout by files made here of networks of known logits, refusals, and the
search for the training set."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import ConfigError, DamagedFile, NotARun, RunLocked, UsageError
from grokinterp.importing import forensics
from grokinterp.importing.mapping import built_in, read_layout
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.models.base import lens_classes
from grokinterp.tasks import groups, make_task, order, split

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / os.environ.get("GROKINTERP_CHECKPOINTS", "../shared/checkpoints")
P = 7
ADDITION = make_task("modular_addition", p=P)
SMALL = ModelConfig(d_model=12, n_heads=2, d_head=5, d_mlp=20)
MAPPING = re.sub(
    r"(?m)^tokens = .*$",
    'tokens = ["a +@p b =@p+3 of p+4", "a *@p+2 b =@p+3 of p+4"]',
    re.search(r"```toml\n(# mine.toml.*?)```", (ROOT / "docs/import.md").read_text(), re.DOTALL)[1],
)


def logits(config, task, weights):
    return config.hooked(task.reads, weights, torch.float64)(task.inputs)[:, -1]


def imported(content, folder, **options):
    """The run made of a checkpoint, whatever it knows; without a search for its training set unless that is
    asked for."""
    file = folder / "theirs.pth"
    torch.save(content, file)
    return gi.import_checkpoint(
        file, folder / "run", **{"forensics": False, "progress": False, "believe": True, **options}
    )


def assert_same_logits(run, step, config, task, weights):
    assert run.task.layout == task.layout
    torch.testing.assert_close(
        run.view(step)._at_answer["logits"], logits(config, task, weights), rtol=0, atol=1e-12
    )


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


# Layouts


@pytest.mark.parametrize(("n_layers", "n_logits"), [(1, None), (1, P + 1), (2, None)])
def test_nanda_as_a_single_model(tmp_path, n_layers, n_logits):
    config = SMALL.model_copy(update={"n_layers": n_layers, "d_vocab_out": n_logits})
    weights = formats.without_biases(formats.random_weights(config, ADDITION), but=".mlp.")
    content = {
        "model": formats.nanda(weights),
        "epoch": 41,
        "train_losses": [2.0 / (i + 1) for i in range(42)],
        "scheduler": {"x": 1},
    }
    run = imported(content, tmp_path, task="modular_addition")
    assert run.imported["layout"] == "nanda"
    assert run.steps == [41]
    assert run.config.model.d_vocab_out == n_logits
    assert run.config.model.train_biases == "mlp"
    assert_same_logits(run, -1, config, ADDITION, weights)
    assert run.history["train_loss"].tolist() == content["train_losses"]
    assert run.history["test_loss"].isna().all()


def test_nanda_with_many_snapshots_and_optimiser(tmp_path):
    several = [
        formats.without_biases(formats.random_weights(SMALL, ADDITION, seed), but=".mlp.")
        for seed in range(3)
    ]
    content = {
        "state_dicts": [formats.nanda(w) for w in several],
        "epochs": [0, 100, 200],
        "train_losses": np.linspace(3, 1, 250).tolist(),
        "test_losses": list(torch.linspace(4, 2, 250)),
        "optimizer": {
            "state": {},
            "param_groups": [{"lr": 0.001, "betas": (0.9, 0.98), "weight_decay": 1.0}],
        },
    }
    run = imported(content, tmp_path, task="modular_addition")
    assert run.steps == [0, 100, 200]
    for step, weights in zip(run.steps, several, strict=True):
        assert_same_logits(run, step, SMALL, ADDITION, weights)
    assert run.history["step"].tolist() == list(range(250))
    assert run.history["train_loss"].iloc[249] == 1
    assert run.history["test_loss"].iloc[0] == 4
    assert (run.config.training.lr, run.config.training.betas) == (0.001, (0.9, 0.98))
    assert run.imported["training"] == {"lr": 0.001, "weight_decay": 1.0, "betas": [0.9, 0.98]}
    assert run.split is None
    assert run.record["split"] is None
    assert run.finished == {"step": 200, "reason": "imported", "snapshots": 3, "evaluations": 250}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_plain_hooked_transformer(tmp_path, suffix):
    weights = formats.random_weights(SMALL, ADDITION)
    file = tmp_path / f"theirs.{suffix}"
    torch.save(weights, file) if suffix == "pth" else safetensors.torch.save_file(weights, file)
    run = gi.import_checkpoint(file, tmp_path / "run", task="modular_addition", forensics=False, believe=True)
    assert run.imported["layout"] == "transformer_lens"
    assert run.config.model.train_biases == "all"
    assert_same_logits(run, -1, SMALL, ADDITION, weights)
    assert run.history.empty


@pytest.mark.parametrize("normalization", ["LN", "RMS"])
def test_normalisation_is_known_by_its_weights(tmp_path, normalization):
    config = SMALL.model_copy(update={"normalization": normalization})
    weights = formats.random_weights(config, ADDITION)
    run = imported(weights, tmp_path, task="modular_addition")
    assert run.config.model.normalization == normalization
    assert_same_logits(run, -1, config, ADDITION, weights)


def test_a_network_without_mlp(tmp_path):
    config = SMALL.model_copy(update={"d_mlp": 0})
    weights = formats.random_weights(config, ADDITION)
    assert_same_logits(imported(weights, tmp_path, task="modular_addition"), -1, config, ADDITION, weights)


def grokking_demo(**config):
    lens = formats.lens_config(SMALL, ADDITION, **config)
    model = lens_classes()[0](lens)
    several = [formats.random_weights(SMALL, ADDITION, seed) for seed in (1, 2)]
    rows = order(P * P, "torch_randperm", 598)
    content = {
        "model": {**model.state_dict(), **several[1]},
        "config": model.cfg,
        "checkpoints": [{**model.state_dict(), **w} for w in several],
        "checkpoint_epochs": [99, 199],
        "train_losses": [1.5] * 200,
        "test_losses": [2.5] * 200,
        "train_indices": rows[:15],
        "test_indices": rows[15:],
    }
    return content, several, rows


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_the_grokking_demo_with_its_pickled_configuration(tmp_path):
    content, several, rows = grokking_demo()
    run = imported(content, tmp_path, task="modular_addition", forensics=True)
    assert run.imported["layout"] == "transformer_lens"
    assert run.steps == [99, 199]
    for step, weights in zip(run.steps, several, strict=True):
        assert_same_logits(run, step, SMALL, ADDITION, weights)
    assert torch.equal(run.split.train, rows[:15])
    assert torch.equal(run.split.test, rows[15:])
    assert "the 15 examples that the file names" in said(run)
    view = run.view(199)
    history = run.history.set_index("step")
    assert history.loc[199, "train_accuracy"] == float(view.correct()[rows[:15]].double().mean())
    assert history.loc[199, "train_loss"] == 1.5  # the file's own
    assert np.isnan(history.loc[150, "train_accuracy"])
    assert "NaN" not in (run.path / "metrics.jsonl").read_text()
    assert dict(run.verify())["split.safetensors"] is None


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"positional_embedding_type": "rotary", "rotary_dim": 4}, "rotary"),
        ({"use_attn_scale": False}, "use_attn_scale = False, and only True can be expressed"),
        ({"use_local_attn": True, "window_size": 2, "attn_types": ["local"]}, "can be expressed"),
    ],
)
def test_an_architecture_that_cannot_be_expressed_is_refused(tmp_path, config, says):
    content, _, _ = grokking_demo(**config)
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        imported(content, tmp_path, task="modular_addition")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("n_layers", "attn_coeff", "sign"), [(1, 0, False), (1, 0.25, True), (2, 1, False), (3, 0.5, False)]
)
def test_pizza_with_its_json(tmp_path, n_layers, attn_coeff, sign):
    task = make_task("modular_addition", p=P, layout="a b =" if sign else "a b")
    config = SMALL.model_copy(
        update={"n_layers": n_layers, "attention_mixing": float(attn_coeff), "attention_dir": "bidirectional"}
    )
    weights = formats.without_biases(formats.random_weights(config, task), but=".mlp.")
    file = formats.pizza(tmp_path, weights, attn_coeff=attn_coeff, eqn_sign=sign, attention_dir="casual")
    run = gi.import_checkpoint(file, tmp_path / "run", task="modular_addition", forensics=False, believe=True)
    assert run.imported["layout"] == "pizza"
    assert run.imported["training"] == {"lr": 1e-3, "fraction": 0.8}
    assert_same_logits(run, -1, config, task, weights)


def test_pizza_without_its_json_asks_for_it_and_takes_another(tmp_path):
    task = make_task("modular_addition", p=P, layout="a b")
    weights = formats.without_biases(formats.random_weights(SMALL, task), but=".mlp.")
    file = formats.pizza(tmp_path, weights, attn_coeff=1)
    other = (tmp_path / "config_abc123.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match=r"as pizza: it needs its settings, .* give them with --config-file"):
        gi.import_checkpoint(file, tmp_path / "run", task="modular_addition", forensics=False, believe=True)
    assert gi.import_checkpoint(
        file, tmp_path / "run", task="modular_addition", config_file=other, forensics=False, believe=True
    ).steps == [0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attn_coeff": 1, "diff_vocab": True}, "diff_vocab = True"),
        ({}, "do not say attn_coeff"),
        ({"attn_coeff": "much"}, "attention_mixing"),
        ({"attn_coeff": 1, "act_fn": "swish"}, "act_fn"),
    ],
)
def test_pizza_settings_that_cannot_be_expressed(tmp_path, settings, says):
    weights = formats.without_biases(
        formats.random_weights(SMALL, make_task("modular_addition", p=P, layout="a b"))
    )
    with pytest.raises(UsageError, match=says):
        gi.import_checkpoint(
            formats.pizza(tmp_path, weights, **settings),
            tmp_path / "run",
            task="modular_addition",
            forensics=False,
            believe=True,
        )


@pytest.mark.parametrize("text", ["no json", "[1]", '{"attn_coeff": 1'])
def test_settings_that_are_no_json_object(tmp_path, text):
    weights = formats.without_biases(
        formats.random_weights(SMALL, make_task("modular_addition", p=P, layout="a b"))
    )
    file = formats.pizza(tmp_path, weights)
    (tmp_path / "config_abc123.json").write_text(text)
    with pytest.raises(UsageError, match=r"config_abc123\.json are no JSON"):
        gi.import_checkpoint(file, tmp_path / "run", task="modular_addition", forensics=False, believe=True)


def test_chughtai_transformer_with_its_extra_keys(tmp_path):
    weights = formats.random_weights(SMALL, ADDITION)
    run = imported(formats.chughtai(weights), tmp_path, task="modular_addition")
    assert run.imported["layout"] == "chughtai_transformer"
    assert_same_logits(run, -1, SMALL, ADDITION, weights)


def test_a_copy_that_is_none_is_refused(tmp_path):
    theirs = formats.chughtai(formats.random_weights(SMALL, ADDITION))
    theirs["y_embed"] = theirs["y_embed"] + 1
    with pytest.raises(UsageError, match=r"'y_embed' is not the copy of embed\.W_E"):
        imported(theirs, tmp_path, task="modular_addition")


def test_chughtai_mlp(tmp_path):
    task = make_task("modular_addition", p=P, layout="a b")
    config = MLPConfig(d_model=6, d_mlp=10)
    weights = formats.random_weights(config, task)
    run = imported(formats.chughtai_mlp(weights), tmp_path, task="modular_addition")
    assert run.imported["layout"] == "chughtai_mlp"
    assert_same_logits(run, -1, config, task, weights)
    gi.analyze(run).save_html(tmp_path / "report.html")


def test_a_mapping_written_from_the_documentation(tmp_path):
    (tmp_path / "mine.toml").write_text(MAPPING)
    task = make_task("modular_multiplication", p=P, layout=f"a *@{P + 2} b =@{P + 3} of {P + 4}")
    config = SMALL.model_copy(update={"n_heads": 4, "d_vocab_out": P + 4})
    weights = formats.without_biases(formats.random_weights(config, task), but=".mlp.")
    section = {"name": "modular_multiplication", "layout": task.layout, "p": P}
    run = imported(
        formats.torch_modules(weights, 0), tmp_path, layout=str(tmp_path / "mine.toml"), task=section
    )
    assert_same_logits(run, -1, config, task, weights)


# What is found


def test_the_task_is_found_by_trying(tmp_path):
    run = imported(dict(controls.clock(13, (2, 5)).weights), tmp_path)
    assert run.config.task == {"name": "modular_addition", "p": 13, "layout": "a b =", "convention": "paper"}
    assert "right on 1.0000 of all pairs; the next best" in said(run)
    assert gi.analyze(run).to_dict()["run"]["imported"]["layout"] == "transformer_lens"


def test_the_task_is_found_on_a_group(tmp_path):
    task = make_task("group_composition", group="D4")
    run = imported(lookup(task, lambda row: 20.0), tmp_path)
    assert run.config.task == {"name": "group_composition", "group": "D4", "layout": "a b ="}


def test_where_no_task_is_clear_one_is_asked_for(tmp_path):
    task = make_task("group_composition", group="S3")
    with pytest.raises(UsageError, match=r"no task is clearly this network's .* say which with --task"):
        imported(formats.random_weights(SMALL, task), tmp_path)
    assert (
        imported(
            formats.random_weights(SMALL, task), tmp_path, task={"group": "S3", "name": "group_aba"}
        ).task.symbol
        == "a b a in S3"
    )


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("modular_addtion", "did you mean 'modular_addition'"),
        ({"name": "modular_addition", "p": 8}, "is none of a network that takes 7 elements as 'a b ='"),
        ({"name": "group_composition", "group": "S5"}, "is none of a network that takes"),
        ({"name": "modular_addition", "layout": "a b"}, "which is no example of two operands"),
        ({"name": "modular_addition", "q": 8}, "unknown key 'task.q'"),
    ],
)
def test_a_task_that_does_not_go_with_the_network(tmp_path, task, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        imported(formats.random_weights(SMALL, ADDITION), tmp_path, task=task)


def test_a_group_whose_elements_are_numbered_differently_is_recognised_as_one(tmp_path):
    task = make_task("group_composition", group="S3")
    other = torch.tensor([3, 0, 5, 1, 4, 2])  # our number of the element that they call 0, 1, ...
    table = other.argsort()[task.table[other[:, None], other]]
    run = imported(lookup(task, lambda row: 20.0, table.flatten()), tmp_path)
    assert run.config.task["group"] in ("S3", "D3")  # which are the same
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


def test_groups_by_their_order():
    assert groups.of_order(120) == ["C120", "D60", "S5"]
    assert groups.of_order(60) == ["C60", "D30", "A5"]
    assert groups.of_order(3) == ["C3", "A3"]
    assert all(groups.order(group) == n for n in range(2, 130) for group in groups.of_order(n))


def test_a_sign_that_the_network_knows_is_preferred(tmp_path):
    (tmp_path / "mine.toml").write_text(MAPPING.replace("n_heads = 4", "n_heads = 2"))
    clock = controls.clock(13, (2, 5), n_logits=17)
    task = make_task("modular_addition", p=13, layout="a +@13 b =@16 of 17")
    weights = {name: weight.clone() for name, weight in clock.weights.items()}
    weights["embed.W_E"] = torch.cat(
        [weights["embed.W_E"][:13], torch.zeros(4, 15 + 12 - 12, dtype=torch.float64)]
    )
    weights["pos_embed.W_pos"] = weights["pos_embed.W_pos"][[0, 0, 1, 2]]
    weights["pos_embed.W_pos"][1] = 0
    weights["embed.W_E"][15] = 0.05  # what an unused token does
    run = imported(formats.torch_modules(weights, 0), tmp_path, layout=str(tmp_path / "mine.toml"))
    assert run.config.task["name"] == "modular_addition"
    assert run.task.layout == task.layout


# Refusals and damage


def test_left_over_keys_are_refused_by_name(tmp_path):
    with pytest.raises(
        UsageError,
        match=r"as transformer_lens: its state dict holds 'blocks\.0\.attn\.W_gate', which this layout "
        r"does not know",
    ):
        imported({**formats.random_weights(SMALL, ADDITION), "blocks.0.attn.W_gate": torch.ones(3)}, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unembed.W_U": None}, r"no unembed\.W_U"),
        ({"blocks.0.attn.W_O": torch.ones(3, 3)}, r"blocks\.0\.attn\.W_O has the shape \[3, 3\]"),
        ({"blocks.0.mlp.W_in": None}, r"it has no blocks\.0\.mlp\.W_in"),
        ({"embed.W_E": torch.ones(8, 12, dtype=torch.int64)}, r"embed\.W_E (has the shape|holds torch)"),
        ({"embed.W_E": torch.full((8, 12), torch.nan)}, r"embed\.W_E holds numbers that are not finite"),
        ({"pos_embed.W_pos": torch.ones(18, 12)}, "no task is clearly this network's"),
        ({"unembed.W_U": torch.ones(12, 5), "unembed.b_U": torch.ones(5)}, "gives 5 logits"),
    ],
)
def test_weights_that_do_not_go_together_are_refused(tmp_path, change, says):
    weights = {**formats.random_weights(SMALL, ADDITION), **change}
    with pytest.raises(gi.GrokinterpError, match=says) as error:
        imported(
            {name: weight for name, weight in weights.items() if weight is not None},
            tmp_path,
            layout="transformer_lens",
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"model": 3}, {"state_dicts": []}, {"state_dicts": [1], "epochs": [0]}]
)
def test_a_file_without_state_dict_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match=r"holds no state dict.*: save model\.state_dict\(\)$"):
        imported(content, tmp_path)


@pytest.mark.parametrize("epochs", [[0, 5, 5], [0, 1], [0, 1.5, 2], [-1, 0, 1]])
def test_steps_that_are_none_are_not_known_and_that_is_said(tmp_path, epochs):
    content = {
        "state_dicts": [formats.nanda(formats.random_weights(SMALL, ADDITION, seed)) for seed in range(3)],
        "epochs": epochs,
    }
    run = imported(content, tmp_path, task="modular_addition")
    assert run.imported["unknown_steps"] == run.steps == [0, 1, 2]
    assert f"the file's epochs, {epochs}, is not one step for each of its networks" in said(run)


def test_losses_and_rows_that_do_not_fit_are_left_out_and_that_is_said(tmp_path):
    several = [formats.nanda(formats.random_weights(SMALL, ADDITION, seed)) for seed in range(2)]
    content = {
        "state_dicts": several,
        "epochs": [0, 100],
        "train_losses": [1.0] * 7,
        "train_indices": [1, 2, 900],
    }
    run = imported(content, tmp_path, task="modular_addition")
    assert run.history.empty
    assert "7 train losses do not go with its 100 steps" in said(run)
    assert "no rows of this task" in said(run)
    assert run.split is None


def test_pairs_as_training_set(tmp_path):
    weights = formats.without_biases(formats.random_weights(SMALL, ADDITION), but=".mlp.")
    train, test = split(P * P, 0.3).train, split(P * P, 0.3).test
    pairs = {
        f"{part}_data": [(int(r) // P, int(r) % P, P) for r in rows]
        for part, rows in (("train", train), ("test", test))
    }
    run = imported({"model": formats.nanda(weights), **pairs}, tmp_path, task="modular_addition")
    assert torch.equal(run.split.train, train)
    assert torch.equal(run.split.test, test)
    assert set(run.view(-1).parts) == {"train", "test", "all"}


def test_a_damaged_split_is_named(tmp_path):
    weights = formats.nanda(formats.random_weights(SMALL, ADDITION))
    run = imported(
        {"model": weights, "train_indices": list(range(10)), "test_indices": list(range(10, 49))},
        tmp_path,
        task="modular_addition",
    )
    data = bytearray((run.path / "split.safetensors").read_bytes())
    data[-1] ^= 1
    (run.path / "split.safetensors").write_bytes(data)
    assert "the split" in dict(run.verify())["split.safetensors"]
    with pytest.raises(DamagedFile, match=r"split\.safetensors"):
        _ = gi.load_run(run.path).split


def test_an_imported_run_cannot_be_trained_on(tmp_path):
    run = imported(formats.random_weights(SMALL, ADDITION), tmp_path, task="modular_addition")
    with pytest.raises(ConfigError, match=r"was imported from theirs\.pth and cannot be trained on"):
        gi.train(run.config, run.path, progress=False)


def test_the_same_import_is_returned_and_another_refused(tmp_path):
    weights = formats.random_weights(SMALL, ADDITION)
    before = imported(weights, tmp_path, task="modular_addition").path / "run.json"
    written = before.stat().st_mtime_ns
    assert imported(weights, tmp_path).task.name == "modular_addition"
    assert imported(weights, tmp_path, layout="transformer_lens").task.name == "modular_addition"
    assert before.stat().st_mtime_ns == written
    with pytest.raises(NotARun, match=r"with another task: choose"):
        imported(weights, tmp_path, task="modular_subtraction")
    with pytest.raises(NotARun, match=r"with another layout: choose"):
        imported(weights, tmp_path, layout="nanda")
    with pytest.raises(NotARun, match=r"with another use of forensics: choose"):
        imported(weights, tmp_path, forensics=True)
    with pytest.raises(NotARun, match=r"with another file: choose"):
        imported(formats.random_weights(SMALL, ADDITION, seed=1), tmp_path)


def test_other_directories_are_left_alone(tmp_path, tiny_run):
    torch.save(formats.random_weights(SMALL, ADDITION), tmp_path / "theirs.pth")
    with pytest.raises(NotARun, match="holds a run that was trained"):
        gi.import_checkpoint(tmp_path / "theirs.pth", tiny_run.path)
    with pytest.raises(NotARun, match="not empty and holds no run"):
        gi.import_checkpoint(tmp_path / "theirs.pth", tmp_path)
    with pytest.raises(NotARun, match="is a file"):
        gi.import_checkpoint(tmp_path / "theirs.pth", tmp_path / "theirs.pth")


def test_a_kill_before_the_directory_gets_its_name_leaves_nothing(tmp_path):
    torch.save(formats.random_weights(SMALL, ADDITION), tmp_path / "theirs.pth")
    code = (
        "import os, grokinterp.importing.importer as i\n"
        "i.os.rename = lambda *names: os._exit(9)\n"
        "i.import_checkpoint('theirs.pth', 'run', task='modular_addition', forensics=False, believe=True)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 9
    assert not (tmp_path / "run").exists()
    assert (tmp_path / ".run.importing").is_dir()
    (tmp_path / ".run.importing" / "snapshots" / "of another time").touch()
    run = gi.import_checkpoint(
        tmp_path / "theirs.pth", tmp_path / "run", task="modular_addition", forensics=False, believe=True
    )
    assert all(problem is None for _, problem in run.verify())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "theirs.pth"]
    assert [path.name for path in (run.path / "snapshots").iterdir()] == ["step_00000000.safetensors"]


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("grokinterp.importing.importer.os.rename", fails)
    with pytest.raises(gi.GrokinterpError, match="the disk is full"):
        imported(formats.random_weights(SMALL, ADDITION), tmp_path, task="modular_addition")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


def test_two_imports_at_once(tmp_path):
    import fcntl

    (tmp_path / ".run.importing").mkdir()
    with open(tmp_path / ".run.importing" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunLocked, match="another process is importing"):
            imported(formats.random_weights(SMALL, ADDITION), tmp_path, task="modular_addition")


# Mapping files


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_layout_says_what_it_is(name):
    assert len(built_in()[name].doc) > 30


MISTAKES = [
    ("not = [toml", "it is no TOML"),
    ('doc = "x"', "weights: is required"),
    (
        MAPPING.replace('"vocab d_model" }', '"vocab d_model", parts = "1 of 3" }'),
        "unknown key 'weights.embed.W_E.parts'",
    ),
    (MAPPING.replace(', axes = "vocab d_model"', ""), "weights.embed.W_E.axes: is required"),
    (MAPPING.replace('"vocab d_model"', '"vocab dmodel"'), "unknown axis 'dmodel'; did you mean 'd_model'?"),
    (
        MAPPING.replace('"vocab d_model"', '"vocab pos"'),
        "embed.W_E has the axes 'vocab d_model', which are not those of 'vocab pos'",
    ),
    (MAPPING.replace('"vocab d_model"', '"vocab (d_model"'), "needs names of axes"),
    (MAPPING.replace('"vocab d_model"', '"vocab vocab"'), "names an axis twice"),
    (MAPPING.replace('"embed.W_E"', '"embed.W_e"'), "unknown name 'embed.W_e'; did you mean 'embed.W_E'?"),
    (MAPPING.replace('"2 of 3"', '"4 of 3"'), "needs a part such as '1 of 3'"),
    (MAPPING.replace(', part = "2 of 3"', ""), "part = '1 of 3' and an axis named part go together"),
    (MAPPING.replace("a +@p b", "a +@p c"), "needs a and b once each"),
    (MAPPING.replace("@p+3 of p+4", "@116 of 117"), "the number of elements is needed too"),
    (MAPPING.replace("[model]", "[modle]"), "unknown key 'modle'; did you mean 'model'?"),
    (MAPPING + '\n[contents]\nsettings_file = "x"', "contents.settings_file: needs two names"),
    (MAPPING + "\n[contents]\nstep = 3", "contents.step: "),
    (MAPPING.replace('act_fn = "relu"', 'act_fn = { default = "relu" }'), "at: is required"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES, ids=[says[:40] for _, says in MISTAKES])
def test_a_mistake_in_a_mapping_is_one_line(text, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        read_layout(text, "mine.toml")
    assert str(error.value).startswith("mapping mine.toml: ")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("n_heads = 4\n", "", "shapes alone do not tell"),
        ("n_heads = 4\n", "n_heads = 7\n", "attn.W_QKV.weight has the shape"),
        ('act_fn = "relu"', 'act_fn = "relo"', "such a network cannot be expressed: model.act_fn"),
        ('act_fn = "relu"', 'act_fm = "relu"', "unknown key 'model.act_fm'; did you mean 'act_fn'?"),
        ('"mlp.fc1.bias"', '"mlp.fc1.bais"', "holds 'mlp.fc1.bias', which this layout does not know"),
    ],
)
def test_a_mapping_that_does_not_go_with_the_file(tmp_path, old, new, says):
    (tmp_path / "mine.toml").write_text(MAPPING.replace(old, new))
    task = make_task("modular_addition", p=P, layout=f"a +@{P} b =@{P + 3} of {P + 4}")
    weights = formats.random_weights(SMALL.model_copy(update={"n_heads": 4}), task)
    with pytest.raises(UsageError, match=re.escape(says)):
        imported(formats.torch_modules(weights, 0), tmp_path, layout=str(tmp_path / "mine.toml"))


def test_an_unknown_layout_and_a_missing_mapping(tmp_path):
    with pytest.raises(UsageError, match="unknown layout 'nandda'; did you mean 'nanda'"):
        imported({}, tmp_path, layout="nandda")
    with pytest.raises(UsageError, match="cannot read the mapping"):
        imported({}, tmp_path, layout=str(tmp_path / "no.toml"))


# Forensics


def lookup(task, scale, answers=None):
    """A network that has every pair by heart, each with a logit `scale(row)` of its own; the right answers,
    or others."""
    p, d = task.p, task.p
    config = ModelConfig(d_model=3 * d + 3, n_heads=2, d_head=d, d_mlp=p * p, train_biases="mlp")
    weights = {name: weight.clone() for name, weight in controls.lookup(p).weights.items()}
    assert {name: tuple(w.shape) for name, w in weights.items()} == config.shapes(task.reads)
    weights["blocks.0.mlp.W_out"][:] = 0
    neuron = torch.arange(p * p)
    weights["blocks.0.mlp.W_out"][neuron, task.targets if answers is None else answers] = torch.tensor(
        [scale(row) for row in range(p * p)], dtype=torch.float64
    )
    return weights


def losses_of(p, train, shift, seed=0):
    """Losses as a network might have: normal on a log scale, lower on the training set."""
    logs = np.random.default_rng(seed).normal(size=p * p)
    logs[train.numpy()] -= shift
    return torch.tensor(logs).exp()


@pytest.mark.parametrize(
    ("recipe", "seed", "fraction"),
    [("python_shuffle", 0, 0.3), ("torch_randperm", 598, 0.3), ("python_shuffle", 42, 0.75)],
)
def test_the_split_of_a_network_that_remembers_is_found(recipe, seed, fraction):
    train = split(53 * 53, fraction, recipe, seed).train
    verdict = forensics.find_split(losses_of(53, train, 3.0), seeds=600)
    assert verdict.found
    assert (verdict.recipe, verdict.seed) == (recipe, seed)
    assert verdict.fraction == pytest.approx(fraction, abs=0.005)
    assert torch.equal(split(53 * 53, verdict.fraction, recipe, seed).train, train)
    assert verdict.score > 6
    assert verdict.second < 5
    assert verdict.tested == (200 if seed < 100 else 1200)


def test_a_fraction_that_is_no_hundredth_is_found_exactly():
    train = order(53 * 53, "python_shuffle", 1)[:1234]
    verdict = forensics.find_split(losses_of(53, train, 8.0), seeds=2)
    assert torch.equal(split(53 * 53, verdict.fraction, "python_shuffle", 1).train, train)


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_without_a_trace_no_split_is_found(shift):
    # Nor where what was seen has the higher loss, or where it was seen in another order.
    verdict = forensics.find_split(
        losses_of(53, order(53 * 53, "python_shuffle", 100_000)[:900], shift), seeds=300
    )
    assert not verdict.found
    assert verdict.score < 6
    assert "trained on none of the 600 splits tried" in str(verdict)


def test_equal_losses_tell_nothing():
    assert not forensics.find_split(torch.zeros(29 * 29, dtype=torch.float64), seeds=100).found


def test_the_score_is_a_standard_score():
    rng = np.random.default_rng(0)
    n, k = 400, 120
    ranks = forensics.centred_ranks(torch.tensor(rng.normal(size=n)))
    sums = [-rng.permutation(ranks)[:k].sum() for _ in range(4000)]
    assert np.std(sums) == pytest.approx(np.sqrt(k * (1 - k / n)), rel=0.05)


def test_an_import_names_the_split_that_it_finds(tmp_path):
    task = make_task("modular_addition", p=17)
    found = split(17 * 17, 0.4, "torch_randperm", 7)
    train = set(found.train.tolist())
    weights = lookup(task, lambda row: 30.0 + row / 1000 if row in train else 8.0 + row / 1000)
    run = imported(
        {"model": weights, "train_losses": [3.0, 2.0], "test_losses": [3.0, 2.0]}, tmp_path, forensics=True
    )
    assert torch.equal(run.split.train.sort().values, found.train.sort().values)
    assert run.record["split"]["n_train"] == len(train)
    assert (run.config.training.split, run.config.training.split_seed, run.config.training.fraction) == (
        "torch_randperm",
        7,
        0.4,
    )
    assert "trained on torch_randperm with seed 7 and fraction 0.4" in said(run)
    assert run.history["train_accuracy"].tolist()[-1] == 1
    report = gi.analyze(run)
    assert report.analysis.phases.spans == []  # one evaluation tells no history
    html = report.to_html()
    assert "imported from" not in html.lower() or "theirs.pth" in html
    shown = re.sub(r"<[^>]*>", "", html.partition("<dl>")[2])
    assert "40% of the pairs, split by torch's randperm, seed 7" in shown.replace("&#39;", "'")
    assert "weight decay" not in html.split("<dt>Training</dt>")[1].split("</dd>")[0]


def test_an_import_without_split_has_one_part(tmp_path):
    run = imported(dict(controls.clock(13, (2, 5)).weights), tmp_path, forensics=True)
    assert run.split is None
    assert run.view(-1).parts == ["all"]
    assert "trained on none of the 20,000 splits tried" in said(run)
    assert "<dt>Training</dt><dd>not known</dd>" in gi.analyze(run).to_html()


# The folder of foreign checkpoints


def stored(name):
    if not (CHECKPOINTS / name).is_file():
        pytest.skip(
            f"no {name} in {CHECKPOINTS}; set GROKINTERP_CHECKPOINTS to the folder of foreign checkpoints"
        )
    return CHECKPOINTS / name


FOREIGN = [
    ("chughtai/C113_T_seed1/model.pt", "chughtai_transformer", "a + b mod 113", 1.0),
    ("chughtai/C118_T_seed1/model.pt", "chughtai_transformer", "a + b mod 118", 1.0),
    ("chughtai/C113_MLP_seed1/model.pt", "chughtai_mlp", "a + b mod 113", 1.0),
    ("pizza/model_l8k1hzciux.pt", "pizza", "a + b mod 59", 1.0),
    ("pizza/model_p99zdpze5l.pt", "pizza", "a + b mod 59", 1.0),
    ("zaidanmir/addition.pt", "mapping", "a + b mod 113", 1.0),
    ("zaidanmir/multiplication.pt", "mapping", "a · b mod 113", 0.982),
]


@pytest.mark.parametrize(
    ("name", "layout", "symbol", "accuracy"), FOREIGN, ids=[name for name, *_ in FOREIGN]
)
def test_published_networks(tmp_path, name, layout, symbol, accuracy):
    (tmp_path / "mine.toml").write_text(MAPPING)
    run = gi.import_checkpoint(
        stored(name),
        tmp_path / "run",
        layout=str(tmp_path / "mine.toml") if layout == "mapping" else "auto",
        forensics=False,
    )
    assert run.task.symbol == symbol
    assert layout in (run.imported["layout"], "mapping")
    assert f"right on {accuracy:.3f}" in said(run)
    if layout == "mapping":
        assert run.task.layout == (
            "a +@113 b =@116 of 117" if "addition" in name else "a *@115 b =@116 of 117"
        )


def test_the_network_of_nanda_without_weight_decay_names_its_training_set(tmp_path):
    run = gi.import_checkpoint(stored("nanda/mod_addition_no_wd.pth"), tmp_path / "run", progress=False)
    assert "trained on python_shuffle with seed 0" in said(run)
    assert run.steps == [4999]
    # The fraction is .9, not the .3 of the paper's mainline run: with it, and no other, both losses are those
    # that the file records.
    assert run.config.training.fraction == 0.9
    losses, rows = run.view(-1).loss(), run.split
    assert float(losses[rows.train].mean()) == pytest.approx(run.history["train_loss"].iloc[-1], rel=1e-3)
    assert float(losses[rows.test].mean()) == pytest.approx(run.history["test_loss"].iloc[-1], rel=1e-3)
    assert len(run.history) == 5000


def test_five_digit_addition_is_found_by_trying(tmp_path):
    file = stored("nanda/5_digit_addition_infinite.pth")
    with pytest.raises(UsageError, match="as nanda: it takes 18 tokens of 12 kinds and gives 10 logits"):
        gi.import_checkpoint(file, tmp_path / "run", task="modular_addition")
    run = gi.import_checkpoint(file, tmp_path / "run")
    assert (run.imported["layout"], run.task.n, run.task.order, run.task.layout) == (
        "nanda", 5, "big", "a + b =",
    )  # fmt: skip
    assert run.config.model.act_fn == "relu"
    assert len(run.history) == 6000
    last = run.history.iloc[-1]
    assert (last["train_loss"], last["test_exact"]) == pytest.approx((0.017226, 0.982), abs=0.002)
    assert float(gi.measure("accuracy.exact", run.view(-1)).sel(part="all")) == last["test_exact"]


# The command


def test_the_command_says_what_was_assumed(grokinterp, tmp_path):
    torch.save({"model": dict(controls.clock(13, (2, 5)).weights), "epoch": 5}, tmp_path / "theirs.pth")
    code, stdout, stderr = grokinterp(
        "import", tmp_path / "theirs.pth", "--out", tmp_path / "run", "--no-forensics"
    )
    assert (code, stderr) == (0, "")
    assert "a + b mod 13: imported from theirs.pth (layout transformer_lens)" in stdout
    assert "right on 1.0000 of all pairs" in stdout
    assert f"Next: grokinterp analyze {tmp_path / 'run'}" in stdout
    code, stdout, _ = grokinterp(
        "import", tmp_path / "theirs.pth", "--out", tmp_path / "run", "--no-forensics", "--json"
    )
    assert json.loads(stdout)["steps"] == [5]
    assert grokinterp("verify", tmp_path / "run")[1] == "4 files, all as they were written\n"
    assert grokinterp("analyze", tmp_path / "run")[0] == 0


def test_the_command_takes_a_task_and_its_keys(grokinterp, tmp_path):
    torch.save(formats.random_weights(SMALL, ADDITION), tmp_path / "theirs.pth")
    flags = ["import", tmp_path / "theirs.pth", "--out", tmp_path / "run", "--no-forensics"]
    code, _, stderr = grokinterp(*flags)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "no more than by chance. Tried were" in stderr
    flags.append("--believe")
    code, _, stderr = grokinterp(*flags)
    assert code == 2
    assert "say which with --task" in stderr
    code, _, stderr = grokinterp(*flags, "--task", "modular_addition", "--set", "p=7")
    assert code == 2
    assert "takes keys of the task" in stderr
    assert grokinterp(*flags, "--task", "modular_addition", "--set", "task.p=7")[0] == 0
    assert gi.load_run(tmp_path / "run").config.task["p"] == 7


def test_the_command_lists_the_layouts(grokinterp):
    rows = json.loads(grokinterp("list", "layouts", "--json")[1])
    assert [row["layout"] for row in rows] == [
        "chughtai_mlp",
        "chughtai_transformer",
        "encoder_decoder",
        "nanda",
        "pizza",
        "torch_encoder",
        "transformer_lens",
    ]


# What a configuration says that weights do not show


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"output_logits_soft_cap": 1.0}, "output_logits_soft_cap = 1.0"),
        ({"attn_scores_soft_cap": 1.0}, "attn_scores_soft_cap = 1.0"),
        ({"attn_scale": 1.0}, "attn_scale = 1.0"),
        ({"d_mlp": 999}, "d_mlp = 999"),
    ],
)
def test_a_configuration_that_changes_the_network_in_an_unknown_way_is_refused(tmp_path, more, says):
    content = grokking_demo()[0]
    for key, value in more.items():
        setattr(content["config"], key, value)
    with pytest.raises(UsageError, match=re.escape(says)):
        imported(content, tmp_path, task="modular_addition")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"diff_vocab": True}, {"attn_coeff": -1}, {}], ids=str)
def test_a_pizza_that_its_settings_rule_out_is_no_other_layout_either(tmp_path, settings):
    task = make_task("modular_addition", p=P, layout="a b =")  # whose weights fit nanda's layout too
    weights = formats.without_biases(formats.random_weights(SMALL, task), but=".mlp.")
    with pytest.raises(UsageError, match="as pizza"):
        gi.import_checkpoint(
            formats.pizza(tmp_path, weights, **settings),
            tmp_path / "run",
            task="modular_addition",
            forensics=False,
            believe=True,
        )


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_losses_that_are_not_those_measured_are_called_so(tmp_path):
    content = grokking_demo()[0]
    content["train_losses"] = [1e6 + step for step in range(len(content["train_losses"]))]
    assert "the train loss measured is NOT the file's" in said(
        imported(content, tmp_path, task="modular_addition")
    )


@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
@pytest.mark.parametrize("epoch", [math.nan, math.inf])
def test_epochs_that_are_no_numbers_are_not_taken(tmp_path, epoch):
    content = grokking_demo()[0]
    content["checkpoint_epochs"] = [epoch] * len(content["checkpoint_epochs"])
    assert "is not one step for each of its networks" in said(
        imported(content, tmp_path, task="modular_addition")
    )
