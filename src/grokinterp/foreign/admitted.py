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

from .numbers import STORAGES, Numbers, Storage, parameter
from .refusals import ENTRY, Budget, Name, Unread, called, damaged, refuse, shown

_DTYPE_NAMES = {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_TYPES = {
    *("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"),
    *(f"builtins.{name}" for name in ("object", "int", "float", "bool", "str", "list", "dict", "set")),
}
"""Classes that pickles mention beside what they build, and that stand for nothing by themselves."""

_RENAMED = {
    **{"__builtin__.": "builtins.", "copy_reg.": "copyreg."},
    **{"numpy.core.": "numpy._core.", "pathlib._local.": "pathlib."},
}
_NAMESPACES = {"types.SimpleNamespace", "argparse.Namespace"}
_LENSES = ("transformer_lens.", "easy_transformer.")
_PLAIN = (str, int, float, bool)
_LEFT_UNREAD = re.compile(
    r"torch\.(optim|nn\.modules|nn\.functional|amp|cuda\.amp|utils\.data)\.|torch\._C\.Generator$|"
    r"numpy\.random\.|builtins\.(complex|slice|range)$|(datetime|decimal|fractions|uuid|zoneinfo|enum|dataclasses)\.[\w.]+$|"
    r"collections\.deque$"
)
"""What of torch, numpy and the standard library stands beside weights and is left unread: optimisers,
schedules, losses, dates, generators of random numbers."""
_CONFIGURATION = re.compile(r"config|cfg|args|params|settings|options|namespace", re.IGNORECASE)


@dataclass
class Record:
    """An object of a foreign class as data: the class's dotted name, never imported, and its fields."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


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
    """Whether this names a configuration: TransformerLens's, a namespace, or that of a stranger's module."""
    if dotted in _NAMESPACES or dotted.startswith(_LENSES):
        return True
    module, _, name = dotted.rpartition(".")
    return _is_strange(module) and _CONFIGURATION.search(name) is not None


def _is_strange(module: str) -> bool:
    """Whether a module is neither of the standard library nor torch's or numpy's."""
    return module.split(".")[0] not in {*sys.stdlib_module_names, "torch", "numpy"}


def _is_left_unread(dotted: str, is_called: bool = False) -> bool:
    """Whether an object of this class, or a function of this name, may stand beside weights, unread. Of what
    a file asks to call, as it does functions, only names that are written like those of classes."""
    module, _, name = dotted.rpartition(".")
    if _is_strange(module):
        return not is_called or name[:1].isupper()
    return _LEFT_UNREAD.match(dotted) is not None


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
            "_codecs.encode": self._latin1,
            "copyreg._reconstructor": self._reconstructed,
            "pathlib.PosixPath": self._path,
            "pathlib.WindowsPath": self._path,
        }

    def named(self, module: str, name: str) -> Any:
        """What `module.name` stands for: a `Name`, a text for a type of number, or what is left unread.

        Raises:
            GrokinterpError: it is not admitted; the message names it.
            ValueError: it cannot be a name.
        """
        dotted = f"{module}.{name}"
        for old, new in _RENAMED.items():
            if dotted.startswith(old):
                dotted = new + dotted.removeprefix(old)
        if not all(part.isidentifier() for part in dotted.split(".")):
            raise ValueError(f"{shown(dotted)} is no name")
        if dotted in _DTYPE_NAMES:
            return dotted
        if dotted in self._calls or dotted in STORAGES or dotted in _TYPES or is_record(dotted):
            return Name(dotted)
        if _is_left_unread(dotted):
            return Unread(dotted)
        if re.match(r"torch\._utils\._rebuild|torch\..*Storage$", dotted):
            what = f"a tensor that needs {shown(dotted)}"
            refuse(f"it holds {what}, and only dense tensors of real numbers are read")
        _no_part("asks to run", shown(dotted))

    def call(self, callee: Any, args: Any) -> Any:
        """What the call builds. `callee` is a `Name`, or refused."""
        if type(callee) is Unread and type(args) is tuple and _is_left_unread(callee.dotted, is_called=True):
            return callee
        if type(callee) is not Name or type(args) is not tuple:
            _no_part("asks to run", called(callee))
        if callee.dotted in self._calls:
            return self._calls[callee.dotted](*args)
        if is_record(callee.dotted):
            if not args:
                return Record(callee.dotted)
            # A member of an enumeration is its class, called with the value.
            if callee.dotted.startswith(_LENSES) and len(args) == 1 and type(args[0]) in _PLAIN:
                return args[0]
        _no_part("asks to run", shown(callee.dotted))

    def new(self, cls: Any, args: Any) -> Record | Unread:
        """An empty record of a class of configurations; of another class that may stand beside weights the
        name alone."""
        if type(cls) is Unread:
            return cls
        if type(cls) is not Name or not is_record(cls.dotted):
            _no_part("holds an object of", called(cls))
        if args != ():
            refuse(f"it holds an object of {called(cls)} without the names of its fields")
        return Record(cls.dotted)

    def build(self, target: Any, state: Any) -> None:
        """Gives what was built before its state; only records, numpy arrays and their types take one. That of
        what is left unread is dropped."""
        if type(target) is Unread:
            pass
        elif type(target) is Record:
            target.fields.update(self._fields(target, state))
        elif type(target) is dict and type(state) is dict:
            pass  # attributes of an OrderedDict: torch keeps the versions of modules there
        elif not self._numbers.fill(target, state):
            refuse(f"it asks to set the state of {called(target)}")

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
        return {checked_key(key): value for key, value in pairs}

    def _default_dict(self, factory: Any = None) -> dict[Any, Any]:
        is_type = type(factory) is Name and factory.dotted.startswith("builtins.")
        if factory is not None and not is_type and type(factory) is not Unread:
            refuse(f"it holds a dict whose missing entries are made by {called(factory)}")
        return {}

    def _set(self, items: Any = ()) -> set[Any]:
        if type(items) not in (list, tuple):
            damaged("a set has no elements")
        self._budget.spend(ENTRY * len(items))
        return {checked_key(item) for item in items}

    def _latin1(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            damaged("bytes have an unknown encoding")
        self._budget.spend(len(text))
        return text.encode("latin-1")

    def _reconstructed(self, cls: Any, base: Any, state: Any) -> Record | Unread:
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
