"""What is in a run directory, said without analysing it: by its record, its logs and the head of its last
snapshot, so that it takes neither torch nor the task.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import GrokinterpError
from ..shown import Found, Rows, in_words, size
from ..standing import percent
from .account import Account
from .files import damaged, reading
from .listing import row_of

_MADE = ("report.html", "report.json", "replay.html", "compare.html")
"""What commands write into a run directory."""
_MOST_HEAD = 100_000_000
"""Bytes that the head of a safetensors file may have."""
_MOST_SHAPES, _MOST_ASSUMED = 6, 4
"""Weights that are named on a screen, and sentences of what an import assumed: of more it is said how many
there are, and JSON has all."""


class Contents(Found):
    """What is in a run, or in a foreign file or folder: printed, a screen; `to_dict()`, all of it.

    Attributes:
        title: what it is.
        rows: names and texts, as they are printed.
        values: all of it, as plain JSON.
    """

    def __init__(self, title: str, rows: Rows, values: Mapping[str, Any]) -> None:
        self.title, self.rows, self.values = title, rows, dict(values)

    def _in_a_line(self) -> str:
        return self.title

    def _as_rows(self) -> Rows:
        return self.rows

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return self.values


def is_run(path: Path) -> bool:
    """Whether a path is that of a run directory, whole or not."""
    return any((path / name).is_file() for name in ("run.json", "manifest.jsonl"))


def contents_of_run(path: str | Path) -> Contents:
    """What a run directory holds.

    Raises:
        NotARun: there is no run.
        DamagedFile: a file does not match its recorded hash or count.
    """
    account = Account(path)
    record, config, row = account.record, account.record["config"], row_of(account.path, make_task=False)
    weights = _weights(account)
    steps = account.steps
    unknown = [step for step in steps if not account.step_known(step)]
    state = row.why if row.why.startswith(row.status) else f"{row.status}, {row.why}"
    last = {name: value for name, value in account.last_evaluation.items() if "." not in name}
    values = {
        "path": str(path),
        "kind": "run",
        "status": row.status,
        "why": row.why,
        "bytes": row.bytes,
        "task": {**config["task"], **{key: record["task"][key] for key in _SAID if key in record["task"]}},
        "split": record["split"] and {key: record["split"][key] for key in ("n_train", "n_test")},
        "config": config,
        "snapshots": {
            "count": len(steps),
            "steps": steps,
            "unknown_steps": unknown,
            "bytes": _stored(account),
        },
        "weights": weights,
        "state": row.state,
        "keys": row.keys and list(row.keys),
        "evaluations": len(account.evaluations),
        "last_evaluation": account.last_evaluation,
        "imported": account.imported,
        "start": config.get("start"),
        "thinned": account.thinned,
        "diverged": account.diverged,
        "versions": record.get("versions"),
        "beside": [name for name in _MADE if account.holds(name)],
    }
    rows: list[tuple[str, object]] = [
        ("run", f"{path}: {state}; {size(row.bytes)}"),
        ("task", _task(values)),
        ("examples", _examples(values)),
        ("network", _section(config.get("model", {}))),
        ("weights", shapes_in_words(weights)),
        ("training", _section(config.get("training", {})) if account.imported is None else ""),
        ("snapshots", f"{account.steps_text(steps)}; {size(_stored(account))}" if steps else "none"),
        ("thinned", account.thinning),
        ("last evaluation", in_words(_rounded(last)) if last else "none"),
        ("so far", _so_far(row.state, last)),
        ("key frequencies", " ".join(map(str, row.keys or ())) or ("none" if row.keys is not None else "")),
        ("comes from", _origin(values)),
        *((("assumed" if i == 0 else ""), text) for i, text in enumerate(_assumed(account.imported))),
        ("made with", in_words(record.get("versions") or {})),
        ("beside it", in_words(values["beside"]) if values["beside"] else ""),
    ]
    title = f"{record['task']['symbol']} in {account.name}"
    return Contents(title, [(name, text) for name, text in rows if text], values)


_SAID = ("symbol", "examples", "answers", "tokens")


def shapes_in_words(weights: Mapping[str, Mapping[str, Any]], most: int = _MOST_SHAPES) -> str:
    """How many weights there are, and the shapes of the first, from the entries that `head` gives."""
    if not weights:
        return ""
    count = sum(math.prod(one["shape"]) for one in weights.values())
    types = sorted({one["dtype"] for one in weights.values()})
    named = [f"{name} {one['shape']}" for name, one in list(weights.items())[:most]]
    more = f" and {len(weights) - most:,} more" if 0 < most < len(weights) else ""
    shapes = f": {', '.join(named)}{more}" if named else ""
    return f"{count:,} numbers ({', '.join(types)}) in {len(weights):,} tensors{shapes}"


def head(path: Path) -> dict[str, dict[str, Any]]:
    """Names, types and shapes of the tensors of a safetensors file, in the order of their names: from its
    head alone.

    Raises:
        DamagedFile: it has no such head.
    """
    with reading(path), open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        data = file.read(length) if length <= _MOST_HEAD else b""
    try:
        entries = json.loads(data)
        return {
            name: {"dtype": str(entries[name]["dtype"]), "shape": [int(n) for n in entries[name]["shape"]]}
            for name in sorted(entries.keys() - {"__metadata__"})
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise damaged(path, "it is not the safetensors file that was written") from None


def _weights(account: Account) -> dict[str, dict[str, Any]]:
    """Those of the last snapshot; nothing where there is none that can be read, which `verify` reports."""
    if account.steps:
        with suppress(GrokinterpError, FileNotFoundError, NotADirectoryError):
            return head(account.path / account.snapshot_files[-1])
    return {}


def _stored(account: Account) -> int:
    total = 0
    for name in account.snapshot_files:
        with suppress(OSError):
            total += os.stat(account.path / name).st_size
    return total


def _task(values: Mapping[str, Any]) -> str:
    task = {key: value for key, value in values["config"]["task"].items() if key != "name"}
    return f"{values['task']['name']}{f': {_section(task)}' if task else ''}"


def _examples(values: Mapping[str, Any]) -> str:
    task, split = values["task"], values["split"]
    count = f"{task['examples']:,}" if "examples" in task else "some"
    parts = "no split is known"
    if split:
        learned = f"{split['n_train']:,}" if split["n_train"] else "fresh ones"
        parts = f"{learned} to train on, {split['n_test']:,} to test"
    sizes = [f"{task[key]:,} {key}" for key in ("tokens", "answers") if task.get(key)]
    return "; ".join([f"{count}: {parts}", *sizes])


def _section(section: Mapping[str, Any]) -> str:
    """A section of the configuration, as --set takes it."""
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items())


def _rounded(last: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        for name, value in last.items()
    }


def _so_far(state: str | None, last: Mapping[str, Any]) -> str:
    share = last.get("test_accuracy")
    of = f": {percent(share)} of the test examples are right" if share is not None else ""
    return "" if state is None else f"{state}{of}"


def _origin(values: Mapping[str, Any]) -> str:
    if (imported := values["imported"]) is not None:
        sha256 = str(imported.get("sha256", ""))[:12]
        return f"{imported['file']} (layout {imported['layout']}, sha256 {sha256}…), imported"
    config, start = values["config"], values["start"]
    begun = f", from {_section(start)}" if start else ""
    return f"trained here with seed {config.get('seed')} on {config.get('device', 'cpu')}{begun}"


def _assumed(imported: Mapping[str, Any] | None) -> list[str]:
    assumed = list((imported or {}).get("assumed", ()))
    rest = assumed[_MOST_ASSUMED:]
    return [*assumed[:_MOST_ASSUMED], *([f"and {len(rest)} more, in run.json"] if rest else [])]
