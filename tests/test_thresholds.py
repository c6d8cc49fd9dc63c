"""Thresholds in words are those of the code: of each sentence that names one, the number is made of the
constant that decides."""

from __future__ import annotations

import inspect
import math
from importlib import import_module

import pytest

from grokinterp import standing
from grokinterp.replay import phases
from test_phases import EXAMPLES, evaluated, made_up

noise, keys, neurons, sufficiency = (
    import_module(f"grokinterp.measures.{name}")
    for name in ("noise", "waves.keys", "waves.neurons", "waves.sufficiency")
)
steps_to_learn, lives, of_phases, spikes = (
    import_module(f"grokinterp.replay.{name}")
    for name in ("steps_to_learn", "frequencies.lives", "phases", "spikes")
)
KEPT = 100 * (standing.GENERALISED - of_phases._FORGOTTEN)
KEPT_OF_NOISE = 100 * (noise.KNOWN - of_phases._FORGOTTEN)
WORDS = {2: "twice", 3: "three", 8: "eight", 10: "ten", 50: "fifty", 0.25: "a quarter", 0.5: "half"}


def in_words(number: float) -> str:
    return WORDS[number]


def in_per_cent(share: float) -> str:
    return f"{100 * share:g} %"


def module(named: object) -> str:
    return " ".join((inspect.getdoc(named) or "").split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (module(of_phases), f"restricted loss <= {in_per_cent(of_phases._LEFT)}, excluded"),
        (module(of_phases), f"loss >= {in_per_cent(of_phases._CARRIED)} of chance"),
        (module(of_phases), f"since then {in_per_cent(of_phases._FALLEN)} of the fall"),
        (module(of_phases), f"training accuracy reaches {in_per_cent(steps_to_learn.LEARNED)}"),
        (module(of_phases), f"right on {in_per_cent(standing.GENERALISED)} of unseen examples"),
        (module(of_phases), f"{in_per_cent(noise.KNOWN)} of them are to generalise"),
        (module(of_phases), f"and {KEPT_OF_NOISE:.0f} % stand for {KEPT:.0f}"),
        (module(of_phases), f"test accuracy falls below {KEPT:.0f} %"),
        (module(of_phases), f"reached {in_per_cent(of_phases._HALF)} after {in_words(of_phases._AT_ONCE)} "
        "the steps"),
        (module(spikes), f"{in_words(spikes.LEAST)} times the lowest value on either side"),
        (module(spikes), f"{in_words(spikes._DEVIATIONS)} deviations, from the differences"),
        (module(spikes), f"at most {in_words(spikes._LONGEST)} of the"),
        (module(spikes), f"more than {in_words(spikes._TIMES_THE_MEDIAN)} times the median of the "
        f"{in_words(spikes._AROUND)} evaluations"),
        (spikes.slingshots_in_words([], "mse"), f"above {spikes._TIMES_THE_MEDIAN:g} times its running "
        "median"),
        (module(lives), f"{in_words(lives.BORN)} times the odds"),
        (module(lives), f"{lives.BORN:g} / (n + {lives.BORN - 1:g})"),
        (module(lives), f"{lives.DIES:g} / (n + {lives.DIES - 1:g}), {in_words(lives.DIES / lives.BORN)} of "
        "those odds"),
        (module(keys.by_embedding), f"more than {in_words(keys.LOUD)} of the largest norm"),
        (module(keys.by_readout), f"more than {in_words(keys.LOUD)} of the largest norm"),
        (module(keys.by_neurons), f"more than {in_per_cent(neurons.EXPLAINED)} of the variance"),
        (module(keys), "at most a tenth of its power is left"),
        (module(keys), "with its own waves taken out of the embedding at least nine tenths"),
        (module(standing), f"at least {in_per_cent(standing.GENERALISED)} right"),
        (module(standing), f"of which {in_per_cent(noise.KNOWN)} count as generalised"),
        (module(sufficiency.smallest_sufficient), f"loss <= {sufficiency.ENOUGH_LOSS:g} x"),
        (noise.NEEDS["forgetting"], f"within {noise._NEAR_CHANCE:g} of chance, where one was >= "
        f"{noise._HALF:g} before"),
    ],
)  # fmt: skip
def test_words_name_the_constants(text, said):
    assert said in text


def test_shares_of_harmonics_are_a_tenth_and_nine_tenths():
    assert (keys._GONE, keys._STAYS) == (0.1, 0.9)


def test_the_table_of_standing_is_what_it_decides():
    for right, state in ((0.98999, "learning"), (0.99, "generalises")):
        assert EXAMPLES.standing(1.0, right).state == state


@pytest.mark.parametrize(
    "share", [0.98957, 0.98999999, 0.8999, 0.49999, 0.990001, 1e-9, 0.99999, 0.3, 0.9, 0.99, 0.5]
)
def test_a_share_is_shown_on_its_own_side_of_every_threshold(share):
    shown = float(standing.percent(share).removesuffix(" %"))
    for threshold in (0, 50, 90, 99, 100):
        assert (shown < threshold, shown > threshold) == (100 * share < threshold, 100 * share > threshold)


def test_a_loss_beside_the_rule_is_in_nats():
    formed = phases(*made_up()).boundaries[1]
    assert (
        f"{in_per_cent(of_phases._LEFT)} of the loss of chance is {of_phases._LEFT * math.log(100):.3g} nats"
        in formed.note
    )


@pytest.mark.parametrize("right", [0.98957, 0.985, 0.98, 0.97, 0.5])
def test_what_is_below_a_threshold_is_not_printed_as_it(right):
    found = phases(
        made_up()[0].drop_vars(["restricted_loss.logit_dirs@final_keys"]),
        evaluated([0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, right]),
    )
    assert "99 % of unseen" not in found.sentence
    assert "99.0 %" not in found.sentence
