"""What has a name in the package, kept in a file beside this one: lists and completion read it, so that they
need neither torch nor the registries.

`python tests/test_index.py` writes it again from the registries, and fails as a test where it is stale. What
a user registers from Python is not in it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KINDS = ("tasks", "presets", "measures", "layouts")
"""What there are lists of."""
FORMATS = ("safetensors", "transformer-lens", "huggingface")
"""What a run can be exported as: `models.exported.FORMATS`, without torch."""
FILE = Path(__file__).with_name("index.json")
_MOST_RUNS = 200
"""Run directories that are offered at most."""
_DEEP = 3
"""How far below a directory its runs are looked for."""


@functools.cache
def index() -> dict[str, Any]:
    """Of each kind the rows of its list: dictionaries of texts, the name first. Under "configurations" that
    of every preset, as TOML."""
    read: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def names(kind: str) -> list[str]:
    """What has a name of that kind, in its order."""
    return [next(iter(row.values())) for row in index()[kind]]


def gathered() -> dict[str, Any]:
    """The content of the index as the registries have it now."""
    from ..importing.mapping import built_in
    from ..measures import MEASURES
    from ..tasks import TASKS, task_parameters
    from ..training import PRESETS, TrainConfig
    from ..training.presets import DEFAULTS, UNTUNED

    tasks = [
        {
            "task": name,
            "parameters": ", ".join(task_parameters(name).model_fields),
            "learns": _in_short(make.__doc__),
            "recipe": str(DEFAULTS.get(name, UNTUNED)),
        }
        for name, make in TASKS.items()
    ]
    measures = [
        {
            "measure": m.name,
            "unit": "; ".join(filter(None, (m.unit, m.in_gauge))),
            "is": _in_short(m.doc),
            "source": m.ref,
        }
        for m in MEASURES.values()
    ]
    layouts = [
        {"layout": name, "tokens": " or ".join(layout.tokens), "is": layout.doc}
        for name, layout in built_in().items()
    ]
    return {
        "tasks": tasks,
        "presets": [{"preset": name, "recipe": preset["doc"]} for name, preset in PRESETS.items()],
        "measures": measures,
        "layouts": layouts,
        "configurations": {name: TrainConfig.preset(name).to_toml() for name in PRESETS},
    }


def text_of(content: dict[str, Any]) -> str:
    """The index as its file has it."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _in_short(text: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


# Completion: what may stand where an unfinished word stands.


def tasks(incomplete: str) -> list[str]:
    """Names of tasks."""
    return _beginning(names("tasks"), incomplete)


def presets(incomplete: str) -> list[str]:
    """Names of presets."""
    return _beginning(names("presets"), incomplete)


def measures(incomplete: str) -> list[str]:
    """Names of measures."""
    return _beginning(names("measures"), incomplete)


def layouts(incomplete: str) -> list[str]:
    """Names of layouts, and "auto"."""
    return _beginning(["auto", *names("layouts")], incomplete)


def formats(incomplete: str) -> list[str]:
    """What a run can be exported as."""
    return _beginning(FORMATS, incomplete)


def kinds(incomplete: str) -> list[str]:
    """What there are lists of."""
    return _beginning(KINDS, incomplete)


def known(ctx: Any, incomplete: str) -> list[str]:
    """Names of the kind that the word before says."""
    kind = ctx.params.get("what")
    return _beginning(names(kind), incomplete) if kind in KINDS else []


def runs(incomplete: str) -> list[str]:
    """Run directories whose paths begin so."""
    folder, _, begun = incomplete.rpartition(os.sep)
    place = os.path.expanduser(folder + os.sep if os.sep in incomplete else ".")
    shown = folder + os.sep if os.sep in incomplete else ""
    found: list[str] = []
    for path, name in _folders(place):
        if name.startswith(begun) and (begun.startswith(".") or not name.startswith(".")):
            found += _runs_below(path, shown + name, _DEEP)
    return found[:_MOST_RUNS]


def _runs_below(path: str, shown: str, deep: int) -> Iterator[str]:
    if os.path.exists(os.path.join(path, "run.json")):
        yield shown
    elif deep > 1:
        for inside, name in _folders(path):
            if not name.startswith("."):
                yield from _runs_below(inside, shown + os.sep + name, deep - 1)


def _folders(place: str) -> list[tuple[str, str]]:
    """The directories in one, as path and name, in order."""
    try:
        with os.scandir(place) as entries:
            return sorted((entry.path, entry.name) for entry in entries if entry.is_dir())
    except OSError:
        return []


def _beginning(known: list[str] | tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]
