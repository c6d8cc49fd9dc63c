"""Files that are whole or not there: seals, replacement, logs, and what a failing disk does to each of
them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import resource
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp.errors import DamagedFile, GrokinterpError, WriteFailed
from grokinterp.runs.files import (
    TEMPORARY,
    UNSEALED,
    Log,
    log_line,
    read_hashed,
    read_log,
    read_sealed,
    replace,
    sealed,
)

RECORDS = [
    {"step": 0, "loss": 1.5},
    {"step": 10, "loss": 0.25, "note": 'a "b" ü\n'},
    {"step": 20, "loss": 3e-9},
]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel itself cuts off every write beyond so many bytes of a file: a real short write, then
    EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def failing(code: int) -> object:
    """What stands in for a call of the operating system that fails with this errno."""

    def call(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def with_each_other_byte(file: Path) -> Iterator[int]:
    """Gives every byte of a file every other value in turn, in place; yields its position and puts it
    back."""
    good = file.read_bytes()
    handle = os.open(file, os.O_WRONLY)
    for position, byte in enumerate(good):
        for other in set(range(256)) - {byte}:
            os.pwrite(handle, bytes([other]), position)
            yield position
        os.pwrite(handle, bytes([byte]), position)
    os.close(handle)
    assert file.read_bytes() == good


# Sealed files


@pytest.fixture
def seal_me() -> bytes:
    return f'{{"format": 1, "seal": "{UNSEALED}", "text": "ü", "zero": "\x00"}}\n'.encode()


def test_a_sealed_file_reads_back_as_it_was_written(tmp_path, seal_me):
    file = tmp_path / "f"
    file.write_bytes(sealed(seal_me))
    assert read_sealed(file) == sealed(seal_me)


def test_the_seal_is_the_sha256_of_the_file_with_zeros_in_its_place(seal_me):
    found = re.search(rb"sha256:([0-9a-f]{64})", sealed(seal_me))
    with_zeros = sealed(seal_me).replace(found[1], b"0" * 64)
    assert with_zeros == seal_me
    assert found[1].decode() == hashlib.sha256(with_zeros).hexdigest()


@pytest.mark.parametrize("data", [b"", b"no place", UNSEALED.encode() * 2])
def test_there_must_be_exactly_one_place_for_the_seal(data):
    with pytest.raises(ValueError, match="exactly one place"):
        sealed(data)


def test_every_other_value_of_every_byte_of_a_sealed_file_is_found(tmp_path, seal_me):
    file = tmp_path / "f"
    file.write_bytes(sealed(seal_me))
    for _ in with_each_other_byte(file):
        with pytest.raises(DamagedFile, match="does not match the sha256"):
            read_sealed(file)


def test_a_sealed_file_that_lost_or_gained_a_byte_anywhere_is_found(tmp_path, seal_me):
    file = tmp_path / "f"
    good = sealed(seal_me)
    shorter = [good[:at] + good[at + 1 :] for at in range(len(good))]
    longer = [good[:at] + b"\n" + good[at:] for at in range(len(good) + 1)]
    cut = [good[:at] for at in range(len(good))]
    for data in (*shorter, *longer, *cut):
        file.write_bytes(data)
        with pytest.raises(DamagedFile):
            read_sealed(file)


def test_a_seal_copied_from_another_file_does_not_fit(tmp_path, seal_me):
    file = tmp_path / "f"
    stolen = re.search(rb"sha256:[0-9a-f]{64}", sealed(seal_me.replace(b"1", b"2")))[0]
    file.write_bytes(seal_me.replace(UNSEALED.encode(), stolen))
    with pytest.raises(DamagedFile):
        read_sealed(file)


def test_a_file_that_was_never_sealed_is_no_sealed_file(tmp_path, seal_me):
    file = tmp_path / "f"
    file.write_bytes(seal_me)
    with pytest.raises(DamagedFile):
        read_sealed(file)


def test_another_hash_further_on_is_not_taken_for_the_seal(tmp_path, seal_me):
    file = tmp_path / "f"
    other = f"sha256:{hashlib.sha256(b'other').hexdigest()}".encode()
    file.write_bytes(sealed(seal_me + other))
    assert read_sealed(file).endswith(other)


# Files whose hash is kept elsewhere


def test_a_hashed_file_reads_back(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"weights")
    assert read_hashed(file, hashlib.sha256(b"weights").hexdigest(), "step 3") == b"weights"


def _changed(file: Path) -> None:
    file.write_bytes(b"Weights")


def _cut(file: Path) -> None:
    file.write_bytes(b"weight")


def _removed(file: Path) -> None:
    file.unlink()


def _turned_into_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("happens", [_changed, _cut, _removed, _turned_into_a_folder])
def test_what_happened_to_a_hashed_file_is_one_line_that_names_it_and_what_it_held(tmp_path, happens):
    file = tmp_path / "f"
    file.write_bytes(b"weights")
    happens(file)
    with pytest.raises(DamagedFile) as caught:
        read_hashed(file, hashlib.sha256(b"weights").hexdigest(), "step 3")
    message = str(caught.value)
    assert str(file) in message
    assert "step 3" in message
    assert "\n" not in message


# Replacing a file


def test_a_replaced_file_has_the_new_content_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "f"
    for data in (b"old", b"new", b""):
        replace(file, data)
        assert file.read_bytes() == data
        assert names(tmp_path) == ["f"]


def test_a_replaced_file_is_on_the_disk_before_it_gets_its_name_and_the_name_before_the_call_returns(
    tmp_path, monkeypatch
):
    calls = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        state = os.fstat(handle)
        calls.append("fsync the folder" if stat.S_ISDIR(state.st_mode) else f"fsync {state.st_size} bytes")
        fsync(handle)

    def noted_rename(source: Path, target: Path) -> None:
        calls.append(f"rename {Path(source).name} to {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    replace(tmp_path / "f", b"12345")
    assert calls == ["fsync 5 bytes", "rename f.tmp to f", "fsync the folder"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failed_replacement_leaves_what_was_there_before(tmp_path, monkeypatch, call, old):
    file = tmp_path / "f"
    if old is not None:
        file.write_bytes(old)
    monkeypatch.setattr(os, call, failing(errno.EIO))
    with pytest.raises(WriteFailed):
        replace(file, b"new")
    assert names(tmp_path) == (["f"] if old else [])
    assert old is None or file.read_bytes() == old


@pytest.mark.parametrize("size", [0, 1, 999])
def test_a_replacement_that_fits_only_in_part_leaves_what_was_there_before(tmp_path, size):
    file = tmp_path / "f"
    file.write_bytes(b"old")
    with no_file_larger_than(size), pytest.raises(WriteFailed):
        replace(file, b"x" * 1000)
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]
    replace(file, b"x" * 1000)
    assert file.read_bytes() == b"x" * 1000


def test_a_folder_that_cannot_be_synced_is_reported_and_the_file_is_whole(tmp_path, monkeypatch):
    file = tmp_path / "f"
    file.write_bytes(b"old")
    fsync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    with pytest.raises(WriteFailed):
        replace(file, b"new")
    assert file.read_bytes() in (b"old", b"new")
    assert names(tmp_path) == ["f"]


def test_a_disk_that_cannot_even_remove_the_temporary_file_is_one_line_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    monkeypatch.setattr(Path, "unlink", failing(errno.EIO))
    with pytest.raises(WriteFailed):
        replace(tmp_path / "f", b"new")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_failed_write_says_in_one_line_which_file_and_why_and_that_nothing_is_lost(
    tmp_path, monkeypatch, code, reason
):
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(WriteFailed) as caught:
        replace(tmp_path / "f", b"new")
    message = str(caught.value)
    assert str(tmp_path / "f") in message
    assert reason in message
    assert "everything committed before is safe" in message
    assert "\n" not in message
    assert caught.value.exit_code == 1


def test_a_temporary_file_of_a_killed_writer_is_no_obstacle(tmp_path):
    (tmp_path / ("f" + TEMPORARY)).write_bytes(b"longer than what comes now")
    replace(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


def test_a_target_that_cannot_be_replaced_is_reported(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    for target in (tmp_path / "folder", tmp_path / "file" / "below"):
        with pytest.raises(WriteFailed):
            replace(target, b"new")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_reader_sees_the_old_or_the_new_file_at_any_moment(tmp_path):
    file = tmp_path / "f"
    whole = {letter * 100_000 for letter in (b"a", b"b")}
    replace(file, b"a" * 100_000)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        for data in whole:
            replace(file, data)
    done.set()
    reader.join()
    assert seen <= whole


# Logs


def written(path: Path, records: list[dict]) -> bytes:
    """The log of these records, written line by line; its bytes."""
    log = Log(path)
    for record in records:
        log.append(record)
    log.close()
    return path.read_bytes()


def test_a_line_of_a_log_is_json_that_ends_in_the_crc_of_what_stands_before_it():
    for record in RECORDS:
        line = log_line(record).decode()
        assert line.endswith("}\n")
        assert line.count("\n") == 1
        assert json.loads(line) == {**record, "crc": line[-11:-3]}
        assert int(line[-11:-3], 16) == zlib.crc32(line[: line.rindex(',"crc"')].encode())


def test_a_log_reads_back_what_was_appended(tmp_path):
    data = written(tmp_path / "log", RECORDS)
    assert [json.loads(line) | {"crc": ""} for line in data.splitlines()] == [
        record | {"crc": ""} for record in RECORDS
    ]
    for whole in (True, False):
        assert read_log(tmp_path / "log", whole) == (RECORDS, len(data))


def test_a_log_that_does_not_exist_is_empty(tmp_path):
    assert read_log(tmp_path / "log", whole=False) == ([], 0)


def test_a_log_that_is_opened_again_goes_on_at_its_end(tmp_path):
    written(tmp_path / "twice", RECORDS[:1])
    written(tmp_path / "twice", RECORDS[1:])
    assert (tmp_path / "twice").read_bytes() == written(tmp_path / "once", RECORDS)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            min_size=1,
        )
    )
)
def test_whatever_json_can_hold_reads_back_from_a_log(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("log") / "log"
    data = written(path, records)
    assert read_log(path, whole=True) == (records, len(data))
    assert data.count(b"\n") == len(records)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_never_written(tmp_path, value):
    log = Log(tmp_path / "log")
    with pytest.raises(ValueError, match="JSON compliant"):
        log.append({"step": 0, "loss": value})
    assert (tmp_path / "log").read_bytes() == b""
    assert log.records == []
    log.close()


def test_every_beginning_of_the_last_line_is_dropped_by_a_reader_and_cut_off_by_a_writer(tmp_path):
    path = tmp_path / "log"
    whole = written(path, RECORDS)
    last = len(log_line(RECORDS[-1]))
    for cut in range(1, last + 1):
        path.write_bytes(whole[:-cut])
        assert read_log(path, whole=False) == (RECORDS[:-1], len(whole) - last)
        assert path.read_bytes() == whole[:-cut], "reading must not write"
        assert written(path, RECORDS[-1:]) == whole


def test_a_log_that_must_be_whole_may_not_end_inside_a_line(tmp_path):
    path = tmp_path / "log"
    whole = written(path, RECORDS)
    for cut in range(1, len(log_line(RECORDS[-1]))):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DamagedFile, match="line 3"):
            read_log(path, whole=True)


@pytest.mark.parametrize("whole", [True, False])
def test_every_other_value_of_every_byte_of_a_log_is_found(tmp_path, whole):
    path = tmp_path / "log"
    good = written(path, RECORDS)
    for position in with_each_other_byte(path):
        line = good[:position].count(b"\n") + 1
        with pytest.raises(DamagedFile, match=f"{re.escape(str(path))} is damaged in line {line}:"):
            read_log(path, whole)


def test_a_writer_does_not_touch_a_damaged_log(tmp_path):
    path = tmp_path / "log"
    bad = written(path, RECORDS).replace(b"0.25", b"0.26")
    path.write_bytes(bad)
    with pytest.raises(DamagedFile):
        Log(path)
    assert path.read_bytes() == bad


@pytest.mark.parametrize(
    "between", [b"\n", b"{}\n", b'{"step":5}\n', b"\r\n", b" \n", b"\x00\n", b'{"step":5,"crc":"00000000"}\n']
)
@pytest.mark.parametrize("after_line", [0, 1, 2, 3])
def test_a_foreign_line_in_a_log_is_found(tmp_path, between, after_line):
    path = tmp_path / "log"
    lines = written(path, RECORDS).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:after_line], between, *lines[after_line:]]))
    with pytest.raises(DamagedFile, match=f"line {after_line + 1}:"):
        read_log(path, whole=False)


def test_two_lines_that_lost_the_line_break_between_them_are_found(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(written(path, RECORDS).replace(b"}\n{", b"}{", 1))
    with pytest.raises(DamagedFile, match="line 1:"):
        read_log(path, whole=False)


@pytest.mark.parametrize("whole", [True, False])
def test_a_log_that_the_disk_cannot_read_is_an_error_of_one_line(tmp_path, monkeypatch, whole):
    path = tmp_path / "log"
    written(path, RECORDS)
    monkeypatch.setattr(Path, "read_bytes", failing(errno.EIO))
    with pytest.raises(GrokinterpError) as caught:
        read_log(path, whole)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_of_a_log_is_an_error_of_one_line(tmp_path):
    (tmp_path / "log").mkdir()
    for use in (lambda path: read_log(path, whole=False), Log):
        with pytest.raises(GrokinterpError, match="log"):
            use(tmp_path / "log")


# Logs on a disk that is full


def test_a_line_that_does_not_fit_leaves_no_trace_and_fits_once_there_is_room(tmp_path):
    path = tmp_path / "log"
    whole = written(tmp_path / "whole", RECORDS)
    first = len(log_line(RECORDS[0]))
    log = Log(path)
    log.append(RECORDS[0])
    for room in range(len(log_line(RECORDS[1]))):
        with (
            no_file_larger_than(first + room),
            pytest.raises(WriteFailed, match="everything committed before is safe"),
        ):
            log.append(RECORDS[1])
        assert path.read_bytes() == whole[:first]
        assert log.records == RECORDS[:1]
    for record in RECORDS[1:]:
        log.append(record)
    log.close()
    assert path.read_bytes() == whole


def test_the_kernel_does_write_such_a_line_in_part(tmp_path):
    """Without this, the test above would show nothing."""
    handle = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    with no_file_larger_than(10):
        assert os.pwrite(handle, b"x" * 30, 0) == 10
    os.close(handle)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_write_that_fails_after_some_bytes_leaves_no_trace(tmp_path, monkeypatch, part):
    path = tmp_path / "log"
    log = Log(path)
    log.append(RECORDS[0])
    before = path.read_bytes()
    pwrite = os.pwrite

    def torn(handle: int, data: bytes, at: int) -> int:
        pwrite(handle, data[: int(part * len(data))], at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", torn)
    with pytest.raises(WriteFailed, match="the disk is full"):
        log.append(RECORDS[1])
    log.close()
    assert path.read_bytes() == before


def test_a_torn_line_that_cannot_be_cut_off_either_is_one_that_the_next_writer_cuts_off(
    tmp_path, monkeypatch
):
    path = tmp_path / "log"
    log = Log(path)
    log.append(RECORDS[0])
    with monkeypatch.context() as broken, no_file_larger_than(len(log_line(RECORDS[0])) + 7):
        broken.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(WriteFailed):
            log.append(RECORDS[1])
    log.close()
    assert path.read_bytes() == log_line(RECORDS[0]) + log_line(RECORDS[1])[:7]
    assert read_log(path, whole=False)[0] == RECORDS[:1]
    assert written(path, RECORDS[1:]) == written(tmp_path / "whole", RECORDS)


@pytest.mark.parametrize("call", ["open", "ftruncate"])
def test_a_log_that_cannot_be_opened_for_writing_is_reported(tmp_path, monkeypatch, call):
    written(tmp_path / "log", RECORDS)
    monkeypatch.setattr(os, call, failing(errno.EROFS))
    with pytest.raises(WriteFailed, match="the disk is read-only"):
        Log(tmp_path / "log")


def test_a_log_that_cannot_be_synced_is_reported(tmp_path, monkeypatch):
    log = Log(tmp_path / "log")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(WriteFailed):
            log.sync()
    log.close()
