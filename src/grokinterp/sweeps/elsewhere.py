"""What the engines share that train in processes of other machines: which members go together, and what such
a process does with them."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from ..errors import GrokinterpError, Interrupted
from ..runs import pool
from ..runs.files import read_log
from ..runs.many import Sources, Work, here
from ..runs.sent import packed
from ..runs.train import Stop, on_signals
from ..training import TrainConfig, kind, resolve_device

_SECONDS_FOR_A_LOCK = 60.0
"""How long a member that somebody else trains is waited for by default: whoever is killed holds its lock a
while."""
_SECONDS_BETWEEN_TRIES = 1.0

Jobs = list[dict[str, Any]]


def batches(work: Work, at_once: int, per_task: int | None) -> list[list[str]]:
    """The members that one process trains, one after the other; on a CUDA device those that can be stacked.

    Args:
        work: what is left.
        at_once: how many processes there are room for.
        per_task: how many members at most; by default so many that every process gets four times something.
    """
    if not work.configs:
        return []
    first = next(iter(work.configs.values()))
    if first.device not in ("auto", "cpu"):
        groups: dict[str | None, list[str]] = {}
        for name, config in work.configs.items():
            groups.setdefault(kind(config) or name, []).append(name)
        return list(groups.values())
    names = list(work.configs)
    size = per_task or max(1, min(4, len(names) // (4 * max(1, at_once))))
    return [names[i : i + size] for i in range(0, len(names), size)]


def train_jobs(
    jobs: Jobs, folder: str | None = None, patience: float = _SECONDS_FOR_A_LOCK
) -> list[pool.Answer]:
    """Trains what jobs ask for in this process, and gives their answers.

    Args:
        jobs: as `pool.job` makes them.
        folder: where to train instead of where they say; each run has the name of its directory there.
        patience: how many seconds to wait for a run that somebody else trains.
    """
    stop = Stop()
    answers = []
    with on_signals(stop):
        configs = [_config(job) for job in jobs]
        on_gpu = any(resolve_device(config.device).type == "cuda" for config in configs)
        places = [Path(folder) / Path(job["path"]).name if folder else Path(job["path"]) for job in jobs]
        if on_gpu:
            by_name = {place.name: config for place, config in zip(places, configs, strict=True)}
            sources: Sources = dict.fromkeys(by_name)
            work = Work(by_name, places[0].parent, True, sources, stop, _Silent(), jobs[0]["log"])
            with closing(here()(work)) as ends:
                ended = dict(ends)
            lost = Interrupted("interrupted; nothing is lost: run the same command again to go on")
            return [pool.ended(ended.get(place.name, lost)) for place in places]
        for job, place in zip(jobs, places, strict=True):
            if stop.asked:
                answers.append(pool.ended(Interrupted("interrupted before it began")))
                continue
            answers.append(_answer(job | {"path": str(place)}, stop, time.monotonic() + patience))
    return answers


def train_and_send(jobs: Jobs) -> list[pool.Answer]:
    """The same in a directory that goes again: the answers, with the files of what ended, or None."""
    with tempfile.TemporaryDirectory(prefix="grokinterp-") as folder:
        sent: list[pool.Answer] = []
        for job, answer in zip(jobs, train_jobs(jobs, folder), strict=True):
            place = Path(folder) / Path(job["path"]).name
            whole = answer["ended"] in (None, "Diverged") and place.is_dir()
            sent.append({**answer, "files": packed(place) if whole else None})
        return sent


def there() -> Callable[..., Any]:
    """What a process of another machine runs: it is told where to import from, and a function of this module
    by its name, with its arguments. It is sent as it is here, as nothing can be imported there before."""

    def run(paths: Any, name: Any, *given: Any) -> Any:
        import os
        import sys
        from importlib import import_module

        sys.path.extend(path for path in paths if path not in sys.path and os.path.isdir(path))
        return getattr(import_module("grokinterp.sweeps.elsewhere"), name)(*given)

    return run


def _config(job: Mapping[str, Any]) -> TrainConfig:
    importlib.import_module(job["home"])
    return TrainConfig.make(job["config"])


def _answer(job: Mapping[str, Any], stop: Stop, until: float) -> pool.Answer:
    """Trains one; where somebody else does, waits for its lock until then."""
    while True:
        answer = pool.done(job, stop.watching, lambda: nullcontext(lambda snapshot: None))
        if answer["ended"] != "RunLocked" or time.monotonic() > until or stop.asked:
            return answer
        time.sleep(_SECONDS_BETWEEN_TRIES)


class _Silent:
    """Shows nothing: who waits for these runs reads how far they are from their directories."""

    shown = False

    def show(self, name: str, step: int, metrics: Mapping[str, float]) -> None: ...

    def end(self, name: str, error: GrokinterpError | None) -> None: ...


def paths_to_import_from() -> list[str]:
    """Where this process imports from, for one of another machine."""
    return [path for path in sys.path if path] + [os.getcwd()]


class Watched:
    """How far members are that others train, from the metrics in their directories."""

    def __init__(self, work: Work) -> None:
        self._work, self._sizes = work, dict.fromkeys(work.configs, 0)

    def look(self, names: Iterable[str]) -> None:
        """Shows those that have come further since."""
        if not self._work.display.shown:
            return
        for name in names:
            path = self._work.out / name / "metrics.jsonl"
            with suppress(OSError, GrokinterpError):
                if (size := path.stat().st_size) == self._sizes[name]:
                    continue
                self._sizes[name] = size
                if records := read_log(path, whole=False)[0]:
                    metrics = {key: x for key, x in records[-1].items() if key != "step" and x is not None}
                    self._work.display.show(name, records[-1]["step"], metrics)
