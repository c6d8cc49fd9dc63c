"""What `show` says of runs and of other people's files: what is recorded, the keys and the shapes; nothing of
it is executed or analysed."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import DamagedFile, GrokinterpError, NotARun, UsageError
from test_diverged import WILD, diverged
from test_foreign_files import pickled, reduce, text


def shown(path):
    """The rows by name, the values, and what is printed."""
    contents = gi.show(path)
    return dict(contents.rows), contents.to_dict(), str(contents)


def test_of_a_run_it_says_what_its_record_and_its_logs_say(tiny_run):
    rows, values, printed = shown(tiny_run.path)
    last = tiny_run.last_evaluation
    assert values["config"] == tiny_run.record["config"]
    assert values["last_evaluation"] == last
    assert values["snapshots"]["steps"] == tiny_run.steps == [0, 10, 20]
    assert values["split"] == {"n_train": len(tiny_run.split.train), "n_test": len(tiny_run.split.test)}
    weights = tiny_run.state_dict(-1)
    assert {name: one["shape"] for name, one in values["weights"].items()} == {
        name: list(weight.shape) for name, weight in weights.items()
    }
    assert f"{sum(map(torch.numel, weights.values())):,} numbers (F32)" in rows["weights"]
    assert rows["run"].endswith("finished, all steps done; " + rows["run"].rpartition("; ")[2])
    assert rows["snapshots"].startswith("3 snapshots, steps 0 to 20; ")
    assert f"test loss {last['test_loss']:.4g}" in rows["last evaluation"]
    assert "seed 0" in rows["comes from"]
    assert printed.splitlines()[0] == "a + b mod 7 in tiny"


def test_of_a_run_that_began_elsewhere_and_diverged_it_says_so(tiny_run, tmp_path):
    later = gi.train(tiny(**{"training.steps": 5}), tmp_path / "later", start=(tiny_run, 10), progress=False)
    rows, values, _ = shown(later.path)
    assert values["start"]["step"] == 10
    assert '"tiny"' in rows["comes from"]
    run, error = diverged(tmp_path / "diverged", **WILD)
    rows, values, _ = shown(run.path)
    assert f"diverged at step {error.step}" in rows["run"]
    assert values["diverged"]["what"] == error.what


def test_of_an_imported_run_it_says_from_what_and_what_was_assumed(tiny_run, tmp_path):
    torch.save(tiny_run.state_dict(-1), tmp_path / "theirs.pt")
    run = gi.import_checkpoint(
        tmp_path / "theirs.pt", tmp_path / "imported", task="modular_addition", believe=True, progress=False
    )
    rows, values, printed = shown(run.path)
    assert values["imported"] == run.imported
    assert rows["comes from"].startswith("theirs.pt (layout transformer_lens, sha256 ")
    assert run.imported["assumed"][0] in printed
    assert "training" not in rows


def test_a_run_is_shown_without_torch(tiny_run):
    code = (
        "import sys\nfrom grokinterp.cli import main\n"
        f"sys.argv = ['grokinterp', 'show', {str(tiny_run.path)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'numpy', 'transformer_lens', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stdout.startswith("run ")


def test_damage_is_one_line(tiny_run):
    (tiny_run.path / "metrics.jsonl").write_bytes(
        (tiny_run.path / "metrics.jsonl").read_bytes().replace(b"1", b"2", 1)
    )
    with pytest.raises(DamagedFile, match="does not match its checksum"):
        gi.show(tiny_run.path)
    (tiny_run.path / "run.json").unlink()
    with pytest.raises(NotARun, match=r"no run\.json"):
        gi.show(tiny_run.path)


FILES = {
    "weights.safetensors": lambda weights, path: safetensors.torch.save_file(weights, path),
    "weights.pt": torch.save,
    "nested.pt": lambda weights, path: torch.save(
        {"model": weights, "epoch": 4, "train_losses": [3.0, 2.5, 2.0, 1.5, 1.0], "note": "mine"}, path
    ),
    "several.pt": lambda weights, path: torch.save(
        {"state_dicts": [weights, weights], "epochs": [0, 7]}, path
    ),
    "plain.pkl": lambda weights, path: path.write_bytes(pickle.dumps({"weights": [1.0, 2.0], "lr": 1e-3})),
}


@pytest.mark.parametrize("name", FILES)
def test_of_a_foreign_file_it_names_every_key_with_its_shape(tiny_run, tmp_path, name):
    weights, path = tiny_run.state_dict(-1), tmp_path / name
    FILES[name](weights, path)
    rows, values, printed = shown(path)
    assert values["bytes"] == path.stat().st_size
    for entry, said in list(values["entries"].items())[:14]:
        assert entry in printed
        assert said in printed
    places = {"weights": "", "nested": "model.", "several": "state_dicts.1.", "plain": None}[path.stem]
    if places is not None:
        for key, weight in weights.items():
            assert values["tensors"][places + key]["shape"] == list(weight.shape)
        assert values["import"]["layout"] == "transformer_lens"
        assert rows["network"] == str(tiny_run.config.model)
        assert {"elements": 7, "tokens": "a b ="} in values["import"]["examples"]
    if path.stem == "nested":
        assert values["import"]["steps"] == [4]
        assert values["import"]["series"] == {"train_loss": 5}
        assert rows["epoch"] == "4"
    if path.stem == "several":
        assert values["import"]["steps"] == [0, 7]
    if path.stem == "plain":
        assert "no state dict" in rows["import"]


def test_what_the_next_line_says_works(tiny_run, tmp_path, grokinterp):
    torch.save(tiny_run.state_dict(-1), tmp_path / "theirs.pt")
    command = shown(tmp_path / "theirs.pt")[0]["next"].partition(" finds ")[0]
    out = tmp_path / "out"
    assert command.startswith("grokinterp import ")
    arguments = command.replace("DIR", str(out)).split()[1:]
    code, _, stderr = grokinterp(*arguments, "--task", "modular_addition", "--believe")
    assert code == 0, stderr
    assert gi.show(out).to_dict()["imported"]["file"] == "theirs.pt"


def test_nothing_in_a_file_is_executed(tmp_path):
    path = tmp_path / "hostile.pt"
    path.write_bytes(pickled(reduce("posix", "system", text(f"touch {tmp_path / 'executed'}"))))
    with pytest.raises(GrokinterpError, match="cannot read"):
        gi.show(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", ["# words", "{'a'", ""], ids=repr)
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "x.txt").write_text(content)
    with pytest.raises(GrokinterpError, match=r"^cannot read \S+x\.txt: "):
        gi.show(tmp_path / "x.txt")


def test_of_a_folder_it_names_each_file_and_the_runs(tiny_run, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for epoch in (1, 2):
        torch.save(tiny_run.state_dict(-1), folder / f"epoch_{epoch}.pt")
    (folder / "notes.txt").write_text("words")
    (folder / ".hidden").write_text("words")
    shutil.copytree(tiny_run.path, folder / "run")
    rows, values, _ = shown(folder)
    assert list(values["files"]) == ["epoch_1.pt", "epoch_2.pt", "notes.txt"]
    assert "16 tensors" in rows["epoch_1.pt"]
    assert rows["notes.txt"].startswith("it is no checkpoint")
    assert values["runs"] == ["run"]
    assert "grokinterp ls" in rows["runs"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no file and no run"):
        gi.show(tmp_path / "empty")


def test_the_command_prints_a_screen_and_all_as_json(tiny_run, grokinterp, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_run.path.parent)  # a long path is not broken
    code, stdout, stderr = grokinterp("show", "tiny")
    assert (code, stderr) == (0, "")
    assert len(stdout.splitlines()) < 40
    assert max(map(len, stdout.splitlines())) <= 80
    assert json.loads(grokinterp("show", tiny_run.path, "--json")[1]) == gi.show(tiny_run.path).to_dict()
    torch.save(tiny_run.state_dict(-1), tmp_path / "theirs.pt")
    told = json.loads(grokinterp("show", tmp_path / "theirs.pt", "--json")[1])
    assert told["import"]["layout"] == "transformer_lens"
    code, stdout, stderr = grokinterp("show", tmp_path / "nothing")
    assert (code, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
