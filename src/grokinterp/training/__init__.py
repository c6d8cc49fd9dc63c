"""Configuration + task -> iterator of `Snapshot`. Never touches the disk."""

from .batched import BatchedTrainer, kind
from .config import StartConfig, TrainConfig, TrainingConfig, differences
from .loss import LOSSES, cross_entropy, squared_error
from .presets import PRESETS
from .schedule import METRICS, Condition, SnapshotConfig
from .trainer import Snapshot, State, Trainer, folds, resolve_device

__all__ = [
    "LOSSES",
    "METRICS",
    "PRESETS",
    "BatchedTrainer",
    "Condition",
    "Snapshot",
    "SnapshotConfig",
    "StartConfig",
    "State",
    "TrainConfig",
    "Trainer",
    "TrainingConfig",
    "cross_entropy",
    "differences",
    "folds",
    "kind",
    "resolve_device",
    "squared_error",
]
