"""Configuration + task -> iterator of `Snapshot`. Never touches the disk."""

from .config import TrainConfig, TrainingConfig, differences
from .loss import LOSSES, cross_entropy, squared_error
from .presets import PRESETS
from .schedule import METRICS, Condition, SnapshotConfig
from .trainer import Snapshot, State, Trainer

__all__ = [
    "LOSSES",
    "METRICS",
    "PRESETS",
    "Condition",
    "Snapshot",
    "SnapshotConfig",
    "State",
    "TrainConfig",
    "Trainer",
    "TrainingConfig",
    "cross_entropy",
    "differences",
    "squared_error",
]
