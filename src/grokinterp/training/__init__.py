"""Configuration + task -> iterator of `Snapshot`. Never touches the disk."""

from .batched import BatchedTrainer, kind
from .batches import Fresh, Rows
from .config import StartConfig, TrainConfig, TrainingConfig, differences, doubt_of_default
from .devices import resolve_device
from .loss import LOSSES, OTHER, SQUARED, cross_entropy, squared_error
from .presets import DEFAULTS, PRESETS
from .schedule import METRICS, Condition, Progress, SnapshotConfig
from .trainer import Snapshot, State, Trainer, is_plain
