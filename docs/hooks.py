"""What mkdocs is told of this repository: which files outside docs/ are pages, too, and where links lead.

Every page is written for GitHub, and is read there as it stands. The site also has the README, as its first
page, and the READMEs of the experiments; notebooks become pages with their stored outputs; the tables of the
reference are followed by the docstrings of what they name. A link to a file that the site does not have
becomes its text; one to a file that does not exist is an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "experiments/*/README.md", "experiments/**/*.png"]
"""What the site has of the repository beside docs/."""


def place_on_site(path: str) -> str:
    """Where the site has a file of the repository: `docs/a.md` as a.md, README.md as index.md."""
    if path == "README.md":
        return "index.md"
    path = re.sub(r"^(experiments/\w+)/README\.md$", r"\1.md", path.removeprefix("docs/"))
    return re.sub(r"\.ipynb$", ".md", path)


def on_files(files: Any, config: Any) -> Any:
    """Adds what lies outside docs/, and a page for each notebook."""
    for path in (found for pattern in OUTSIDE for found in sorted(ROOT.glob(pattern))):
        relative = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place_on_site(relative), abs_src_path=str(path)))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page = place_on_site(file.src_uri)
        files.append(File.generated(config, page, content=of_notebook(Path(file.abs_src_path))))
    places = {place_on_site(p.relative_to(ROOT).as_posix()): p for p in ROOT.glob("docs/**/*") if p.is_file()}
    for pattern in OUTSIDE:
        places |= {place_on_site(p.relative_to(ROOT).as_posix()): p for p in ROOT.glob(pattern)}
    config["extra"]["places"] = places
    return files


def of_notebook(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and what each cell put out when it was last executed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "text/html" in data:
                parts.append(f'<div class="output">{"".join(data["text/html"])}</div>')
            else:
                parts.append("```text\n" + "".join(data["text/plain"]).rstrip("\n") + "\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page as Python-Markdown takes it, with links on the site and the docstrings of the reference."""
    uri = page.file.src_uri
    places = config["extra"]["places"]
    out, fenced, before = [], False, ""
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            # How a block is tested (tests/test_docs.py) stands behind its language.
            line = re.sub(r"^(\s*```\w*).*", r"\1", line)
        elif not fenced:
            line = re.sub(
                r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)\s]+)\)",
                lambda link: _linked(link, uri, places),
                line,
            )
            # GitHub begins a list without an empty line before it, and nests it by two or three spaces.
            item = re.match(r"( *)([-*]|\d+\.) ", line)
            if item and before.strip() and not re.match(r" *([-*]|\d+\.) |  ", before):
                out.append("")
            line = _indented(line)
        out.append(line)
        before = line
    text = "\n".join(out) + "\n"
    return with_docstrings(text) if uri == "reference.md" else text


def _indented(line: str) -> str:
    """Four spaces for each level of a list, where GitHub takes two or three."""
    bare = line.lstrip(" ")
    return " " * 4 * ((len(line) - len(bare)) // 2) + bare


def _linked(link: re.Match[str], uri: str, places: dict[str, Path]) -> str:
    """The same link on the site; its text, where the site has no such file."""
    path, _, anchor = link[3].partition("#")
    target = (places[uri].parent / path).resolve()
    if not target.exists():
        raise PluginError(f"{places[uri].relative_to(ROOT)} links {link[3]}, which does not exist")
    place = place_on_site(target.relative_to(ROOT).as_posix())
    if place not in places:
        return link[2]
    relative = os.path.relpath(place, PurePosixPath(uri).parent)
    return f"{link[1]}[{link[2]}]({relative}{'#' * bool(anchor)}{anchor})"


def with_docstrings(text: str) -> str:
    """The reference with the docstring of every name behind the table that has it."""
    return "\n".join(_with_docstrings(text.splitlines())) + "\n"


def path_of(name: str) -> str:
    """Where mkdocstrings finds what `gi.NAME` is; `grokinterp.view` alone would be the module."""
    module = ROOT / "src/grokinterp" / name
    named_alike = module.is_dir() or module.with_suffix(".py").exists()
    return f"grokinterp.{name}.{name}" if named_alike else f"grokinterp.{name}"


def _with_docstrings(lines: list[str]) -> Iterator[str]:
    waiting: list[str] = []
    for line in [*lines, ""]:
        name = re.match(r"\| `gi\.(\w+)` \|", line)
        if name:
            waiting.append(name[1])
        elif waiting:
            yield ""
            for each in waiting:
                yield from (f"::: {path_of(each)}", "")
            waiting = []
        yield line
