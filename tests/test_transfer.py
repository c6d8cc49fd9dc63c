"""Starting from a snapshot: whose weights, what is recorded, what is refused, and that nothing which may
happen later changes the bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from conftest import TINY, tiny
from grokinterp.errors import (
    ConfigError,
    DamagedFile,
    Interrupted,
    NoSuchSnapshot,
    NotARun,
    SomeFailed,
    UsageError,
)
from grokinterp.runs import many
from grokinterp.runs.files import replace
from grokinterp.runs.train import Writer
from grokinterp.tasks import make_task
from grokinterp.training import BatchedTrainer, Trainer
from test_runs import before_the_line, contents, interrupted, metrics_of

SUBTRACTION = {"task.name": "modular_subtraction"}
FLAGS = [f"--set={key}={'' if value is None else value}" for key, value in TINY.items()]


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> gi.Run:
    """A run of addition, with snapshots at 0, 10 and 20."""
    return gi.train(tiny(), tmp_path_factory.mktemp("source") / "addition", progress=False)


@pytest.fixture
def copied(source, tmp_path) -> gi.Run:
    """The same in a directory that may be taken away."""
    return gi.load_run(shutil.copytree(source.path, tmp_path / "addition"))


def train(out: Path, start: object = None, **overrides: object) -> gi.Run:
    return gi.train(tiny(**{**SUBTRACTION, **overrides}), out, start=start, progress=False)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# Whose weights


@pytest.mark.parametrize("step", [None, 0, 10, 20, -2])
def test_it_starts_with_the_weights_of_the_snapshot(source, tmp_path, step):
    run = train(tmp_path / "run", source if step is None else (source, step))
    assert_same(run.state_dict(0), source.state_dict(-1 if step is None else step))
    assert run.config.start.step == source.resolve(-1 if step is None else step)
    assert run.config.start.sha256 == source.sha256(run.config.start.step)
    assert (run.config.start.run, run.config.start.task) == ("addition", source.config.task)
    assert run.config.start.last == (step in (None, 20))
    assert run.steps == [0, 10, 20]


def test_a_start_may_be_given_as_text(source, tmp_path):
    ten = train(tmp_path / "ten", f"{source.path}@10")
    assert contents(ten.path) == contents(train(tmp_path / "same", (source, 10)).path)
    assert contents(train(tmp_path / "last", str(source.path)).path) == contents(
        train(tmp_path / "path", source.path).path
    )


def test_a_directory_whose_own_name_ends_like_a_step_is_itself(source, tmp_path):
    shutil.copytree(source.path, tmp_path / "run@10")
    assert train(tmp_path / "run", f"{tmp_path / 'run@10'}").config.start.step == 20
    assert train(tmp_path / "other", f"{tmp_path / 'run@10'}@10").config.start.step == 10


def test_the_optimiser_is_fresh_and_steps_count_from_nothing(source, tmp_path):
    """The same as a trainer that is handed the weights, whose optimiser has seen nothing; and other than
    going on with the source's."""
    run = train(tmp_path / "run", source, **{"task.name": "modular_addition"})
    by_hand = Trainer(run.config, weights=source.state_dict(-1))
    assert by_hand._optimiser.state().keys() == Trainer(tiny())._optimiser.state().keys()
    assert all(not bool(moment.any()) for moment in by_hand._optimiser.state().values())
    last = [
        {name: weight.detach().clone() for name, weight in snapshot.weights.items()} for snapshot in by_hand
    ][-1]
    assert_same(last, run.state_dict(-1))
    longer = gi.train(tiny(**{"training.steps": 40}), tmp_path / "longer", progress=False)
    assert not torch.equal(longer.state_dict(40)["embed.W_E"], run.state_dict(20)["embed.W_E"])


def test_the_history_begins_where_the_snapshot_stood(source, tmp_path):
    run = train(tmp_path / "run", source, **{"task.name": "modular_addition"})
    assert run.history["step"].iloc[0] == 0
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        assert run.history[name].iloc[0] == source.history[name].iloc[-1]


def test_the_seed_is_of_the_batches_alone(source, tmp_path):
    full = [train(tmp_path / f"full{seed}", source, seed=seed).state_dict(-1) for seed in (0, 1)]
    assert_same(*full)
    batches = [
        train(tmp_path / f"batches{seed}", source, seed=seed, **{"training.batch_size": 5}).state_dict(-1)
        for seed in (0, 1)
    ]
    assert not torch.equal(batches[0]["embed.W_E"], batches[1]["embed.W_E"])


def test_weights_are_taken_to_the_precision_of_training(source, tmp_path):
    run = train(tmp_path / "run", source, **{"training.dtype": "float64"})
    assert_same({name: weight.float() for name, weight in run.state_dict(0).items()}, source.state_dict(-1))


def test_a_run_that_started_from_another_can_be_started_from(source, tmp_path):
    second = train(tmp_path / "second", source)
    third = train(tmp_path / "third", (second, 10))
    assert_same(third.state_dict(0), second.state_dict(10))
    assert third.config.start.task["name"] == "modular_subtraction"


# What is refused


REFUSED = [
    ({"task.p": 11}, "same vocabulary (12 tokens here, 8 there)"),
    ({"task.layout": "a op b ="}, "same vocabulary (9 tokens here, 8 there)"),
    ({"task.layout": "b a ="}, "same vocabulary (position 0 is 'b' here and 'a' there)"),
    ({"task.layout": "a b @"}, "task.layout"),
    ({"task.layout": "a b ?"}, "same vocabulary (token 7 is '?' here and '=' there)"),
    ({"model.d_mlp": 16}, "blocks.0.mlp.W_in is [16, 16] here and [16, 32] there"),
    ({"model.d_vocab_out": 8}, "unembed.W_U is [16, 8] here and [16, 7] there"),
    ({"model.n_layers": 2}, "blocks.1.attn.W_K is [4, 16, 4] here and absent there (and 11 more)"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED, ids=[str(overrides) for overrides, _ in REFUSED])
def test_what_does_not_fit_is_refused_in_one_line_and_leaves_nothing_behind(
    source, tmp_path, overrides, words
):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        train(tmp_path / "run", source, **overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_tasks_of_one_vocabulary_need_not_have_the_same_answers(tmp_path):
    """In Julia a - b has 2p - 1 answers and the asymmetric one 2p - 2; both have a logit for every symbol
    from -p to p."""
    julia = {"task.convention": "julia", "task.layout": "a op b =", "task.opaque": 3}
    first = train(tmp_path / "subtraction", **julia)
    second = train(tmp_path / "asymmetric", first, **julia, **{"task.name": "divide_if_odd_else_subtract"})
    assert (first.task.n_answers, second.task.n_answers) == (13, 12)
    assert_same(second.state_dict(0), first.state_dict(-1))
    assert first.task.vocabulary["logit"] == first.task.encoding.names
    with pytest.raises(ConfigError, match="same vocabulary"):
        train(tmp_path / "other", first, **{**julia, "task.opaque": 4})


def test_groups_of_other_elements_are_another_vocabulary(tmp_path):
    """Six elements each, and the same tokens by number."""
    assert (
        make_task("modular_addition", p=6).vocabulary != make_task("group_composition", group="S3").vocabulary
    )
    assert make_task("modular_addition", p=6).vocabulary == make_task("random_table", p=6).vocabulary


def test_a_start_that_is_not_there_is_refused(source, tmp_path):
    with pytest.raises(NoSuchSnapshot, match="no snapshot at step 15; the nearest are at 10 and 20"):
        train(tmp_path / "run", (source, 15))
    with pytest.raises(NotARun, match="does not exist"):
        train(tmp_path / "run", tmp_path / "nothing")
    with pytest.raises(NotARun, match="does not exist"):
        train(tmp_path / "run", f"{tmp_path / 'nothing'}@10")
    assert not (tmp_path / "run").exists()


def test_a_damaged_snapshot_is_refused(copied, tmp_path):
    file = copied.path / "snapshots" / "step_00000020.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedFile, match="step 20"):
        train(tmp_path / "run", copied)
    assert not (tmp_path / "run").exists()


def test_a_configuration_with_a_start_needs_its_weights(source, tmp_path):
    config = train(tmp_path / "run", source).config
    with pytest.raises(ConfigError, match=r"start: the weights of step 20 of addition .* are needed here"):
        gi.train(config, tmp_path / "another", progress=False)
    assert not (tmp_path / "another").exists()
    with pytest.raises(UsageError, match="weights do not fit the model"):
        Trainer(config, weights={})


def test_a_trainer_takes_the_weights_that_it_is_handed(source):
    snapshot = next(iter(Trainer(tiny(), weights=source.state_dict(-1))))
    assert_same({name: weight.detach() for name, weight in snapshot.weights.items()}, source.state_dict(-1))


def test_another_start_in_the_same_directory_is_refused(source, tmp_path):
    started, drawn = tmp_path / "started", tmp_path / "drawn"
    train(started, source)
    train(drawn)
    before = contents(started), contents(drawn)
    with pytest.raises(
        ConfigError,
        match=r"it started from step 20 of addition \(sha256 \w{12}\), and here .* step 10 of addition",
    ):
        train(started, (source, 10))
    with pytest.raises(
        ConfigError,
        match=r"it started from step 20 of addition .*, and here it is to start from weights from the seed",
    ):
        train(started)
    with pytest.raises(
        ConfigError, match="it started from weights from the seed, and here it is to start from step 20"
    ):
        train(drawn, source)
    assert (contents(started), contents(drawn)) == before


# What may happen later


def test_the_same_call_again_finds_the_run_finished_also_when_the_source_is_gone_or_moved(copied, tmp_path):
    whole = contents(train(tmp_path / "run", copied.path).path)
    shutil.move(copied.path, tmp_path / "moved")
    assert (
        contents(train(tmp_path / "run", tmp_path / "moved").path) == whole
    )  # the weights count, not their place
    assert contents(train(tmp_path / "run", copied.path).path) == whole
    assert contents(train(tmp_path / "run", f"{copied.path}@20").path) == whole
    with pytest.raises(NotARun, match="does not exist"):
        train(tmp_path / "run", f"{copied.path}@10")
    with pytest.raises(NotARun, match="does not exist"):
        train(tmp_path / "run", tmp_path / "another")
    shutil.rmtree(tmp_path / "moved")
    assert gi.load_run(tmp_path / "run").view(-1).logits is not None


@pytest.mark.parametrize("how", ["the same path", "no start at all"])
def test_an_interrupted_run_goes_on_to_the_same_bytes_without_its_source(copied, tmp_path, how):
    whole = contents(train(tmp_path / "whole", copied).path)
    config = gi.load_run(tmp_path / "whole").config
    out = tmp_path / "run"
    with (
        before_the_line(metrics_of(10), lambda: signal.raise_signal(signal.SIGINT)),
        pytest.raises(Interrupted),
    ):
        train(out, copied)
    shutil.rmtree(copied.path)
    gi.train(config, out, start=copied.path if how == "the same path" else None, progress=False)
    assert contents(out) == whole


def test_killed_at_any_replacement_of_a_file_it_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch):
    """Before the first state the source is needed still; afterwards it is not, and here it is gone."""
    whole = contents(train(tmp_path / "whole", source).path)

    class Killed(BaseException):
        pass

    def mortal(last: int):
        calls = iter(range(1000))

        def replacing(path, data, **more):
            if next(calls) == last:
                raise Killed
            replace(path, data, **more)

        return replacing

    for number in range(100):
        mine = shutil.copytree(source.path, tmp_path / str(number) / "addition")
        out = tmp_path / str(number) / "run"
        with monkeypatch.context() as patched:
            for module in ("files", "record"):
                patched.setattr(sys.modules[f"grokinterp.runs.{module}"], "replace", mortal(number))
            try:
                train(out, mine)
            except Killed:
                pass
            else:
                assert number > 5
                return
        if list((out / "resume").glob("*.safetensors")):
            shutil.rmtree(mine)
        train(out, mine)
        assert contents(out) == whole


def test_before_the_first_state_the_weights_are_needed(source, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "resume_state", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(out, source)
    assert (out / "run.json").exists()
    config = gi.load_run(out).config
    with pytest.raises(ConfigError, match=r"the weights of step 20 of addition .* are needed here"):
        gi.train(config, out, progress=False)
    assert contents(train(out, source).path) == contents(train(tmp_path / "whole", source).path)


def test_the_last_snapshot_of_a_run_that_was_trained_on_is_still_the_one_that_was_meant(tmp_path):
    config = tiny(**{"training.evaluate_every": 1})
    interrupted(config, tmp_path / "addition", 15)
    first = train(tmp_path / "run", tmp_path / "addition")
    assert first.config.start.step == 10
    whole = contents(first.path)
    gi.train(config, tmp_path / "addition", progress=False)
    assert contents(train(tmp_path / "run", tmp_path / "addition").path) == whole
    assert train(tmp_path / "new", tmp_path / "addition").config.start.step == 20


def test_runs_without_a_start_are_recorded_as_before(tmp_path):
    assert "start" not in json.loads((train(tmp_path / "run").path / "run.json").read_text())["config"]


# Many


def test_many_start_from_one_or_each_from_its_own(source, tmp_path):
    other = gi.train(tiny(seed=1), tmp_path / "other", progress=False)
    configs = {
        name: tiny(seed=seed, **SUBTRACTION, **{"training.batch_size": 5})
        for seed, name in enumerate(["one", "two"])
    }
    runs = gi.train_many(configs, tmp_path / "same", start=source, workers=2)
    assert [run.config.start.run for run in runs] == ["addition", "addition"]
    for run in runs:
        alone = gi.train(configs[run.path.name], tmp_path / run.path.name, start=source, progress=False)
        assert contents(run.path) == contents(alone.path)
    runs = gi.train_many(configs, tmp_path / "own", start={"one": source, "two": (other, 10)}, workers=1)
    assert [(run.config.start.run, run.config.start.step) for run in runs] == [
        ("addition", 20),
        ("other", 10),
    ]
    assert_same(runs[1].state_dict(0), other.state_dict(10))


def test_many_finished_ones_need_no_source(copied, tmp_path, monkeypatch):
    configs = [tiny(seed=seed, **SUBTRACTION) for seed in (0, 1)]
    for seed, config in enumerate(configs):
        gi.train(config, tmp_path / "many" / f"seed_{seed}", start=copied, progress=False)
    shutil.rmtree(copied.path)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **more: pytest.fail("a process was started"))
    assert len(gi.train_many(configs, tmp_path / "many", start=copied.path)) == 2
    with pytest.raises(
        UsageError, match="start has 'sead_0', and no configuration is named so; did you mean 'seed_0'"
    ):
        gi.train_many(configs, tmp_path / "many", start={"sead_0": copied.path})


def test_what_a_start_does_not_fit_is_refused_before_any_is_trained(source, tmp_path):
    with pytest.raises(ConfigError, match="same vocabulary"):
        gi.train_many({"fits": tiny(), "odd": tiny(**{"task.p": 11})}, tmp_path / "many", start=source)
    assert not (tmp_path / "many").exists()


def test_a_stack_starts_each_member_from_its_own(source, tmp_path, monkeypatch):
    """As on a GPU: here on the CPU, in float64."""
    other = gi.train(tiny(seed=1), tmp_path / "other", progress=False)
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **more: pytest.fail("a process was started"))
    configs = {name: tiny(**SUBTRACTION, **{"training.dtype": "float64"}) for name in ("one", "two")}
    stacks = []
    monkeypatch.setattr(many, "BatchedTrainer", lambda *given: stacks.append(given) or BatchedTrainer(*given))
    runs = gi.train_many(configs, tmp_path / "many", start={"one": source, "two": other})
    assert [len(given[0]) for given in stacks] == [2]
    for run, start in zip(runs, (source, other), strict=True):
        assert_same(
            {name: weight.float() for name, weight in run.state_dict(0).items()}, start.state_dict(-1)
        )
        alone = gi.train(configs[run.path.name], tmp_path / run.path.name, start=start, progress=False)
        assert run.record == alone.record
        np.testing.assert_allclose(run.history, alone.history, rtol=1e-9)


def test_a_member_of_a_stack_whose_source_is_gone_fails_alone(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(many, "_device_type", lambda config: "cuda")
    config = tiny(**SUBTRACTION)
    with monkeypatch.context() as patched:
        patched.setattr(Writer, "resume_state", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            gi.train(config, tmp_path / "many" / "begun", start=copied, progress=False)
    shutil.rmtree(copied.path)
    with pytest.raises(SomeFailed, match="begun: start: the weights of step 20 of addition") as caught:
        gi.train_many({"begun": config, "drawn": config}, tmp_path / "many", start={"begun": copied.path})
    assert list(caught.value.failures) == ["begun"]
    assert gi.load_run(tmp_path / "many" / "drawn").finished


# Whether it helped


def test_compare_finds_the_run_from_scratch_by_itself(source, tmp_path):
    """Same task, network, seeds and training; how long and how closely it was watched may differ."""
    longer = {"training.evaluate_every": 5, "training.steps": 40}
    train(tmp_path / "scratch", **longer)
    train(tmp_path / "other", **{"training.lr": 1e-3})
    train(tmp_path / "another seed", seed=5)
    train(tmp_path / "started", source)
    found = gi.compare([tmp_path / name for name in ("other", "another seed", "started", "scratch")])
    (verdict,) = found.table["transfer"].dropna()
    assert verdict == "never"
    row = found.to_dict()["runs"][2]
    assert row["transfer"]["sentence"] == "never, up to step 20; nor had it from scratch by step 40"
    assert row["start"] == {**source.config.model_dump(mode="json", include={"task"}), "run": "addition",
    "step": 20, "last": True,
                            "sha256": source.sha256(20)}  # fmt: skip
    assert "Did starting from a snapshot help?" in found.to_html()
    alone = gi.compare([tmp_path / "started", tmp_path / "other"]).to_dict()["runs"][0]
    assert alone["transfer"]["sentence"] == "not known: the same run from scratch is not among these"


@pytest.mark.trains
def test_a_network_that_knows_the_task_is_faster_than_one_from_scratch(quick_run, tmp_path):
    """The positive control: what it starts from has learned this very task."""
    gi.train(
        quick_run.config.changed(**{"training.steps": 10}),
        tmp_path / "started",
        start=quick_run,
        progress=False,
    )
    (row,) = (row for row in gi.compare([quick_run, tmp_path / "started"]).to_dict()["runs"] if row["start"])
    assert row["transfer"]["verdict"] == "faster"
    history = quick_run.history
    assert row["transfer"]["steps"] == history["step"][history["test_accuracy"] >= 0.99].iloc[0]


def test_starts_of_several_seeds_are_a_group(source, tmp_path):
    for seed in (0, 1):
        # Of full batches the seed would make no difference behind a snapshot: the runs would be copies.
        batches = {"seed": seed, "training.batch_size": 8}
        train(tmp_path / f"last{seed}", source, **batches)
        train(tmp_path / f"early{seed}", (source, 10), **batches)
        train(tmp_path / f"drawn{seed}", seed=seed)
    found = gi.compare(tmp_path).compared.groups
    assert sorted(group.names for group in found) == [
        ("drawn0", "drawn1"),
        ("early0", "early1"),
        ("last0", "last1"),
    ]


def test_the_report_says_what_it_started_from(source, tmp_path):
    report = gi.analyze(train(tmp_path / "run", source), measures=["loss"], with_replay=False)
    assert report.to_dict()["run"]["start"]["sha256"] == source.sha256(20)
    assert "weights from step 20 of addition" in report.to_html()
    assert "start" not in gi.analyze(source, measures=["loss"], with_replay=False).to_dict()["run"]


# The command


def test_the_command_starts_with_the_configuration_of_the_source(grokinterp, source, tmp_path):
    code, _, stderr = grokinterp(
        "train", "modular_subtraction", "--from", f"{source.path}@10", "--out", tmp_path / "run"
    )
    assert (code, stderr) == (0, "")
    run = gi.load_run(tmp_path / "run")
    assert run.config.model_copy(update={"start": None}) == tiny(**SUBTRACTION)
    assert run.config.start.step == 10
    code, stdout, _ = grokinterp("compare", run.path, source.path)
    assert code == 0
    assert "started from addition@10: not known" in stdout


def test_the_command_goes_on_when_the_source_is_gone(grokinterp, copied, tmp_path):
    command = (
        "train",
        "modular_subtraction",
        "--from",
        copied.path,
        "--seed",
        "3",
        "--out",
        tmp_path / "run",
    )
    assert grokinterp(*command)[0] == 0
    whole = contents(tmp_path / "run")
    shutil.rmtree(copied.path)
    assert grokinterp(*command)[0] == 0
    assert contents(tmp_path / "run") == whole


def test_a_preset_goes_over_the_configuration_of_the_source(grokinterp, source, tmp_path):
    flags = [flag for flag in FLAGS if "weight_decay" not in flag]
    code, _, _ = grokinterp(
        "train", "modular_subtraction", "--preset", "quick", *flags, "--from", source.path, "--out",
        tmp_path / "run"
    )  # fmt: skip
    assert code == 0
    assert (
        gi.load_run(tmp_path / "run").config.training.weight_decay == 3.0
    )  # of the preset; the source has 2


def test_seeds_start_each_from_its_own_or_need_batches(grokinterp, source, tmp_path):
    for seed in (0, 1):
        gi.train(tiny(seed=seed), tmp_path / "sources" / f"seed_{seed}", progress=False)
    flags = ("--seeds", "0..1", "--threads", "1")
    code, _, stderr = grokinterp(
        "train",
        "modular_subtraction",
        "--from",
        f"{tmp_path / 'sources'}@10",
        *flags,
        "--out",
        tmp_path / "out",
    )
    assert (code, stderr) == (0, "")
    for seed in (0, 1):
        started, own = (gi.load_run(tmp_path / folder / f"seed_{seed}") for folder in ("out", "sources"))
        assert_same(started.state_dict(0), own.state_dict(10))
    code, _, stderr = grokinterp(
        "train", "modular_subtraction", "--from", source.path, *flags, "--out", tmp_path / "one"
    )
    assert code == 2
    assert "these runs would be one and the same" in stderr
    assert not (tmp_path / "one").exists()
