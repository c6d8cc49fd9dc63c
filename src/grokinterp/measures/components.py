"""The loss without each component of the network, beside matched random controls, per kind of ablation.

What is ablated and what the controls are is said in ablation.py, which takes any component, neuron or hook.
"""

from __future__ import annotations

import functools

from ..tasks import Task
from ..view import View
from .ablation import ablate
from .base import Value, array
from .base import measure as of_any_task
from .sites import needs

DRAWS = 5
"""Random controls of each ablation."""
MAINLINE = "Nanda et al. 2023, released notebook"


def _is_one_answer_to_tokens(task: Task) -> bool:
    return len(task.reads.answers) == 1 and task.reads.d_vocab > 0


measure = functools.partial(of_any_task, where=_is_one_answer_to_tokens)
"""Registers a measure that a report takes of tasks with one answer to tokens: of several, and of networks
that read images, a pass for each part, control and answer takes minutes, so that it is measured where it is
asked for by name."""


@measure(
    "ablation.heads", unit="nats", ref="mean ablation as in Wang et al. 2023 (arXiv 2211.00593), section 2"
)
def heads(view: View) -> Value:
    """Rise of the loss over all examples when what a head writes at the answer position is replaced by its
    mean."""
    needs(view, "attention")
    numbers, before = range(view.heads[0].count), float(view.loss().mean())
    rises = [
        [ablate(view, "head", (layer, head), draws=0).after.loss["all"] - before for head in numbers]
        for layer in range(len(view.heads))
    ]
    return array(rises, ("layer", "head"), layer=view.layers_of(view.heads), head=numbers)


@measure("ablation.attention", unit="nats", ref=f"{MAINLINE} (zero: 24.3)")
def attention(view: View) -> Value:
    """Loss over all examples when what all heads write at the answer position is replaced by zero or its
    mean, and that of controls."""
    return _zero_and_mean(view, "attention")


@measure("ablation.mlp", unit="nats", ref=MAINLINE, gauge=("scale",))
def mlp(view: View) -> Value:
    """Loss over all examples when what the MLPs write at the answer position is replaced by zero or its mean,
    and that of controls.

    These turn what is added to the stream; of a perceptron whose neurons are read by the logits, the neurons,
    which have a scale.
    """
    return _zero_and_mean(view, "mlp")


@measure("ablation.skip.attention", unit="nats", ref=f"{MAINLINE} (zero: 19.1)")
def skip_attention(view: View) -> Value:
    """Loss over all examples when the stream round the last attention is replaced by zero or its mean, and
    that of controls."""
    return _zero_and_mean(view, "skip.attention")


@measure("ablation.skip.into_mlp", unit="nats", ref="here: the skip of the attention, for the MLP alone")
def skip_into_mlp(view: View) -> Value:
    """Loss over all examples when the last MLP reads zero or the mean in place of the stream round the
    attention, and that of controls."""
    return _zero_and_mean(view, "skip.into_mlp")


@measure("ablation.skip.mlp", unit="nats", ref=f"{MAINLINE} (zero 9.12e-7, mean 7.25e-7, of 2.41e-7)")
def skip_mlp(view: View) -> Value:
    """Loss over all examples when the stream round the last MLP is replaced by zero or its mean, and that of
    controls."""
    return _zero_and_mean(view, "skip.mlp")


def _zero_and_mean(view: View, what: str) -> Value:
    hows, statistic = ["zero", "mean"], ["loss", "control mean", "control sd"]
    ablations = [ablate(view, what, how=how, draws=DRAWS) for how in hows]
    values = [[ablation.after.loss["all"], *ablation.control_loss()] for ablation in ablations]
    return array(values, ("how", "statistic"), how=hows, statistic=statistic)
