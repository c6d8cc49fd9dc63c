"""Hands the metrics of a training on to a logger that people watch, as they are recorded. metrics.jsonl stays
what counts: a logger has no say in the training, and one that fails is left out, with a warning.

A logger gets every evaluation once, however often training was interrupted, and those from before it was
asked for as well: `logged.json` in the run directory says which it has had. Nothing leaves the machine,
unless the environment says so in the logger's own way (WANDB_MODE=online, TRACKIO_SPACE_ID). For a logger of
one's own, an entry in `LOGGERS`, or any function of a step and its metrics.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..asked import got
from ..errors import GrokinterpError, UsageError, nearest
from .files import reading, replace

Metrics: TypeAlias = Mapping[str, float]
Log: TypeAlias = "str | Callable[[int, Metrics], object] | Sequence[str | Callable[[int, Metrics], object]]"
"""The name of a logger ("wandb", "tensorboard", "trackio"), a function of a step and its metrics, or
several."""
_PROJECT = "grokinterp"
LOGGED = "logged.json"
"""What each logger has had, in the run directory."""


@dataclass(frozen=True)
class Begun:
    """The run that is logged.

    Attributes:
        folder: the run directory.
        id: what the logger shall know it by, the same in every call.
        config: its configuration.
    """

    folder: Path
    id: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """That of its directory."""
        return self.folder.resolve().name


class Session(Protocol):
    """A logger, open."""

    def log(self, step: int, metrics: Metrics) -> object:
        """Takes the metrics of an evaluation."""

    def close(self) -> None:
        """Keeps all that it has got."""


@dataclass(frozen=True)
class Logger:
    """A logger that is known by name.

    Attributes:
        open: opens it for a run.
        needs: the module without which it does not work; the extra to install is called as the logger.
        afresh: whether every call gives it all evaluations again, in place of those that it has.
    """

    open: Callable[[Begun], Session]
    needs: str
    afresh: bool = False


class _WandB:
    def __init__(self, run: Begun) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._session = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.name,
            id=run.id,
            dir=str(run.folder),
            config=dict(run.config),
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline, wandb says that it cannot
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, metrics: Metrics) -> None:
        self._session.log(dict(metrics), step=step)

    def close(self) -> None:
        self._session.finish()


class _TensorBoard:
    def __init__(self, run: Begun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What was written before is not shown any more: it is written again.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=0)

    def log(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, run: Begun) -> None:
        import trackio

        with redirect_stdout(sys.stderr):
            self._session = trackio.init(
                project=_PROJECT,
                name=f"{run.name}-{run.id}",
                config=dict(run.config),
                resume="allow",
                space_id=os.environ.get("TRACKIO_SPACE_ID"),
                embed=False,
                **dict.fromkeys(("auto_log_gpu", "auto_log_cpu"), False),
            )

    def log(self, step: int, metrics: Metrics) -> None:
        self._session.log(dict(metrics), step=step)

    def close(self) -> None:
        import trackio

        with redirect_stdout(sys.stderr):
            # The last one that was opened is ended by its own function, or it would be again at exit.
            is_current = trackio.context_vars.current_run.get() is self._session
            trackio.finish() if is_current else self._session.finish()


class _Function:
    def __init__(self, function: Callable[[int, Metrics], object]) -> None:
        self.log = function

    def close(self) -> None:
        """There is nothing to keep."""


LOGGERS = {
    "wandb": Logger(_WandB, "wandb"),
    "tensorboard": Logger(_TensorBoard, "tensorboard", afresh=True),
    "trackio": Logger(_Trackio, "trackio"),
}
"""The loggers that are known by name."""


def named_loggers(log: Log) -> tuple[str | Callable[[int, Metrics], object], ...]:
    """Which loggers are meant, each once.

    Raises:
        UsageError: there is none of a name, or what it needs is not installed.
    """
    if not isinstance(log, Iterable) and not callable(log):
        raise UsageError(
            f"log: needs names of loggers, or functions of a step and its metrics, got {got(log)}"
        )
    several = [log] if isinstance(log, str) or callable(log) else [*log]
    for one in several:
        if callable(one):
            continue
        if not isinstance(one, str) or one not in LOGGERS:
            raise UsageError(f"there is no logger {got(one)}{nearest(str(one), LOGGERS)}")
        if find_spec(LOGGERS[one].needs) is None:
            what = f"the logger {one} needs the package {LOGGERS[one].needs}, which is not installed"
            raise UsageError(f"{what}: pip install 'grokinterp[{one}]'")
    return tuple(dict.fromkeys(several))


class Loggers:
    """The loggers of a run, open; each that fails is left out from then on."""

    def __init__(
        self,
        chosen: Sequence[str | Callable[[int, Metrics], object]],
        folder: Path,
        config: Mapping[str, Any],
        evaluations: Sequence[Mapping[str, Any]],
    ) -> None:
        self._folder, self._sessions = folder, dict[str, Session]()
        self._had = _had(folder) if chosen else {}
        for number, one in enumerate(chosen):
            if callable(one):
                self._sessions[f"function {number + 1}"] = _Function(one)
                continue
            with self._left_out_if_it_fails(one):
                had = self._had.setdefault(one, {"id": secrets.token_hex(4), "step": -1})
                if LOGGERS[one].afresh:
                    had["step"] = -1
                self._keep()  # before it is opened: the next call knows the same id
                self._sessions[one] = LOGGERS[one].open(Begun(folder, had["id"], config))
                for evaluation in evaluations:
                    self._hand(one, evaluation["step"], evaluation)

    def __call__(self, step: int, metrics: Metrics) -> None:
        """Hands a new evaluation to all of them."""
        for name in [*self._sessions]:
            with self._left_out_if_it_fails(name):
                self._hand(name, step, metrics)

    def _hand(self, name: str, step: int, metrics: Mapping[str, Any]) -> None:
        if (had := self._had.get(name)) is not None:
            if step <= had["step"]:
                return
            had["step"] = step
            if not LOGGERS[name].afresh:
                self._keep()  # before it gets them: a kill in between loses one evaluation, and doubles none
        numbers = {key: value for key, value in metrics.items() if key != "step" and value is not None}
        self._sessions[name].log(step, numbers)

    def _keep(self) -> None:
        text = json.dumps(self._had, indent=1) + "\n"
        replace(self._folder / LOGGED, text.encode(), make_folder=True, durable=False)

    @contextmanager
    def _left_out_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            failed = self._sessions.pop(name, None)
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            warnings.warn(f"the logger {name} failed ({why}); training goes on without it", stacklevel=5)
            with suppress(Exception):
                if failed is not None:
                    failed.close()

    def close(self) -> None:
        """Closes all of them."""
        for name in [*self._sessions]:
            with self._left_out_if_it_fails(name):
                self._sessions.pop(name).close()


def _had(folder: Path) -> dict[str, dict[str, Any]]:
    """What each logger has had; what cannot be read counts as nothing, under another id."""
    unreadable = (FileNotFoundError, GrokinterpError, ValueError, KeyError, TypeError, AttributeError)
    with suppress(*unreadable), reading(folder / LOGGED):
        had = json.loads((folder / LOGGED).read_bytes())
        if all(isinstance(one["id"], str) and isinstance(one["step"], int) for one in had.values()):
            return dict(had)
    return {}
