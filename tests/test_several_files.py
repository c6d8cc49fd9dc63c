"""Several files of one run, and a folder of them: which step each is of, and what is said of the rest."""

from __future__ import annotations

import datetime

import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import GrokinterpError, UsageError
from grokinterp.importing.file_names import no_steps_in_names, steps_in_names
from grokinterp.importing.several import checkpoints_in

W = {name: weight.float() for name, weight in controls.clock(7, (1, 2)).weights.items()}


def network(number: int) -> dict[str, torch.Tensor]:
    """One that can be told from the others, and adds all the same."""
    return {**W, "unembed.W_U": W["unembed.W_U"] * (1 + number / 1000)}


def run_of(folder, contents, *, name="checkpoints", **options):
    """The run made of files with these contents, by their names."""
    (folder / name).mkdir()
    for file, content in contents.items():
        (folder / name / file).parent.mkdir(exist_ok=True)
        torch.save(content, folder / name / file)
    return gi.import_checkpoint(
        folder / name, folder / "run", **{"forensics": False, "task": "modular_addition", **options}
    )


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


FOLDERS = {
    "epoch inside": ({f"c{i}.pt": {"epoch": 50 * i, "model": network(i)} for i in range(3)}, [0, 50, 100]),
    "iteration inside": (
        {f"c{i}.pt": {"iteration": 10 + i, "net": network(i)} for i in range(3)},
        [10, 11, 12],
    ),
    "global_step, as Lightning writes it": (
        {f"c{i}.ckpt": {"global_step": 7 * i, "state_dict": network(i)} for i in range(3)},
        [0, 7, 14],
    ),
    "numbers in names": ({f"epoch_{i:04}.pt": network(i) for i in (0, 200, 1000)}, [0, 200, 1000]),
    "numbers without zeros": ({f"{i}.pth": network(i) for i in (9, 10, 100)}, [9, 10, 100]),
    "a number that all have": ({f"p7_grok_{i}.pt": network(i) for i in (100, 200)}, [100, 200]),
    "thousands": ({f"ckpt-{i}k.pt": network(i) for i in (1, 2, 30)}, [1000, 2000, 30_000]),
    "init and final": (
        {"ckpt-final.pt": network(3), "ckpt-init.pt": network(0), "ckpt-50.pt": network(1)},
        [0, 50, 51],
    ),
    "folders": ({f"checkpoint-{i}/model.pt": network(i) for i in (5, 10)}, [5, 10]),
    "Lightning's names": (
        {f"epoch={i}-val_loss=0.{9 - i}1.ckpt": {"state_dict": network(i)} for i in (1, 2)},
        [1, 2],
    ),
    "no numbers": ({"a.pt": network(0), "b.pt": network(1)}, [0, 1]),
}


@pytest.mark.parametrize("form", FOLDERS)
def test_a_folder_is_one_run(tmp_path, form):
    contents, steps = FOLDERS[form]
    run = run_of(tmp_path, contents)
    assert run.steps == steps
    found = [float(run.state_dict(step)["unembed.W_U"].norm()) for step in steps]
    assert found == sorted(found)  # as each network has larger numbers than the one before
    assert len({*found}) == len(steps)
    assert run.imported["file"] == f"checkpoints/ ({len(contents)} files)"


def test_what_is_not_known_of_steps_is_said(tmp_path):
    run = run_of(tmp_path, FOLDERS["no numbers"][0])
    assert run.imported["unknown_steps"] == [0, 1]
    assert "the files numbered in their order from 0" in said(run)
    (tmp_path / "b").mkdir()
    run = run_of(tmp_path / "b", FOLDERS["init and final"][0])
    assert run.imported["unknown_steps"] == [51]


def test_what_is_inside_is_taken_before_the_name_and_that_is_said(tmp_path):
    run = run_of(tmp_path, {f"epoch_{i + 1}.pt": {"epoch": i, "model": network(i)} for i in range(3)})
    assert run.steps == [0, 1, 2]
    assert "the names of 3 files say another step than what is inside (epoch_1.pt, and 0 inside)" in said(run)


def test_a_number_inside_that_is_the_same_in_all_is_no_step(tmp_path):
    run = run_of(tmp_path, {f"epoch_{i}.pt": {"epoch": 500, "model": network(i)} for i in (0, 100, 200)})
    assert run.steps == [0, 100, 200]
    assert "the step inside is 500 in 3 files, and so not one for each" in said(run)


def test_two_files_of_one_step_and_what_is_beside_them_are_named(tmp_path):
    contents = {f"epoch_{i}.pt": {"epoch": i, "model": network(i)} for i in (0, 10)}
    contents |= {"best.pt": {"epoch": 10, "model": network(10)}, "ema.pt": network(5)}
    contents |= {"optimizer.pt": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "notes.txt": {}}
    run = run_of(tmp_path, contents)
    assert run.steps == [0, 10]
    assert "the same network as" in said(run)
    assert "average over steps" in said(run)
    assert "not read, as they do not end as checkpoints do: notes.txt" in said(run)
    assert "optimizer.pt" in said(run)


def test_files_that_cannot_be_read_do_not_lose_the_others_of_a_folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for i in (0, 10):
        torch.save(network(i), tmp_path / f"checkpoints/step_{i}.pt")
    data = (tmp_path / "checkpoints/step_10.pt").read_bytes()
    (tmp_path / "checkpoints/step_20.pt").write_bytes(data[: len(data) // 2])
    run = gi.import_checkpoint(tmp_path / "checkpoints", tmp_path / "run", forensics=False)
    assert run.steps == [0, 10]
    assert "step_20.pt" in said(run)
    with pytest.raises(GrokinterpError, match=r"step_20\.pt"):
        gi.import_checkpoint([*(tmp_path / "checkpoints").iterdir()], tmp_path / "b", forensics=False)


def test_several_files_are_named_one_by_one(grokinterp, tmp_path):
    for i in (0, 5, 10):
        torch.save({"model": network(i), "when": datetime.date(2026, 1, 1)}, tmp_path / f"step_{i}.pt")
    files = [str(tmp_path / f"step_{i}.pt") for i in (10, 0, 5)]
    code, out, err = grokinterp(
        "import", *files, "--task", "modular_addition", "--no-forensics", "--out", tmp_path / "r"
    )
    assert code == 0, err
    assert "imported from 3 files, step_10.pt the first" in out
    assert gi.load_run(tmp_path / "r").steps == [0, 5, 10]
    again = gi.import_checkpoint(files, tmp_path / "r", task="modular_addition", forensics=False)
    assert again.steps == [0, 5, 10]  # it holds this import


def test_the_history_is_that_of_the_last_file(tmp_path):
    contents = {
        f"epoch_{i}.pt": {"epoch": i, "model": network(i), "train_losses": [1.0] * (i + 1)} for i in (0, 10)
    }
    assert len(run_of(tmp_path, contents).history) == 11


def test_losses_beside_the_network_of_each_file_are_the_history(tmp_path):
    contents = {
        f"{i}.pt": {"epoch": i, "model": W, "train_loss": 1.0 + i, "test_acc": torch.tensor(0.5), "lr": 0.1}
        for i in (0, 5, 20)
    }
    run = run_of(tmp_path, contents, believe=True)
    assert run.history["step"].tolist() == [0, 5, 20]
    assert run.history["train_loss"].tolist() == [1.0, 6.0, 21.0]
    assert run.history["test_accuracy"].tolist() == [0.5, 0.5, 0.5]
    assert "train losses: 3 under each file.*.train_loss, of steps 0 to 20" in said(run)


def test_a_folder_of_files_of_lightning(tmp_path):
    contents = {
        f"epoch={i}-step={i * 10}.ckpt": {
            "epoch": i,
            "global_step": i * 10,
            "state_dict": {f"model.{name}": weight for name, weight in network(i).items()},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        }
        for i in (1, 2, 9)
    }
    run = run_of(tmp_path, contents)
    assert run.steps == [1, 2, 9]
    assert "optimizer_states of each file (3 tensors)" in said(run)


def test_one_bad_file_of_a_run_is_named(tmp_path):
    bad = {**W, "embed.W_E": W["embed.W_E"] * float("nan")}
    run = run_of(tmp_path, {"e0.pt": network(0), "e1.pt": network(1), "e2.pt": bad})
    assert run.steps == [0, 1]
    assert "e2.pt" in said(run)
    assert "the last network cannot be read" in said(run)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["a_1_x.pt", "a_2_x.pt"], [1, 2]),
        (["p113_e5.pt", "p113_e10.pt"], [5, 10]),
        (["run3/model_10.pt", "run3/model_20.pt"], [10, 20]),
        (["seed0_step10.pt", "seed0_step20.pt"], [10, 20]),
        (["0001.safetensors", "0010.safetensors"], [1, 10]),
        (["model_epoch-3_acc-99.pt", "model_epoch-4_acc-12.pt"], [3, 4]),
        (["ckpt_1e3.pt", "ckpt_2e3.pt", "ckpt_1e4.pt"], [1000, 2000, 10_000]),
        (["ckpt_1,000.pt", "ckpt_2,000.pt", "ckpt_10,000.pt"], [1000, 2000, 10_000]),
        (["seed0_100.pt", "seed0_200.pt", "seed0_1000.pt"], [100, 200, 1000]),
        (["p113_100.pt", "p113_200.pt"], [100, 200]),
        (["lr0.001_100.pt", "lr0.001_200.pt"], [100, 200]),
        (["20260102_120000_100.pt", "20260102_120000_200.pt"], [100, 200]),
        (["2026-01-02_step100.pt", "2026-01-03_step200.pt"], [100, 200]),
        (["model_100_97.pt", "model_200_97.pt", "model_300_99.pt"], [100, 200, 300]),
        (["loss_1_100.pt", "loss_2_200.pt"], [100, 200]),
        (["epoch=0-step=500.ckpt", "epoch=0-step=1000.ckpt"], [500, 1000]),
        (["2000.pt", "2010.pt"], [2000, 2010]),
        (["20000000.pt", "20100000.pt"], [20_000_000, 20_100_000]),
        (["run1_5.pt", "run1_6.pt"], [5, 6]),
    ],
)
def test_steps_in_names_of_files(names, steps):
    assert steps_in_names(names) == dict(zip(names, steps, strict=True))


@pytest.mark.parametrize(
    "names",
    [
        ["2026-01-02_12-00.pt", "2026-01-02_13-30.pt"],
        ["20260102T1200.pt", "20260103T1300.pt"],
        ["model_20260102.pt", "model_20260103.pt"],
        ["Jan02_12-00-00_host.pt", "Jan03_12-00-00_host.pt"],
        ["ckpt_1767355200.pt", "ckpt_1767355900.pt"],
        ["1767355200.123.pt", "1767355201.5.pt"],
        ["12-00.pt", "12-30.pt"],
        ["model_100_97.pt", "model_200_98.pt"],
        ["10-97.pt", "20-98.pt"],
        ["acc97.pt", "acc98.pt"],
        ["97acc.pt", "98acc.pt"],
        ["m_97pct.pt", "m_98pct.pt"],
        ["best_97.pt", "best_98.pt"],
        ["model_v1.pt", "model_v2.pt"],
        ["3fa9c2.pt", "b1e0d4.pt"],
    ],
)
def test_what_may_be_a_date_or_a_score_is_no_step_and_that_is_said(names):
    assert steps_in_names(names) == {}
    sentence = no_steps_in_names(names, {})
    assert sentence is not None
    assert f"({names[0]}), which cannot be read as a step for certain" in sentence


UNKNOWN = {
    "dates": ({f"2026-01-0{i + 1}_12-00.pt": network(i) for i in range(3)}, [0, 1, 2], [0, 1, 2]),
    "dates, and steps inside": (
        {f"2026-01-0{i + 1}_12-00.pt": {"epoch": 100 * i, "model": network(i)} for i in range(3)},
        [0, 100, 200],
        [],
    ),
    "the first, one between, the last": (
        {"start.pt": network(0), "halfway.pt": network(1), "end.pt": network(2)},
        [0, 1, 2],
        [1, 2],
    ),
    "words in the order of training": (
        {"early.pt": network(0), "mid.pt": network(1), "late.pt": network(2)},
        [0, 1, 2],
        [0, 1, 2],
    ),
    "the best and the last": ({"best.pt": network(0), "last.pt": network(1)}, [0], [0]),
}


@pytest.mark.parametrize("form", UNKNOWN)
def test_names_without_steps_give_the_order(tmp_path, form):
    contents, steps, unknown = UNKNOWN[form]
    run = run_of(tmp_path, contents)
    assert run.steps == steps
    assert sorted(run.imported["unknown_steps"]) == unknown
    found = [float(run.state_dict(step)["unembed.W_U"].norm()) for step in steps]
    assert found == sorted(found)
    assert ("3 files have a date or a time in their names" in said(run)) == (form == "dates")


OPTIMIZER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(3)}},
    "param_groups": [{"lr": 0.1}],
}
OTHERS = {
    "optimizer": OPTIMIZER,
    "state": OPTIMIZER,
    "scheduler": {"last_epoch": 3},
    "rng": torch.zeros(8, dtype=torch.uint8),
    "grads": {"layer.weight": torch.zeros(2)},
    "history": {"lr": [0.1, 0.2]},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_file_of_no_network_beside_each_is_left_unread_and_named(tmp_path, other):
    contents = {f"model_{i}.pt": network(i) for i in (10, 20)}
    contents |= {f"{other}_{i}.pt": OTHERS[other] for i in (10, 20)}
    run = run_of(tmp_path, contents)
    assert run.steps == [10, 20]
    assert f"left unread, as no network is in them: {other}_10.pt, {other}_20.pt" in said(run)
    assert "cannot be read" not in said(run)


SEVERAL = {
    "the same names": ["a/epoch_1.pt", "b/epoch_1.pt"],
    "other names": ["a/epoch_1.pt", "b/epoch_2.pt"],
    "dates": ["2026-01-01/final.pt", "2026-01-02/final.pt"],
    "versions of Lightning": ["version_0/epoch_1.pt", "version_1/epoch_1.pt"],
    "seeds": ["seed1/final.pt", "seed2/final.pt"],
}


@pytest.mark.parametrize("form", SEVERAL)
def test_a_folder_of_several_runs_is_refused_and_both_are_named(tmp_path, form):
    for name in SEVERAL[form]:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    one, other = (name.partition("/")[0] for name in SEVERAL[form])
    with pytest.raises(
        UsageError, match=f"lie in {one} and {other}, which are several runs .*{one}, or name"
    ):
        checkpoints_in(tmp_path)


def test_checkpoints_in_folders_beside_others_are_named(tmp_path):
    run = run_of(
        tmp_path, {"epoch_1.pt": network(1), "epoch_2.pt": network(2), "best/epoch_2.pt": network(2)}
    )
    assert run.steps == [1, 2]
    assert "not read, as they lie in folders of their own: best/*" in said(run)


def test_several_runs_and_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="they are of several runs, so import each by itself"):
        run_of(tmp_path, {f"seed_{i}.pt": network(i) for i in range(3)})
    with pytest.raises(UsageError, match="no file in it ends as checkpoints do"):
        run_of(tmp_path, {}, name="empty")
    with pytest.raises(UsageError, match="name one, several, or a folder of them"):
        gi.import_checkpoint([], tmp_path / "none")
    run = gi.import_checkpoint(tmp_path / "checkpoints/seed_0.pt", tmp_path / "run", forensics=False)
    with pytest.raises(UsageError, match="it is a run already"):
        gi.import_checkpoint(run.path, tmp_path / "other")


@pytest.mark.parametrize(
    "names",
    [
        ["seed0_step0.pt", "seed0_step20.pt", "seed1_step10.pt", "seed1_step30.pt"],
        ["fold_1_epoch_3.pt", "fold_2_epoch_3.pt"],
    ],
)
def test_files_of_several_runs_are_no_one_run(names):
    with pytest.raises(
        UsageError, match=r"differ in their (seed|run|fold), by their names: they are of several"
    ):
        steps_in_names(names)
