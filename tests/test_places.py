"""Where things are written: every command at ".", at links, at what can be no directory, and on disks that
take nothing."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import grokinterp as gi
from conftest import TINY, tiny
from grokinterp import controls
from grokinterp.errors import NotARun, WriteFailed
from grokinterp.importing import importer
from grokinterp.runs import many
from grokinterp.runs.files import file_named, folder_named, refuse_unwritable

SETTINGS = [
    "--preset",
    "quick",
    "--threads",
    "1",
    *(f"--set={key}={'' if value is None else value}" for key, value in TINY.items()),
]
COMMANDS: dict[str, tuple[list[str], str, str]] = {
    "train": (["train", "modular_addition", *SETTINGS, "--out"], "run.json", ""),
    "train --seeds": (
        ["train", "modular_addition", *SETTINGS, "--seeds=0,1", "--out"],
        "seed_1/run.json",
        "",
    ),
    "import": (
        ["import", "{checkpoint}", "--task=modular_addition", "--no-forensics", "--believe", "--out"],
        "run.json",
        "",
    ),
    "analyze": (["analyze", "{run}", "--measure=loss", "--no-replay", "--out"], "report-loss.json", ""),
    "compare": (["compare", "{run}", "--out"], "compare.html", ""),
    "replay": (["replay", "{run}", "--step=20", "--out"], "replay.html", "page.html"),
    "replay --data": (["replay", "{run}", "--step=20", "--out={elsewhere}", "--data"], "", "numbers.nc"),
    "table": (["table", "modular_addition", "--p=3", "--out"], "table.html", "page.html"),
}
"""What is called, which file it makes in a directory, and of those that write one file how that may be
called."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """A run and a foreign checkpoint to work on."""
    folder = tmp_path_factory.mktemp("sources")
    gi.train(tiny(), folder / "run", progress=False)
    torch.save(dict(controls.clock(5, (1, 2)).weights), folder / "theirs.pt")
    return {"run": folder / "run", "checkpoint": folder / "theirs.pt", "elsewhere": folder / "elsewhere.html"}


@pytest.fixture
def command(grokinterp, sources, monkeypatch) -> Callable[[str, str], tuple[int, str, str]]:
    """Calls a command with a place to write to, in this process; several seeds one after the other."""
    monkeypatch.setattr(many, "_device_type", lambda config: "one by one")
    return lambda name, place: grokinterp(
        *(argument.format(**sources) for argument in COMMANDS[name][0]), place
    )


def entries(folder: Path) -> dict[str, tuple[bool, bytes]]:
    """Everything in a folder: whether it is a link, and its bytes."""
    paths = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): (path.is_symlink(), path.read_bytes() if path.is_file() else b"")
        for path in paths
    }


@pytest.mark.parametrize("name", ["table", "replay"])
def test_a_page_has_an_ending_by_which_a_browser_knows_it(command, tmp_path, name):
    code, out, _ = command(name, str(tmp_path / "mine"))
    assert code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["mine.html"]
    assert "mine.html" in out


IN_FOLDERS = [name for name, (_, made, _) in COMMANDS.items() if made]


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_where_one_stands_and_where_a_link_leads_is_written_into_and_said(
    command, tmp_path, monkeypatch, name
):
    for place, there in (("here", "."), ("links", "link"), ("slashed", "folder/"), ("chain", "first")):
        folder = tmp_path / place
        target = {
            ".": folder,
            "link": folder / "target",
            "folder/": folder / "folder",
            "first": folder / "target",
        }[there]
        target.mkdir(parents=True)
        for link, to in {
            "link": [("link", "target")],
            "first": [("first", "second"), ("second", "target")],
        }.get(there, []):
            (folder / link).symlink_to(to)
        monkeypatch.chdir(folder)
        before = os.stat(target).st_ino
        code, out, err = command(name, there)
        assert (code, err) == (0, "")
        assert (target / COMMANDS[name][1]).is_file()
        assert os.stat(target).st_ino == before, "it is the same directory, and not another of its name"
        assert not [path for path in folder.rglob("*") if ".importing" in path.name or path.suffix == ".tmp"]
        if "link" in there or there == "first":
            assert (folder / there).is_symlink()
            assert f"which is {target}" in out
        if there == "." and COMMANDS[name][1].endswith("run.json"):
            assert f"., which is {folder}" in out


@pytest.mark.parametrize("name", [name for name, (_, _, file) in COMMANDS.items() if file])
def test_a_link_to_a_file_stays_one(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = COMMANDS[name][2]
    (tmp_path / "target").write_text("of last time")
    (tmp_path / file).symlink_to("target")
    code, out, _ = command(name, file)
    assert code == 0
    assert (tmp_path / file).is_symlink()
    assert (tmp_path / "target").read_bytes() != b"of last time"
    assert f"{file}, which is {tmp_path / 'target'}" in out


def _dangling(folder: Path, ending: str) -> str:
    (folder / f"link{ending}").symlink_to("gone")
    return f"link{ending}"


def _below_dangling(folder: Path, ending: str) -> str:
    (folder / "link").symlink_to("gone")
    return f"link/inside{ending}"


def _circular(folder: Path, ending: str) -> str:
    (folder / f"link{ending}").symlink_to(f"link{ending}")
    return f"link{ending}"


def _below_a_file(folder: Path, ending: str) -> str:
    (folder / "file").write_text("a letter")
    return f"file/inside{ending}"


def _nothing(folder: Path, ending: str) -> str:
    return ""


def _blank(folder: Path, ending: str) -> str:
    return "  "


def _a_file(folder: Path, ending: str) -> str:
    (folder / "file").write_text("a letter")
    return "file"


def _a_file_with_a_slash(folder: Path, ending: str) -> str:
    (folder / f"file{ending}").write_text("a letter")
    return f"file{ending}/"


def _a_pipe(folder: Path, ending: str) -> str:
    os.mkfifo(folder / f"pipe{ending}")
    return f"pipe{ending}"


WRONG = [
    _dangling,
    _below_dangling,
    _circular,
    _below_a_file,
    _nothing,
    _blank,
    _a_file_with_a_slash,
    _a_pipe,
]


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_what_is_no_place_is_one_clear_line_and_nothing_is_touched(command, tmp_path, monkeypatch, make):
    for name, (_, _, file) in COMMANDS.items():
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        place = make(folder, Path(file).suffix)
        before = [(path.name, path.is_symlink()) for path in folder.iterdir()]
        code, out, err = command(name, place)
        assert (code, out) == (2, ""), name
        assert err.count("\n") == 1
        assert err.startswith("grokinterp: ")
        assert ("--data" if "data" in name else "--out") in err
        assert place.strip("/ ").partition("/")[0] in err
        assert [(path.name, path.is_symlink()) for path in folder.iterdir()] == before


@pytest.mark.parametrize("name", [name for name, (_, made, file) in COMMANDS.items() if made and not file])
def test_a_file_is_no_directory(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(name, _a_file(tmp_path, ""))
    assert (code, out) == (2, "")
    assert err == "grokinterp: file is a file: choose a directory with --out\n"
    assert (tmp_path / "file").read_text() == "a letter"


def test_the_functions_take_the_same_places(sources, tmp_path, monkeypatch):
    """What the commands do is what the API does."""
    monkeypatch.chdir(tmp_path)
    run = gi.load_run(sources["run"])
    (tmp_path / "gone").symlink_to("nowhere")
    for call in (
        lambda place: gi.train(tiny(), place, progress=False),
        lambda place: gi.train_many([tiny()], place),
        lambda place: gi.import_checkpoint(sources["checkpoint"], place, progress=False),
        lambda place: gi.analyze(run, measures=["loss"], with_replay=False).save_html(place),
        lambda place: gi.compare(run).save_json(place),
    ):
        for place in ("", "gone", Path("gone"), "gone/inside"):
            with pytest.raises(NotARun, match=r"choose another place|is no name"):
                call(place)
    assert [path.name for path in tmp_path.iterdir()] == ["gone"]


def test_training_goes_on_in_the_directory_where_one_stands_and_through_a_link(tmp_path, monkeypatch):
    whole = entries(gi.train(tiny(), tmp_path / "whole", progress=False).path)
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    monkeypatch.chdir(target)
    from grokinterp.runs.train import Writer

    commit = Writer.commit

    def stopped(writer, snapshot, trainer):
        commit(writer, snapshot, trainer)
        trainer.paused = snapshot.step == 10

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "commit", stopped)
        with pytest.raises(gi.GrokinterpError, match="interrupted at step 10"):
            gi.train(tiny(), ".", progress=False)
    gi.train(tiny(), tmp_path / "link", progress=False)
    assert (tmp_path / "link").is_symlink()
    assert entries(target) == whole


# The importer, interrupted


def imported(sources: dict[str, Path], out: Path | str) -> Path:
    return gi.import_checkpoint(
        sources["checkpoint"], out, task="modular_addition", forensics=False, believe=True, progress=False
    ).path


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "an error"])
def test_an_import_into_a_directory_that_is_there_is_no_run_until_it_is_whole(
    sources, tmp_path, monkeypatch, killed
):
    """Stopped at each renaming in turn, so that nothing is tidied up where it was killed; the next import
    makes it whole."""
    whole = entries(imported(sources, tmp_path / "whole"))
    del whole["lock"]
    rename = os.rename
    for allowed in range(20):
        out = tmp_path / f"out{allowed}"
        out.mkdir()
        made = 0

        def stopping(source, target, allowed=allowed):
            nonlocal made
            made += 1
            if made > allowed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(importer.os, "rename", stopping)
            if killed:
                patched.setattr(importer.shutil, "rmtree", lambda *names, **options: None)
            try:
                imported(sources, out)
            except WriteFailed as error:
                assert str(error).startswith(f"cannot write {out}")  # noqa: PT017
        if (out / "run.json").exists():
            assert all(problem is None for _, problem in gi.load_run(out).verify())
        else:
            with pytest.raises(NotARun):
                gi.load_run(out)
        imported(sources, out)
        assert {
            name: found
            for name, found in entries(out).items()
            if name != "lock" and not name.startswith(".importing")
        } == whole
        if made <= allowed:
            break
    assert 3 < allowed < 19


def test_what_an_unfinished_import_left_is_no_run_among_others(sources, tmp_path):
    shutil.copytree(sources["run"], tmp_path / "runs" / "one")
    for place in (".theirs.importing", "theirs/.importing"):
        shutil.copytree(sources["run"], tmp_path / "runs" / place)
    assert len(gi.compare(tmp_path / "runs").compared.runs) == 1


def test_an_import_leaves_alone_what_lies_in_the_directory(sources, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "full" / ".importing").mkdir()
    before = entries(tmp_path)
    with pytest.raises(NotARun, match="is not empty and holds no run"):
        imported(sources, tmp_path / "full")
    assert entries(tmp_path) == before


# Disks that take nothing


@pytest.fixture
def nothing_is_computed(monkeypatch):
    """Whatever takes time fails the test."""

    def computed(*arguments, **options):
        raise AssertionError("it was computed, and there was no place to write it")

    for place in (
        "training.trainer:Trainer.__iter__", "importing.several:read_foreign",
        "report.analysis:Analysis.__init__",
        "report.replay_page:replay", "report.compare:RunsCompared.__init__",
        "report.operations.sections:render_table",
    ):  # fmt: skip
        module, _, name = place.partition(":")
        *owner, name = name.split(".")
        found = import_module(f"grokinterp.{module}")
        monkeypatch.setattr(getattr(found, owner[0]) if owner else found, name, computed)


def mounted(folder: Path, *how: str) -> None:
    """Mounts something at a folder, or skips the test with the reason."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("no mount command here")
    done = subprocess.run(["mount", *how, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A real disk with no room left."""
    folder = tmp_path / "disk"
    mounted(folder, "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    (folder / "ballast").write_bytes(bytes(64 << 10))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only_disk(tmp_path, sources) -> Iterator[Path]:
    """A real disk that is mounted read-only, with a run on it of which nothing was measured."""
    folder = tmp_path / "disk"
    mounted(folder, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    shutil.copytree(
        sources["run"],
        folder / "run",
        ignore=lambda folder, names: [name for name in names if name == "replay"],
    )
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def forbidden_folder(monkeypatch) -> Iterator[Path]:
    """A folder that may be read and not written: by whoever tests, or for the superuser, whom nobody forbids,
    by another user."""
    folder = Path(tempfile.mkdtemp())  # where another user may go, other than tmp_path
    folder.chmod(0o555)
    superuser, real = os.geteuid() == 0, tempfile.TemporaryFile

    def by_another(*arguments, **options):
        if options["dir"] != folder:
            return real(*arguments, **options)
        os.seteuid(65534)
        try:
            return real(*arguments, **options)
        finally:
            os.seteuid(0)

    if superuser:
        monkeypatch.setattr(tempfile, "TemporaryFile", by_another)
    yield folder
    folder.rmdir()


REFUSING = {
    "full_disk": "the disk is full",
    "read_only_disk": "the disk is read-only",
    "forbidden_folder": "Permission denied",
}


@pytest.mark.parametrize("disk", REFUSING)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_takes_nothing_is_noticed_before_the_work(
    command, request, nothing_is_computed, name, disk
):
    folder = request.getfixturevalue(disk)
    file = COMMANDS[name][2]
    code, out, err = command(name, str(folder / (file or "new")))
    assert code == 1
    assert out == "" or name == "train --seeds"  # which says of each seed how it ended
    lines = err.splitlines()
    assert len(lines) == (2 if name == "train --seeds" and disk == "full_disk" else 1)
    for line in lines:
        assert "cannot write " in line
        assert f" {folder}" in line
        assert REFUSING[disk] in line
        assert ("--data" if "data" in name else "--out") in line


def test_the_default_place_of_a_report_is_the_run_and_the_message_names_the_option(
    grokinterp, read_only_disk, nothing_is_computed
):
    for name in ("analyze", "replay"):
        code, _, err = grokinterp(name, read_only_disk / "run")
        assert code == 1
        assert re.match(
            rf"grokinterp: cannot write \d.* bytes into {read_only_disk / 'run'}: the disk is read-only; "
            "nothing was begun",
            err,
        )
        assert err.endswith("or choose another place with --out\n")


def test_a_run_on_a_read_only_disk_is_analysed_replayed_and_checked_with_another_place(
    grokinterp, read_only_disk, tmp_path
):
    run = read_only_disk / "run"
    assert grokinterp("verify", run)[0] == 0
    assert grokinterp("train", *COMMANDS["train"][0][1:], run)[0] == 0, (
        "it is finished: there is nothing to write"
    )
    for arguments in (
        ["analyze", run, "--measure=loss", "--out", tmp_path / "report"],
        ["replay", run, "--out", tmp_path / "page.html"],
    ):
        with pytest.warns(UserWarning, match="is not kept") as told:
            code, out, err = grokinterp(*arguments)
        assert (code, err) == (0, "")
        assert str(tmp_path) in out
        assert [str(one.message) for one in told] == [
            "what was measured is not kept, so the next replay computes it again: "
            f"cannot write {run / 'replay' / 'step_00000020.safetensors'}: the disk is read-only"
        ]


# What the commands ask


def test_trying_a_disk_leaves_nothing(tmp_path):
    refuse_unwritable(tmp_path / "not" / "there", room=100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 4096, 300_000])
def test_only_as_much_room_as_is_needed_is_asked_for(tmp_path, room):
    disk = tmp_path / "disk"
    mounted(disk, "-t", "tmpfs", "-o", "size=256k", "tmpfs")
    try:
        if room < 256 << 10:
            refuse_unwritable(disk, room)
        else:
            with pytest.raises(WriteFailed, match="the disk is full"):
                refuse_unwritable(disk, room)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_name_that_no_disk_can_hold_and_one_with_a_zero_byte(tmp_path):
    for place in (tmp_path / ("x" * 300), str(tmp_path / "a\0b")):
        for ask in (folder_named, lambda place: file_named(str(place) + "/", "name")):
            with pytest.raises(gi.GrokinterpError) as caught:
                ask(place)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["verify", "analyze", "replay", "compare"])
def test_an_empty_name_of_a_run_is_not_where_one_stands(command, grokinterp, tiny_run, monkeypatch):
    monkeypatch.chdir(tiny_run.path)
    code, stdout, stderr = grokinterp(command, "")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "is no name of a run directory" in stderr
