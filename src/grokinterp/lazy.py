"""Packages whose names are loaded when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType


class _Package(ModuleType):
    """Loads a name from its home, and keeps it where a module of the package is called the same: importing
    that would otherwise bind the module to the name."""

    lazy_homes: Mapping[str, str]

    def __getattr__(self, name: str) -> object:
        if name not in self.lazy_homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, alias = self.lazy_homes[name].partition(".")
        value = getattr(import_module(f".{module}", self.__name__), alias or name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in self.lazy_homes and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(self.__dict__["__all__"])


def load_lazily(package: str, names: Mapping[str, str]) -> list[str]:
    """Makes a package load its names when they are first used; the names, sorted, for its `__all__`.

    Args:
        package: its `__name__`.
        names: by their modules in the package, with another name that one has there behind it:
            {"files": "read write", "measures.measured": "measure"}.
    """
    homes = {name: module for module, several in names.items() for name in several.split()}
    made = sys.modules[package]
    made.__dict__["lazy_homes"] = homes
    made.__class__ = _Package
    return sorted(homes)
