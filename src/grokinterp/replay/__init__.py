"""How a circuit forms: measures at every snapshot of a run, and what can be said of them as a whole."""

from .circuits import Alike, Circuit, Circuits, circuits
from .comparison import Compared, Group, RunsCompared
from .dataset import FINAL, PROGRESS, families_of, final_keys, pictures_of, progress_of, replay, skipped
from .descent import (
    Course,
    Plateau,
    courses,
    courses_in_words,
    has_plateaus,
    levels_to_draw,
    nats_in_words,
    plateaus,
)
from .distributions import Elsewhere, elsewhere
from .export import check_format, export, table, tidy
from .frequencies import final as _final_network
from .frequencies.flows import NeuronFlows, neuron_flows
from .frequencies.keys import keys_over_time, where_keys_differ
from .frequencies.lives import Life, Lives, lives
from .frequencies.pictures import PICTURES
from .graduation import graduation
from .grouped import NAMED_BY_LIU, Cell, RunsBy, Tested
from .noise_phases import NoiseSpan, noise_in_words, noise_spans
from .phases import Boundary, Kind, Lead, Phase, Phases, kind_of, phases
from .readability import Readable, readable
from .spikes import (
    Spike,
    leaps,
    leaps_in_words,
    slingshots,
    slingshots_in_words,
    spikes,
    spikes_in_words,
    steps_in_words,
)
from .steps_to_learn import Delay, Reached, Transfer, delay, judged_by, median_steps, reached, transfer
from .survival import LogRank, Survival, holm, log_rank, survival
from .thinning import boundary_steps, thin
