"""A trained network that can only have memorised."""

from __future__ import annotations

import functools

import grokinterp as gi
from grokinterp.training import TrainConfig, Trainer


@functools.cache
def memoriser() -> gi.View:
    """A network that knows its training examples by heart: the table is random, so there is nothing else to
    know."""
    config = TrainConfig.make(
        {"task": {"name": "random_table", "p": 23}, "model": {"d_model": 64, "n_heads": 4, "d_mlp": 256}},
        **{
            "training.fraction": 0.5,
            "training.lr": 3e-3,
            "training.weight_decay": 0.0,
            "training.steps": 400,
        },
    )
    trainer = Trainer(config)
    *_, last = trainer
    weights = {name: weight.detach().clone() for name, weight in last.weights.items()}
    return gi.view(config.model.hooked(trainer.task.reads, weights), trainer.task, last.step, trainer.split)
