"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .dataset import FINAL, PROGRESS, replay
from .flows import NeuronFlows, neuron_flows
from .keys import keys_over_time, where_keys_differ
from .lives import Life, Lives, lives
from .pictures import PICTURES

__all__ = [
    "FINAL",
    "PICTURES",
    "PROGRESS",
    "Life",
    "Lives",
    "NeuronFlows",
    "keys_over_time",
    "lives",
    "neuron_flows",
    "replay",
    "where_keys_differ",
]
