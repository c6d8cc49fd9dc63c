"""What the names in a stranger's pickle stand for: a short list of things that can be built, each by a function of our own.

Nothing is ever looked up in a module, so a name that is not listed here has no meaning at all. Classes of configurations become
`Record`s: their name and their fields, without any of their code. Knows nothing of files and opcodes.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ..errors import GrokinterpError

REMEDY = "ask its author for a safetensors file"

_REAL = ("float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool").split()
_DTYPES = {f"torch.{name}": getattr(torch, name) for name in _REAL}
_DTYPE_NAMES = {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORED = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in _STORED.items()}
_STORAGES |= {f"torch.{part}.{name}Storage": dtype for part in ("cuda", "storage") for name, dtype in _STORED.items()}
_STORAGES |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}

_TYPES = {"numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"} | {
    f"builtins.{name}" for name in ("object", "int", "float", "bool", "str", "list", "dict", "set")
}
"""Classes that pickles mention beside what they build, and that stand for nothing by themselves."""

_RENAMED = (("__builtin__.", "builtins."), ("copy_reg.", "copyreg."), ("numpy.core.", "numpy._core."))

_NAMESPACES = {"types.SimpleNamespace", "argparse.Namespace"}
_LENSES = ("transformer_lens.", "easy_transformer.")
_CONFIGURATION = re.compile(r"config|cfg|args|params|settings|options|namespace", re.IGNORECASE)
_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")
_ENTRY = 100
"""Bytes of memory, about, of one entry of a list or dict."""


@dataclass
class Record:
    """An object of a foreign class as data: the class's dotted name, never imported, and the fields that it had."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Name:
    """A name that a pickle mentions; it can be called or built only through `Admitted`."""

    dotted: str


@dataclass(frozen=True, eq=False)
class Storage:
    """The bytes behind tensors, and the type of number that a tensor of them has unless it says otherwise."""

    data: torch.UntypedStorage
    dtype: torch.dtype


@dataclass(eq=False)
class _NumpyType:
    code: str
    order: str = "="

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


Fetch = Callable[[str, int, int], torch.UntypedStorage]
"""Key, how many numbers, bytes of each -> the storage that stands beside the pickle."""


class Budget:
    """What reading one file may cost: bytes of memory, and instructions."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.bytes = limit
        # An instruction of one byte makes at most an empty set, of about 200 bytes.
        self.steps = min(10**7, int(limit / 256))

    def spend(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            too_large(self.limit)


def too_large(limit: float) -> NoReturn:
    raise GrokinterpError(f"it would unpack to more than the {limit / 1e9:.3g} GB that it may take: free some memory, or {REMEDY}")


def refuse(what: str) -> NoReturn:
    raise GrokinterpError(f"{what}; nothing was executed: {REMEDY}")


def damaged(what: str) -> NoReturn:
    raise GrokinterpError(f"it is damaged: {what}; fetch it again, or {REMEDY}")


def shown(text: object, most: int = 80) -> str:
    """The text, safe to print on a terminal whatever a stranger put into it."""
    text = str(text)
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() else ascii(text)[1:-1]


def checked_key(key: Any) -> Any:
    """A key of a dict, or element of a set, that is hashed in a moment: no nested tuple, no giant integer."""
    parts = key if type(key) is tuple and len(key) <= 16 else (key,)
    for part in parts:
        if part is not None and type(part) not in (str, bytes, int, float, bool):
            refuse(f"it has a {type(part).__name__} as the key of a dict")
        # Multiples of this prime all hash alike, which makes a dict of them take for ever.
        if type(part) is int and abs(part) >= sys.hash_info.modulus:
            refuse("it has an integer of more than 60 bits as the key of a dict")
    return key


def is_record(dotted: str) -> bool:
    """Whether the name is that of a configuration: of TransformerLens, a plain namespace, or of a stranger's own module."""
    name = dotted.rpartition(".")[2]
    top = dotted.split(".")[0]
    own = top not in sys.stdlib_module_names and top not in ("torch", "numpy")
    return dotted in _NAMESPACES or dotted.startswith(_LENSES) or (own and _CONFIGURATION.search(name) is not None)


class Admitted:
    """Builds what one pickle asks for, as far as it is admitted.

    `nested` reads the bytes of a storage that stands inside the pickle as a file of its own.
    """

    def __init__(self, budget: Budget, nested: Callable[[bytes], Any]) -> None:
        self._budget = budget
        self._nested = nested
        self._unfilled: dict[int, Tensor] = {}
        self._calls: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_dtype,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch._utils._rebuild_parameter_with_state": self._parameter,
            "torch._tensor._rebuild_from_type_v2": self._subclass,
            "torch.storage._load_from_bytes": self._storage_in_bytes,
            "torch.Size": self._size,
            "torch.device": self._device,
            "numpy._core.multiarray._reconstruct": self._empty_array,
            "numpy._core.multiarray.scalar": self._number,
            "numpy._core.numeric._frombuffer": self._array,
            "numpy.dtype": self._numpy_type,
            "collections.OrderedDict": self._dict,
            "collections.defaultdict": self._default_dict,
            "collections.Counter": self._dict,
            "builtins.dict": self._dict,
            "builtins.set": self._set,
            "builtins.frozenset": self._set,
            "builtins.bytes": bytes_of_nothing,
            "_codecs.encode": self._latin1,
            "copyreg._reconstructor": self._reconstructed,
            "pathlib.PosixPath": self._path,
            "pathlib.WindowsPath": self._path,
        }

    def named(self, module: str, name: str) -> Any:
        """What `module.name` stands for: a `Name`, or a text for a type of number.

        Raises:
            GrokinterpError: it is not admitted; the message names it.
            ValueError: it cannot be a name.
        """
        dotted = f"{module}.{name}"
        for old, new in _RENAMED:
            if dotted.startswith(old):
                dotted = new + dotted.removeprefix(old)
        if not all(part.isidentifier() for part in dotted.split(".")):
            raise ValueError(f"{shown(dotted)} is no name")
        if dotted in _DTYPE_NAMES:
            return dotted
        if dotted in self._calls or dotted in _STORAGES or dotted in _TYPES or is_record(dotted):
            return Name(dotted)
        if dotted.startswith("torch._utils._rebuild") or (dotted.startswith("torch.") and dotted.endswith("Storage")):
            refuse(f"it holds a tensor that needs {shown(dotted)}, and only dense tensors of real numbers are read")
        refuse(f"it asks to run {shown(dotted)}, which is no part of a checkpoint")

    def call(self, callee: Any, args: Any) -> Any:
        """What the call builds. `callee` is a `Name`, or refused."""
        if type(callee) is not Name or type(args) is not tuple:
            refuse(f"it asks to run a {type(callee).__name__}, which is no part of a checkpoint")
        if callee.dotted in self._calls:
            return self._calls[callee.dotted](*args)
        if is_record(callee.dotted):
            if not args:
                return Record(callee.dotted)
            # A member of an enumeration is its class, called with the value.
            if callee.dotted.startswith(_LENSES) and len(args) == 1 and type(args[0]) in (str, int, float, bool):
                return args[0]
        refuse(f"it asks to run {shown(callee.dotted)}, which is no part of a checkpoint")

    def new(self, cls: Any, args: Any) -> Record:
        """An empty record of a class of configurations."""
        if type(cls) is not Name or not is_record(cls.dotted):
            refuse(f"it holds an object of {_called(cls)}, which is no part of a checkpoint")
        if args != ():
            refuse(f"it holds an object of {_called(cls)} without the names of its fields")
        return Record(cls.dotted)

    def build(self, target: Any, state: Any) -> None:
        """Gives what was built before its state; only records, numpy arrays and their types take one."""
        if type(target) is Record:
            target.fields.update(self._fields(target, state))
        elif type(target) is dict and type(state) is dict:
            pass  # attributes of an OrderedDict: torch keeps the versions of modules there
        elif type(target) is _NumpyType:
            if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
                refuse("it holds a numpy array of something other than plain numbers")
            target.order = state[1]
        elif id(target) in self._unfilled:
            if type(state) is not tuple or len(state) != 5:
                damaged("a numpy array has no content")
            _, shape, dtype, fortran, raw = state
            self._unfilled.pop(id(target)).data = self._array(raw, dtype, shape, "F" if fortran else "C")
        else:
            refuse(f"it asks to set the state of {_called(target)}")

    def finish(self) -> None:
        """Raises where something was begun and never filled."""
        if self._unfilled:
            damaged("a numpy array has no content")

    def storage(self, kind: Any, key: Any, count: Any, fetch: Fetch) -> Storage:
        """The storage of `count` numbers of that kind that stands beside the pickle under `key`."""
        if type(kind) is not Name or kind.dotted not in _STORAGES:
            refuse(f"it holds a storage of {_called(kind)}")
        dtype = _STORAGES[kind.dotted]
        if type(key) is not str:
            damaged("a storage has no key")
        (count,) = _sizes((count,))
        return Storage(fetch(key, count, dtype.itemsize), dtype)

    def _fields(self, target: Record, state: Any) -> dict[str, Any]:
        """The fields in a state: a dict, or a pair of dicts where the class has slots."""
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        fields: dict[str, Any] = {}
        for part in parts:
            if part is None:
                continue
            if type(part) is not dict or not all(type(key) is str for key in part):
                refuse(f"it holds an object of {shown(target.name)} without the names of its fields")
            self._budget.spend(_ENTRY * len(part))
            fields |= part
        return fields

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any = False, hooks: Any = None, metadata: Any = None
    ) -> Tensor:
        if type(storage) is not Storage:
            damaged("a tensor has no storage")
        return self._view(storage, storage.dtype, offset, size, stride, metadata)

    def _tensor_of_dtype(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
    ) -> Tensor:
        if type(storage) is not Storage:
            damaged("a tensor has no storage")
        if dtype not in _DTYPES:
            refuse(f"it holds a tensor of {_called(dtype)}, and only dense tensors of real numbers are read")
        return self._view(storage, _DTYPES[dtype], offset, size, stride, metadata)

    def _view(self, storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any, metadata: Any) -> Tensor:
        if metadata:
            refuse("it holds a tensor that is to be negated or conjugated when it is read")
        size, stride, (offset,) = _sizes(size), _sizes(stride), _sizes((offset,))
        count = math.prod(size)
        self._budget.spend(count * dtype.itemsize)
        if count == 0:
            return torch.empty(size, dtype=dtype)
        reach = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if reach * dtype.itemsize > storage.data.nbytes():
            damaged(f"a tensor of shape {shown(size)} reaches beyond the end of its storage")
        return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)

    def _parameter(self, data: Any, *_: Any) -> Tensor:
        if type(data) is not Tensor:
            damaged("a parameter has no tensor")
        return data

    def _subclass(self, function: Any, cls: Any, args: Any, state: Any) -> Tensor:
        if type(cls) is not Name or not cls.dotted.startswith("torch.") or cls.dotted not in _TYPES:
            refuse(f"it holds a tensor of class {_called(cls)}")
        return self._parameter(self.call(function, args))

    def _storage_in_bytes(self, raw: Any) -> Storage:
        if type(raw) is not bytes:
            damaged("a storage has no bytes")
        self._budget.spend(len(raw))
        storage = self._nested(raw)
        if type(storage) is not Storage:
            refuse("it holds another checkpoint where the numbers of a tensor should be")
        return storage

    def _size(self, size: Any = ()) -> tuple[int, ...]:
        return _sizes(tuple(size) if type(size) is list and len(size) <= 64 else size)

    def _device(self, kind: Any, index: Any = None) -> str:
        if type(kind) is not str or type(index) not in (int, type(None)):
            damaged("a device has no name")
        return kind if index is None else f"{kind}:{index}"

    def _numpy_type(self, code: Any, *_: Any) -> _NumpyType:
        if type(code) is not str or not _NUMBERS.fullmatch(code):
            refuse(f"it holds a numpy array of {_called(code)}, and only arrays of plain numbers are read")
        return _NumpyType(code)

    def _number(self, dtype: Any, raw: Any) -> Any:
        return self._numbers(raw, dtype, (), "C").item()

    def _empty_array(self, cls: Any, *_: Any) -> Tensor:
        if type(cls) is not Name or cls.dotted != "numpy.ndarray":
            refuse(f"it holds a numpy array of class {_called(cls)}")
        tensor = torch.empty(0)
        self._unfilled[id(tensor)] = tensor
        return tensor

    def _array(self, raw: Any, dtype: Any, shape: Any, order: Any) -> Tensor:
        array = self._numbers(raw, dtype, shape, order)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))

    def _numbers(self, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        # Python 2 wrote bytes as text.
        raw = raw.encode("latin-1") if type(raw) is str else raw
        if type(dtype) is not _NumpyType or type(raw) not in (bytes, bytearray):
            refuse("it holds a numpy array of something other than plain numbers")
        kind, shape = dtype.numpy(), _sizes(shape)
        self._budget.spend(len(raw))
        if math.prod(shape) * kind.itemsize != len(raw):
            damaged(f"a numpy array of shape {shown(shape)} has {len(raw)} bytes")
        return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")

    def _dict(self, items: Any = ()) -> dict[Any, Any]:
        if type(items) not in (dict, list, tuple):
            damaged("a dict has no items")
        self._budget.spend(_ENTRY * len(items))
        pairs = items.items() if type(items) is dict else items
        if not all(type(pair) in (tuple, list) and len(pair) == 2 for pair in pairs):
            damaged("an item of a dict is no pair")
        return {checked_key(key): value for key, value in pairs}

    def _default_dict(self, factory: Any = None) -> dict[Any, Any]:
        if factory is not None and not (type(factory) is Name and factory.dotted.startswith("builtins.")):
            refuse(f"it holds a dict whose missing entries are made by {_called(factory)}")
        return {}

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple):
            damaged("a set has no elements")
        self._budget.spend(_ENTRY * len(items))
        return {checked_key(item) for item in items}

    def _latin1(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            damaged("bytes have an unknown encoding")
        self._budget.spend(len(text))
        return text.encode("latin-1")

    def _reconstructed(self, cls: Any, base: Any, state: Any) -> Record:
        if type(base) is not Name or base.dotted != "builtins.object" or state is not None:
            refuse(f"it holds an object of {_called(cls)}, which is no part of a checkpoint")
        return self.new(cls, ())

    def _path(self, *parts: Any) -> str:
        if not all(type(part) is str for part in parts):
            damaged("a path is no text")
        self._budget.spend(sum(map(len, parts)))
        return "/".join(parts).replace("//", "/", 1)


def bytes_of_nothing() -> bytes:
    """`bytes()`, which is how old pickles write empty bytes."""
    return b""


def _called(value: Any) -> str:
    """How to name a value in a message."""
    return shown(value.dotted if type(value) is Name else value if type(value) is str else f"a {type(value).__name__}")


def _sizes(values: Any) -> tuple[int, ...]:
    """Sizes, strides and offsets as they can occur: at most 64 integers from 0 to 2^62."""
    if type(values) is not tuple or len(values) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in values):
        damaged("a tensor has an impossible size, stride or offset")
    return values
