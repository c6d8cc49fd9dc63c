"""Files that are either whole or not there, and that say so when a byte of them changes; and where they may
go.

Whoever writes asks `folder_named` or `file_named` what a path means and `refuse_unwritable` whether anything
can be written there: the same answer for every command, before the work and not after.

Three kinds of files: *sealed* files, which carry a sha256 of themselves; *logs*, of which every line ends in
a checksum of all that the log holds up to there, and only an unfinished last line may be dropped; and plain
files whose sha256 stands in a log. Knows nothing of what is inside.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..asked import PATH, refuse_other
from ..errors import DamagedFile, GrokinterpError, NotARun, RunLocked, UsageError, WriteFailed

TEMPORARY = ".tmp"
UNSEALED = "sha256:" + "0" * 64
"""Stands where the seal will be, in a file about to be sealed."""

_SEAL = re.compile(rb"sha256:([0-9a-f]{64})")
_LAST_CHECKSUM = re.compile(rb'"crc":"([0-9a-f]{8})"\}\n\Z')
_LINE = re.compile(rb'(\{.*),"crc":"([0-9a-f]{8})"\}', re.DOTALL)
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}

AGAIN = "mend that and run the same command again"
AGAIN_OR_ELSEWHERE = f"{AGAIN}, or choose another place with --out"


@contextmanager
def writing(
    path: Path | str, safe: str = "everything committed before is safe", remedy: str = AGAIN
) -> Iterator[None]:
    """Turns a failing write into one line that says which file, why, what is safe (of a run, all that was
    committed), and what to do."""
    try:
        yield
    except OSError as error:
        why = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise WriteFailed(f"cannot write {path}: {why}; {safe}: {remedy}") from None


def folder_named(path: str | Path, option: str = "--out") -> Path:
    """The directory that a path means to whoever writes into it: "." the one where one stands, a link the
    directory that it leads to.

    It need not be there, nor those above it. Nothing is written.

    Raises:
        NotARun: the name is empty; or a link that leads nowhere or something other than a directory is in the
            way.
        WriteFailed: no disk can hold the name, or one may not look there.
    """
    folder = _path_of(path, option)
    with writing(folder, "nothing was begun"):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(folder)  # a name that is too long, or lies where one may not look
        nearest_folder = _first_there(folder)
        _refuse_link_to_nowhere(nearest_folder, option)
        if not nearest_folder.is_dir():
            what = "a file" if nearest_folder.is_file() else "no directory"
            below = "" if nearest_folder == folder else f", so there is no {folder}"
            raise NotARun(f"{nearest_folder} is {what}{below}: choose a directory with {option}")
    return folder


def file_named(path: str | Path, name: str = "", option: str = "--out") -> Path:
    """The file that a path means to whoever writes it: of a directory (or what ends in a slash) the file
    `name` in it.

    Raises:
        NotARun: as for `folder_named`.
        UsageError: it is a directory and no `name` is given, or something that cannot be replaced, such as a
            device.
    """
    file = _path_of(path, option)
    folder_named(file.parent, option)
    with writing(file, "nothing was begun"):
        if str(path).endswith(os.sep) or file.is_dir():
            if not name:
                raise UsageError(f"{path} is a directory: give the name of a file with {option}")
            return file_named(folder_named(file, option) / name, option=option)
        if os.path.lexists(file):
            _refuse_link_to_nowhere(file, option)
            if not file.is_file():
                raise UsageError(f"{file} is no file that can be replaced: choose another with {option}")
    return file


def refuse_unwritable(folder: Path, room: int = 0, option: str = "--out") -> None:
    """Tries whether `room` bytes can be written into a directory, or into what it will be made in; nothing of
    it stays.

    Raises:
        WriteFailed: the disk is full or read-only, or it is not allowed.
    """
    what = f"{room:,} bytes into {folder}" if room else folder
    with (
        writing(what, "nothing was begun", f"{AGAIN}, or choose another place with {option}"),
        # It has no name where the system can do that.
        tempfile.TemporaryFile(dir=_first_there(folder), buffering=0) as file,
    ):
        if file.write(bytes(room)) < room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _path_of(path: str | Path, option: str) -> Path:
    if not str(path).strip() or "\0" in str(path):
        what = f"{str(path)!r} is no name of a file or directory"
        raise NotARun(f"{what}: give one with {option}, or . for the directory where you are")
    refuse_other("what to write:", PATH, path)
    return Path(path)


def _first_there(path: Path) -> Path:
    """The path, or the nearest above it that is there; a link counts wherever it leads."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), Path())


def _refuse_link_to_nowhere(path: Path, option: str) -> None:
    if path.is_symlink() and not path.exists():
        what = f"{path} is a link to {os.readlink(path)}, and nothing is there"
        raise NotARun(f"{what}: make that, or choose another place with {option}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns a failing read into one line; what is not there stays a FileNotFoundError, for the caller."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except IsADirectoryError:
        raise damaged(path, "it is a directory where a file was written") from None
    except OSError as error:
        raise GrokinterpError(f"cannot read {path}: {error.strerror or error}") from None


def no_run_in(folder: Path, what: str = "") -> NotARun:
    """The error of a directory that holds something else than a run."""
    return NotARun(f"{folder} is not empty and holds no run{what}: choose a new or an empty directory")


def damaged(file: Path | str, what: str, where: str = "") -> DamagedFile:
    """The error of a file that is not as it was written."""
    return DamagedFile(f"{file} is damaged{where}: {what}; restore it from a copy")


def replace(path: Path, data: bytes, make_folder: bool = False, durable: bool = True) -> None:
    """Writes a file so that it is either the old or the new one, whole, whatever happens: temporary file,
    fsync, rename, fsync.

    With `make_folder` it need not be a file of a locked run: its folder is made, several processes may write
    it at once, and a link stays one to the file that is written. Without `durable` a power cut may leave it
    damaged, as nobody waits for the disk: for what is sealed and can be made again.
    """
    temporary, errors_of_disk = path.with_name(path.name + TEMPORARY), writing(path)
    if make_folder:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
        elsewhere = f"{AGAIN}, or choose another place for it"
        errors_of_disk = writing(path, "nothing was changed there", elsewhere)
    with errors_of_disk:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file, durably; it need not be there."""
    with writing(path), suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed(data: bytes) -> bytes:
    """`data`, which contains `UNSEALED` once, with the sha256 of itself in that place."""
    if data.count(UNSEALED.encode()) != 1:
        raise ValueError("needs exactly one place for the seal")
    return data.replace(UNSEALED.encode(), f"sha256:{hashlib.sha256(data).hexdigest()}".encode())


def read_sealed(path: Path) -> bytes:
    """The bytes of a sealed file.

    Raises:
        DamagedFile: any byte of it changed since it was sealed.
        GrokinterpError: it cannot be read.
        FileNotFoundError: it is not there.
    """
    with reading(path):
        data = path.read_bytes()
    seal = _SEAL.search(data)
    if seal is not None:
        unsealed = data[: seal.start()] + UNSEALED.encode() + data[seal.end() :]
        if hashlib.sha256(unsealed).hexdigest().encode() == seal[1]:
            return data
    raise damaged(path, "it does not match the sha256 that it carries")


def read_hashed(path: Path, sha256: str, what: str) -> bytes:
    """The bytes of a file whose sha256 is known.

    Raises:
        DamagedFile: the file is missing, shortened or changed; the message names `what` it holds.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        why = f"cannot be read: {error.strerror}; it is recorded as committed"
        raise DamagedFile(f"{path} ({what}) {why}: restore it from a copy") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(f"{path} ({what})", "its sha256 is not the recorded one")
    return data


def log_line(record: Mapping[str, Any], before: int = 0) -> bytes:
    """One line of a log: compact JSON whose last entry is the CRC-32 of everything before it.

    The CRC goes on from that of the line `before` (0 for the first line), so a line that is removed, repeated
    or moved is found out.
    """
    body = json.dumps(record, separators=(",", ":"), allow_nan=False)[:-1].encode()
    return body + f',"crc":"{zlib.crc32(body, before):08x}"}}\n'.encode()


def read_log(path: Path, whole: bool) -> tuple[list[dict[str, Any]], int]:
    """The records of a log, and how many bytes they fill. Unless the log must be `whole`, an unfinished last
    line is left out.

    Raises:
        DamagedFile: a line does not match its checksum, or the log must be whole and is not.
        GrokinterpError: it cannot be read.
    """
    try:
        with reading(path):
            data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    *lines, tail = data.split(b"\n")
    records = []
    crc = 0
    for number, line in enumerate(lines, 1):
        parsed = _parsed(line, crc)
        if parsed is None:
            raise damaged(path, "the line does not match its checksum", f" in line {number}")
        records.append(parsed)
        crc = _checksum(line + b"\n")
    # A writer that died leaves the beginning of a line. A whole line and something else after it is damage.
    if tail and (whole or _parsed(tail[:-1], crc) is not None):
        raise damaged(path, "the line does not end as it was written", f" in line {len(lines) + 1}")
    return records, len(data) - len(tail)


def _parsed(line: bytes, before: int) -> dict[str, Any] | None:
    """The record of a line, or None where the line does not match its checksum."""
    match = _LINE.fullmatch(line)
    if match is None or zlib.crc32(match[1], before) != int(match[2], 16):
        return None
    return json.loads(match[1] + b"}")


def _checksum(lines: bytes) -> int:
    """The checksum at the end of the last of some whole lines that match theirs; 0 where there is none."""
    match = _LAST_CHECKSUM.search(lines)
    return int(match[1], 16) if match else 0


@contextmanager
def locked(
    folder: Path, busy: Callable[[str], str], named: Path | None = None, remedy: str = AGAIN
) -> Iterator[int]:
    """The lock of a directory, held: the handle of its file. That stays for good: if it were removed, two
    processes could lock two files.

    Args:
        busy: the message where another process holds it, given its host and pid.
        named: what an error of the disk names; by default the directory.
        remedy: what to do about such an error.

    Raises:
        RunLocked: another process holds it.
        WriteFailed: it cannot be made.
    """
    with writing(named or folder, remedy=remedy):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with writing(named or folder, remedy=remedy):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 200, 0).decode(errors="replace").strip()
                raise RunLocked(busy(holder or "another process")) from None
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"host {socket.gethostname()} pid {os.getpid()}\n".encode(), 0)
        try:
            yield lock
        finally:
            with suppress(OSError):  # the name inside is for people; closing is what gives the lock back
                os.ftruncate(lock, 0)
    finally:
        os.close(lock)


class Log:
    """Appends lines to a log; what an earlier writer left unfinished at its end is cut off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records, self._end = read_log(path, whole=False)
        try:
            with reading(path):
                self._crc = _checksum(path.read_bytes()[: self._end])
        except FileNotFoundError:
            self._crc = 0
        with writing(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(self._file, self._end)
                sync_folder(path.parent)  # or the name could be lost with the power, and all lines with it
            except OSError:
                self.close()
                raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one line; a line that does not fit on the disk leaves no trace."""
        line = log_line(record, self._crc)
        with writing(self.path):
            try:
                written = os.pwrite(self._file, line, self._end)
                if written < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(line)
        self._crc = _checksum(line)
        self.records.append(dict(record))

    def cut(self, count: int) -> None:
        """Drops all lines but the first so many, durably."""
        if count == len(self.records):
            return
        with writing(self.path):
            kept = b"".join(self.path.read_bytes().splitlines(keepends=True)[:count])
            os.ftruncate(self._file, len(kept))
            os.fsync(self._file)
        self._end, self._crc = len(kept), _checksum(kept)
        del self.records[count:]

    def sync(self) -> None:
        """Returns when everything appended is on the disk."""
        with writing(self.path):
            os.fsync(self._file)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
