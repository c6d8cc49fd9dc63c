"""What a network makes of noisy labels: how it does against right answers, the noise that it has learned, and
what nobody can do better.

Losses and accuracies elsewhere are of the labels as they are given: the same where nothing is noisy.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float64

from ..asked import asks
from ..errors import NotApplicable
from ..standing import KNOWN
from ..tasks import Operation
from ..tasks.noise import Noise
from ..view import View
from .base import Value, array, per_part
from .operands import measure

DOSHI = "Doshi et al. 2024 (arXiv 2310.13061), section 3"
_NOTEBOOK = "seiferfl/neural-circuit-lab, grokking_with_noise.ipynb"
_FARTHEST = 3


def _is_noisy(task: Operation) -> bool:
    return task.noisy


@measure("clean_accuracy", unit="1", ref=DOSHI)
def clean_accuracy(view: View) -> Value:
    """Share of the examples of each part whose largest logit is the right answer's, whatever their labels.

    Of the corrupted examples it is the share that is inverted: answered rightly though the label is wrong.
    """
    return per_part(view, view.correct(against="answers"))


@measure("clean_loss", unit="nats", ref=_NOTEBOOK + ": cross-entropy, here against right answers")
def clean_loss(view: View) -> Value:
    """Mean cross-entropy of the examples of each part against the right answers, whatever their labels."""
    return per_part(view, view.loss(against="answers"))


@measure("noise.profile", unit="1", ref=_NOTEBOOK + ": the softmax at clean + k, averaged", where=_is_noisy)
def profile(view: View) -> Value:
    """Probability that the network gives to the class k places after the right answer, k = −3 .. 3, as a mean
    over each part.

    A network that has learned rule and noise gives the noise's own distribution, one that has memorised gives
    next to the same to every k on test examples. Trained by squared error, logits are no logarithms: look at
    accuracies there.
    """
    _noise(view)
    order = Operation.of(view.task).ring
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    farthest = min(_FARTHEST, (len(order) - 1) // 2)
    offsets = list(range(-farthest, farthest + 1))
    classes = order[(place[view.targets][:, None] + torch.tensor(offsets)) % len(order)]
    return per_part(view, view.probabilities.gather(1, classes), offset=offsets)


@measure(
    "noise.bayes_loss",
    unit="nats",
    ref="Shannon 1948, section 6: the entropy of the labels, given the right answers",
    where=_is_noisy,
)
def bayes_loss(view: View) -> Value:
    """The least cross-entropy for who knows the rule and how labels are drawn, but not what was drawn: the
    entropy of the noise."""
    return _where_noisy(view, noisy=float(torch.special.entr(_shifts(view)).sum()), clean=0.0)


@measure(
    "noise.bayes_accuracy",
    unit="1",
    ref=f"{DOSHI}: 1 − ξ and what uniform labels hit",
    where=_is_noisy,
)
def bayes_accuracy(view: View) -> Value:
    """The best accuracy for who knows the rule and how labels are drawn, but not what was drawn: how likely
    the likeliest label is."""
    return _where_noisy(view, noisy=float(_shifts(view).max()), clean=1.0)


def _noise(view: View) -> Noise:
    if (noise := Operation.of(view.task).noise) is None:
        raise NotApplicable("the task has no noise: every label is the right answer")
    return noise


def _shifts(view: View) -> Float64[torch.Tensor, "m"]:
    """How likely a noisy label is k places after the right answer."""
    return _noise(view).shifts(len(Operation.of(view.task).ring))


def _where_noisy(view: View, noisy: float, clean: float) -> Value:
    """One value where labels are noisy and another where they are not, as means over training, test and all
    examples."""
    values = torch.full((view.task.n_inputs,), noisy, dtype=torch.float64)
    if _noise(view).test == "clean":
        values[view.rows("test")] = clean
    parts = [part for part in view.parts if part in ("train", "test", "all")]
    return array([float(values[view.rows(part)].mean()) for part in parts], "part", part=parts)


NoisePhase = Literal[
    "not trained", "memorisation", "coexistence", "partial inversion", "full inversion", "forgetting",
    "in between",
]  # fmt: skip
INVERTED = 0.95
"""Share of the corrupted examples answered rightly from which the inversion is full."""
_HALF = 0.5
_NEAR_CHANCE = 0.05
NEEDS: dict[NoisePhase, str] = {
    "memorisation": f"accuracy (train) and (corrupted) >= {KNOWN}, clean_accuracy (test) < {_HALF}",
    "coexistence": f"clean_accuracy (test) and accuracy (corrupted) >= {KNOWN}",
    "partial inversion": f"clean_accuracy (test) >= {KNOWN}, accuracy (corrupted) < {KNOWN}, clean_accuracy "
    f"(corrupted) < {INVERTED}",
    "full inversion": f"clean_accuracy (test) >= {KNOWN}, clean_accuracy (corrupted) >= {INVERTED}",
    "forgetting": f"accuracy (train) and clean_accuracy (test) within {_NEAR_CHANCE} of chance, where one "
    f"was >= {_HALF} before",
}
"""What decides each of the named phases, in words."""


@asks("noise_phase")
def noise_phase(
    train: float, test: float, corrupted: float, inverted: float, chance: float, *,
    learned_before: bool = False
) -> NoisePhase:  # fmt: skip
    """The phase of a network among those of Doshi et al. 2024, by its accuracies.

    | phase | test, right answers | training |
    |---|---|---|
    | coexistence | >= .9 | >= .9 of the corrupted labels are given |
    | full inversion | >= .9 | >= .95 of the corrupted examples are answered rightly |
    | partial inversion | >= .9 | anything else: some corrupted labels are given, some inverted |
    | memorisation | < .5 | >= .9 of all labels, and of the corrupted ones |
    | forgetting | at chance | at chance, and was not before |
    | not trained | at chance | at chance, as ever |
    | in between | anything else | anything else |

    "At chance" is at most .05 above it. The paper defines the phases in words; the numbers are ours.

    Args:
        train: accuracy on all training examples, against the labels as they are given.
        test: accuracy on the test examples, against the right answers.
        corrupted: accuracy on the training examples with wrong labels, against these labels.
        inverted: accuracy on the same, against the right answers.
        chance: the accuracy of guessing, one over the number of answers.
        learned_before: whether train or test accuracy was a half or more at an earlier step.
    """
    if test >= KNOWN:
        if corrupted >= KNOWN:
            return "coexistence"
        return "full inversion" if inverted >= INVERTED else "partial inversion"
    if train >= KNOWN and corrupted >= KNOWN and test < _HALF:
        return "memorisation"
    if max(train, test) <= chance + _NEAR_CHANCE:
        return "forgetting" if learned_before else "not trained"
    return "in between"


def learned(train: float, test: float) -> bool:
    """Whether so much is known that losing it is forgetting."""
    return max(train, test) >= _HALF
