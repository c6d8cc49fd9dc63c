"""Files of other people that cannot be read as they are."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch

import grokinterp as gi
from grokinterp.foreign import read_foreign

from .base import World, mistake, with_memory


def weights(w: World) -> dict[str, torch.Tensor]:
    """What a good file holds."""
    return {name: weight.contiguous() for name, weight in w.clock.weights.items()}


def by_torch(w: World) -> Path:
    path = w.new(".pt")
    torch.save(weights(w), path)
    return path


def by_safetensors(w: World) -> Path:
    path = w.new(".safetensors")
    safetensors.torch.save_file(weights(w), path)
    return path


def by_pickle(w: World) -> Path:
    return w.file(pickle.dumps({name: weight.numpy() for name, weight in weights(w).items()}), ".pkl")


def imported(w: World, path: object) -> gi.Run:
    """The run made of a file; what it learned is said, which takes less time."""
    task = {"name": "modular_addition", "p": 13}
    return gi.import_checkpoint(str(path), w.new(), task=task, forensics=False)


def read(w: World, path: object) -> Any:
    """What is in a file, as an import reads it."""
    content = read_foreign(str(path))
    assert content.keys() == weights(w).keys()
    return content


def cut_off(w: World) -> Path:
    return w.file(by_safetensors(w).read_bytes()[:-100], ".safetensors")


def archive(w: World, **members: bytes) -> Path:
    """A zip archive; two underscores stand for the dot of a name, and three for a slash."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name, data in members.items():
            file.writestr(name.replace("___", "/").replace("__", "."), data)
    return w.file(held.getvalue(), ".zip")


def unpacked(w: World, path: Path) -> Path:
    """The one file inside an archive."""
    with zipfile.ZipFile(path) as file:
        return w.file(file.read(file.namelist()[0]), ".pt")


def without_memory(w: World) -> Any:
    with mock.patch("grokinterp.foreign.reader._whole", side_effect=MemoryError):
        return read(w, by_torch(w))


FETCHED = [
    mistake(
        "a file that there is not",
        lambda w: read(w, w.new(".pt")),
        r"check the name and the permissions",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a file that memory does not hold",
        without_memory,
        r"it does not fit into the memory: free some",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a file that is cut off",
        lambda w: read(w, cut_off(w)),
        r"it is damaged \(.*\): fetch it again, or ask its author for a safetensors file",
        lambda w, m: read(w, by_torch(w)),
        lambda w, m: read(w, by_safetensors(w)),
    ),
    mistake(
        "a pickle with something behind it",
        lambda w: read(w, w.file(pickle.dumps({"embed.W_E": 1}) + b"more", ".pkl")),
        r"it is damaged: .*; fetch it again, or ask its author for a safetensors file",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a device",
        lambda w: read(w, "/dev/null"),
        r"name the file with the weights",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "an empty file",
        lambda w: read(w, w.file("")),
        r"it is empty: fetch it again",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a web page",
        lambda w: read(w, w.file("<!DOCTYPE html><html></html>")),
        r"download the file itself, not the page about it",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a pointer of git-lfs",
        lambda w: read(w, w.file("version https://git-lfs.github.com/spec/v1\n")),
        r"run `git lfs pull` where it was cloned, or download the file itself",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "more than may be unpacked",
        lambda w: with_memory("foreign.reader", 1000, lambda: read(w, by_torch(w))),
        r"free some memory, or ask its author for a safetensors file",
        lambda w, m: read(w, by_torch(w)),
    ),
]

OTHER_KINDS = [
    mistake(
        "a compressed file",
        lambda w: read(w, w.file(gzip.compress(by_torch(w).read_bytes()), ".gz")),
        r"a compressed file, .*: unpack it, and name the file inside",
        lambda w, m: read(w, w.file(gzip.decompress(gzip.compress(by_torch(w).read_bytes())), ".pt")),
    ),
    mistake(
        "a TorchScript program",
        lambda w: read(w, archive(w, a___data__pkl=b"x", a___constants__pkl=b"x")),
        r"a TorchScript program, which is no checkpoint: ask its author for the state dict",
        lambda w, m: read(w, by_torch(w)),
    ),
    mistake(
        "a zip archive of a checkpoint",
        lambda w: read(w, archive(w, weights__pt=by_torch(w).read_bytes())),
        r"unpack it and name the file inside, or ask its author for a safetensors file",
        lambda w, m: read(w, unpacked(w, archive(w, weights__pt=by_torch(w).read_bytes()))),
        lambda w, m: read(w, by_safetensors(w)),
    ),
    mistake(
        "a text",
        lambda w: read(w, w.file("weights are here")),
        r"name a file written by torch\.save, pickle or safetensors",
        lambda w, m: read(w, by_torch(w)),
        lambda w, m: read(w, by_pickle(w)),
        lambda w, m: read(w, by_safetensors(w)),
    ),
    mistake(
        "an object that would be executed",
        lambda w: read(w, w.file(pickle.dumps({"weights": Executed()}), ".pkl")),
        r"nothing was executed: ask its author for a safetensors file",
        lambda w, m: read(w, by_safetensors(w)),
    ),
]


class Executed:
    """What a pickle calls a function for."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


FOREIGN = [*FETCHED, *OTHER_KINDS]
