"""Damage to a run directory is never silent: reading gives the data as they were written, or an error that
names the file.

Exhaustive over the bytes of a run small enough for that: every byte with its lowest bit flipped and with all
of them, and every length to which a file can be cut. "Silent" would be other numbers, fewer steps or fewer
rows without an error; what may be missing after a crash is said where it is tested.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import DamagedFile, NotARun
from test_runs import commit_of, contents, interrupted, killed, metrics_of, train

SMALL = {
    "task.p": 3,
    "model.d_model": 4,
    "model.n_heads": 1,
    "model.d_mlp": 4,
    "training.fraction": 0.5,
    "training.steps": 6,
    "training.evaluate_every": 1,
    "snapshots.every": 3,
    "snapshots.events": (),
}
CONFIG = tiny(**SMALL)
LOGS = ["manifest.jsonl", "metrics.jsonl"]
SNAPSHOTS = [f"snapshots/step_0000000{step}.safetensors" for step in (0, 3, 6)]


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Steps 0, 3 and 6 committed, 0 to 6 evaluated."""
    return train(CONFIG, tmp_path / "finished").path


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """Interrupted at step 4: the last thing written is a resume state, which counts 2 snapshots and 5
    evaluations."""
    interrupted(CONFIG, tmp_path / "stopped", 4)
    return tmp_path / "stopped"


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """Killed after step 4: the last resume state, that of step 3, counts 1 snapshot and 3 evaluations; 1 and
    2 more were written since."""
    return killed(CONFIG, tmp_path / "dead", metrics_of(5))


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    return contents(train(CONFIG, tmp_path / "whole").path)


def told(path: Path) -> tuple[object, ...]:
    """All that a run directory tells a reader."""
    run = gi.load_run(path)
    weights = {
        step: {name: weight.numpy().tobytes() for name, weight in run.state_dict(step).items()}
        for step in run.steps
    }
    return (
        run.record,
        run.config,
        run.finished,
        run.steps,
        run.history.to_json(),
        weights,
        run.split.train.tolist(),
        run.split.test.tolist(),
    )


def each_flip(file: Path, masks: tuple[int, ...] = (0x01, 0xFF)) -> Iterator[str]:
    """Flips every byte of a file in several ways, in place, and puts it back; says what was done."""
    good = file.read_bytes()
    handle = os.open(file, os.O_WRONLY)
    for position, byte in enumerate(good):
        for mask in masks:
            os.pwrite(handle, bytes([byte ^ mask]), position)
            yield f"byte {position} from {byte:#04x} to {byte ^ mask:#04x}"
        os.pwrite(handle, bytes([byte]), position)
    os.close(handle)
    assert file.read_bytes() == good


def each_length(file: Path) -> Iterator[int]:
    """Cuts a file to every shorter length, and puts it back; gives the length."""
    good = file.read_bytes()
    for length in reversed(range(len(good))):
        os.truncate(file, length)
        yield length
    file.write_bytes(good)


def each_damage(file: Path, masks: tuple[int, ...] = (0x01, 0xFF)) -> Iterator[str]:
    yield from each_flip(file, masks)
    for length in each_length(file):
        yield f"cut to {length} bytes"


def is_silent(path: Path, file: str, read: Callable[[], object]) -> bool:
    """Whether reading fails to say, in one line, that this file is damaged."""
    try:
        read()
    except DamagedFile as error:
        return not (str(path / file) in str(error) and "\n" not in str(error))
    return True


# Every byte of a finished run


@pytest.mark.parametrize("file", ["run.json", *LOGS])
def test_every_damage_to_what_describes_a_finished_run_is_an_error_when_it_is_opened(finished, file):
    silent = [
        damage
        for damage in each_damage(finished / file)
        if is_silent(finished, file, lambda: gi.load_run(finished))
    ]
    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.json", *LOGS])
def test_every_other_value_of_every_byte_of_what_describes_a_run_is_an_error(finished, file):
    every = tuple(range(1, 256))
    assert [
        damage
        for damage in each_flip(finished / file, every)
        if is_silent(finished, file, lambda: gi.load_run(finished))
    ] == []


@pytest.mark.parametrize("file", SNAPSHOTS)
def test_every_damage_to_a_snapshot_is_an_error_that_names_its_step_and_is_found_by_verify(finished, file):
    run = gi.load_run(finished)
    step = int(file[-13:-12])
    silent = []
    for damage in each_damage(finished / file):
        found = {name: wrong for name, wrong in run.verify() if wrong}
        if (
            is_silent(finished, file, lambda: run.state_dict(step))
            or list(found) != [file]
            or f"(step {step})" not in found[file]
        ):
            silent.append(damage)
    assert silent == []


def test_opening_reads_no_snapshot_so_that_the_tests_above_need_not_open_again(finished):
    before = gi.load_run(finished)
    shutil.rmtree(finished / "snapshots")
    shutil.rmtree(finished / "resume")
    after = gi.load_run(finished)
    assert (after.record, after.steps, after.history.to_json()) == (
        before.record,
        before.steps,
        before.history.to_json(),
    )


def test_every_damage_to_the_resume_state_of_a_finished_run_is_found_by_verify(finished):
    run = gi.load_run(finished)
    file = "resume/a.safetensors"
    silent = [
        damage
        for damage in each_damage(finished / file, (0x01,))
        if [name for name, wrong in run.verify() if wrong] != [file]
    ]
    assert silent == []


def test_a_damaged_snapshot_leaves_the_others_readable(finished):
    before = told(finished)[5]
    (finished / SNAPSHOTS[1]).write_bytes(b"")
    run = gi.load_run(finished)
    for step in (0, 6):
        assert {name: weight.numpy().tobytes() for name, weight in run.state_dict(step).items()} == before[
            step
        ]
    with pytest.raises(DamagedFile):
        run.state_dict(3)


@pytest.mark.parametrize("file", ["run.json", *LOGS, *SNAPSHOTS, "resume/a.safetensors"])
@pytest.mark.parametrize("more", [b"\x00", b"\n", b"x" * 5000])
def test_whatever_is_added_to_a_file_of_a_finished_run_is_found(finished, file, more):
    with open(finished / file, "ab") as opened:
        opened.write(more)
    try:
        found = [name for name, wrong in gi.load_run(finished).verify() if wrong]
    except DamagedFile as error:
        found = [str(Path(str(error).split(" ")[0]).relative_to(finished))]
    assert found == [file]


# Every byte of a run that was interrupted or killed


@pytest.mark.parametrize("file", ["run.json", *LOGS])
def test_every_flip_in_what_describes_an_unfinished_run_is_an_error(dead, file):
    assert [
        damage for damage in each_flip(dead / file) if is_silent(dead, file, lambda: gi.load_run(dead))
    ] == []


@pytest.mark.parametrize("file", ["run.json", *LOGS])
def test_nothing_may_be_missing_from_a_run_that_was_interrupted(stopped, file):
    """Its resume state was written last and counts every line; so no crash can have left one unwritten."""
    assert [
        length
        for length in each_length(stopped / file)
        if is_silent(stopped, file, lambda: gi.load_run(stopped))
    ] == []


@pytest.mark.parametrize(("file", "counted"), [("manifest.jsonl", 1), ("metrics.jsonl", 3)])
def test_from_a_run_that_was_killed_only_lines_newer_than_its_resume_state_may_be_missing(
    dead, file, counted
):
    """A crash can leave the end of a log unwritten from any byte on, but not from before what the resume
    state, written to the disk afterwards, has counted. So a shorter log must be an error, and a longer one
    must give exactly its whole lines."""
    lines = (dead / file).read_bytes().splitlines(keepends=True)
    may_end = len(b"".join(lines[:counted]))
    rows, steps = gi.load_run(dead).history, gi.load_run(dead).steps
    assert len(lines) > counted, "nothing could be missing"
    for length in each_length(dead / file):
        if length < may_end:
            assert is_silent(dead, file, lambda: gi.load_run(dead)) is False, length
            continue
        run = gi.load_run(dead)
        left = (dead / file).read_bytes().count(b"\n")
        assert counted <= left < len(lines)
        assert run.steps == (steps[:left] if file == "manifest.jsonl" else steps)
        assert run.history.equals(rows[:left] if file == "metrics.jsonl" else rows)


@pytest.mark.parametrize("file", LOGS)
def test_what_a_crash_left_unwritten_is_written_again(dead, whole, file):
    lines = (dead / file).read_bytes().splitlines(keepends=True)
    newest = len(b"".join(lines[:-1]))
    for length in (newest, newest + 1, newest + 50, newest + len(lines[-1]) - 1):
        copy = shutil.copytree(dead, dead.with_name(f"{file} {length}"))
        os.truncate(copy / file, length)
        train(CONFIG, copy)
        assert contents(copy) == whole


@pytest.mark.parametrize("file", LOGS)
def test_a_line_that_a_crash_left_as_zeros_is_an_unfinished_line(dead, whole, file):
    """Some disks grow a file before they fill it."""
    before = gi.load_run(dead)
    with open(dead / file, "ab") as opened:
        opened.write(b"\x00" * 150)
    run = gi.load_run(dead)
    assert (run.steps, run.history.to_json()) == (before.steps, before.history.to_json())
    train(CONFIG, dead)
    assert contents(dead) == whole


@pytest.mark.parametrize("slot", ["a", "b"])
def test_every_flip_in_a_resume_state_of_an_unfinished_run_is_found_by_verify(dead, slot):
    run = gi.load_run(dead)
    file = f"resume/{slot}.safetensors"
    assert [
        damage
        for damage in each_flip(dead / file, (0x01,))
        if [name for name, wrong in run.verify() if wrong] != [file]
    ] == []


@pytest.mark.parametrize("slot", ["a", "b"])
def test_training_never_goes_on_from_a_damaged_resume_state(dead, whole, slot):
    file = dead / "resume" / f"{slot}.safetensors"
    size = file.stat().st_size
    for position in [*range(0, size, size // 12), size - 1]:
        copy = shutil.copytree(dead, dead.with_name(f"flipped {position}"))
        data = bytearray(file.read_bytes())
        data[position] ^= 1
        (copy / "resume" / file.name).write_bytes(data)
        with pytest.warns(UserWarning, match="going on from the other resume state"):
            train(CONFIG, copy)
        assert contents(copy) == whole


# A trainer on a damaged run


def refused_and_unchanged(path: Path) -> None:
    before = contents(path)
    with pytest.raises(DamagedFile):
        train(CONFIG, path)
    assert contents(path) == before, "what is left of a damaged run was changed"


@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
@pytest.mark.parametrize("file", ["run.json", *LOGS])
def test_a_trainer_refuses_a_run_whose_description_is_damaged_and_removes_nothing(request, state, file):
    """Its snapshots would otherwise be taken for leftovers."""
    path = request.getfixturevalue(state)
    good = (path / file).read_bytes()
    counted = {"manifest.jsonl": 1, "metrics.jsonl": 3}.get(file) if state == "dead" else None
    may_end = len(good) if counted is None else len(b"".join(good.splitlines(keepends=True)[:counted]))
    for length in [*range(0, may_end, 61), may_end - 1]:
        (path / file).write_bytes(good[:length])
        refused_and_unchanged(path)
    for position in range(0, len(good), 61):
        (path / file).write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        refused_and_unchanged(path)


@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
@pytest.mark.parametrize("file", LOGS)
def test_a_trainer_refuses_a_run_without_one_of_its_logs_and_removes_nothing(request, state, file):
    path = request.getfixturevalue(state)
    (path / file).unlink()
    refused_and_unchanged(path)


# Lines that are removed, repeated or moved


def rearranged(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Every way to remove a line, to repeat one somewhere, and to exchange two."""
    for at in range(len(lines)):
        yield f"without line {at}", lines[:at] + lines[at + 1 :]
        for to in range(len(lines) + 1):
            yield f"line {at} again before {to}", [*lines[:to], lines[at], *lines[to:]]
    for one, other in combinations(range(len(lines)), 2):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        yield f"lines {one} and {other} exchanged", swapped
        yield f"line {one} in the place of {other}", [*lines[:other], lines[one], *lines[other + 1 :]]


@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
@pytest.mark.parametrize("file", LOGS)
def test_a_line_that_is_removed_repeated_or_moved_is_an_error(request, state, file):
    path = request.getfixturevalue(state)
    lines = (path / file).read_bytes().splitlines(keepends=True)
    silent = []
    for damage, others in rearranged(lines):
        if state == "dead" and others == lines[:-1]:
            continue  # what a crash may have left unwritten
        (path / file).write_bytes(b"".join(others))
        if is_silent(path, file, lambda: gi.load_run(path)):
            silent.append(damage)
    assert silent == []


def test_the_two_logs_are_never_taken_for_each_other(tmp_path):
    path = train(tiny(**{**SMALL, "training.evaluate_every": 3}), tmp_path / "run").path
    manifest, metrics = ((path / log).read_bytes() for log in LOGS)
    assert manifest.count(b"\n") == metrics.count(b"\n"), "their lengths would tell them apart"
    (path / "manifest.jsonl").write_bytes(metrics)
    (path / "metrics.jsonl").write_bytes(manifest)
    with pytest.raises(DamagedFile):
        gi.load_run(path)


# Files that are exchanged, missing or empty


@pytest.mark.parametrize(("one", "other"), list(combinations((0, 3, 6), 2)))
def test_two_exchanged_snapshots_are_an_error_each(finished, one, other):
    files = [finished / f"snapshots/step_0000000{step}.safetensors" for step in (one, other)]
    first, second = (file.read_bytes() for file in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)
    run = gi.load_run(finished)
    for step, file in zip((one, other), files, strict=True):
        with pytest.raises(DamagedFile, match=rf"\(step {step}\) is damaged") as caught:
            run.state_dict(step)
        assert str(file) in str(caught.value)
    assert len([name for name, wrong in run.verify() if wrong]) == 2


def test_a_snapshot_of_another_run_is_an_error(finished, tmp_path):
    other = train(tiny(**{**SMALL, "seed": 1}), tmp_path / "other").path
    shutil.copy(other / SNAPSHOTS[1], finished / SNAPSHOTS[1])
    with pytest.raises(DamagedFile):
        gi.load_run(finished).state_dict(3)


def test_the_manifest_of_another_run_is_an_error(finished, tmp_path):
    other = train(tiny(**{**SMALL, "seed": 1}), tmp_path / "other").path
    shutil.copy(other / "manifest.jsonl", finished)
    with pytest.raises(DamagedFile):
        told(finished)


def test_exchanged_resume_states_are_as_good_as_before(dead, whole):
    a, b = (dead / "resume" / f"{slot}.safetensors" for slot in "ab")
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    train(CONFIG, dead)
    assert contents(dead) == whole


def _removed(file: Path) -> None:
    file.unlink()


def _emptied(file: Path) -> None:
    os.truncate(file, 0)


def _a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _a_link_to_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("happens", [_removed, _emptied, _a_folder, _a_link_to_nowhere])
@pytest.mark.parametrize("file", LOGS)
@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
def test_a_log_that_is_not_there_is_an_error(request, state, file, happens):
    path = request.getfixturevalue(state)
    happens(path / file)
    assert not is_silent(path, file, lambda: gi.load_run(path))


@pytest.mark.parametrize("happens", [_removed, _emptied, _a_folder, _a_link_to_nowhere])
@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
def test_a_snapshot_that_is_not_there_is_an_error_at_its_step_alone(request, state, happens):
    path = request.getfixturevalue(state)
    happens(path / SNAPSHOTS[1])
    run = gi.load_run(path)
    assert not is_silent(path, SNAPSHOTS[1], lambda: run.state_dict(3))
    assert [name for name, wrong in run.verify() if wrong] == [SNAPSHOTS[1]]
    assert run.state_dict(0)


@pytest.mark.parametrize(
    ("happens", "error"),
    [
        (_removed, NotARun),
        (_emptied, DamagedFile),
        (_a_folder, gi.GrokinterpError),
        (_a_link_to_nowhere, NotARun),
    ],
)
def test_a_run_json_that_is_not_there_is_an_error(finished, happens, error):
    happens(finished / "run.json")
    with pytest.raises(error) as caught:
        gi.load_run(finished)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["stopped", "dead"])
@pytest.mark.parametrize("happens", [_emptied, _a_folder])
def test_a_resume_state_that_cannot_be_used_is_found_by_verify(request, state, happens):
    path = request.getfixturevalue(state)
    happens(path / "resume" / "b.safetensors")
    assert [name for name, wrong in gi.load_run(path).verify() if wrong] == ["resume/b.safetensors"]


@pytest.mark.parametrize("state", ["stopped", "dead"])
def test_an_unfinished_run_without_any_resume_state_is_found_by_verify(request, state):
    path = request.getfixturevalue(state)
    shutil.rmtree(path / "resume")
    wrong = [message for _, message in gi.load_run(path).verify() if message]
    assert len(wrong) == 1
    assert "resume" in wrong[0]


def test_a_finished_run_is_complete_without_resume_state_and_lock(finished):
    """So it can be published without them."""
    before = told(finished)
    shutil.rmtree(finished / "resume")
    (finished / "lock").unlink()
    assert told(finished) == before
    assert [wrong for _, wrong in gi.load_run(finished).verify() if wrong] == []
    assert train(CONFIG, finished).steps == [0, 3, 6]


@pytest.mark.parametrize("state", ["finished", "stopped", "dead"])
def test_nothing_that_happens_to_the_lock_matters_to_a_reader(request, state):
    path = request.getfixturevalue(state)
    before = told(path)
    for content in (b"", b"\xff\x00\n" * 100, b"host elsewhere pid 1\n"):
        (path / "lock").write_bytes(content)
        assert told(path) == before


def test_a_snapshot_whose_line_was_never_written_is_no_part_of_the_run(tmp_path):
    path = killed(CONFIG, tmp_path / "run", commit_of(3))
    assert (path / SNAPSHOTS[1]).exists()
    assert gi.load_run(path).steps == [0]
    assert SNAPSHOTS[1] not in dict(gi.load_run(path).verify())
