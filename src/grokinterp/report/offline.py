"""What the pages share: one HTML file that needs no network and runs no script but its own, by a content
security policy."""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..asked import asks_all
from ..runs import Run
from ..runs.files import file_named, folder_named, refuse_unwritable, replace
from ..shown import Shown
from .palette import STYLE

PAGE_ROOM = 4_800_000
"""Bytes that a page with plotly.js has at least: what a disk must have room for before it is worth while to
compute one."""


@asks_all("page")
class Page(Shown, ABC):
    """What is shown as a page and kept as plain values. In a notebook it shows what it found as a table, some
    kilobytes that no front end cuts off; the page itself is a file."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""

    @abstractmethod
    def to_html(self, folder: str | Path | None = None) -> str:
        """The page: self-contained. `folder` is where it will stand, by default that of the run: links to
        other pages of the run lead there."""

    def save_html(self, path: str | Path) -> None:
        """Writes the page, whole or not at all.

        Raises:
            UsageError: the path can be no file.
            WriteFailed: the disk is full or read-only.
        """
        file = file_named(path)
        replace(file, self.to_html(file.parent).encode(), make_folder=True)

    def save_json(self, path: str | Path) -> None:
        """Writes the values, whole or not at all.

        Raises:
            UsageError: the path can be no file.
            WriteFailed: the disk is full or read-only.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        replace(file_named(path), text.encode(), make_folder=True)

    @staticmethod
    def places(folder: str | Path, stem: str, runs: Sequence[Run]) -> tuple[Path, Path]:
        """STEM.html and STEM.json in a directory, where page and values of these runs will go; asked before
        they are computed.

        Raises:
            UsageError: the directory cannot be one, or a file would replace one of a run's own.
            WriteFailed: the disk is full or read-only.
        """
        folder = folder_named(folder)
        page, values = (file_named(folder / f"{stem}.{ending}") for ending in ("html", "json"))
        for run in runs:
            run.refuse_to_overwrite(page)
            run.refuse_to_overwrite(values)
        refuse_unwritable(folder, PAGE_ROOM)
        return page, values


def page_named(path: str | Path, name: str) -> Path:
    """The file that a path means to whoever writes a page: of a directory `name` in it, and with .html behind
    a name without an ending, by which a browser knows what it is.

    Raises:
        UsageError: it can be no file.
    """
    file = file_named(path, name)
    return file if file.suffix else file_named(file.with_suffix(".html"))


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def offline_page(template: str, styles: list[str], scripts: list[str], **content: Any) -> str:
    """A template filled in: `style` and `scripts` are inlined, and `script_hashes` are what its policy allows
    to run."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    return environment.get_template(template).render(
        style=Markup("".join([STYLE, *styles])),
        scripts=[Markup(text) for text in scripts],
        script_hashes=" ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests),
        **content,
    )


def page_of_figures(template: str, *, still: bool = False, **content: Any) -> str:
    """A template filled in, with plotly.js for its figures; without it, and so in a hundredth of the bytes,
    where all of them are `Drawing`s, which stand still."""
    scripts = [asset("page.js")]
    if not still:
        import plotly.offline

        scripts.insert(0, plotly.offline.get_plotlyjs())
    return offline_page(template, [asset("page.css")], scripts, **content)


def embedded(json_text: str) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    return Markup(json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
