"""Loss and accuracy of the network as it is."""

from __future__ import annotations

import torch

from ..errors import NotApplicable
from ..tasks import Operation, Task
from ..view import View
from .base import Value, array, measure, per_part


@measure("loss", unit="nats", ref="Nanda et al. 2023, section 3")
def loss(view: View) -> Value:
    """Mean cross-entropy on the training, test and all examples, in float64.

    Where labels are noisy it is of the labels as they are given, and the corrupted and the clean training
    examples are parts as well; `clean_loss` is of the right answers.
    """
    return per_part(view, view.loss())


@measure("accuracy", unit="1", ref="Power et al. 2022, section 3")
def accuracy(view: View) -> Value:
    """Share of the training, test and all examples whose largest logit is the answer's.

    Where labels are noisy it is of the labels as they are given, and the corrupted and the clean training
    examples are parts as well; `clean_accuracy` is of the right answers.
    """
    return per_part(view, view.correct())


@measure(
    "accuracy.exact",
    unit="1",
    ref="here; called exact match, or sequence accuracy",
    each_answer=False,
    where=lambda task: len(task.reads.answers) > 1,
    replayed=True,
)
def exact(view: View) -> Value:
    """Share of the training, test and all examples of which every answer that is asked is right, where a task
    asks several, each given the right ones before it (teacher forcing)."""
    return per_part(view, view.all_right(), asked=view.task.asked)


def _judges_itself(task: Task) -> bool:
    return type(task).right is not Task.right


@measure(
    "accuracy.by_criterion",
    unit="1",
    ref="here: what the task itself calls right",
    each_answer=False,
    where=_judges_itself,
    replayed=True,
)
def by_criterion(view: View) -> Value:
    """Share of the training, test and all examples that are right by each criterion of a task that judges its
    answers itself; of answers that are written token by token as the network writes them, each token after
    its own before it (greedily, and not after the right ones)."""
    if view.task.written is None:
        classes = torch.stack([view.at(answer).logits.argmax(1) for answer in view.answers], dim=1)
    else:
        classes = view.decoded
    marks = view.task.judged(classes)
    return per_part(
        view, torch.stack(list(marks.values()), dim=1), asked=view.task.asked, criterion=list(marks)
    )


@measure(
    "accuracy.mirror",
    unit="1",
    ref="here: a memoriser that takes a, b for b, a is right on the mirror images of what it was trained on",
    of=Operation,
)
def mirrored(view: View) -> Value:
    """Share of right answers among unseen examples whose mirror image (b, a) was trained on, and among those
    of which it was not.

    Where an operation is commutative, only the second are new: on the first a network is right that memorises
    sums of two embeddings.

    Raises:
        NotApplicable: the operation is not commutative, the split is not known, or one kind has no example.
    """
    task = Operation.of(view.task)
    if not torch.equal(task.table, task.table.T):
        raise NotApplicable("the operation is not commutative: no example is the mirror image of another")
    unseen, right = view.rows("test"), view.correct(against="answers").double()
    a, b = task.pairs.unbind(1)
    trained = torch.zeros_like(task.table, dtype=torch.bool).index_put_((a, b), view.rows("train"))
    groups = [unseen & trained[b, a], unseen & ~trained[b, a]]
    if not all(group.any() for group in groups):
        images = "the mirror images of the unseen examples"
        raise NotApplicable(f"{images} were all trained on, or none of them was")
    shares = [float(right[group].mean()) for group in groups]
    return array(shares, "mirror", mirror=["trained on", "unseen"])


@measure(
    "loss.mse",
    unit="1",
    ref="Gromov 2023 (arXiv 2301.02679), section 2: the loss that his networks are trained on",
    gauge=("shift",),
)
def squared_error(view: View) -> Value:
    """Mean squared distance of the logits from the one-hot label, over examples and classes: the loss of
    training with `loss = "mse"`."""
    return per_part(view, view.squared_error())


@measure(
    "loss.stablemax",
    unit="nats",
    ref='Prieto et al. 2025 (arXiv 2501.04697): the loss of training with `loss = "stablemax"`',
    gauge=("shift",),
)
def stablemax(view: View) -> Value:
    """Mean cross-entropy under the probabilities of StableMax, in place of the softmax's: s(z_c) over the sum
    of all, s(z) being z + 1 for z >= 0 and 1 / (1 - z) below."""
    logits = view.class_logits
    terms = torch.where(logits < 0, 1 / (1 - logits.clamp(max=0)), logits + 1)
    wrong = terms.scatter(1, view.labels[:, None], 0.0).sum(1)
    return per_part(view, (wrong / terms.gather(1, view.labels[:, None])[:, 0]).log1p())
