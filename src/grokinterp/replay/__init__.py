"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .comparison import Compared, Group, RunsCompared
from .corruption import NoiseSpan, noise_in_words, noise_spans
from .dataset import FINAL, PROGRESS, progress_of, replay
from .export import check_format, export, table
from .flows import NeuronFlows, neuron_flows
from .keys import keys_over_time, where_keys_differ
from .learned import Delay, Reached, Transfer, delay, judged_by, median_steps, reached, transfer
from .lives import Life, Lives, final_keys, lives, skipped
from .phases import Boundary, Lead, Phase, Phases, phases
from .pictures import PICTURES
from .spikes import Spike, slingshots, slingshots_in_words, spikes, spikes_in_words

__all__ = [
    "FINAL",
    "PICTURES",
    "PROGRESS",
    "Boundary",
    "Compared",
    "Delay",
    "Group",
    "Lead",
    "Life",
    "Lives",
    "NeuronFlows",
    "NoiseSpan",
    "Phase",
    "Phases",
    "Reached",
    "RunsCompared",
    "Spike",
    "Transfer",
    "check_format",
    "delay",
    "export",
    "final_keys",
    "judged_by",
    "keys_over_time",
    "lives",
    "median_steps",
    "neuron_flows",
    "noise_in_words",
    "noise_spans",
    "phases",
    "progress_of",
    "reached",
    "replay",
    "skipped",
    "slingshots",
    "slingshots_in_words",
    "spikes",
    "spikes_in_words",
    "table",
    "transfer",
    "where_keys_differ",
]
