"""What every run directory says of itself in run.json, and how a snapshot is written: for runs that are
trained and for those imported."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch

from ..models import Weights
from ..standing import Examples
from ..tasks import Split, Task
from ..training import TrainConfig
from .account import FORMAT
from .files import UNSEALED, replace, sealed
from .run import rows_hash, task_hash


def new_record(config: TrainConfig, task: Task, split: Split | None, **more: Any) -> dict[str, Any]:
    """The content of a new run.json."""
    return {
        "format": FORMAT,
        "seal": UNSEALED,
        "config": config.model_dump(mode="json", exclude_none=True),
        "task": {
            **{"name": task.name, "symbol": task.symbol, "examples": task.n_inputs},
            **{"answers": task.n_answers, "tokens": task.reads.d_vocab, "sha256": task_hash(task)},
        },
        **({"labels": {"sha256": rows_hash(task.labels(split))}} if task.noisy else {}),
        "split": split
        and {"n_train": len(split.train), "n_test": len(split.test), "sha256": rows_hash(split.train)},
        "counts": asdict(Examples.of(task, split)),
        "versions": versions(),
        "finished": None,
        **more,
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    names = ("grokinterp", "torch", "transformer-lens")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def stored_split(folder: Path, split: Split) -> dict[str, str]:
    """Writes rows that no recipe makes again into a run directory; what run.json says of the file."""
    rows = safetensors.torch.save({"train": split.train.contiguous(), "test": split.test.contiguous()})
    replace(folder / "split.safetensors", rows)
    return {"file": "split.safetensors", "file_sha256": hashlib.sha256(rows).hexdigest()}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes the run.json of a run directory, sealed."""
    text = json.dumps(record | {"seal": UNSEALED}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    replace(path / "run.json", sealed(text.encode()))


def packed_snapshot(step: int, weights: Weights) -> tuple[bytes, dict[str, Any]]:
    """A snapshot's file and its line in the manifest."""
    tensors = {key: weight.detach().cpu().contiguous() for key, weight in weights.items()}
    data = safetensors.torch.save(tensors, {"step": str(step)})
    name = f"snapshots/step_{step:08d}.safetensors"
    return data, {"step": step, "file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
