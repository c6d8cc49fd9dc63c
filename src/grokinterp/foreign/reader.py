"""Checkpoints that other people wrote, read as data: nothing in them is ever executed or unpacked to disk.

Told apart by content, not by name: safetensors, the zip archives of torch.save, its files from before 1.6,
and plain pickles. Leaves out what the content means: names and layouts of weights are the importer's
business.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import GrokinterpError, UsageError
from ..memory import free_memory
from .admitted import Admitted, Record
from .numbers import Storage
from .refusals import REMEDY, Budget, damaged, refuse, shown, too_large
from .unpickle import unpickle

__all__ = ["Record", "read_foreign"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MOST = 8e9
_RATIO = 100
"""Weights do not compress; what shrinks more than this is made to fill the memory."""

_PAGE = "download the file itself, not the page about it"
_POINTER = "run `git lfs pull` where it was cloned, or download the file itself"
_UNPACK = "unpack it, and name the file inside"
_STRANGERS = (
    (rb"(?i:(\xef\xbb\xbf)?\s*(<!doctype|<html|<\?xml|<head|<body))", "a web page", _PAGE),
    (rb"version https://git-lfs", "a pointer of git-lfs", _POINTER),
    (rb"\x89HDF\r\n", "an HDF5 file", REMEDY),
    (rb"\x93NUMPY", "a numpy array (.npy)", REMEDY),
    (rb".{257}ustar", "a tar archive", _UNPACK),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed file", _UNPACK),
    (rb"GGUF", "a GGUF file", REMEDY),
    (rb"\x89PNG|\xff\xd8\xff|%PDF|\x7fELF|SQLite format", "an image, document, program or database", REMEDY),
    (rb"\s*[{\[]\s*[\"{\[]", "a JSON text", REMEDY),
)
"""How files of other kinds begin, what they are, and what to do."""
_TENSORFLOW_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def read_foreign(path: str | Path, limit: float | None = None) -> Any:
    """The content of a foreign checkpoint: nested dicts, lists, tuples, tensors (on the CPU), numbers,
    strings, None and `Record`s.

    Sets and bytes are left as they are. Numpy arrays come as tensors, numpy scalars as numbers, parameters as
    tensors without gradient, every kind of dict as a dict, types of numbers and devices as texts
    ("torch.float32", "cuda:0"), objects of configuration classes as `Record`s. Tensors that shared a storage
    still do.

    Args:
        limit: bytes that the file may take and unpack to; without it the smaller of 8 GB and half of the free
            memory.

    Raises:
        UsageError: it is no checkpoint: not there, no file, or a file of another kind; the message names the
            kind.
        GrokinterpError: it asks to run something, which is named; or it is damaged, too large or cannot be
            read.
    """
    limit = min(_MOST, free_memory() / 2) if limit is None else limit
    try:
        return _content(_whole(path, limit), limit)
    except GrokinterpError as error:
        reason: GrokinterpError = error
    except OSError as error:
        kind = UsageError if isinstance(error, (FileNotFoundError, NotADirectoryError)) else GrokinterpError
        reason = kind(f"{error.strerror or error}: check the name and the permissions")
    except MemoryError:
        reason = GrokinterpError("it does not fit into the memory: free some")
    # What a stranger's bytes can make zlib, struct, numpy or torch raise has no common base.
    except Exception as error:
        reason = GrokinterpError(f"it is damaged ({shown(error)}): fetch it again, or {REMEDY}")
    raise type(reason)(f"cannot import {shown(path, 4096)}: {reason}") from None


def _whole(path: str | Path, limit: float) -> bytes:
    """The bytes of a regular file; of anything else not one is read, and nobody waits for a pipe's writer."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "directory" if stat.S_ISDIR(status.st_mode) else "pipe or device"
            raise UsageError(f"it is a {kind}: name the file with the weights")
        if status.st_size > limit:
            too_large(limit)
        with open(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(handle)


def _content(data: bytes, limit: float) -> Any:
    if not data:
        raise UsageError("it is empty: fetch it again")
    # A header's length stands in eight bytes, and no header has four gigabytes.
    if data[8:9] == b"{" and data[4:8] == bytes(4):
        return _safetensors(data)
    strangers = [(kind, remedy) for start, kind, remedy in _STRANGERS if re.match(start, data, re.DOTALL)]
    if data.endswith(_TENSORFLOW_END):
        strangers.append(("an index of TensorFlow", REMEDY))
    if strangers:
        kind, remedy = strangers[0]
        raise UsageError(f"it looks like {kind}, which is no checkpoint that can be read: {remedy}")
    return _archive(data, limit) if data.startswith(b"PK") else _pickles(data, limit)


def _safetensors(data: bytes) -> dict[str, Tensor]:
    tensors = safetensors.torch.load(data)
    for name, tensor in tensors.items():
        if tensor.is_complex():
            refuse(f"its tensor {shown(name)} is complex, and only dense tensors of real numbers are read")
    return tensors


def _archive(data: bytes, limit: float) -> Any:
    """The content of a zip archive by torch.save: one pickle, and storages as files beside it."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        refuse("it is an archive with two files of the same name")
    for member in members.values():
        _check_member(member)
    if sum(member.file_size for member in members.values()) > limit:
        too_large(limit)
    prefix = _folder_of_pickle(set(members))

    def bytes_of(name: str) -> bytes:
        if name not in members:
            damaged(f"its archive lacks {shown(name)}")
        with archive.open(members[name]) as file:  # which checks the CRC
            content = file.read(members[name].file_size)
        if len(content) < members[name].file_size:
            damaged(f"{shown(name)} in its archive is cut off")
        return content

    if f"{prefix}byteorder" in members and bytes_of(f"{prefix}byteorder") != b"little":
        refuse("it was written by a big-endian machine")
    storages: dict[str, torch.UntypedStorage] = {}

    def fetch(key: str, count: int, width: int) -> torch.UntypedStorage:
        if key not in storages:
            storages[key] = _storage(bytearray(bytes_of(f"{prefix}data/{key}")))
        if storages[key].nbytes() < count * width:
            damaged(f"storage {shown(key)} is shorter than its tensors")
        return storages[key]

    budget = Budget(limit)
    return _no_storage(unpickle(io.BytesIO(bytes_of(f"{prefix}data.pkl")), _admitted(budget), budget, fetch))


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    if ".." in re.split(r"[/\\]", name) or re.match(r"[/\\]|[A-Za-z]:", name) or "\0" in name:
        refuse(f"it is an archive with a file named {shown(name)}, which would land outside of it")
    if member.flag_bits & 1:
        refuse("it is an encrypted archive")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse("it is an archive with a compression that torch does not use")
    packed, size = member.compress_size, member.file_size
    if size > _RATIO * packed or (member.compress_type == zipfile.ZIP_STORED and size != packed):
        refuse(f"its archive claims to unpack {packed} bytes to {size}")


def _folder_of_pickle(names: set[str]) -> str:
    """The folder of an archive in which data.pkl stands."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        what = "a TorchScript program, which is no checkpoint"
        raise UsageError(f"it is {what}: ask its author for the state dict")
    prefixes = [name.removesuffix("data.pkl") for name in names if f"/{name}".endswith("/data.pkl")]
    if len(prefixes) == 1:
        return prefixes[0]
    is_numpy = names and all(name.endswith(".npy") for name in names)
    kind = "a numpy archive (.npz)" if is_numpy else "a zip archive, not one by torch.save"
    raise UsageError(f"it looks like {kind}: unpack it and name the file inside, or {REMEDY}")


def _pickles(data: bytes, limit: float) -> Any:
    """The content of a plain pickle, or of a file that torch.save wrote before 1.6, which begins with a
    pickle of a magic number."""
    budget = Budget(limit)
    stream = io.BytesIO(data)
    try:
        first = unpickle(stream, _admitted(budget), budget)
    except (ValueError, TypeError, LookupError) as error:
        if data.startswith(b"\x80"):
            raise
        what = f"it is no checkpoint: it begins with {data[:12]!r}"
        raise UsageError(f"{what}; name a file written by torch.save, pickle or safetensors") from error
    if type(first) is int and first == _LEGACY_MAGIC:
        return _no_storage(_legacy(data, _admitted(budget), budget))
    if stream.read(1):
        damaged("something follows after the end of its pickle")
    return _no_storage(first)


def _legacy(data: bytes, admitted: Admitted, budget: Budget) -> Any:
    """The content of a file by torch.save before 1.6: pickles of a magic number, version, machine, content
    and keys; then the storages."""
    stream = io.BytesIO(data)
    magic, version, machine = (unpickle(stream, admitted, budget) for _ in range(3))
    if (magic, version) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or type(machine) is not dict:
        damaged("it does not begin as a file by torch.save")
    if machine.get("little_endian") is not True:
        refuse("it was written by a big-endian machine")
    buffers: dict[str, tuple[bytearray, int]] = {}
    storages: dict[str, torch.UntypedStorage] = {}
    room = len(data)

    def fetch(key: str, count: int, width: int) -> torch.UntypedStorage:
        nonlocal room
        if key not in buffers:
            room -= count * width
            if room < 0:
                damaged("its storages are cut off")
            buffers[key] = bytearray(count * width), width
            storages[key] = _storage(buffers[key][0])
        if len(buffers[key][0]) < count * width:
            damaged(f"storage {shown(key)} is shorter than its tensors")
        return storages[key]

    content = unpickle(stream, admitted, budget, fetch)
    keys = unpickle(stream, admitted, budget)
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(buffers):
        damaged("its list of storages is not that of its tensors")
    for key in keys:
        buffer, width = buffers[key]
        if stream.read(8) != struct.pack("<q", len(buffer) // width) or stream.readinto(buffer) < len(buffer):
            damaged("its storages are cut off")
    return content


def _admitted(budget: Budget) -> Admitted:
    """What a pickle may build. In a plain one a storage is a file of its own, in which is no further one."""
    innermost = Admitted(budget, lambda _: refuse("it holds checkpoints inside of checkpoints"))
    return Admitted(budget, lambda raw: _legacy(raw, innermost, budget))


def _storage(buffer: bytearray) -> torch.UntypedStorage:
    """A storage in the same memory."""
    if not buffer:
        return torch.UntypedStorage(0)
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


def _no_storage(content: Any) -> Any:
    """The content, unless it is no more than a storage."""
    return damaged("it holds a storage without tensors") if type(content) is Storage else content
