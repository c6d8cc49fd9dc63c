"""The lives of frequencies: when each stands out in the embedding, the neurons, the readout and the logits,
and whether that lasts.

A frequency is born in a place when its share of the power there reaches 3 / (n + 2), n the number of
frequencies: three times the odds of an even share. It dies when its share falls below 1.5 / (n + 0.5), half
of those odds. Between the two nothing changes, so a share that trembles about one threshold is one life. The
shares are of all that varies in the place, so the thresholds know no unit and no scale, and what no single
frequency explains counts against all of them. Both thresholds are ours; every life is also given with lower
and higher ones. A share is of power, not of neurons: many quiet neurons of one frequency may be no life in
"neurons", and are a cluster in `neuron_flows`.

How loud noise is depends on the widths. Of 12 random networks with p = 53 and d_model = 64 the loudest
frequency anywhere had 1.9 times the odds of an even share; with p = 97, d_model = 32 and 64 neurons 3.7
times, in the neurons; and with p = 7 one of three frequencies, 8 times. `Lives.loudest_at_first` says what it
is in the run at hand: where it is above 3 at step 0, a life there is noise.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...asked import DATASET, asks
from ...errors import GrokinterpError, NotApplicable, UsageError
from ...shown import Found, Rows
from ..dataset import at_known_steps, final_keys

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

PLACES = {
    "W_E": ("power.W_E", None),
    "neurons": ("power.neurons", "variance.neurons"),
    "W_L": ("power.W_L", None),
    "logits": ("power.logits", "variance.logits"),
}
"""The measure of each place, and what it is a share of: its own sum where that is None. In the order in which
the network computes."""
BORN, DIES = 3.0, 1.5
"""Odds of the share of a frequency, over the odds of an even share, from which it is alive and below which it
is dead."""
VARIED = 1.5
"""Every life is judged again with both thresholds divided and multiplied by this."""

Fate = Literal["committed", "transient", "never"]


@dataclass(frozen=True)
class Life:
    """One frequency in one place.

    Attributes:
        freq: the frequency.
        place: "W_E", "neurons", "W_L" or "logits".
        born_after: the last snapshot before its birth; None where it was alive at the first one.
        born_by: the snapshot at which it is alive; None where it never is.
        died_after: the last snapshot at which it is alive; None where it has not died.
        died_by: the snapshot at which it is dead.
        lives: how often it was born. Where that is more than once, birth and death are those of the last
            life.
        fate: "committed" where it is alive at the last snapshot, "transient" where it was alive and is not,
            else "never".
        final_key: whether it is a key frequency of the final network.
        peak_share: its largest share of the power.
        peak_step: the step of that.
        born_by_lower: `born_by` with both thresholds divided by 1.5.
        born_by_higher: `born_by` with both thresholds multiplied by 1.5.
        same_fate: whether its fate is the same with all three.
    """

    freq: int
    place: str
    born_after: int | None
    born_by: int | None
    died_after: int | None
    died_by: int | None
    lives: int
    fate: Fate
    final_key: bool
    peak_share: float
    peak_step: int
    born_by_lower: int | None
    born_by_higher: int | None
    same_fate: bool


@dataclass(frozen=True, repr=False)
class Lives(Found):
    """What became of every frequency in every place.

    Attributes:
        share: [place, step, freq], the share of each frequency in what varies in the place; NaN at steps at
            which that is not known.
        lives: every frequency in every place that was measured.
        final_keys: the key frequencies of the final network.
        harmonics: the frequencies that the final network makes of others, each with its fundamental and how
            many times that it is.
        doubles: those that are twice a final key and that the final network embeds alone, each with that key.
        born: the share with which a frequency is born.
        dies: the share below which it dies.
        loudest_at_first: for each place the largest odds at its first snapshot, over those of an even share:
            noise, where that is step 0.
        skipped: why a place is missing.
    """

    share: xr.DataArray
    lives: tuple[Life, ...]
    final_keys: list[int]
    born: float
    dies: float
    loudest_at_first: dict[str, float]
    skipped: dict[str, str]
    harmonics: dict[int, tuple[int, int]] = field(default_factory=dict)
    doubles: dict[int, int] = field(default_factory=dict)

    def _in_a_line(self) -> str:
        places = ", ".join(map(str, self.share["place"].values))
        return f"of {self.share.sizes['freq']} frequencies in {places}"

    def _as_rows(self) -> Rows:
        fates: dict[str, dict[str, list[int]]] = {}
        for life in self.lives:
            if life.fate != "never":
                fates.setdefault(life.place, {}).setdefault(life.fate, []).append(life.freq)
        rows = [
            (f"{place}: {fate}", " ".join(map(str, freqs)))
            for place, of in fates.items()
            for fate, freqs in of.items()
        ]
        return [("final keys", " ".join(map(str, self.final_keys)) or "none"), *rows, *self.skipped.items()]

    def table(self) -> pd.DataFrame:
        """One row for each frequency and place, with the columns of `Life`; steps that do not exist are
        missing values."""
        import pandas as pd

        steps = ["born_after", "born_by", "died_after", "died_by", "born_by_lower", "born_by_higher"]
        return pd.DataFrame([asdict(life) for life in self.lives]).astype(dict.fromkeys(steps, "Int64"))

    @property
    def ever(self) -> list[int]:
        """The frequencies that were alive in some place."""
        return sorted({life.freq for life in self.lives if life.fate != "never"})

    @property
    def committed(self) -> list[int]:
        """Those that are alive at the last snapshot in some place."""
        return sorted({life.freq for life in self.lives if life.fate == "committed"})

    @property
    def transient(self) -> list[int]:
        """Those that were alive and are so nowhere at the last snapshot."""
        return sorted(set(self.ever) - set(self.committed))

    @property
    def sentence(self) -> str:
        """The whole in a few plain words: how many lived, which last, where each final key shows first."""
        places = _listed(self.share.place.values.tolist())
        of_all = f"Of {self.share.sizes['freq']} frequencies"
        if not self.ever:
            return f"{of_all} none ever stands out in {places}."
        stand = "stands" if len(self.ever) == 1 else "stand"
        lived = f"{len(self.ever)} {stand} out at some time in {places}"
        last = f"k = {_listed(self.committed)} to the end" if self.committed else "none to the end"
        went = f"k = {_listed(self.transient)} for a while" if self.transient else "none only for a while"
        multiples, places, noise = self._multiples(), self._first_places(), self._noise()
        return f"{of_all} {lived}: {last}, {went}.{multiples}{places}{noise}"

    def _multiples(self) -> str:
        """Which of them are no frequencies of their own."""
        times = {2: "twice", 3: "three times"}
        words = {k: f"a harmonic of {of}, {times[n]} that" for k, (of, n) in self.harmonics.items()}
        twice = {k: f"twice key {of}, at the end embedded alone" for k, of in self.doubles.items()}
        clauses = [f"k = {k} is {what}" for k, what in (*words.items(), *twice.items()) if k in self.ever]
        return f" Of the final network: {'; '.join(clauses)}." if clauses else ""

    def _noise(self) -> str:
        """A warning where one is alive at the first snapshot already: before training that is noise."""
        first = {place: self.share.sel(place=place).dropna("step")[0] for place in self.loudest_at_first}
        loud = [place for place, shares in first.items() if float(shares.max()) >= self.born]
        if not loud:
            return ""
        alive = f" At the first snapshot one is alive already in {_listed(loud)}"
        return f"{alive}: if that is before training, it is noise."

    def _first_places(self) -> str:
        clauses = []
        for k in self.final_keys:
            of_k = [life for life in self.lives if life.freq == k]
            births = {life.place: life.born_by for life in of_k if life.born_by is not None}
            if births:
                first = min(births.values())
                places = _listed(place for place, step in births.items() if step == first)
                clauses.append(f"k = {k} in {places} by step {first:,}")
        return f" The final keys show first: {'; '.join(clauses)}." if clauses else ""

    @property
    def sensitivity(self) -> str:
        """How far the thresholds decide, in a few plain words."""
        lived = [life for life in self.lives if life.fate != "never" or not life.same_fate]
        other = sum(not life.same_fate for life in lived)
        varied = f"With both thresholds divided or multiplied by {VARIED}"
        text = f"{varied}, {other} of {len(lived)} fates are others"
        moved: list[tuple[int, Life]] = []
        for life in lived:
            births = (life.born_by_lower, life.born_by, life.born_by_higher)
            steps = [step for step in births if step is not None]
            if life.same_fate and len(steps) == 3:
                moved.append((max(steps) - min(steps), life))
        if not moved:
            return text + "."
        most, life = max(moved, key=lambda pair: pair[0])
        apart = f"at most {most:,} steps apart ({life.freq} in {life.place})"
        return f"{text}; the births of the rest lie {apart}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: thresholds, sentences, and the lives of all that ever lived or are final keys."""
        shown = set(self.ever) | set(self.final_keys)
        return {
            "born": self.born,
            "dies": self.dies,
            "final_keys": self.final_keys,
            "harmonics": {str(k): list(of) for k, of in self.harmonics.items()},
            "doubles": {str(k): of for k, of in self.doubles.items()},
            "committed": self.committed,
            "transient": self.transient,
            "loudest_at_first": self.loudest_at_first,
            "sentence": self.sentence,
            "sensitivity": self.sensitivity,
            "skipped": self.skipped,
            "lives": [asdict(life) for life in self.lives if life.freq in shown],
        }


@asks("lives", data=DATASET)
def lives(data: xr.Dataset, born: float = BORN, dies: float = DIES) -> Lives:
    """When every frequency was born, whether it died, and its share of the power, from a replay with the
    default measures.

    A snapshot at which a measure does not apply is passed over: intervals are between the others.

    Args:
        data: what `gi.replay` gives; it needs those measures of `PLACES` whose places are of interest.
        born: odds, over those of an even share, from which a frequency is alive.
        dies: odds, over those of an even share, below which it is dead.

    Raises:
        NotApplicable: there are no frequencies, or there is one alone.
        UsageError: none of the measures was replayed, or the thresholds are not 0 < dies <= born.
    """
    if not 0 < dies <= born:
        raise UsageError(f"needs 0 < dies <= born, got dies={dies} and born={born}")
    shares: dict[str, xr.DataArray] = {}
    skipped: dict[str, GrokinterpError] = {}
    for place in PLACES:
        try:
            shares[place] = _share(data, place)
        except (NotApplicable, UsageError) as reason:
            skipped[place] = reason
    if not shares:
        raise next(iter(skipped.values()))
    final, n = final_keys(data), next(iter(shares.values())).sizes["freq"]
    of_places = (_lives_in(place, share, final, (born, dies)) for place, share in shares.items())
    harmonics, doubles = (json.loads(data.attrs.get(name, "{}")) for name in ("harmonics", "doubles"))
    return Lives(
        share=_stacked(shares, data.step.values.tolist()),
        lives=tuple(itertools.chain.from_iterable(of_places)),
        final_keys=final,
        born=_needed(born, n),
        dies=_needed(dies, n),
        loudest_at_first={place: _odds(share.values[0]) for place, share in shares.items()},
        skipped={place: str(reason) for place, reason in skipped.items()},
        harmonics={int(k): (of, order) for k, (of, order) in harmonics.items()},
        doubles={int(k): of for k, (of,) in doubles.items()},
    )


def _share(data: xr.Dataset, place: str) -> xr.DataArray:
    """[step, freq], at the steps at which it is known; 0 where nothing varies."""
    of, whole = PLACES[place]
    power = at_known_steps(data, of).transpose("step", "freq")
    if power.sizes["freq"] == 1:
        raise NotApplicable("there is one frequency alone, and no other from which it could stand out")
    total = power.sum("freq") if whole is None else at_known_steps(data, whole)
    return (power / total.where(total > 0)).fillna(0.0)


def _stacked(shares: dict[str, xr.DataArray], steps: list[int]) -> xr.DataArray:
    import xarray as xr

    rows = [share.reindex(step=steps) for share in shares.values()]
    stacked = xr.concat(rows, xr.Variable("place", list(shares)), coords="minimal", compat="override")
    ref = "here: power of a frequency over all that varies in the place"
    return stacked.rename("share").assign_attrs(unit="1", ref=ref)


def _needed(odds: float, n: int) -> float:
    """The share that has so many times the odds of an even share of n frequencies."""
    return odds / (odds + n - 1)


def _odds(shares: np.ndarray) -> float:
    """The largest odds of a share, over those of an even one; never infinite."""
    largest = float(shares.max())
    return largest / max(1 - largest, np.finfo(float).eps) * (len(shares) - 1)


def _alive(share: np.ndarray, born: float, dies: float) -> np.ndarray:
    """[step, freq] of shares -> which are alive, with memory between the thresholds."""
    alive = np.zeros(share.shape, dtype=bool)
    state = alive[0]
    for i, row in enumerate(share):
        state = alive[i] = (row >= born) | (state & (row >= dies))
    return alive


def _lives_in(place: str, share: xr.DataArray, final: Sequence[int], odds: tuple[float, float]) -> list[Life]:
    values, steps, frequencies = share.values, share.step.values.tolist(), share.freq.values.tolist()
    judged = []
    for factor in (1, 1 / VARIED, VARIED):
        born, dies = (_needed(factor * threshold, len(frequencies)) for threshold in odds)
        judged.append(_alive(values, born, dies))
    of_place = []
    for i, k in enumerate(frequencies):
        life, lower, higher = (_last_life(alive[:, i], steps) for alive in judged)
        peak = int(values[:, i].argmax())
        of_place.append(
            Life(
                freq=k,
                place=place,
                **life,
                final_key=k in final,
                peak_share=float(values[peak, i]),
                peak_step=steps[peak],
                born_by_lower=lower["born_by"],
                born_by_higher=higher["born_by"],
                same_fate=life["fate"] == lower["fate"] == higher["fate"],
            )
        )
    return of_place


def _last_life(alive: np.ndarray, steps: Sequence[int]) -> dict[str, Any]:
    changes = np.flatnonzero(np.diff(alive, prepend=False))  # births and deaths in turn
    births, deaths = changes[::2].tolist(), changes[1::2].tolist()
    at = {"born_after": None, "born_by": None, "died_after": None, "died_by": None}
    if births:
        at |= {"born_after": steps[births[-1] - 1] if births[-1] else None, "born_by": steps[births[-1]]}
    if births and not alive[-1]:
        at |= {"died_after": steps[deaths[-1] - 1], "died_by": steps[deaths[-1]]}
    fate = "committed" if alive[-1] else "transient" if births else "never"
    return at | {"lives": len(births), "fate": fate}


def _listed(words: Iterable[Any]) -> str:
    """1, 2 and 3."""
    *before, last = map(str, words)
    return f"{', '.join(before)} and {last}" if before else last
