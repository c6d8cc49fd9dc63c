"""A run that diverged knows it, and everything that speaks of it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import Diverged, NoSuchSnapshot, SomeFailed
from grokinterp.report import replay_page, save_replay
from grokinterp.runs import follow, many

# Every step multiplies the weights by about -1e12, until no float holds them: on every machine.
WILD = {"training.lr": 1e6, "training.weight_decay": 1e6}
WAYS = {
    "adamw": WILD,
    "sgd": WILD | {"training.optimizer": "sgd"},
    "in float64": WILD | {"training.dtype": "float64"},
    "seldom evaluated": WILD | {"training.evaluate_every": 10},
    "in batches": WILD | {"training.batch_size": 5},
    "two layers": WILD | {"model.n_layers": 2},
}
AT_ONCE = {"model.init_scale": 1e6, "model.n_layers": 2}


def diverged(folder: Path, **overrides: object) -> tuple[gi.Run, Diverged]:
    """A run that diverged, and the error of its training."""
    with pytest.raises(Diverged) as caught:
        gi.train(tiny(**overrides), folder, progress=False)
    return gi.load_run(folder), caught.value


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> gi.Run:
    return diverged(tmp_path_factory.mktemp("diverged") / "run", **WAYS["adamw"])[0]


@pytest.mark.parametrize("way", WAYS)
def test_run_json_says_at_which_step_what_was_not_finite(tmp_path, way):
    run, error = diverged(tmp_path / "run", **WAYS[way])
    assert run.finished is None
    assert run.diverged == {
        "step": error.step, "what": error.what, "snapshots": len(run.steps), "evaluations": len(run.history),
    }  # fmt: skip
    assert f"{error.what} at step {error.step}; " in str(error)
    assert run.ended == f"diverged at step {error.step}"
    assert run.divergence == f"Training diverged at step {error.step}: {error.what}."
    assert run.ended in repr(run)
    assert error.step > run.history["step"].max()
    assert all(problem is None for _, problem in run.verify())
    assert gi.compare(run).table["state"].tolist() == [run.ended]


def test_a_run_that_was_interrupted_or_finished_did_not_diverge(tmp_path, tiny_run):
    assert (tiny_run.diverged, tiny_run.divergence, tiny_run.ended) == (None, "", "all steps done")
    assert "Training diverged" not in gi.analyze(tiny_run, measures=["loss"]).to_html()
    assert "diverged" not in (tiny_run.path / "run.json").read_text()


def test_the_report_says_so_in_its_sentence_its_page_and_its_values(run):
    report = gi.analyze(run, measures=["loss"], progress=False)
    told = report.to_dict()
    assert told["training"]["sentence"].startswith(run.divergence + " ")
    assert told["run"]["diverged"] == run.diverged
    page = report.to_html()
    assert page.count(run.divergence) >= 1
    assert f"; {run.ended}" in page


def test_the_replay_says_so_and_watching_ends(run, tmp_path):
    assert [seen.ended for seen in follow(run.path)] == [run.ended]
    data = save_replay(run, tmp_path / "page.html")
    assert run.divergence in (tmp_path / "page.html").read_text()
    assert run.divergence in replay_page(data, run.history)


def test_the_commands_say_so(run, grokinterp):
    assert grokinterp("verify", run.path)[1].endswith(f"files, all as they were written\n{run.divergence}\n")
    assert json.loads(grokinterp("verify", run.path, "--json")[1])["diverged"] == run.diverged
    assert run.ended in grokinterp("compare", run.path)[1]
    assert run.divergence in grokinterp("replay", run.path, "--out", run.path / "page.html")[1]


def test_a_run_that_diverged_before_its_first_snapshot_says_that_there_is_none_and_why(tmp_path):
    run, _ = diverged(tmp_path / "run", **AT_ONCE)
    for ask in (run.view, run.model, lambda step: gi.analyze(run), lambda step: gi.replay(run)):
        with pytest.raises(
            NoSuchSnapshot, match="has no snapshot: it diverged at step 0, the loss became NaN or infinite"
        ):
            ask(-1)


@pytest.mark.parametrize("way", ["one by one", "cuda"])
def test_of_many_the_one_that_diverged_is_named_also_in_the_next_call_and_the_others_finish(
    tmp_path, monkeypatch, way
):
    """In this process, one after the other or as one stack; through processes in test_many.py."""
    monkeypatch.setattr(many, "_device_type", lambda config: way)
    configs = {"wild": tiny(**WAYS["adamw"]), "good": tiny(seed=1), "mild": tiny(seed=2)}
    messages = []
    for _ in range(2):
        with pytest.raises(SomeFailed, match="1 of 3 runs failed, the others are finished; wild: ") as caught:
            gi.train_many(configs, tmp_path)
        assert set(caught.value.failures) == {"wild"}
        assert isinstance(caught.value.failures["wild"], Diverged)
        messages.append(str(caught.value))
    ended = [gi.load_run(tmp_path / name).ended for name in configs]
    assert ended[1:] == ["all steps done", "all steps done"]
    assert f"wild {ended[0]}: " in messages[1]
    assert ended[0].startswith("diverged at step ")


def test_a_table_of_seeds_says_which_diverged(grokinterp, tmp_path, monkeypatch):
    monkeypatch.setattr(many, "_device_type", lambda config: "one by one")
    settings = [
        "--set=task.p=7",
        "--set=model.d_model=16",
        "--set=training.lr=1e6",
        "--set=training.weight_decay=1e6",
        "--threads=1",
    ]
    code, out, err = grokinterp(
        "train", "modular_addition", "--preset", "quick", *settings, "--seeds", "0,1", "--out", tmp_path
    )
    assert code == 1
    assert out.count("diverged at step ") == 2
    assert "0 of 2 runs finished" in out
    assert len(err.splitlines()) == 2
