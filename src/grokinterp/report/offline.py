"""What the pages share: one HTML file that needs no network and runs no script but its own, by a content security policy."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from .. import __name__ as package


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (resources.files(package) / "report" / name).read_text(encoding="utf-8")


def offline_page(template: str, styles: list[str], scripts: list[str], **content: Any) -> str:
    """A template filled in: `style` and `scripts` are inlined, and `script_hashes` are what its policy allows to run."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset(template)).render(
        style=Markup("".join(styles)),
        scripts=[Markup(text) for text in scripts],
        script_hashes=" ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts),
        **content,
    )


def embedded(json_text: str) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    return Markup(json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
