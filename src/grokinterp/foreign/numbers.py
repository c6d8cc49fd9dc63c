"""The tensors and numpy arrays in foreign pickles, built from their parts by code that checks each of them.

Only dense tensors of real numbers, on the CPU; every size, stride and offset is held against the bytes that
are there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .refusals import ENTRY, Budget, Name, Unread, called, damaged, refuse, shown

_DTYPES = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    )
}
_STORED = {
    **{"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8},
    **{"Byte": torch.uint8, "Bool": torch.bool},
}
STORAGES = {
    **{"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8},
    **{
        f"torch.{part}{name}Storage": dtype
        for part in ("", "cuda.", "storage.")
        for name, dtype in _STORED.items()
    },
}

_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")
_NO_NUMBERS = re.compile(r"[mM]8|[SUV]\d{1,9}|[Ofgc]\d{1,2}")
"""Dates, texts, records, objects, complex and long numbers: left unread."""
_OF_NO_NUMBERS = {"M": "datetime64", "m": "timedelta64", "U": "str_", "S": "bytes_", "c": "complex128"}


@dataclass(frozen=True, eq=False)
class Storage:
    """The bytes behind tensors, and the type of number that a tensor of them has unless it says otherwise."""

    data: torch.UntypedStorage
    dtype: torch.dtype


@dataclass(eq=False)
class NumpyType:
    """The type of number of a numpy array, and how its bytes are ordered."""

    code: str
    order: str = "="

    @property
    def is_no_number(self) -> bool:
        """Whether it is of dates, texts and the like."""
        return _NUMBERS.fullmatch(self.code) is None

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


Fetch = Callable[[str, int, int], torch.UntypedStorage]
"""Key, how many numbers, bytes of each -> the storage that stands beside the pickle."""


class Numbers:
    """Builds the tensors and arrays of one file."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._unfilled: dict[int, Tensor] = {}
        self._of_no_numbers: dict[int, tuple[Tensor, Unread]] = {}
        self.calls: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_dtype,
            "torch._utils._rebuild_parameter": parameter,
            "torch._utils._rebuild_parameter_with_state": parameter,
            "torch.Size": sizes,
            "numpy._core.multiarray._reconstruct": self._empty_array,
            "numpy._core.multiarray.scalar": self._number,
            "numpy._core.numeric._frombuffer": self._array,
            "numpy.dtype": self._numpy_type,
        }

    def fill(self, target: Any, state: Any) -> bool:
        """Gives a numpy array or type its content; False where the target is neither."""
        if type(target) is NumpyType:
            is_plain = type(state) is tuple and len(state) >= 5 and state[2:5] == (None, None, None)
            if target.is_no_number:
                return True
            if not is_plain or len(state) >= 9 or state[1] not in ("<", ">", "|", "="):
                refuse("it holds a numpy array of something other than plain numbers")
            target.order = state[1]
        elif id(target) in self._unfilled:
            if type(state) is not tuple or len(state) != 5:
                damaged("a numpy array has no content")
            _, shape, dtype, fortran, raw = state
            array = self._array(raw, dtype, shape, "F" if fortran else "C")
            if isinstance(array, Unread):
                self._of_no_numbers[id(target)] = target, array
                self._unfilled.pop(id(target))
            else:
                self._unfilled.pop(id(target)).data = array
        else:
            return False
        return True

    def settled(self, value: Any) -> Any:
        """The value, or what stands for an array that turned out to be none of numbers."""
        return self._of_no_numbers[id(value)][1] if id(value) in self._of_no_numbers else value

    def finish(self) -> None:
        """Raises where an array was begun and never filled."""
        if self._unfilled:
            damaged("a numpy array has no content")

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any = 0, hooks: Any = None, *more: Any
    ) -> Tensor:
        return self._view(storage, None, offset, size, stride, *more)

    def _tensor_of_dtype(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
    ) -> Tensor:
        if type(dtype) is not str or dtype not in _DTYPES:
            refuse(f"it holds a tensor of {called(dtype)}, and only dense tensors of real numbers are read")
        return self._view(storage, _DTYPES[dtype], offset, size, stride, *more)

    def _view(
        self,
        storage: Any,
        dtype: torch.dtype | None,
        offset: Any,
        size: Any,
        stride: Any,
        metadata: Any = None,
    ) -> Tensor:
        """A tensor of these numbers; without a dtype of its own of those that its storage has."""
        if type(storage) is not Storage:
            damaged("a tensor has no storage")
        if metadata:
            refuse("it holds a tensor that is to be negated or conjugated when it is read")
        dtype = dtype or storage.dtype
        size, stride, (offset,) = sizes(size), sizes(stride), sizes((offset,))
        count = math.prod(size)
        self._budget.spend(count * dtype.itemsize + ENTRY)
        if count == 0:
            return torch.empty(size, dtype=dtype)
        reach = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if reach * dtype.itemsize > storage.data.nbytes():
            damaged(f"a tensor of shape {shown(size)} reaches beyond the end of its storage")
        return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)

    def _numpy_type(self, code: Any, *_: Any) -> NumpyType:
        if type(code) is Unread:  # of a record
            return NumpyType("V0")
        if type(code) is not str or not (_NUMBERS.fullmatch(code) or _NO_NUMBERS.fullmatch(code)):
            refuse(f"it holds a numpy array of {called(code)}, and only arrays of plain numbers are read")
        return NumpyType(code)

    def _number(self, dtype: Any, raw: Any) -> Any:
        if type(dtype) is NumpyType and dtype.is_no_number:
            return Unread(f"numpy.{_OF_NO_NUMBERS.get(dtype.code[0], 'generic')}", is_made=True)
        return self._numbers(raw, dtype, (), "C").item()

    def _empty_array(self, cls: Any, *_: Any) -> Tensor | Unread:
        if type(cls) is Unread:
            return Unread(cls.dotted, is_made=True)
        if type(cls) is not Name or cls.dotted != "numpy.ndarray":
            refuse(f"it holds a numpy array of class {called(cls)}")
        tensor = torch.empty(0)
        self._unfilled[id(tensor)] = tensor
        return tensor

    def _array(self, raw: Any, dtype: Any, shape: Any, order: Any) -> Tensor | Unread:
        if type(dtype) is NumpyType and dtype.is_no_number:
            return Unread("numpy.ndarray", is_made=True)
        array = self._numbers(raw, dtype, shape, order)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))

    def _numbers(self, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        # Python 2 wrote bytes as text.
        raw = raw.encode("latin-1") if type(raw) is str else raw
        if type(dtype) is not NumpyType or type(raw) not in (bytes, bytearray):
            refuse("it holds a numpy array of something other than plain numbers")
        kind, shape = dtype.numpy(), sizes(shape)
        self._budget.spend(len(raw))
        if math.prod(shape) * kind.itemsize != len(raw):
            damaged(f"a numpy array of shape {shown(shape)} has {len(raw)} bytes")
        return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def storage_of(kind: Any, key: Any, count: Any, fetch: Fetch) -> Storage:
    """The storage of `count` numbers of that kind that stands beside the pickle under `key`."""
    if type(kind) is not Name or kind.dotted not in STORAGES:
        refuse(f"it holds a storage of {called(kind)}")
    dtype = STORAGES[kind.dotted]
    if type(key) is not str:
        damaged("a storage has no key")
    (count,) = sizes((count,))
    return Storage(fetch(key, count, dtype.itemsize), dtype)


def parameter(data: Any, *_: Any) -> Tensor:
    """The tensor of a parameter."""
    if type(data) is not Tensor:
        damaged("a parameter has no tensor")
    return data


def sizes(values: Any) -> tuple[int, ...]:
    """Sizes, strides and offsets as they can occur: at most 64 integers from 0 to 2^62."""
    are_few = type(values) is tuple and len(values) <= 64
    if not are_few or not all(type(n) is int and 0 <= n < 1 << 62 for n in values):
        damaged("a tensor has an impossible size, stride or offset")
    return values
