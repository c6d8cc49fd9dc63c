"""A training loop of a user's own becomes a run directory like any other."""

from __future__ import annotations

import fcntl
import warnings

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import GrokinterpError, NotARun, RunLocked, UsageError
from grokinterp.models import MLPConfig
from grokinterp.models.base import lens_classes
from grokinterp.tasks import make_task, split

P = 7
TASK = make_task("modular_addition", p=P)
PARTS = split(TASK.n_inputs, 0.5)


@pytest.fixture
def model():
    """Somebody's HookedTransformer, biases and all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        HookedTransformer, HookedTransformerConfig = lens_classes()
        cfg = HookedTransformerConfig(
            n_layers=1,
            d_model=16,
            n_ctx=3,
            d_head=4,
            n_heads=4,
            d_mlp=32,
            act_fn="relu",
            d_vocab=P + 1,
            d_vocab_out=P,
            normalization_type=None,
            seed=1,
            device="cpu",
        )
        return HookedTransformer(cfg)


def loop(model, out, steps=(0, 5, 10), **options):
    """A loop of ten lines, as people write it."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(max(steps) + 1):
        if step in steps:
            run = gi.record(model, TASK, step, out, split=(PARTS.train, PARTS.test), **options)
        logits = model(TASK.inputs[PARTS.train])[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, TASK.targets[PARTS.train])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return run


def test_a_loop_of_ones_own_is_verified_analysed_and_replayed(model, grokinterp, tmp_path):
    run = loop(model, tmp_path / "mine")
    assert run.steps == [0, 5, 10]
    for command, said in (
        ("verify", "all as they were written"),
        ("analyze", "report.html"),
        ("replay", "replay.html"),
    ):
        code, out, err = grokinterp(command, run.path)
        assert code == 0, err
        assert said in out
    assert torch.equal(run.split.train, PARTS.train)
    assert "how it trained is not known" in " ".join(run.imported["assumed"])


def test_what_is_recorded_is_the_network_and_what_it_does(model, tmp_path):
    run = gi.record(model, TASK, 3, tmp_path / "run", split=PARTS)
    view = gi.load_run(run.path).view(3)
    with torch.no_grad():
        logits = model(TASK.inputs)[:, -1]
    torch.testing.assert_close(view.logits.float(), logits, rtol=0, atol=1e-5)
    losses = torch.nn.functional.cross_entropy(logits.double(), TASK.targets, reduction="none")
    history = run.history.iloc[-1]
    for part, rows in (("train", PARTS.train), ("test", PARTS.test)):
        assert history[f"{part}_loss"] == pytest.approx(float(losses[rows].mean()), rel=1e-5)
        right = (logits.argmax(1) == TASK.targets)[rows]
        assert history[f"{part}_accuracy"] == pytest.approx(float(right.double().mean()), abs=1e-12)


def test_numbers_of_the_loop_take_the_place_of_measured_ones(model, tmp_path):
    run = gi.record(model, TASK, 0, tmp_path / "run", split=PARTS, train_loss=torch.tensor(0.25), my_norm=3)
    assert run.history["train_loss"].tolist() == [0.25]
    assert run.history["my_norm"].tolist() == [3.0]


def test_without_a_split_there_are_snapshots_alone(model, tmp_path):
    run = gi.record(model, TASK, 0, tmp_path / "run")
    assert run.split is None
    assert run.view(0).step == 0
    assert gi.analyze(run).to_dict()["state"] in ("at chance", "not known")


def test_a_perceptron_of_ours_is_recorded_by_its_section(tmp_path):
    task = make_task("modular_addition", p=P, layout="a b")
    config = MLPConfig(embedding="one_hot", act_fn="square", d_mlp=12)
    network = config.hooked(task.reads, config.initial_weights(task.reads, 0))
    with pytest.raises(UsageError, match=r"no HookedTransformer: say what it is with config="):
        gi.record(network, task, 0, tmp_path / "none")
    section = config.model_dump(mode="json", exclude_none=True)
    run = gi.record(network, task, 0, tmp_path / "run", config=section)
    assert run.config.model == config
    gi.record(network, task, 1, tmp_path / "run", config=config)


def test_recording_leaves_the_network_as_it_is(model, tmp_path):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    gi.record(model, TASK, 0, tmp_path / "run", split=PARTS)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_a_call_that_was_cut_off_is_made_again(model, tmp_path, monkeypatch):
    gi.record(model, TASK, 0, tmp_path / "run", split=PARTS)
    from grokinterp.importing import recorded

    whole, calls = recorded._append, []

    def cut(path, entry):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(path, entry)

    monkeypatch.setattr(recorded, "_append", cut)
    with pytest.raises(KeyboardInterrupt):
        gi.record(model, TASK, 1, tmp_path / "run")
    monkeypatch.setattr(recorded, "_append", whole)
    assert gi.load_run(tmp_path / "run").steps == [0]
    run = gi.record(model, TASK, 1, tmp_path / "run")
    assert run.steps == [0, 1]
    assert run.history["step"].tolist() == [0, 1]


def test_another_process_that_records_there_is_told(model, tmp_path):
    folder = tmp_path / "run"
    gi.record(model, TASK, 0, folder)
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunLocked, match="another process is writing this run"):
            gi.record(model, TASK, 1, folder)


def refused(model, tmp_path, **changes):
    options = {"model": model, "task": TASK, "step": 1, "out": tmp_path / "run", "split": PARTS, **changes}
    with pytest.raises(GrokinterpError) as caught:
        gi.record(**options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 0}, "was recorded up to step 0, so step 0 cannot come next"),
        ({"task": make_task("modular_subtraction", p=P)}, "holds a run of a + b mod 7 (modular_addition)"),
        ({"split": (PARTS.test, PARTS.train)}, "another training set"),
        ({"split": ([0, 1], [1, 2])}, "row numbers from 0 to 48"),
        ({"split": ([0, 49], [1])}, "row numbers from 0 to 48"),
        ({"my_norm": "large"}, "metrics are numbers"),
    ],
)
def test_what_does_not_go_with_what_was_recorded_is_told_in_one_line(model, tmp_path, changes, message):
    gi.record(model, TASK, 0, tmp_path / "run", split=PARTS)
    assert message in str(refused(model, tmp_path, **changes))
    assert gi.load_run(tmp_path / "run").steps == [0]


def test_a_network_that_is_not_what_it_seems_is_refused(model, tmp_path):
    model.add_hook("blocks.0.mlp.hook_post", lambda tensor, hook: 0 * tensor, is_permanent=True)
    assert "does not compute what its configuration describes" in str(refused(model, tmp_path))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_network_of_another_task_is_refused(model, tmp_path):
    assert "weights do not fit" in str(
        refused(model, tmp_path, task=make_task("modular_addition", p=5), split=None)
    )


def test_a_task_that_cannot_be_made_again_is_refused(model, tmp_path):
    task = gi.Task.of_function(lambda a, b: (a + b) % P, P)
    assert "register it with @gi.task" in str(refused(model, tmp_path, task=task, split=None))


def test_a_directory_of_something_else_is_left_alone(model, tmp_path, tiny_run):
    assert isinstance(refused(model, tmp_path, out=tiny_run.path), NotARun)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    assert "is not empty and holds no run" in str(refused(model, tmp_path, out=tmp_path / "notes"))
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
