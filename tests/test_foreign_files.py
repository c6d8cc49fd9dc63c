"""Files of strangers: honest ones arrive whole, hostile ones run nothing, broken ones end in one line. Every
file is written here.

With GROKINTERP_CHECKPOINTS (default ../shared/checkpoints) naming a folder of published checkpoints, those
must be read, too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import io
import operator
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from grokinterp.errors import GrokinterpError, UsageError
from grokinterp.foreign import Record, read_foreign
from grokinterp.models.base import lens_classes

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / os.environ.get("GROKINTERP_CHECKPOINTS", "../shared/checkpoints")
PUBLISHED = sorted(
    file for suffix in ("pt", "pth", "safetensors") for file in CHECKPOINTS.rglob(f"*.{suffix}")
)

Writer = Callable[[Path, bytes], None]


# How a pickle is wrapped into a file.


def plain(file: Path, pickled: bytes) -> None:
    file.write_bytes(pickled)


def zipped(file: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))


def legacy(file: Path, pickled: bytes) -> None:
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    file.write_bytes(b"".join(pickle.dumps(one, 2) for one in head) + pickled + pickle.dumps([], 2))


WRAPPED: list[Writer] = [plain, zipped, legacy]


# Pickles, put together by hand.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def reduce(module: str, attribute: str, *args: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(args) + b"tR"


def pickled(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


class Call:
    """Pickles to a call of a function; `items` are what it would append or set afterwards."""

    def __init__(
        self,
        function: Any,
        *args: Any,
        state: Any = None,
        items: list | None = None,
        pairs: dict | None = None,
    ) -> None:
        self.function, self.args, self.state, self.items, self.pairs = function, args, state, items, pairs

    def __call__(self) -> None:
        """What stands for a function must look like one to be pickled."""

    def __reduce__(self) -> tuple:
        return (
            self.function,
            self.args,
            self.state,
            self.items and iter(self.items),
            self.pairs and iter(self.pairs.items()),
        )


def touch(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


LIVE: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "eval": lambda canary: Call(eval, touch(canary)),
    "exec": lambda canary: {"model": Call(exec, touch(canary))},
    "os.makedirs": lambda canary: Call(os.makedirs, str(canary)),
    "os.mkdir in a list": lambda canary: [torch.zeros(2), Call(os.mkdir, str(canary))],
    "Path.touch": lambda canary: Call(pathlib.Path.touch, canary),
    "subprocess.Popen": lambda canary: Call(subprocess.check_call, ["touch", str(canary)]),
    "getattr of a module": lambda canary: Call(
        Call(getattr, Call(importlib.import_module, "os"), "mkdir"), str(canary)
    ),
    "attrgetter": lambda canary: Call(
        Call(operator.attrgetter("mkdir"), Call(importlib.import_module, "os")), str(canary)
    ),
    "methodcaller": lambda canary: Call(operator.methodcaller("touch"), canary),
    "partial": lambda canary: Call(functools.partial(os.mkdir, str(canary))),
    "map in a set": lambda canary: Call(set, Call(map, os.mkdir, [str(canary)])),
    "__import__": lambda canary: Call(Call(getattr, Call(__import__, "os"), "mkdir"), str(canary)),
    "items": lambda canary: Call(list, items=[Call(eval, touch(canary))]),
    "pairs": lambda canary: Call(dict, pairs={"a": Call(eval, touch(canary))}),
    "a state": lambda canary: Call(types.SimpleNamespace, state={"a": Call(eval, touch(canary))}),
    "_load_from_bytes": lambda canary: Call(
        torch.storage._load_from_bytes, saved(Call(os.mkdir, str(canary)))
    ),
    "numpy objects": lambda canary: np.array([Call(os.mkdir, str(canary))], dtype=object),
    "beside numpy": lambda canary: (np.zeros(3), np.float64(1), Call(os.mkdir, str(canary))),
}
"""Pickles that do harm where they are loaded the usual way."""


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def storage(count: int, kind: str = "FloatStorage", key: str = "0") -> bytes:
    number = b"\x8a\x08" + struct.pack("<q", count)
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number + b"tQ"


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", of: bytes | None = None) -> bytes:
    of = storage(4) if of is None else of
    return reduce(
        "torch._utils",
        "_rebuild_tensor_v2",
        of,
        offset,
        size,
        stride,
        b"\x89",
        reduce("collections", "OrderedDict"),
    )


def big(number: int) -> bytes:
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


CONFIG = name("helpers", "Config") + b")\x81"
DTYPE = (
    reduce("numpy", "dtype", text("f8"), b"\x89\x88")
    + b"(K\x03"
    + text("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
ARRAY = reduce("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")

CRAFTED: dict[str, bytes] = {
    "dots in a global": name("torch", "_utils.os.system") + text("id") + b"\x85R",
    "dots in a module": name("torch.serialization.os", "system") + text("id") + b"\x85R",
    "a global by lines": b"cos\nsystem\n(S'id'\ntR",
    "a global with spaces": b"ctorch Size\n os.system\n(S'id'\ntR",
    "a name that is no text": b"K\x01K\x02\x93",
    "INST": b"(S'id'\nios\nsystem\n",
    "OBJ": b"(cos\nsystem\nS'id'\no",
    "NEWOBJ": name("subprocess", "Popen") + text("id") + b"\x85\x81",
    "NEWOBJ_EX": CONFIG[:-2] + b")}\x92",
    "NEWOBJ of a record with values": CONFIG[:-2] + text("id") + b"\x85\x81",
    "REDUCE of a record": CONFIG[:-2] + text("id") + b"\x85R",
    "REDUCE of an instance": CONFIG + b")R",
    "REDUCE of a text": text("os.system") + text("id") + b"\x85R",
    "REDUCE of the wrong arguments": reduce("collections", "OrderedDict", b"K\x01", b"K\x02", b"K\x03"),
    "REDUCE without a tuple": name("collections", "OrderedDict") + b"]R",
    "_reconstructor": reduce(
        "copyreg", "_reconstructor", name("helpers", "Config"), name("builtins", "list"), b"]"
    ),
    "_reconstructor of a class": reduce(
        "copyreg", "_reconstructor", name("helpers", "Popen"), name("builtins", "object"), b"N"
    ),
    "__newobj__": reduce("copyreg", "__newobj__", name("helpers", "Config")),
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\x00",
    "EXT4": b"\x84\x01\x00\x00\x00",
    "PERSID": b"Pstorage\n",
    "BINPERSID of a text": text("storage") + b"Q",
    "BINPERSID of a module": b"("
    + text("module")
    + name("helpers", "Config")
    + text("a")
    + text("b")
    + b"tQ",
    "a buffer out of band": b"\x97",
    "BUILD by values": CONFIG + b"(K\x01K\x02tb",
    "BUILD with odd keys": CONFIG + b"}K\x01K\x02sb",
    "BUILD with a record": CONFIG + CONFIG + b"b",
    "BUILD of a tensor": tensor(b"K\x01\x85", b"K\x01\x85") + b"}" + text("data") + b"K\x01sb",
    "BUILD of a list": b"]}" + text("append") + b"K\x01sb",
    "BUILD of a name": name("collections", "OrderedDict") + b"}" + text("update") + b"K\x01sb",
    "SETITEM of a list": b"]K\x00K\x01s",
    "SETITEMS of a record": CONFIG + b"(" + text("a") + b"K\x01u",
    "SETITEMS without a value": b"}(K\x01u",
    "APPEND to a record": CONFIG + b"K\x01a",
    "APPENDS to a dict": b"}(K\x01e",
    "ADDITEMS to a list": b"](K\x01\x90",
    "a list as a key": b"}]K\x01s",
    "a tuple of tuples as a key": b"}" + b"))\x86" + b"2\x86" * 60 + b"K\x01s",
    "a long tuple as a key": b"}(" + b"K\x01" * 17 + b"tK\x01s",
    "a giant integer as a key": b"}" + big(2**61 - 1) + b"K\x01s",
    "a name as a value": b"}" + text("a") + name("collections", "OrderedDict") + b"s",
    "a dtype of numpy as a value": DTYPE,
    "a list in itself": b"]\x940h\x00h\x00a",
    "a record in itself": CONFIG + b"\x94}" + text("me") + b"h\x00sb",
    "nested too deep": b"]" * 5000 + b"a" * 4999,
    "a billion laughs": b"".join(
        [
            b"]K\x01a",
            *(b"\x94]" + b"h" + bytes([k]) + b"a" + (b"h" + bytes([k]) + b"a") * 9 for k in range(30)),
        ]
    ),
    "a billion laughs in tuples": b")" + b"2\x86" * 90,
    "LONG4 of two gigabytes": b"\x8b\xff\xff\xff\x7f\x01",
    "LONG4 of a negative length": b"\x8b\xff\xff\xff\xff\x01",
    "an integer of a million bits": b"\x8b" + struct.pack("<i", 125_000) + b"\x01" * 125_000,
    "BINBYTES8 of an exabyte": b"\x8e" + struct.pack("<Q", 1 << 60),
    "BINBYTES8 of everything": b"\x8e" + b"\xff" * 8,
    "BYTEARRAY8 of an exabyte": b"\x96" + struct.pack("<Q", 1 << 60),
    "a memo without end": b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff",
    "a frame of an exabyte": b"\x95" + struct.pack("<Q", 1 << 60),
    "an empty stack": b"0",
    "a mark too few": b"t",
    "three of nothing": b"\x87",
    "a tensor without storage": tensor(b"K\x01\x85", b"K\x01\x85", of=b"N"),
    "a tensor of a text": tensor(b"K\x01\x85", b"K\x01\x85", of=text("0")),
    "a tensor too long": tensor(b"K\x05\x85", b"K\x01\x85"),
    "a tensor with a long stride": tensor(b"K\x02\x85", b"K\x04\x85"),
    "a tensor with a far offset": tensor(b"K\x01\x85", b"K\x01\x85", b"K\x04"),
    "a tensor with a negative offset": tensor(b"K\x01\x85", b"K\x01\x85", b"J\xff\xff\xff\xff"),
    "a tensor with a negative stride": tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
    "a tensor that repeats one number": tensor(big(10**15) + b"\x85", b"K\x00\x85"),
    "a tensor that overflows": tensor(big(2**61) * 2 + b"\x86", b"K\x00K\x00\x86"),
    "a tensor of no end and nothing": tensor(b"K\x00" + big(2**61) * 2 + b"\x87", b"K\x00K\x00K\x00\x87"),
    "a tensor with a stride too few": tensor(b"K\x02K\x02\x86", b"K\x01\x85"),
    "a tensor whose type takes for ever to hash": reduce(
        "torch._utils",
        "_rebuild_tensor_v3",
        storage(4),
        b"K\x00",
        b")",
        b")",
        b"\x89",
        b"N",
        b"))\x86" + b"2\x86" * 60,
    ),
    "a tensor of 100 dimensions": tensor(b"(" + b"K\x01" * 100 + b"t", b"(" + b"K\x01" * 100 + b"t"),
    "a tensor of floats": tensor(b"G" + struct.pack(">d", 2) + b"\x85", b"K\x01\x85"),
    "a storage too long": tensor(b"K\x01\x85", b"K\x01\x85", of=storage(2**61)),
    "a storage without end": tensor(b"K\x01\x85", b"K\x01\x85", of=storage(-1)),
    "a storage elsewhere": tensor(b"K\x01\x85", b"K\x01\x85", of=storage(1, key="../../etc/passwd")),
    "complex": tensor(b"K\x01\x85", b"K\x01\x85", of=storage(1, "ComplexFloatStorage")),
    "quantised": tensor(b"K\x01\x85", b"K\x01\x85", of=storage(1, "QInt8Storage")),
    "sparse": reduce("torch._utils", "_rebuild_sparse_tensor", name("torch", "sparse_coo"), b")"),
    "a storage alone": storage(4),
    "a hooked tensor": reduce("torch._utils", "_rebuild_parameter", reduce("torch.jit", "load", text("x"))),
    "torch.load": reduce("torch", "load", text("x")),
    "torch.hub": reduce("torch.hub", "load", text("x"), text("y")),
    "torch.Size of itself": reduce("torch", "Size", b"(" + big(2**62) + b"t"),
    "_load_from_bytes of junk": reduce("torch.storage", "_load_from_bytes", b"C\x04junk"),
    "_load_from_bytes of a dict": reduce(
        "torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", len(saved({}))) + saved({})
    ),
    "a dtype of objects": reduce("numpy", "dtype", text("O8"), b"\x89\x88"),
    "a dtype of records": reduce("numpy", "dtype", text("V8"), b"\x89\x88"),
    "a dtype by a list": reduce("numpy", "dtype", b"]"),
    "an array of another class": ARRAY.replace(text("ndarray"), text("memmap")),
    "an array without content": ARRAY,
    "an array too large": ARRAY + b"(K\x01" + big(10**12) + b"\x85" + DTYPE + b"\x89C\x08" + bytes(8) + b"tb",
    "an array of a list": ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89]tb",
    "a scalar too short": reduce("numpy.core.multiarray", "scalar", DTYPE, b"C\x01a"),
    "a scalar of an object": reduce(
        "numpy.core.multiarray", "scalar", reduce("numpy", "dtype", text("O8")), text("x")
    ),
    "a codec": reduce("_codecs", "encode", text("x"), text("rot13")),
    "a colour in a name": name("os", "\x1b[2Jsystem"),
    "a line in a name": name("os", "a\nb"),
    "no STOP": b"",
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def refusal(file: Path, limit: float | None = None) -> str:
    """The one line with which a file is refused."""
    before = sum(os.times()[:4])
    with pytest.raises(GrokinterpError) as caught:
        read_foreign(file, limit)
    message = str(caught.value)
    assert message.startswith(f"cannot import {file}: ")
    assert message.isprintable()
    assert len(message) < 500 + len(str(file))
    assert (
        sum(os.times()[:4]) - before < 5
    )  # seconds of a processor's work, not of the clock: others may be at work too
    return message


@pytest.mark.parametrize("payload", LIVE)
def test_hostile_pickles_do_harm_elsewhere(payload, canary):
    """The control: what is refused below is no blank."""
    with contextlib.suppress(Exception):  # some fail once the harm is done
        pickle.loads(pickle.dumps(LIVE[payload](canary)))
    assert canary.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("payload", LIVE)
def test_hostile_pickles_run_nothing(payload, wrapped, protocol, canary, tmp_path):
    wrapped(tmp_path / "x.pth", pickle.dumps(LIVE[payload](canary), protocol))
    assert "nothing was executed" in refusal(tmp_path / "x.pth")
    assert not canary.exists()


@pytest.mark.parametrize("payload", [name for name in LIVE if name != "beside numpy"])
def test_hostile_checkpoints_run_nothing(payload, canary, tmp_path):
    for new in (True, False):
        torch.save(
            {"model": {"w": torch.zeros(2)}, "more": LIVE[payload](canary)},
            tmp_path / "x.pth",
            _use_new_zipfile_serialization=new,
        )
        assert "nothing was executed" in refusal(tmp_path / "x.pth")
    assert not canary.exists()


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("payload", CRAFTED)
def test_crafted_pickles_end_in_one_line(payload, wrapped, tmp_path):
    wrapped(tmp_path / "x.pth", pickled(CRAFTED[payload]) if payload != "no STOP" else b"\x80\x04N")
    refusal(tmp_path / "x.pth")


def test_old_checkpoints_of_very_many_storages_take_no_longer(tmp_path):
    keys = [str(key) for key in range(2_000)]
    body = b"(" + b"".join(tensor(b"K\x00\x85", b"K\x01\x85", of=storage(0, key=key)) for key in keys) + b"l"
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    start = b"".join(pickle.dumps(one, 2) for one in head) + pickled(body)
    (tmp_path / "x.pth").write_bytes(start + pickle.dumps(keys, 2) + bytes(8) * len(keys))
    assert len(read_foreign(tmp_path / "x.pth")) == len(keys)
    for wrong in (keys[1:], keys + keys[:1], None, list(range(2_000))):
        (tmp_path / "x.pth").write_bytes(start + pickle.dumps(wrong, 2) + bytes(8) * 2_001)
        assert "list of storages" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "shape", ["a tensor too long", "a tensor with a long stride", "a tensor with a far offset"]
)
def test_tensors_end_where_their_storage_ends(shape, tmp_path):
    zipped(tmp_path / "x.pth", pickled(CRAFTED[shape]))
    assert "reaches beyond the end of its storage" in refusal(tmp_path / "x.pth")


def test_the_message_says_what_it_wanted_and_what_to_do(tmp_path):
    plain(tmp_path / "x.pth", pickle.dumps(Call(os.system, "id")))
    assert refusal(tmp_path / "x.pth").endswith(
        f"it asks to run {os.system.__module__}.system, which is no part of a checkpoint; nothing was "
        "executed: ask its author for a safetensors file"
    )


def test_nothing_that_a_pickle_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    plain(tmp_path / "x.pkl", pickled(name("trap", "Config") + b")\x81"))
    assert read_foreign(tmp_path / "x.pkl") == Record("trap.Config", {})
    plain(tmp_path / "x.pkl", pickled(name("trap", "run") + b")R"))
    refusal(tmp_path / "x.pkl")
    assert "trap" not in sys.modules


KEPT = b"\x940"
"""Into the memo, and off the stack."""

ENCODE, ORDERED = name("_codecs", "encode"), name("collections", "OrderedDict")
WIDE = tensor(b"J\x00\x00\x10\x00\x85", b"K\x00\x85")

AMPLIFIED = {
    "bytes of one text": text("a" * 10_000)
    + KEPT
    + ENCODE
    + KEPT
    + text("latin1")
    + KEPT
    + b"]("
    + b"h\x01h\x00h\x02\x86R" * 5000
    + b"e",
    "dicts from one list": b"]("
    + b"K\x01K\x02\x86" * 1000
    + b"e"
    + KEPT
    + ORDERED
    + KEPT
    + b"]("
    + b"h\x01h\x00\x85R" * 5000
    + b"e",
    "tensors from one storage": b"](" + WIDE * 100 + b"e",
    "empty sets": b"](" + b"\x8f" * 200_000 + b"e",
}


@pytest.mark.parametrize("payload", AMPLIFIED)
def test_small_pickles_that_grow_are_stopped(payload, tmp_path):
    zipped(tmp_path / "x.pth", pickled(AMPLIFIED[payload]))
    assert "more" in refusal(tmp_path / "x.pth", limit=2e7)


@pytest.mark.parametrize("outside", ["../../x", "/etc/x", "archive/../../x", "..\\x", "C:\\x", "a\0b"])
def test_names_that_lead_out_of_the_archive_are_refused(outside, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        placeholder = "q" * len(outside)
        archive.writestr(placeholder, b"x")
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content.replace(placeholder.encode(), outside.encode()))
    assert "outside" in refusal(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path):
    zipped(tmp_path / "x.pth", pickle.dumps({}))
    with zipfile.ZipFile(tmp_path / "x.pth", "a") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(1))
    assert "same name" in refusal(tmp_path / "x.pth")


def test_encrypted_archives_are_refused(tmp_path):
    zipped(tmp_path / "x.pth", pickle.dumps({}))
    content = bytearray((tmp_path / "x.pth").read_bytes())
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[at] |= 1
    (tmp_path / "x.pth").write_bytes(content)
    assert "it is an encrypted archive" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(kind, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", kind) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    assert "compression" in refusal(tmp_path / "x.pth")


def test_a_compressed_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(30_000_000))
    assert "claims to unpack" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("claim", [0, 1, 100, 2**31, 2**32 - 2])
def test_a_member_that_lies_about_its_size_is_refused(claim, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(list(range(5000))))
    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[(at := content.index(b"PK\x01\x02") + 24) : at + 4] = struct.pack("<I", claim)
    (tmp_path / "x.pth").write_bytes(content)
    refusal(tmp_path / "x.pth")


def test_many_members_that_share_their_bytes_count_each(tmp_path):
    one = tmp_path / "x.pth"
    with zipfile.ZipFile(one, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(100_000))
    content = one.read_bytes()
    start = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    end = content.index(b"PK\x05\x06")
    entry, directory = content[start:end], content.index(b"PK\x01\x02")
    more = b"".join(entry.replace(b"archive/data/0", b"archive/%06d" % k) for k in range(300))
    size = end - directory + len(more)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 302, 302, size, directory, 0)
    one.write_bytes(content[:end] + more + tail)
    assert "more than" in refusal(one, limit=1e7)


def test_compressed_archives_are_read(tmp_path):
    torch.save({"w": torch.randn(100)}, tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as old,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.namelist():
            new.writestr(member, old.read(member))
    assert same(read_foreign(tmp_path / "y.pth"), torch.load(tmp_path / "x.pth"))


STRANGERS = {
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a numpy array": b"\x93NUMPY\x01\x00" + bytes(100),
    "a tar archive": b"weights".ljust(257, b"\0") + b"ustar" + bytes(300),
    "a compressed file": b"\x1f\x8b\x08\x00" + bytes(100),
    "an index of TensorFlow": b"\x00" * 50 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
    "a JSON text": b'{\n "p": 113}',
    "empty": b"",
    "no checkpoint": b"just some text\n",
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_files_of_another_kind_are_called_by_their_kind(kind, tmp_path):
    (tmp_path / "x.pth").write_bytes(STRANGERS[kind])
    assert kind in refusal(tmp_path / "x.pth")
    with pytest.raises(UsageError):
        read_foreign(tmp_path / "x.pth")


def test_archives_of_another_kind_are_called_by_their_kind(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.zeros(3))
    assert "a numpy archive" in refusal(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inner.pth", saved({"w": torch.zeros(1)}))
    assert "unpack it" in refusal(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/constants.pkl", pickle.dumps({}))
        archive.writestr("net/code/__torch__.py", "import os")
    assert "TorchScript" in refusal(tmp_path / "x.pt")


def test_what_is_no_file_is_not_opened(tmp_path):
    assert "directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "nothing.pth")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in refusal(tmp_path / "pipe")
    assert "device" in refusal(Path("/dev/zero"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refusal(tmp_path / "loop")
    with pytest.raises(GrokinterpError, match="null"):
        read_foreign("a\0b")


def test_files_that_may_not_be_read_are_named(tmp_path):
    plain(tmp_path / "x.pth", pickle.dumps({}))
    (tmp_path / "x.pth").chmod(0)
    if os.access(tmp_path / "x.pth", os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission denied" in refusal(tmp_path / "x.pth")


def test_names_that_are_no_text_are_shown(tmp_path):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.pth"))
    file.write_bytes(b"<html>")
    with pytest.raises(UsageError, match="web page") as caught:
        read_foreign(file)
    str(caught.value).encode()
    file.write_bytes(saved({"w": torch.ones(1)}))
    assert read_foreign(file)["w"] == 1


def test_large_files_are_not_read(tmp_path):
    with open(tmp_path / "x.pth", "wb") as file:
        file.truncate(1 << 40)
    assert "more than" in refusal(tmp_path / "x.pth")


# Honest files.


@dataclasses.dataclass
class Config:
    p: int = 113
    lr: float = 1e-3
    dtype: torch.dtype = torch.float32
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cuda:1"))
    out: Path = Path("/tmp/run")
    seeds: tuple[int, ...] = (1, 2)


class Slotted:
    __slots__ = ("p",)


SlottedConfig = type("SlottedConfig", (Slotted,), {"__module__": __name__, "__slots__": ()})

FIELDS = {
    "p": 113,
    "lr": 1e-3,
    "dtype": "torch.float32",
    "device": "cuda:1",
    "out": "/tmp/run",
    "seeds": (1, 2),
}


def weights() -> dict[str, torch.Tensor]:
    """Weights of many kinds: views, shared storages, every type of number."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    kinds = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
    return {
        "base": base,
        "transposed": base.T,
        "part": base[1:5, 2::3],
        "repeated": torch.randn(5, 1, generator=generator).expand(5, 4),
        "scalar": torch.tensor(3.5),
        "nothing": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=generator)),
        "uint16": torch.arange(5).to(torch.uint16),
        **{str(kind): torch.arange(4).to(kind) for kind in kinds},
    }


def same(found: Any, expected: Any) -> bool:
    """Whether what was read is what was saved, to the bit."""
    if isinstance(expected, np.ndarray):
        return same(found, torch.from_numpy(expected))
    if isinstance(expected, np.generic):
        return type(found) is type(expected.item()) and found == expected.item()
    if isinstance(expected, torch.Tensor):
        assert type(found) is torch.Tensor
        return (
            found.dtype == expected.dtype
            and found.device.type == "cpu"
            and not found.requires_grad
            and torch.equal(found, expected)
        )
    if isinstance(expected, dict):
        return (
            type(found) is dict
            and list(found) == list(expected)
            and all(same(found[key], expected[key]) for key in expected)
        )
    if isinstance(expected, (list, tuple)):
        return (
            type(found) is type(expected) and len(found) == len(expected) and all(map(same, found, expected))
        )
    return type(found) is type(expected) and found == expected


def training() -> dict[str, Any]:
    """What a training script saves: weights, optimiser, losses of several kinds."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": dict(net.state_dict()),
        "optimizer": optimizer.state_dict(),
        "weights": weights(),
        "losses": [1.5, float("inf"), np.float64(0.1)],
        "numpy": {
            "f4": np.arange(6, dtype="f4").reshape(2, 3).T,
            "i8": np.arange(3),
            "b": np.array([True, False]),
            "none": np.zeros((0, 2)),
        },
        "epoch": np.int64(7),
        "names": ("a", "ä", None, True, 2**70, -1, b"\xff"),
        "by layer": {(0, 1): 2.0, 3: 4.0},
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_checkpoints_of_torch_save_arrive_whole(new, tmp_path):
    content = training()
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    found = read_foreign(tmp_path / "x.pth")
    assert same(found, content)
    assert found["weights"]["transposed"].stride() == content["weights"]["transposed"].stride()
    assert (
        found["weights"]["base"].untyped_storage().data_ptr()
        == found["weights"]["part"].untyped_storage().data_ptr()
    )
    found["weights"]["base"][1, 2] = 9
    assert found["weights"]["part"][0, 0] == 9


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_state_dicts_are_what_torch_load_makes_of_them(new, tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(net.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    assert same(read_foreign(tmp_path / "x.pth"), dict(torch.load(tmp_path / "x.pth", weights_only=True)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_arrive_whole(protocol, tmp_path):
    content = training()
    plain(tmp_path / "x.pkl", pickle.dumps(content, protocol))
    assert same(read_foreign(tmp_path / "x.pkl"), content)


def test_numbers_of_other_machines_are_turned(tmp_path):
    plain(tmp_path / "x.pkl", pickle.dumps([np.arange(3, dtype=">f8"), np.array(5, dtype=">i4")[()]]))
    assert same(read_foreign(tmp_path / "x.pkl"), [torch.arange(3, dtype=torch.float64), 5])


def test_safetensors_arrive_whole_under_any_name(tmp_path):
    content = {
        key: value.detach().clone().contiguous() for key, value in weights().items() if key != "nothing"
    }
    safetensors.torch.save_file(content, tmp_path / "x.pth")
    found = read_foreign(tmp_path / "x.pth")
    assert same({key: found[key] for key in content}, content)


@pytest.mark.parametrize(
    "header", ["{", "{}}", '{"a":1}', '{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', '{"a":' * 500]
)
def test_malformed_headers_of_safetensors_are_refused(header, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    assert "damaged" in refusal(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**31) + header.encode() + bytes(4))
    assert "damaged" in refusal(tmp_path / "x.safetensors")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_the_checkpoint_of_the_grokking_demo_is_read(new, tmp_path):
    sizes = {
        "n_layers": 1,
        "d_model": 128,
        "n_ctx": 3,
        "d_head": 32,
        "n_heads": 4,
        "d_mlp": 512,
        "d_vocab": 114,
    }
    config = lens_classes()[1](**sizes, act_fn="relu", normalization_type=None)
    checkpoint = {
        "model": {"embed.W_E": torch.randn(114, 128)},
        "config": config,
        "checkpoints": [{"embed.W_E": torch.randn(114, 128)} for _ in range(3)],
        "checkpoint_epochs": [0, 100, 200],
        "test_losses": [torch.tensor(1.0).item()] * 3,
        "train_losses": [np.float64(0.5)] * 3,
        "train_indices": torch.randperm(10),
        "test_indices": np.arange(10),
    }
    torch.save(checkpoint, tmp_path / "grokking_demo.pth", _use_new_zipfile_serialization=new)
    found = read_foreign(tmp_path / "grokking_demo.pth")
    record = found.pop("config")
    assert type(record) is Record
    assert record.name == f"{type(config).__module__}.{type(config).__name__}"
    assert sizes.items() <= record.fields.items()
    assert record.fields["dtype"] == "torch.float32"
    assert type(record.fields["attn_scale"]) is float
    del checkpoint["config"]
    assert same(found, checkpoint)


def test_configurations_of_other_classes_are_records(tmp_path):
    slotted = SlottedConfig()
    slotted.p = 7
    content = [types.SimpleNamespace(p=7), argparse.Namespace(p=7), Config(), slotted]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        plain(tmp_path / "x.pkl", pickle.dumps(content, protocol))
        assert read_foreign(tmp_path / "x.pkl") == [
            Record("types.SimpleNamespace", {"p": 7}),
            Record("argparse.Namespace", {"p": 7}),
            Record(f"{__name__}.Config", FIELDS),
            Record(f"{__name__}.SlottedConfig", {"p": 7}),
        ]


def test_old_names_of_the_configuration_are_records(tmp_path):
    for module in (
        "transformer_lens.HookedTransformerConfig",
        "easy_transformer.EasyTransformerConfig",
        "__main__",
        "helpers",
    ):
        state = (
            b"}" + text("d_model") + b"K\x80s" + text("act") + name(f"{module}", "SolverConfig") + b")\x81sb"
        )
        plain(tmp_path / "x.pkl", pickled(name(module, "TheConfig") + b")\x81" + state))
        expected = Record(f"{module}.TheConfig", {"d_model": 128, "act": Record(f"{module}.SolverConfig")})
        assert read_foreign(tmp_path / "x.pkl") == expected


def test_members_of_enumerations_in_configurations_are_their_values(tmp_path):
    plain(tmp_path / "x.pkl", pickled(reduce("transformer_lens.utilities", "Activation", text("relu"))))
    assert read_foreign(tmp_path / "x.pkl") == "relu"


def test_fields_are_data_whatever_they_are_called(tmp_path):
    plain(
        tmp_path / "x.pkl",
        pickled(CONFIG + b"}(" + text("__class__") + text("a") + text("fields") + text("b") + b"ub"),
    )
    record = read_foreign(tmp_path / "x.pkl")
    assert type(record) is Record
    assert record.fields == {"__class__": "a", "fields": "b"}


def test_whole_models_are_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "x.pth")


def test_complex_weights_are_refused_by_name(tmp_path):
    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "x.pth")
    assert "ComplexFloatStorage" in refusal(tmp_path / "x.pth")
    safetensors.torch.save_file({"w": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "x.safetensors")
    assert "complex" in refusal(tmp_path / "x.safetensors")


# Damage.


def written(kind: str, file: Path) -> Path:
    content = {
        "model": {"w": torch.arange(6.0).reshape(2, 3).T},
        "config": types.SimpleNamespace(p=7),
        "loss": np.arange(3.0),
    }
    if kind == "safetensors":
        safetensors.torch.save_file({"w": torch.arange(6.0)}, file)
    elif kind == "pickle":
        plain(file, pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    return file


def read_or_refused(file: Path) -> Any:
    """The content, or None; any other error fails the test."""
    try:
        return read_foreign(file)
    except GrokinterpError:
        return None


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_a_changed_byte_is_found_or_harmless(kind, tmp_path):
    """Only archives carry checksums, so only in them must a changed number be found."""
    whole = written(kind, tmp_path / "x").read_bytes()
    expected = read_foreign(tmp_path / "x")
    draw = random.Random(kind)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 4))):
            changed[draw.randrange(len(changed))] = draw.choice((0, 255, draw.randrange(256)))
        (tmp_path / "x").write_bytes(changed)
        found = read_or_refused(tmp_path / "x")
        if kind == "zip" and found is not None:
            assert same(found["model"], expected["model"])
            assert found["config"] == expected["config"]


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
def test_a_file_that_is_cut_off_is_refused_everywhere(kind, tmp_path):
    whole = written(kind, tmp_path / "x").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 100)):
        (tmp_path / "x").write_bytes(whole[:length])
        assert read_or_refused(tmp_path / "x") is None


def test_random_bytes_are_refused(tmp_path):
    draw = random.Random(0)
    for length in [1, 2, 8, 9, 100, 10_000] * 50:
        (tmp_path / "x").write_bytes(b"\x80\x04" * draw.randrange(2) + draw.randbytes(length))
        read_or_refused(tmp_path / "x")


def test_random_programs_end(tmp_path):
    """Instructions and hostile pieces in any order: a value or one line, never anything else."""
    draw = random.Random(0)
    pieces = [
        bytes([code]) for code in b"().]}NKa0est12bRQoi\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"
    ]
    pieces += [
        b"K\x01",
        b"h\x00",
        b"h\x01",
        b"q\x00",
        text("a"),
        b"C\x01b",
        CONFIG,
        DTYPE,
        ARRAY,
        storage(4),
        tensor(b"K\x01\x85", b"K\x01\x85"),
    ]
    pieces += [
        name(*dotted.rsplit(".", 1))
        for dotted in ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.Size")
    ]
    pieces += [
        name(*dotted.rsplit(".", 1))
        for dotted in ("numpy.dtype", "_codecs.encode", "torch._utils._rebuild_parameter", "builtins.set")
    ]
    for _ in range(400):
        zipped(tmp_path / "x", pickled(b"".join(draw.choices(pieces, k=draw.randrange(1, 25)))))
        read_or_refused(tmp_path / "x")


@pytest.mark.parametrize(
    "file", PUBLISHED or [None], ids=lambda file: str(file and file.relative_to(CHECKPOINTS))
)
def test_published_checkpoints_are_read(file):
    if file is None:
        pytest.skip(
            f"no checkpoints in {CHECKPOINTS}; set GROKINTERP_CHECKPOINTS to a folder of foreign checkpoints"
        )
    if file.suffix == ".safetensors":
        assert same(read_foreign(file), safetensors.torch.load_file(file))
    else:
        assert same(read_foreign(file), plainly(torch.load(file, map_location="cpu", weights_only=True)))


def plainly(value: Any) -> Any:
    """What torch.load gives, in plain dicts, tensors and numbers."""
    if isinstance(value, dict):
        return {key: plainly(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plainly(one) for one in value)
    return value.detach() if isinstance(value, torch.Tensor) else value
