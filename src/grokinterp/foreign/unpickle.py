"""Pickles of strangers, read by a machine that can only build data.

A pickle is a program: Python's own unpickler imports what it names and calls it. This machine imports
nothing, calls nothing but what `Admitted` builds, and stops at a budget. Why not
`torch.load(weights_only=True)`: what it admits depends on what the process has declared safe, it allocates
what a file claims, it cannot read configurations, and its legacy branch could once be made to execute code
(CVE-2025-32434).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any, NoReturn

from torch import Tensor

from .admitted import Admitted, Record, checked_key
from .numbers import Fetch, Storage, storage_of
from .refusals import Budget, Name, damaged, refuse, shown

_DEPTH = 100
_ENTRIES = 10**7
_BITS = 1024
_LEAVES = {str, bytes, bytearray, int, float, bool, type(None), Tensor}


def unpickle(stream: BytesIO, admitted: Admitted, budget: Budget, fetch: Fetch | None = None) -> Any:
    """The content of the next pickle of the stream, which is left just after it. It may be a bare `Storage`,
    too.

    Raises:
        GrokinterpError: it asks for something that is not admitted, or costs too much.
        ValueError, TypeError, LookupError: it is no pickle, or a damaged one.
    """
    machine = _Machine(admitted, fetch)
    for opcode, argument, _ in pickletools.genops(stream):
        budget.steps -= 1
        if budget.steps < 0:
            refuse("it has more instructions than any checkpoint")
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    value = machine.stack.pop()
    admitted.finish()
    if type(value) is not Storage:
        _check_tree(value)
    return value


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, admitted: Admitted, fetch: Fetch | None) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._admitted = admitted
        self._fetch = fetch

    def step(self, opcode: str, argument: Any) -> None:
        """Follows one instruction."""
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            if type(argument) is int and argument.bit_length() > _BITS:
                refuse(f"it holds an integer of {argument.bit_length()} bits")
            self.stack.append(argument)
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            refuse(f"it uses the pickle instruction {opcode}, which no checkpoint needs")

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark, taken off with it."""
        items, self.stack = self.stack, self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _get(self, key: int) -> None:
        self.stack.append(self._memo[key])

    def _put(self, key: int) -> None:
        self._memo[key] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _tuple(self, _: Any) -> None:
        items = tuple(self._marked())
        self.stack.append(items)

    def _short_tuple(self, length: int) -> None:
        if len(self.stack) < length:
            damaged("its pickle takes more from its stack than is there")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def _list(self, _: Any) -> None:
        items = self._marked()
        self.stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._marked()
        self.stack.append({})
        self._set_items(items)

    def _frozenset(self, _: Any) -> None:
        items = self._marked()
        self.stack.append({checked_key(item) for item in items})

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self._cannot("append to")
        self.stack[-1].extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_items_marked(self, _: Any) -> None:
        self._set_items(self._marked())

    def _set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            self._cannot("set items of")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][checked_key(key)] = value

    def _add_items(self, _: Any) -> None:
        items = self._marked()
        if type(self.stack[-1]) is not set:
            self._cannot("add to")
        self.stack[-1].update(checked_key(item) for item in items)

    def _cannot(self, do: str) -> NoReturn:
        refuse(f"it asks to {do} a {type(self.stack[-1]).__name__}")

    def _global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self.stack.append(self._admitted.named(module, attribute))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            refuse(f"it asks to run something named by a {type(name).__name__}")
        self.stack.append(self._admitted.named(module, name))

    def _reduce(self, _: Any) -> None:
        args, callee = self.stack.pop(), self.stack.pop()
        self.stack.append(self._admitted.call(callee, args))

    def _new(self, _: Any) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        self.stack.append(self._admitted.new(cls, args))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        self._admitted.build(self.stack[-1], state)

    def _persistent(self, _: Any) -> None:
        """The storage that is named ("storage", type, key, device, count), as torch.save writes it; old
        versions add a view, None."""
        pid = self.stack.pop()
        if (
            self._fetch is None
            or type(pid) is not tuple
            or len(pid) not in (5, 6)
            or pid[0] != "storage"
            or pid[5:] not in ((), (None,))
        ):
            refuse("it refers to something outside of it that is no storage of a tensor")
        _, kind, key, _, count = pid[:5]
        self.stack.append(storage_of(kind, key, count, self._fetch))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._dup,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "FROZENSET": _Machine._frozenset,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items_marked,
    "ADDITEMS": _Machine._add_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
}


def _check_tree(root: Any) -> None:
    """Refuses content that would keep whoever walks through it busy for ever: loops, deep nesting, and lists
    of lists of the same lists.

    A list that stands in ten places is counted ten times, as a walk would meet it. Also refuses what is no
    plain value.
    """
    entries: dict[int, int] = {}
    depth: dict[int, int] = {}
    entered: set[int] = set()
    todo = [root]
    while todo:
        node = todo[-1]
        if id(node) in depth:
            todo.pop()
            continue
        inside = _containers(node)
        if id(node) in entered:
            todo.pop()
            entries[id(node)] = len(_parts(node)) + sum(entries[id(child)] for child in inside)
            depth[id(node)] = 1 + max((depth[id(child)] for child in inside), default=0)
            if depth[id(node)] > _DEPTH:
                refuse(f"it is nested more than {_DEPTH} deep")
            if entries[id(node)] > _ENTRIES:
                refuse("it holds the same lists again and again, so that it never ends")
        else:
            entered.add(id(node))
            if any(id(child) in entered and id(child) not in depth for child in inside):
                refuse("it contains itself")
            todo.extend(inside)


def _parts(node: Any) -> Any:
    """What a value consists of, one level down; keys of dicts are checked already."""
    if type(node) in (list, tuple, set):
        return node
    if type(node) is dict:
        return node.values()
    return node.fields.values() if type(node) is Record else ()


def _containers(node: Any) -> list[Any]:
    """The parts that have parts."""
    if type(node) not in (list, tuple, set, dict, Record) and type(node) not in _LEAVES:
        refuse(
            f"it holds {shown(node.dotted) if type(node) is Name else f'a bare {type(node).__name__}'} as a "
            "value"
        )
    return [part for part in _parts(node) if type(part) not in _LEAVES]
