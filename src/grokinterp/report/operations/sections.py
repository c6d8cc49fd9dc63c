"""What the report says of a network that has learned a binary operation: its table, and the subjects of the
Fourier story."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

from ...errors import NotApplicable
from ...measures.numbers import on_a_line
from ...measures.waves.neurons import EXPLAINED
from ...replay import FINAL
from ...tasks import Operation, TableFacts
from ...training import SQUARED
from ..offline import page_of_figures
from ..panels import Drawing, Figure, Panel, Section, opening, section
from . import figures
from .analysis import OperationAnalysis, has_frequencies

_PLACES = {"W_E": "the embedding", "neurons": "the neurons", "W_L": "the readout W_L", "logits": "the logits"}
_MOST_CIRCLES = 9
_MOST_PANELS = 6
"""Key frequencies that get a picture of their own; with more, the page says how many are left out."""


def render_table(task: Operation) -> str:
    """The page about a task alone."""
    made = Section("The table", _table_lead(task), list(_table_panels(task)))
    return page_of_figures("table.html", still=True, symbol=task.symbol, section=made)


def in_words(facts: TableFacts) -> list[str]:
    """What a table shows, a sentence each."""
    scores = {
        "T[b, a]": facts.symmetry,
        "−T[b, a]": facts.antisymmetry,
        "−T[b, a] mod p": facts.antisymmetry_mod,
    }
    alike = {words: share for words, share in scores.items() if share is not None}
    shares = [f"{100 * share:.2f} % have T[a, b] = {words}" for words, share in alike.items()]
    each = f", each to {facts.counts[0]:,} of them" if _all_alike(facts) else ""
    commonest = (
        f"The value counts have {facts.entropy:.4f} of the entropy of equal ones, and always giving the "
        f"commonest answer is right for {100 * facts.majority:.2f} %"
    )
    return [
        f"It is {facts.structure}",
        f"{len(facts.counts)} answers to {facts.examples:,} pairs{each}",
        *([f"Of the pairs a < b, {', '.join(shares)}; T[a, b] is the answer to a and b"] if shares else []),
        *([] if each else [commonest]),
    ]


def _all_alike(facts: TableFacts) -> bool:
    """Whether every answer has as many pairs."""
    return len({*facts.counts}) == 1


@section("The table", lambda a: _table_lead(a.task), of=Operation)
def _table(a: OperationAnalysis) -> Iterator[Panel]:
    return _table_panels(a.task)


def _table_lead(task: Operation) -> str:
    return " ".join(f"{sentence}." for sentence in in_words(task.facts))


def _table_panels(task: Operation) -> Iterator[Panel]:
    """What the table of a task shows before any network is trained."""
    caption = "The answer to every pair, as the network has to learn it."
    yield Panel("a ∘ b", caption, Drawing(figures.table(task)))
    if (circle := task.facts.circle) is not None:
        caption = (
            "Stripes along a + b: operands and answers stand on a circle, and the network may use its "
            "frequencies."
        )
        yield Panel("In the order of the group", caption, Drawing(figures.table(task, circle)))
    if not _all_alike(task.facts):
        yield Panel("Value counts", "How many pairs have each answer.", Drawing(figures.value_counts(task)))


@section(
    "Label noise",
    "Losses and accuracies are of the labels as they are given. Corrupted are the training examples whose "
    "labels are wrong, clean the others.",
    of=Operation,
    needs=["noise.profile"],
    where=lambda a: a.noisy,
)
def _noise(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Mean probability of the class k places after the right answer. Red: how labels are drawn."
    if a.run.config.training.loss in SQUARED:
        caption += " Trained by squared error, logits are no logarithms: accuracies tell more."
    figure = Figure(figures.noise_profile(a))
    yield Panel("What it has learned of the noise", caption, figure, size="wide")


section_of_waves = partial(section, of=Operation, where=has_frequencies)
"""A section about operations whose elements stand on a circle."""


def _stands_on_circles(a: OperationAnalysis) -> bool:
    """Whether it has key frequencies and has learned more than its training examples."""
    return bool(a.keys_used) and a.standing.state not in ("at chance", "memorises")


@opening(
    "circles", "", of=Operation, needs=["fourier_norms.W_E"],
    where=lambda a: _stands_on_circles(a) and not on_a_line(a.task),
)  # fmt: skip
def _opens(a: OperationAnalysis) -> Iterator[Panel]:
    """The circles of the key frequencies."""
    keys = a.keys_used[:_MOST_CIRCLES]
    more = len(a.keys_used) - len(keys)
    caption = "The elements in the embedding's planes of cos k and sin k; colour goes round with k·a." + (
        f" {more} more key frequencies are not drawn." if more else ""
    )
    yield Panel("Circles", caption, Drawing(figures.circles(a, keys)))
    if len(a.history) < 2:  # there are no learning curves beside them
        caption = "Left bar cosine, right bar sine of each frequency in the embedding; keys are red."
        yield Panel("Frequencies", caption, Drawing(figures.embedding_spectrum(a)))


@section_of_waves(
    "Frequencies over training",
    lambda a: f"{a.lives.sentence} {a.lives.sensitivity}" if a.lives else "",
)
def _formation(a: OperationAnalysis) -> Iterator[Panel]:
    """When each frequency came and went, in each place; the final keys beside those of each snapshot."""
    if a.lives is None:
        raise NotApplicable(a.not_replayed or "there are no frequencies")
    if "restricted_loss.logit_dirs" + FINAL in a.replayed:
        caption = (
            "At the snapshots. The circuit is formed where the key frequencies alone do the task, and what "
            "is left without them fails."
        )
        yield Panel("Progress measures", caption, Figure(figures.progress_measures(a)), size="wide")
    lived_in = {life.place for life in a.lives.lives if life.fate != "never"}
    for place, words in _PLACES.items():
        if place in lived_in and place in a.lives.share.place.values:
            caption = "Share of the power; grey: not a key in the end; dotted line: born."
            yield Panel(f"In {words}", caption, Figure(figures.lives(a, place)))
    if "restricted_loss.logit_dirs" in a.replayed:
        caption = (
            "The same measure with the keys that each snapshot shows; where it has none yet there is no "
            "point."
        )
        yield Panel("Does it matter whose keys?", caption, Figure(figures.keys_differ(a)), size="wide")


def _embedding_lead(a: OperationAnalysis) -> str:
    lead = (
        "If the network works with frequencies, few components of W_E are long, and the elements lie on "
        "circles in their planes."
    )
    more = len(a.keys_used) - _MOST_PANELS
    return lead + (f" {more} more key frequencies are not drawn." if more > 0 else "")


@section_of_waves("Embedding", _embedding_lead, needs=["fourier_norms.W_E"])
def _embedding(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Left bar cosine, right bar sine; key frequencies are red."
    yield Panel("Spectrum of W_E", caption, Figure(figures.embedding_spectrum(a)), size="wide")
    caption = "Elements on the first two, coloured in their order."
    yield Panel("Principal components", caption, Figure(figures.pca_plane(a)))
    for k in a.keys_used[:_MOST_PANELS]:
        measures = ("circle.angle", "circle.radius_spread")
        angle, spread = (float(a.measured(name).sel(freq=k)) for name in measures)
        caption = (
            f"Angle follows {k}·a to {angle:.3f} (1 is exact), radius spread {spread:.2f} (0 is a perfect "
            "circle)."
        )
        yield Panel(f"Circle of k = {k}", caption, Figure(figures.circle(a, k)))


@section_of_waves(
    "Neurons",
    "A neuron of one frequency is a function of a and b with that period. Activations after the "
    "nonlinearity, at the answer position.",
    needs=["neuron.clusters", "neuron.explained_variance"],
)
def _neurons(a: OperationAnalysis) -> Iterator[Panel]:
    caption = f"Neurons of which one frequency explains > {EXPLAINED:.0%} of the variance."
    yield Panel("Clusters", caption, Figure(figures.neuron_clusters(a)))
    caption = f"Right of the line ({EXPLAINED}) a neuron counts."
    yield Panel("Explained variance", caption, Figure(figures.neuron_explained_variance(a)))
    caption = "Bright points off the axes are products of waves in a and b."
    yield Panel("2-D spectrum of all neurons", caption, Figure(figures.neuron_spectrum(a)))
    for k in a.keys_used[:_MOST_PANELS]:
        if (example := figures.example_neuron(a, k)) is not None:
            figure, neuron, share = example
            caption = (
                f"Its frequency explains {100 * share:.1f} % of its variance. In the order of {k} times a "
                "and b, in which it goes round once."
            )
            yield Panel(f"Neuron {neuron}, k = {k}", caption, Figure(figure))
    if all(f"pruning.{order}" in a.values for order in ("lowest_ipr", "highest_ipr", "random")):
        caption = (
            "Neurons removed in the order of their inverse participation ratio (IPR), or at random: those "
            "of low IPR are waves of no one frequency, and hold what a network has memorised beside its "
            "sums."
        )
        yield Panel("Pruned", caption, Figure(figures.pruning(a)), size="wide")


@section_of_waves(
    "Logits",
    "The logits of a network that adds by frequencies are sums of cos w(c* − c), c* the right answer.",
    needs=["logit_cosine"],
)
def _logits(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Cosine similarity with cos w(c* − c) for each frequency."
    yield Panel("Cosines in the logits", caption, Figure(figures.logit_cosines(a)), size="wide")
    caption = "Summed over answers; bright blocks at the keys."
    yield Panel("2-D spectrum of the logits", caption, Figure(figures.logit_spectrum(a)))


@section_of_waves(
    "Reduced to its keys, and robbed of them",
    "Restricted: only the key frequencies are left. Excluded: everything but them. Each variant of either "
    "measure that papers and notebooks use has its own name; the table at the end defines them. Dotted: the "
    "network as it is, and chance.",
    needs=["excluded_loss.per_frequency"],
)
def _reduced(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "By variant, on all examples."
    yield Panel("Restricted and excluded loss", caption, Figure(figures.losses_by_variant(a)), size="wide")
    caption = "Where the network stands on a frequency, it fails without it; key frequencies are red."
    yield Panel("Loss without one frequency", caption, Figure(figures.excluded_by_frequency(a)), size="wide")


@section_of_waves(
    "Readout",
    "W_L = W_out W_U: what each neuron adds to each logit.",
    needs=["fourier_norms.W_L"],
)
def _readout(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Over the answers; key frequencies are red."
    yield Panel("Spectrum of W_L", caption, Figure(figures.readout_spectrum(a)), size="wide")


@section_of_waves(
    "How it computes",
    "A clock multiplies in its attention, a pizza averages (Zhong et al. 2023): the first has a gradient "
    "that differs between a and b and cares for no distance a − b, the second the same for both, and "
    "fails where waves of a and b cancel. Both are told by the two numbers on the axes.",
    needs=["gradient_symmetricity", "distance_irrelevance.correct"],
)
def _how(a: OperationAnalysis) -> Iterator[Panel]:
    caption = "Shaded: where a network counts as a clock, or as a pizza. Rings: networks of the paper."
    yield Panel("Clock or pizza", caption, Figure(figures.clock_or_pizza(a)), size="wide")
    if any(name.startswith("circuit.") for name in a.values):
        caption = (
            "With waves of the key frequencies, fitted to a part of the network, in place of that part: the "
            "share of all pairs to which the answer stays the same. Dotted: .99, which the claim asks for."
        )
        yield Panel("Fitted waves", caption, Figure(figures.fitted_waves(a)), size="wide")


def _attention_lead(a: OperationAnalysis) -> str:
    mean, variance = a.values.get("attention.mean"), a.values.get("attention.variance")
    if mean is None or variance is None:
        return "How much the answer position attends to each token."
    words = [str(word).split(": ")[1] for word in mean.coords["pos"].values]
    heads = []
    for layer, head in list(product(range(mean.sizes["layer"]), range(mean.sizes["head"])))[:16]:
        numbers = zip(words, mean.values[layer, head], variance.values[layer, head] ** 0.5, strict=True)
        to_each = ", ".join(f"{word} {share:.2f} ± {spread:.2f}" for word, share, spread in numbers)
        heads.append(f"layer {layer} head {head}: {to_each}")
    how = "How much the answer position attends to each token, mean ± standard deviation over all inputs."
    return f"{how} {'; '.join(heads)}."


@section("Attention", _attention_lead, of=Operation)
def _attention(a: OperationAnalysis) -> Iterator[Panel]:
    layers, heads = a.view.attention.shape[:2]
    for layer, head in product(range(layers), range(min(heads, 8))):
        figure, k = figures.attention_to_first(a, layer, head)
        order = f" In the order of {k} times a and b, its strongest frequency." if k > 1 else ""
        caption = f"Attention from the answer position to a.{order}"
        yield Panel(f"Layer {layer}, head {head}", caption, Figure(figure))
