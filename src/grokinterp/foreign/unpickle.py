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
from typing import Any

from torch import Tensor

from .admitted import Admitted, Record, checked_key, key_of_dict, name_of_unread
from .numbers import Fetch, Storage, storage_of
from .refusals import Budget, KeyOfUnread, Name, Unread, damaged, refuse, shown

_DEPTH = 100
_ENTRIES = 10**7
_BITS = 1024
_LEAVES = {str, KeyOfUnread, bytes, int, float, bool, type(None), Tensor, Unread}


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
    if type(value) is Storage:
        return value
    if (dotted := name_of_unread(value)) is not None:
        refuse(f"it is an object of {shown(dotted)}, and no code of its class is run")
    _check_tree(value)
    return value


_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set},
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_OF_ADMITTED = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "BINPERSID"}


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
            self._push(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            if type(argument) is int and argument.bit_length() > _BITS:
                refuse(f"it holds an integer of {argument.bit_length()} bits")
            self._push(argument)
        elif opcode in _OF_ADMITTED:
            self._build(opcode, argument)
        else:
            self._arrange(opcode, argument)

    def _arrange(self, opcode: str, argument: Any) -> None:
        """Moves values between stack and memo, and into lists, tuples, sets and dicts."""
        match opcode:
            case "BINGET" | "LONG_BINGET" | "GET":
                self._push(self._admitted.settled(self._memo[argument]))
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case "MARK":
                self._below.append(self.stack)
                self.stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode[-1])
                if len(self.stack) < length:
                    damaged("its pickle takes more from its stack than is there")
                self.stack[-length:] = [tuple(self.stack[-length:])]
            case "TUPLE":
                self._push(tuple(self._marked()))
            case "LIST":
                self._push(self._marked())
            case "DICT":
                items = self._marked()
                self._push({})
                self._set_items(items)
            case "FROZENSET":
                self._push({checked_key(item, number) for number, item in enumerate(self._marked())})
            case "APPEND":
                items = [self.stack.pop()]
                self._extend(items)
            case "APPENDS":
                self._extend(self._marked())
            case "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._marked())
            case "ADDITEMS":
                items = self._marked()
                entries = self._last(set, "add to")
                entries.update(checked_key(item, number) for number, item in enumerate(items, len(entries)))
            case "DUP":
                self._push(self.stack[-1])
            case "POP" if self.stack:
                self.stack.pop()
            case "POP" | "POP_MARK":
                self._marked()
            case "PROTO" | "FRAME":
                pass
            case _:
                refuse(f"it uses the pickle instruction {opcode}, which no checkpoint needs")

    def _build(self, opcode: str, argument: Any) -> None:
        """Has built what the pickle names."""
        match opcode:
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                self._push(self._admitted.named(module, name))
            case "STACK_GLOBAL":
                name, module = self.stack.pop(), self.stack.pop()
                if type(name) is not str or type(module) is not str:
                    refuse(f"it asks to run something named by a {type(name).__name__}")
                self._push(self._admitted.named(module, name))
            case "REDUCE":
                args, callee = self.stack.pop(), self.stack.pop()
                self._push(self._admitted.call(callee, args))
            case "NEWOBJ":
                args, cls = self.stack.pop(), self.stack.pop()
                self._push(self._admitted.new(cls, args))
            case "NEWOBJ_EX" if type(self.stack[-3]) is Unread:
                self.stack.pop()
                args, cls = self.stack.pop(), self.stack.pop()
                self._push(self._admitted.new(cls, args))
            case "BUILD":
                state = self.stack.pop()
                self.stack[-1] = self._admitted.build(self.stack[-1], state)
            case "BINPERSID":
                self._push(self._storage(self.stack.pop()))
            case _:
                refuse(f"it uses the pickle instruction {opcode}, which no checkpoint needs")

    def _storage(self, pid: Any) -> Storage | Unread:
        """The storage that is named ("storage", type, key, device, count), as torch.save writes it; old
        versions add a view, None. Before 1.6 the class of a module stood there too, beside its source."""
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and type(pid[1]) is Unread:
            return pid[1]
        is_named = type(pid) is tuple and len(pid) in (5, 6) and pid[0] == "storage"
        if self._fetch is None or not is_named or pid[5:] not in ((), (None,)):
            refuse("it refers to something outside of it that is no storage of a tensor")
        _, kind, key, _, count = pid[:5]
        return storage_of(kind, key, count, self._fetch)

    def _push(self, value: Any) -> None:
        # The stack as it is after the value was made, which may take off what stands above a mark.
        self.stack.append(value)

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark, taken off with it."""
        items, self.stack = self.stack, self._below.pop()
        return items

    def _last(self, kind: type, to_do: str) -> Any:
        """What stands on top of the stack, which has to be of that kind."""
        if type(self.stack[-1]) is not kind:
            refuse(f"it asks to {to_do} a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not Unread:
            self._last(list, "append to").extend(items)

    def _set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is Unread:
            return
        entries = self._last(dict, "set items of")
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[key_of_dict(key, len(entries))] = value


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
    is_known = type(node) in (list, tuple, set, dict, Record) or _is_leaf(node)
    if not is_known:
        what = shown(node.dotted) if type(node) is Name else f"a bare {type(node).__name__}"
        refuse(f"it holds {what} as a value")
    return [part for part in _parts(node) if not _is_leaf(part)]


def _is_leaf(node: Any) -> bool:
    return type(node) in _LEAVES or name_of_unread(node) is not None
