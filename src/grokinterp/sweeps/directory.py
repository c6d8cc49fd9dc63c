"""A sweep: a directory with a run for each member of a grid, and sweep.json, which says what belongs to it
and what has come of it."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..asked import PATH, VALUES, asks, asks_all, got
from ..errors import Diverged, GrokinterpError, Interrupted, SomeFailed, UsageError, nearest
from ..runs import Run, load_run
from ..runs.account import read_run_json
from ..runs.files import folder_named, locked, refuse_unwritable, writing
from ..runs.loggers import Log
from ..runs.many import (
    Engine,
    Work,
    here,
    names_of_loggers,
    refuse_no_name,
    refuse_no_workers,
    refuse_together,
)
from ..runs.seeds import seeds_of
from ..runs.swept import FILE
from ..runs.train import Stop, on_signals
from ..training import TrainConfig, differences
from ..training.config import flat
from .grid import MOST, Member, axes_of, members_of
from .live import Live, live_table
from .manifest import Ended, Manifest

if TYPE_CHECKING:
    import pandas as pd

_SECONDS_BETWEEN_WRITES = 1.0


@asks_all("sweep")
class Sweep:
    """The runs of a grid, as their directory has them; read again with `load_sweep`.

    Attributes:
        path: the directory.
        keys: of the grid, dotted.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.path, self.keys = manifest.path, manifest.keys

    def __len__(self) -> int:
        return len(self._manifest.values)

    def __repr__(self) -> str:
        return f"<Sweep of {len(self)} runs over {', '.join(self.keys)} in {self.path}>"

    @property
    def members(self) -> dict[str, Member]:
        """The values and the configuration of each member, by the name of its directory."""
        return self._manifest.members

    @property
    def ended(self) -> dict[str, Ended]:
        """How those ended that have."""
        return dict(self._manifest.ended)

    @property
    def runs(self) -> list[Run]:
        """The runs that are there and can be read, in the order of the members."""
        runs = []
        for name in self._manifest.values:
            if (self.path / name / "run.json").exists():
                runs.append(load_run(self.path / name))
        return runs

    @property
    def table(self) -> pd.DataFrame:
        """One row for each member: `member`, a column for each key of the grid, `state` ("finished",
        "diverged", "failed", "training", "stopped", "broken", "waiting"), `step`, `train_accuracy`,
        `test_accuracy`, and `why`."""
        import pandas as pd

        from ..runs.listing import row_of

        rows = []
        for name, values in self._manifest.values.items():
            there = (self.path / name / "run.json").exists()
            row = row_of(self.path / name, name, make_task=False) if there else None
            ended = self._manifest.ended.get(name)
            if row is None and ended is not None and ended.how != "failed":
                ended = None  # its directory is gone
            state: str = row.status if row else "waiting"
            if ended is not None and state not in ("training", "finished"):
                state = ended.how
            rows.append(
                {
                    **{"member": name, **values, "state": state, "step": row and row.step},
                    "train_accuracy": row and row.train_accuracy,
                    "test_accuracy": row and row.test_accuracy,
                    "why": ended.why if ended else row.why if row else "",
                }
            )
        table = pd.DataFrame(rows)
        return table.astype({"step": "Int64", "train_accuracy": "float64", "test_accuracy": "float64"})

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Checks every file of every member that has begun, and that what the manifest says is there, is:
        names of files in the sweep's directory, each with what is wrong with it or None."""
        for name, member in self.members.items():
            ended, path = self._manifest.ended.get(name), self.path / name
            if not (path / "run.json").exists():
                if ended is not None and ended.how == "finished":
                    yield name, f"{path} is gone, and {FILE} says that it was finished: sweep again"
                continue
            try:
                run = load_run(path)
                if odd := differences(run.config, member.config):
                    what = f"its configuration is not that of {FILE}: {', '.join(odd)}"
                    yield name, f"{path}: {what}; restore it from a copy"
                if ended is not None and ended.how == "finished" and run.finished is None:
                    yield name, f"{path} is not finished, and {FILE} says that it was: sweep again"
                for file, problem in run.verify():
                    yield f"{name}/{file}", problem
            except GrokinterpError as error:
                yield name, str(error)


@asks("gi.load_sweep", path=PATH)
def load_sweep(path: str | Path) -> Sweep:
    """Opens the directory of a sweep.

    Raises:
        NotARun: it holds no sweep.json.
        DamagedFile: that is not as it was written.
    """
    return Sweep(Manifest.read(Path(path)))


@asks("gi.sweep", out=PATH, grid=VALUES, options=VALUES)
def sweep(
    configs: TrainConfig | Mapping[str, TrainConfig] | None,
    out: str | Path,
    *,
    grid: Mapping[str, str | Sequence[Any]] | None = None,
    seeds: str | Iterable[int] | None = None,
    samples: int | None = None,
    draw_seed: int = 0,
    engine: str | Engine = "local",
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    yes: bool = False,
    log: Log = (),
    progress: bool | None = None,
) -> Sweep:
    """Trains every member of a grid into a directory of its own inside `out`; goes on where an earlier call
    stopped, and grows by more values of its keys.

    Each member is the run that `train` makes of its configuration, byte for byte on a CPU. What has ended is
    written into `out`/sweep.json, of which a resumed sweep starts. A member that fails or diverges stops no
    other: it is recorded with the reason.

    Args:
        configs: the configuration that all share; or names of directories and the configuration of each; or
            None, to go on with the sweep that lies in `out`.
        out: the directory; made if it is not there.
        grid: for each dotted key its values: a list, or text such as "0,0.3,1", "0.2:0.8:0.1", "0..7",
            "1e-4:1e-1:log7" or "1e-4:1e-1:lograndom" (`sweeps.grid`).
        seeds: short for the key `seed` of the grid.
        samples: how often values are drawn, where the grid has keys that are.
        draw_seed: of what is drawn.
        engine: where members are trained: "local", by processes of this machine; "ray"; "slurm"; or a
            function of a `Work` (`runs.many`).
        options: of the engine: `sweeps.on_ray`, `sweeps.on_slurm`.
        workers: how many train at once on this machine; by default as many as there are cores.
        yes: whether there may be more than 10,000 members.
        log: names of loggers, as for `train`.
        progress: whether to show a table of the members on stderr; by default where that is a terminal.

    Raises:
        UsageError: no grid, values of a key that are none, too many members or two of one name, an unknown
            engine.
        ConfigError: a key or a value that a configuration does not take; or `out` holds another sweep.
        RunLocked: another process works at this sweep.
        SomeFailed: some failed; the others were trained all the same. That one diverged is a result.
        Interrupted: by SIGINT or SIGTERM; what was trained is saved, and the same call goes on from there.
    """
    out, loggers = folder_named(out), names_of_loggers(log)
    train = _engine(engine, options, workers)
    base, members = asked_for(configs, grid, seeds, samples, draw_seed, None if yes else MOST, out)
    manifest = Manifest.grown(out, base, members)
    refuse_together(manifest.configs(members), out)
    refuse_unwritable(out)
    with writing(out, "nothing was begun"):
        out.mkdir(parents=True, exist_ok=True)

    def busy(holder: str) -> str:
        return f"{out} is being swept by {holder}: wait for it, or stop it and run the same command again"

    stop = Stop()
    with locked(out, busy), on_signals(stop):
        manifest = Manifest.grown(out, base, members)  # another process may have let it grow until now
        configs_of = manifest.configs(members)
        _found_ended(manifest)
        manifest.write()
        waiting = {name: configs_of[name] for name in manifest.left}
        with _recording(manifest, live_table(configs_of, manifest.ended, progress)) as recorder:
            sources = dict.fromkeys(waiting)
            work = Work(waiting, out, True, sources, stop, recorder, loggers)
            failures, _ = work.done_by(train) if waiting else ({}, 0)
    failures = {name: error for name, error in failures.items() if not isinstance(error, Diverged)}
    of, done = len(manifest.values), len(manifest.values) - len(manifest.left)
    and_failed = "".join(f"; {name}: {error}" for name, error in failures.items())
    if stop.asked and done + len(failures) < of:
        ends_at = f"interrupted, {done} of {of} members have ended{and_failed}"
        raise Interrupted(f"{ends_at}; nothing is lost: run the same command again to go on")
    if failures:
        raise SomeFailed(f"{len(failures)} of {of} members failed{and_failed}", failures)
    return Sweep(manifest)


def asked_for(
    configs: TrainConfig | Mapping[str, TrainConfig] | None,
    grid: Mapping[str, Any] | None,
    seeds: str | Iterable[int] | None,
    samples: int | None,
    draw_seed: int,
    most: int | None,
    out: Path,
) -> tuple[TrainConfig, dict[str, Member]]:
    """What the members of a sweep share, and the members, as `sweep` is asked for them.

    Raises:
        UsageError, ConfigError: as for `sweep`.
    """
    axes = dict(grid or {})
    if seeds is not None:
        if "seed" in axes:
            raise UsageError("seeds: the grid has the key seed as well: leave one of them out")
        axes["seed"] = seeds_of(seeds)
    if configs is None:
        if axes:
            raise UsageError("grid: needs the configuration that its members share")
        return Manifest.read(out).base, {}
    if isinstance(configs, TrainConfig):
        if not axes:
            raise UsageError("a sweep needs --grid KEY=VALUES or --seeds 0..7; `grokinterp train` trains one")
        if (out / FILE).exists() and set(there := Manifest.read(out).keys) == set(axes):
            axes = {key: axes[key] for key in there}  # names say values in that order
        return configs, members_of(configs, axes_of(axes), samples, draw_seed, most)
    if not isinstance(configs, Mapping) or not configs:
        needed = "needs a TrainConfig, or names and TrainConfigs"
        raise UsageError(f"gi.sweep: configs: {needed}, got {got(configs)}")
    if axes:
        raise UsageError("grid: needs one configuration; the names of several say what each is")
    return _named(configs)


def _named(configs: Mapping[str, TrainConfig]) -> tuple[TrainConfig, dict[str, Member]]:
    """Configurations that have names, as members: the keys are those in which they differ."""
    for name, config in configs.items():
        if not isinstance(config, TrainConfig):
            raise UsageError(f"gi.sweep: configs: {name!r} is no TrainConfig but {got(config)}")
        refuse_no_name(name, FILE, "lock")
    first = next(iter(configs.values())).model_copy(update={"start": None})
    keys = sorted({key for config in configs.values() for key in differences(first, config)})
    members: dict[str, Member] = {}
    for name, config in configs.items():
        mine = flat(config.model_dump(mode="json"))
        values = {key: mine.get(key) for key in keys}
        if keys and first.changed(**values) != config.model_copy(update={"threads": first.threads}):
            what = f"{name!r} differs from {next(iter(configs))!r} in more than values of the same keys"
            raise UsageError(f"gi.sweep: configs: {what}: gi.train_many takes any configurations")
        members[name] = Member(values, config)
    if not keys:
        raise UsageError("gi.sweep: configs: they do not differ, so these runs would be one and the same")
    return first, members


def _engine(engine: str | Engine, options: Mapping[str, Any] | None, workers: int | None) -> Engine:
    """
    Raises:
        UsageError: there is none of that name, what it needs is not installed, or it does not take an option.
    """
    refuse_no_workers(workers)
    if inspect.isfunction(engine):
        return engine
    if not isinstance(engine, str):
        needed = f"needs one of {', '.join(ENGINES)}, or a function"
        raise UsageError(f"gi.sweep: engine: {needed}, got {got(engine)}")
    if (chosen := ENGINES.get(engine)) is None:
        raise UsageError(f"unknown engine {engine!r}{nearest(engine, ENGINES)}")
    if workers is not None and engine != "local":
        raise UsageError(f"workers: the engine {engine} has no say in that; it is of 'local'")
    return chosen(dict(options or {}), workers)


def _local(options: Mapping[str, Any], workers: int | None) -> Engine:
    if options:
        raise UsageError(
            f"engine 'local' takes no option {next(iter(options))!r}; --threads says how many at once"
        )
    return here(workers)


def _ray(options: Mapping[str, Any], workers: int | None) -> Engine:
    from .on_ray import on_ray

    return _with_options("ray", on_ray, options)


def _slurm(options: Mapping[str, Any], workers: int | None) -> Engine:
    from .on_slurm import on_slurm

    return on_slurm(**options)


def _with_options(name: str, make: Callable[..., Engine], options: Mapping[str, Any]) -> Engine:
    known = list(inspect.signature(make).parameters)
    for key in options:
        if key not in known:
            raise UsageError(f"engine {name!r}: unknown option {key!r}{nearest(key, known)}")
    return make(**options)


ENGINES: dict[str, Callable[[Mapping[str, Any], int | None], Engine]] = {
    "local": _local,
    "ray": _ray,
    "slurm": _slurm,
}
"""What makes each engine of its options and the number of workers."""


def _found_ended(manifest: Manifest) -> None:
    """Takes note of what ended since sweep.json was written, and of what is gone."""
    for name in manifest.values:
        ended, path = manifest.ended.get(name), manifest.path / name
        if not os.path.exists(path / "run.json"):
            if ended is not None and ended.how != "failed":
                del manifest.ended[name]
            continue
        if ended is None or ended.how == "failed":
            try:
                record = read_run_json(path)
            except GrokinterpError:
                continue  # whoever trains it says what is wrong
            if (now := _ended(record)) is not None:
                manifest.ended[name] = now


def _ended(record: Mapping[str, Any]) -> Ended | None:
    """How a run ended, as its run.json says."""
    if (divergence := record.get("diverged")) is not None:
        return Ended("diverged", divergence["step"], str(divergence["what"]))
    if (finished := record.get("finished")) is not None:
        return Ended("finished", finished["step"], str(finished["reason"]))
    return None


class _Recorder:
    """Writes down what ends, and hands on what is to be shown."""

    def __init__(self, manifest: Manifest, live: Live | None) -> None:
        self.shown = live is not None
        self._manifest, self._live = manifest, live
        self._written = time.monotonic()

    def show(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._live is not None:
            self._live.show(name, step, metrics)

    def end(self, name: str, error: GrokinterpError | None) -> None:
        if isinstance(error, Interrupted):
            return
        ended = None
        if error is None or isinstance(error, Diverged):
            ended = _ended(read_run_json(self._manifest.path / name))
        self._manifest.ended[name] = ended or Ended("failed", None, str(error))
        if self._live is not None:
            self._live.end(name, self._manifest.ended[name])
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self._manifest.write()
            self._written = time.monotonic()


@contextmanager
def _recording(manifest: Manifest, live: Any) -> Iterator[_Recorder]:
    """A recorder; what it was told is written at the end, however that comes."""
    with live as table:
        try:
            yield _Recorder(manifest, table)
        finally:
            manifest.write()
