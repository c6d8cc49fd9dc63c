"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .corruption import NoiseSpan, noise_in_words, noise_spans
from .dataset import FINAL, PROGRESS, progress_of, replay
from .export import check_format, export, table
from .flows import NeuronFlows, neuron_flows
from .keys import keys_over_time, where_keys_differ
from .lives import Life, Lives, final_keys, lives, skipped
from .phases import Boundary, Lead, Phase, Phases, phases
from .pictures import PICTURES
from .spikes import Spike, spikes, spikes_in_words

__all__ = [
    "FINAL",
    "PICTURES",
    "PROGRESS",
    "Boundary",
    "Lead",
    "Life",
    "Lives",
    "NeuronFlows",
    "NoiseSpan",
    "Phase",
    "Phases",
    "Spike",
    "check_format",
    "export",
    "final_keys",
    "keys_over_time",
    "lives",
    "neuron_flows",
    "noise_in_words",
    "noise_spans",
    "phases",
    "progress_of",
    "replay",
    "skipped",
    "spikes",
    "spikes_in_words",
    "table",
    "where_keys_differ",
]
