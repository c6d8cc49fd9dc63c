"""What the rules for key frequencies must say: on the clock, on a random network, and by a slower route."""

from __future__ import annotations

import math

import numpy as np

import grokinterp as gi
from expected_losses import KEYS, P, along_answers, columns, logits_of, losses, readout
from grokinterp.measures import circular

RULE_NAMES = ("w_e_norm", "gap", "neurons", "w_l", "load_bearing", "logits")
RULES = [f"key_frequencies.{rule}" for rule in ("consensus", "gap", "w_l", "load_bearing")]

ON_THE_CLOCK = {rule: [k in KEYS for k in range(1, P // 2 + 1)] for rule in RULES}

ON_A_RANDOM_NETWORK = {
    "key_frequencies.consensus": lambda x: not x.any(),
    "key_frequencies.gap": lambda x: not x.any(),
    "key_frequencies.w_l": lambda x: x.all() or not x.any(),  # no frequency is told from another
    "key_frequencies.load_bearing": lambda x: not x.any(),
}


def norms(matrix: np.ndarray, k: int) -> list[float]:
    """Of the components of frequency k of a matrix whose rows are residues."""
    waves = columns(np.arange(len(matrix)), len(matrix), [k])
    return [float(np.linalg.norm(wave @ matrix) / np.linalg.norm(wave)) for wave in waves.T]


def loud(matrix: np.ndarray) -> list[bool]:
    found = [norms(matrix, k) for k in range(1, len(matrix) // 2 + 1)]
    largest = max(max(each) for each in found)
    return [max(each) > largest / 4 for each in found]


def above_the_gap(view) -> list[bool]:
    """By trying every place at which the list of powers, largest first, could be cut."""
    power = {k: sum(norm**2 for norm in norms(view.W_E.numpy(), k)) for k in range(1, view.task.p // 2 + 1)}
    ranked = sorted(power, key=power.__getitem__, reverse=True)
    cuts = [
        (power[ranked[i]] / power[ranked[i + 1]], i)
        for i in range(len(ranked) // 2)
        if power[ranked[i]] >= 0.01 * sum(power.values()) and power[ranked[i]] >= 2 * power[ranked[i + 1]]
    ]
    kept = ranked[: max(cuts)[1] + 1] if cuts else []
    return [k in kept for k in power]


def bears_load(view) -> list[bool]:
    whole = losses(view, logits_of(view))[-1]
    without = [
        losses(view, logits_of(view) - along_answers(view, [k], logits_of(view)))[-1]
        for k in range(1, view.task.p // 2 + 1)
    ]
    return [loss > 10 * whole or loss - whole >= math.log(view.task.p) / 2 for loss in without]


def by_vote(view) -> list[bool]:
    """Of the rules that mark at most half of the frequencies, by counting hands."""
    votes = [gi.measure(f"key_frequencies.{rule}", view).values for rule in RULE_NAMES]
    telling = [vote for vote in votes if len(vote) < 5 or 2 * vote.sum() <= len(vote)]
    return [2 * sum(bool(vote[k]) for vote in telling) > len(telling) for k in range(circular(view).m // 2)]


SLOWLY = {
    "key_frequencies.consensus": by_vote,
    "key_frequencies.gap": above_the_gap,
    "key_frequencies.w_l": lambda view: loud(readout(view).T),
    "key_frequencies.load_bearing": bears_load,
}

OF_THE_READOUT = {"key_frequencies.w_l"}
