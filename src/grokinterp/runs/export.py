"""A snapshot of a run as files that other tools load: TransformerLens 3 and 4, transformers, and whatever
reads safetensors. Before anything is written the network is loaded from the files, and its logits are
compared."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..asked import NAME, PATH, RUN, STEP, asks, got
from ..errors import GrokinterpError, UsageError, nearest
from ..models.exported import FORMATS, Exported, as_json, packed
from ..shown import Found, Rows
from . import files
from .run import Run, load_run
from .transfer import named

_COMPARED = 256
"""Examples on which logits are compared."""
_SAME = 1e-9
"""How far logits in float64 may lie apart, of the largest of them."""


@dataclass(frozen=True, repr=False)
class Export(Found):
    """What was exported.

    Attributes:
        path: the directory.
        files: what was written there.
        to: the format.
        step: the snapshot.
        compared: on how many examples the logits of the network in these files are those of the run; 0 where
            the files are weights alone, which are its own.
        loading: how it is loaded, as lines of Python.
    """

    path: Path
    files: tuple[str, ...]
    to: str
    step: int
    compared: int
    loading: str

    def _in_a_line(self) -> str:
        return f"{self.to} in {self.path}"

    def _as_rows(self) -> Rows:
        same = f"those of the run on {self.compared:,} examples" if self.compared else "not compared"
        return [("step", f"{self.step:,}"), ("files", ", ".join(self.files)), ("logits", same)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            **{"path": str(self.path), "files": list(self.files), "to": self.to, "step": self.step},
            **{"compared": self.compared, "loading": self.loading},
        }


@asks("gi.export", run=RUN, to=NAME, out=PATH, step=STEP)
def export(run: Run | str | Path, to: str, out: str | Path, step: int | None = None) -> Export:
    """Writes a snapshot of a run into a new directory as files of another tool, whole or not at all.

    Args:
        run: a run or its directory, also as RUN@STEP.
        to: "safetensors" (the weights under TransformerLens's names, and what network and task they are of),
            "transformer-lens" (what TransformerLens 3 loads, and the converter of 4), or "huggingface" (a
            class of transformers, where one computes exactly the same).
        out: the directory; made if it is not there.
        step: the snapshot; negative steps count from the end. By default the last.

    Raises:
        UsageError: the format cannot express the network, for the reason that is said.
        NoSuchSnapshot: there is none at that step.
        NotARun: the directory is not empty.
    """
    if to not in FORMATS:
        raise UsageError(
            f"unknown format {got(to)}{nearest(to, FORMATS)}: choose one of {', '.join(FORMATS)}"
        )
    if not isinstance(run, Run):
        place, said = named(run)
        if said is not None and step is not None and said != step:
            raise UsageError(f"{run} names step {said}, and step={step} another: give one of them")
        run, step = load_run(place), said if step is None else step
    step = run.resolve(-1 if step is None else operator.index(step))
    out = files.folder_named(out)
    with files.reading(out):
        if out.exists() and any(not entry.name.endswith(files.TEMPORARY) for entry in out.iterdir()):
            raise UsageError(f"{out} is not empty: choose a new or an empty directory with --out")
    config, reads, weights = run.config.model, run.task.reads, run.state_dict(step)
    as_it_is = to == "safetensors"
    exported = _as_it_is(run, step) if as_it_is else config.exported(to, reads, weights)
    compared = _compare(run, step, exported)
    # The settings last: where they are, all is.
    for name in sorted(exported.files, key=lambda name: name == "config.json"):
        files.replace(out / name, exported.files[name], make_folder=True)
    loading = exported.loading.replace("DIR", str(out))
    return Export(out, tuple(sorted(exported.files)), to, step, compared, loading)


def _as_it_is(run: Run, step: int) -> Exported:
    """The weights as they are kept, and what they are of."""
    reads, model = run.task.reads, run.config.model
    settings = {
        "model": {"kind": model.kind, **model.model_dump(mode="json", exclude_none=True)},
        "task": {**run.record["config"]["task"], "symbol": run.task.symbol},
        "reads": {
            **{"n_ctx": reads.n_ctx, "d_vocab": reads.d_vocab, "n_logits": model.n_logits(reads)},
            **{"words": list(reads.words), "positions": list(reads.positions)},
        },
        "tokens": list(run.task.names),
        "step": step if run.step_known(step) else None,
        "snapshot_sha256": run.sha256(step),
        "versions": run.record.get("versions"),
    }
    data = {
        "config.json": as_json(json.loads(json.dumps(settings))),
        "model.safetensors": packed(run.state_dict(step)),
    }
    return Exported(
        data, 'from safetensors.torch import load_file\n\nweights = load_file("DIR/model.safetensors")\n'
    )


def _compare(run: Run, step: int, exported: Exported) -> int:
    """On how many examples the logits of what is exported are those of the run.

    Raises:
        GrokinterpError: they are others.
    """
    if exported.logits is None:
        return 0
    inputs = run.task.inputs[:_COMPARED]
    with torch.no_grad():
        ours = run.model(step)(inputs)
    theirs = exported.logits(inputs)
    apart = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-30))
    if not apart <= _SAME:
        what = f"the logits of the exported network are {apart:.2g} of the largest off those of the run"
        raise GrokinterpError(f"{what}: nothing was written; please report it")
    return len(inputs)
