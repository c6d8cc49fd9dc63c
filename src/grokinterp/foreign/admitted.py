"""What the names in a stranger's pickle stand for: a short list of things that can be built, each by a
function of our own.

Nothing is ever looked up in a module, so a name that is not listed here has no meaning at all. Classes of
configurations become `Record`s: their name and their fields, without any of their code. Knows nothing of
files and opcodes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from .names import LENSES, is_left_unread, is_made_unread, is_record, renamed
from .numbers import STORAGES, Numbers, NumpyType, Storage, parameter
from .refusals import ENTRY, Budget, KeyOfUnread, Name, Unread, called, damaged, refuse, shown

_DTYPE_NAMES = {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_TYPES = {
    *("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"),
    *(f"builtins.{name}" for name in ("object", "int", "float", "bool", "str", "list", "dict", "set")),
}
"""Classes that pickles mention beside what they build."""

_PLAIN = (str, int, float, bool)


@dataclass
class Record:
    """An object of a foreign class as data: the class's dotted name, never imported, and its fields."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


def key_of_dict(key: Any, number: int) -> Any:
    """A key of a dict, with its number among the keys. An optimiser's state has parameters as its keys."""
    return f"(Tensor {number})" if type(key) is Tensor else checked_key(key, number)


def checked_key(key: Any, number: int) -> Any:
    """An element of a set, or a key of a dict, that is hashed in a moment: no nested tuple, no giant integer.
    What was not built gets a text in its place, with its number among them."""
    parts = key if type(key) is tuple and len(key) <= 16 else (key,)
    if unread := [part for part in parts if type(part) is Unread]:
        return KeyOfUnread(unread[0].dotted, number)
    for part in parts:
        if part is not None and type(part) not in (str, KeyOfUnread, bytes, int, float, bool):
            refuse(f"it has a {type(part).__name__} as the key of a dict")
        # Multiples of this prime all hash alike, which makes a dict of them take for ever.
        if type(part) is int and abs(part) >= sys.hash_info.modulus:
            refuse("it has an integer of more than 60 bits as the key of a dict")
    return key


def name_of_unread(value: Any) -> str | None:
    """The name of what stands for nothing by itself: an object that was left unread, a class, a type of
    number, bytes that no tensor has; None for what is data."""
    match value:
        case Unread():
            return value.dotted
        case Name() if (
            value.dotted.startswith("builtins.") or value.dotted in _TYPES or is_record(value.dotted)
        ):
            return value.dotted
        case NumpyType():
            return "numpy.dtype"
        case Storage():
            return "torch.UntypedStorage"
    return "builtins.bytearray" if type(value) is bytearray else None


class Admitted:
    """Builds what one pickle asks for, as far as it is admitted."""

    def __init__(self, budget: Budget, nested: Callable[[bytes], Any]) -> None:
        """`nested` reads the bytes of a storage that stands inside the pickle as a file of its own."""
        self._budget = budget
        self._nested = nested
        self._numbers = Numbers(budget)
        self._calls: dict[str, Callable[..., Any]] = {
            **self._numbers.calls,
            "torch._tensor._rebuild_from_type_v2": self._subclass,
            "torch.storage._load_from_bytes": self._storage_in_bytes,
            "torch.device": self._device,
            "collections.OrderedDict": self._dict,
            "collections.defaultdict": self._default_dict,
            "collections.Counter": self._dict,
            "builtins.dict": self._dict,
            "builtins.set": self._set,
            "builtins.frozenset": self._set,
            "builtins.bytes": lambda: b"",  # which is how old pickles write empty bytes
            "builtins.bytearray": self._bytearray,
            "builtins.getattr": self._attribute,
            "_codecs.encode": self._latin1,
            "copyreg._reconstructor": self._reconstructed,
            "pathlib.PosixPath": self._path,
            "pathlib.WindowsPath": self._path,
            "pathlib.PurePosixPath": self._path,
            "pathlib.PureWindowsPath": self._path,
        }

    def named(self, module: str, name: str) -> Any:
        """What `module.name` stands for: a `Name`, a text for a type of number, or what is left unread.

        Raises:
            GrokinterpError: it is not admitted; the message names it.
            ValueError: it cannot be a name.
        """
        dotted = renamed(f"{module}.{name}")
        if not all(part.isidentifier() for part in dotted.split(".")):
            raise ValueError(f"{shown(dotted)} is no name")
        if dotted in _DTYPE_NAMES:
            return dotted
        if dotted in self._calls or dotted in STORAGES or dotted in _TYPES or is_record(dotted):
            return Name(dotted)
        if re.match(r"torch\._utils\._rebuild|torch\..*Storage$", dotted):
            what = f"a tensor that needs {shown(dotted)}"
            refuse(f"it holds {what}, and only dense tensors of real numbers are read")
        if is_left_unread(dotted):
            return Unread(dotted)
        _no_part("asks to run", shown(dotted))

    def call(self, callee: Any, args: Any) -> Any:
        """What the call builds. `callee` is a `Name`, or refused."""
        if type(callee) is Unread and type(args) is tuple and self._may_be_called(callee, args):
            of_class = args[0].dotted if args and type(args[0]) is Unread else ""
            is_new = callee.dotted == "functools.partial" and of_class.endswith(".__new__")
            return Unread(of_class if is_new else callee.dotted.removesuffix(".__new__"), is_made=True)
        if type(callee) is not Name or type(args) is not tuple:
            _no_part("asks to run", called(callee))
        if callee.dotted in self._calls:
            return self._calls[callee.dotted](*args)
        if is_record(callee.dotted):
            if not args:
                return Record(callee.dotted)
            # A member of an enumeration is its class, called with the value.
            if callee.dotted.startswith(LENSES) and len(args) == 1 and type(args[0]) in _PLAIN:
                return args[0]
        _no_part("asks to run", shown(callee.dotted))

    def _may_be_called(self, callee: Unread, args: tuple[Any, ...]) -> bool:
        """Whether what this makes may be left unread. What was made is called by no honest file, but for the
        `__new__` of a class with its arguments by name, as old pickles write it."""
        if callee.is_made:
            return callee.dotted.endswith(".__new__") and args == ()
        return is_made_unread(callee.dotted)

    def new(self, cls: Any, args: Any) -> Record | Unread:
        """An empty record of a class of configurations; of another class that may stand beside weights the
        name alone."""
        if type(cls) is Unread:
            return Unread(cls.dotted, is_made=True)
        if type(cls) is not Name or not is_record(cls.dotted):
            _no_part("holds an object of", called(cls))
        if args != ():
            refuse(f"it holds an object of {called(cls)} without the names of its fields")
        return Record(cls.dotted)

    def build(self, target: Any, state: Any) -> Any:
        """What was built before, given its state; only records, numpy arrays and their types take one. What
        is given to what is left unread is dropped."""
        if type(target) is Unread:
            pass
        elif type(target) is Record:
            target.fields.update(self._fields(target, state))
        elif type(target) is dict and type(state) is dict:
            pass  # attributes of an OrderedDict: torch keeps the versions of modules there
        elif not self._numbers.fill(target, state):
            refuse(f"it asks to set the state of {called(target)}")
        return self.settled(target)

    def settled(self, value: Any) -> Any:
        """What is known by now to stand there."""
        return self._numbers.settled(value)

    def finish(self) -> None:
        """Raises where something was begun and never filled."""
        self._numbers.finish()

    def _fields(self, target: Record, state: Any) -> dict[str, Any]:
        """The fields in a state: a dict, or a pair of dicts where the class has slots."""
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        fields: dict[str, Any] = {}
        for part in parts:
            if part is None:
                continue
            if type(part) is not dict or not all(type(key) is str for key in part):
                refuse(f"it holds an object of {shown(target.name)} without the names of its fields")
            self._budget.spend(ENTRY * len(part))
            fields |= part
        return fields

    def _subclass(self, function: Any, cls: Any, args: Any, state: Any) -> Tensor:
        if type(cls) is not Name or not cls.dotted.startswith("torch.") or cls.dotted not in _TYPES:
            refuse(f"it holds a tensor of class {called(cls)}")
        return parameter(self.call(function, args))

    def _storage_in_bytes(self, raw: Any) -> Storage:
        if type(raw) is not bytes:
            damaged("a storage has no bytes")
        self._budget.spend(len(raw))
        storage = self._nested(raw)
        if type(storage) is not Storage:
            refuse("it holds another checkpoint where the numbers of a tensor should be")
        return storage

    def _device(self, kind: Any, index: Any = None) -> str:
        if type(kind) is not str or type(index) not in (int, type(None)):
            damaged("a device has no name")
        return kind if index is None else f"{kind}:{index}"

    def _dict(self, items: Any = ()) -> dict[Any, Any]:
        if type(items) not in (dict, list, tuple):
            damaged("a dict has no items")
        self._budget.spend(ENTRY * len(items))
        pairs = items.items() if type(items) is dict else items
        if not all(type(pair) in (tuple, list) and len(pair) == 2 for pair in pairs):
            damaged("an item of a dict is no pair")
        return {key_of_dict(key, number): value for number, (key, value) in enumerate(pairs)}

    def _default_dict(self, factory: Any = None) -> dict[Any, Any]:
        if factory is not None and type(factory) not in (Name, Unread):
            refuse(f"it holds a dict whose missing entries are made by {called(factory)}")
        return {}

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple):
            damaged("a set has no elements")
        self._budget.spend(ENTRY * len(items))
        return {checked_key(item, number) for number, item in enumerate(items)}

    def _latin1(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            damaged("bytes have an unknown encoding")
        self._budget.spend(len(text))
        return text.encode("latin-1")

    def _bytearray(self, content: Any = b"", encoding: Any = "latin-1") -> bytearray:
        raw = self._latin1(content, encoding) if type(content) is str else content
        if type(raw) not in (bytes, bytearray):
            damaged("an array of bytes has none")
        self._budget.spend(len(raw))
        return bytearray(raw)

    def _attribute(self, of: Any, name: Any) -> Unread:
        """The name of what stands in a class: a member of an enumeration, a function."""
        if type(of) not in (Name, Unread) or type(name) is not str or not name.isidentifier():
            _no_part("asks to run", "getattr")
        dotted = f"{of.dotted}.{name}"
        if not is_left_unread(dotted) and not is_record(of.dotted):
            _no_part("asks to run", shown(dotted))
        return Unread(dotted)

    def _reconstructed(self, cls: Any, base: Any, state: Any) -> Record | Unread:
        if type(cls) is Unread and type(base) in (Name, Unread):
            return self.new(cls, ())
        if type(base) is not Name or base.dotted != "builtins.object" or state is not None:
            _no_part("holds an object of", called(cls))
        return self.new(cls, ())

    def _path(self, *parts: Any) -> str:
        if not all(type(part) is str for part in parts):
            damaged("a path is no text")
        self._budget.spend(sum(map(len, parts)))
        return "/".join(parts).replace("//", "/", 1)


def _no_part(does: str, what: str) -> NoReturn:
    refuse(f"it {does} {what}, which is no part of a checkpoint")
