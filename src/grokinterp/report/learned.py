"""What each of several runs has learned, from its last snapshot: key frequencies, kind of algorithm, claims.

The verdicts are those of a report. Only the measures that decide them are made, and these stay with the run,
where replays keep theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..errors import GrokinterpError, NotApplicable
from ..fourier import n_frequencies
from ..measures import MEASURES, circular
from ..progress import bars
from ..replay.cache import FROM_FINAL, Measured
from ..runs import Run
from .analysis import analysis_of
from .claims import Claim

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Learned:
    """What the network of a run's last snapshot has learned.

    Attributes:
        found: in one sentence.
        keys: its key frequencies, by the consensus of the rules; None where there are no frequencies.
        algorithm: "clock", "pizza", or "neither"; empty where that was not tested.
        claims: those that are asked of it, each with its verdict and the numbers that decide it.
        unknown: why nothing is known; empty where something is.
        frequencies: how many there are to choose keys from; 0 where there are none.
        neurons: how many neurons each frequency explains, of those that it does.
    """

    found: str = ""
    keys: list[int] | None = None
    algorithm: str = ""
    claims: list[Claim] = field(default_factory=list)
    unknown: str = ""
    frequencies: int = 0
    neurons: dict[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "found": self.found,
            "key_frequencies": self.keys,
            "algorithm": self.algorithm or None,
            "claims": [claim.to_dict() for claim in self.claims],
            **({"unknown": self.unknown} if self.unknown else {}),
        }


def all_learned(runs: Sequence[Run], progress: bool | None = None) -> list[Learned]:
    """What each run has learned; of one that cannot be measured, as it has no snapshot or a damaged one, why
    that is not known.

    Args:
        runs: any.
        progress: whether to show a progress bar on stderr; by default where that is a terminal.
    """
    found = []
    with bars(progress) as bar, _one_thread():
        task = bar.add_task("what each learned", total=len(runs), what="run") if bar else None
        for run in runs:
            try:
                found.append(_learned(run))
            except GrokinterpError as reason:
                found.append(Learned(unknown=str(reason)))
            if bar and task is not None:
                bar.advance(task)
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is kept is the same whatever the number of threads, as what replays keep."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _learned(run: Run) -> Learned:
    a = analysis_of(run, run.resolve(-1), [], None, False)
    kept = Measured(run, a.step, a.view)
    a.values = _Asked(kept, a.skipped)  # type: ignore[assignment]
    frequencies, neurons = 0, dict[int, int]()
    if a.frequencies:
        frequencies = n_frequencies(circular(a.view).m)
        if (clusters := a.values.get("neuron.clusters")) is not None:
            counts = zip(clusters["freq"].values.tolist(), clusters.values.tolist(), strict=True)
            neurons = {int(k): int(count) for k, count in counts if count}
    learned = Learned(a.found, a.frequencies, a.algorithm, a.claims, frequencies=frequencies, neurons=neurons)
    kept.save_if_possible()
    return learned


class _Asked(Mapping[str, Any]):
    """The measures of a network by name, each made when it is first asked for. Those that have no value are
    not in it, and why is among the `skipped`."""

    complete = True

    def __init__(self, kept: Measured, skipped: dict[str, str]) -> None:
        self._kept, self._skipped = kept, skipped

    def __getitem__(self, name: str) -> Any:
        try:
            return self._kept.entry(MEASURES[name]).finite(MEASURES[name])
        except NotApplicable as reason:
            self._skipped[name] = str(reason)
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(MEASURES)

    def __len__(self) -> int:
        return len(MEASURES)


def found_at_the_end(run: Run, replayed: xr.Dataset) -> str:
    """What the network of a run's last snapshot was found to do, in the sentence of a report, which goes by
    the phases that a replay of the run tells. Empty where it would take measures that are not kept, unless
    the replay has measured that network anyway, for its keys; then few are missing, and these stay with the
    run."""
    a = analysis_of(run, run.resolve(-1), [], None, False)
    a.replayed, a.not_replayed = replayed, ""
    kept = Measured(run, a.step, a.view)
    values = _Asked(kept, a.skipped) if FROM_FINAL.applying_to(run.task.families) else _Kept(kept, a.skipped)
    a.values = values  # type: ignore[assignment]
    try:
        with _one_thread():
            found = a.found
    except GrokinterpError:
        return ""
    kept.save_if_possible()
    return found if values.complete else ""


class _Kept(_Asked):
    """Of these, those that are kept already; `complete` while no other was asked for."""

    def __getitem__(self, name: str) -> Any:
        if not self._kept.keeps(MEASURES[name]):
            self.complete = False
            raise KeyError(name)
        return super().__getitem__(name)
