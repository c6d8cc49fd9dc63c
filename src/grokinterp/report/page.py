"""An analysis -> one HTML page that needs no network: plotly.js inlined once, a content security policy,
constant ids."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import plotly.offline

from ..measures import MEASURES
from ..measures.noise import NoisePhase
from ..measures.standing import State, percent
from ..measures.waves.neurons import EXPLAINED
from ..replay import FINAL, delay, noise_in_words, slingshots_in_words, spikes_in_words
from ..tasks import Operation, TableFacts
from ..tasks.noise import Binomial
from . import figures, panels
from .analysis import Analysis
from .offline import asset, offline_page
from .panels import Figure, Panel, Section, Table
from .replay_page import accuracy_caption

_MOST_PANELS = 6
"""Key frequencies that get a picture of their own; with more, the page says how many are left out."""


def render(a: Analysis) -> str:
    """The whole page as text."""
    return offline_page(
        "page.html",
        [asset("page.css")],
        [plotly.offline.get_plotlyjs(), asset("page.js")],
        analysis=a,
        of_what=of_what(a),
        verdict=verdict(a),
        facts=facts(a),
        training=training(a),
        sections=list(_sections(a)),
        rows=list(_rows(a)),
    )


def render_table(task: Operation) -> str:
    """The page about a task alone."""
    scripts = [plotly.offline.get_plotlyjs(), asset("page.js")]
    return offline_page(
        "table.html", [asset("page.css")], scripts, symbol=task.symbol, section=table_section(task)
    )


def number(value: float) -> str:
    """Three or four digits, whatever the size."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.4g}"


def of_what(a: Analysis) -> str:
    """What the page is about: run, step, and what was asked for where that is not everything."""
    of = f"{a.name}, {a.run.step_text(a.step)}"
    if not a.is_last:
        of += f": not its last snapshot, which is of {a.run.step_text(a.run.steps[-1])}"
    asked = [
        *([] if a.asked_measures is None else [f"measured as asked for: {', '.join(a.asked_measures)}"]),
        *([] if a.asked_keys is None else [f"with the keys asked for: {_several(a.asked_keys)}"]),
    ]
    return "; ".join([of, *asked])


def verdict(a: Analysis) -> str:
    """The sentence that the page opens with."""
    answer = _ANSWERS[a.standing.state]
    if a.noise_phase is not None:
        rest = (
            " and not generalised"
            if a.noise_phase == "memorisation" and a.standing.state != "learning"
            else ""
        )
        return f"{answer}: {_ON_NOISE[a.noise_phase]}{rest}. {a.standing.words}."
    said = {
        "generalises": "it generalises. ",
        "memorises": "it memorises. ",
        "at chance": "it is at chance. ",
    }.get(a.standing.state, "")
    return f"{answer}: {said}{a.standing.words}." if answer else f"{a.standing.words}."


_ANSWERS: dict[State, str] = {
    "generalises": "Yes",
    "learning": "In part",
    "memorises": "No",
    "at chance": "No",
    "not known": "",
}
_ON_NOISE: dict[NoisePhase, str] = {
    "not trained": "it is within 0.05 of chance",
    "memorisation": "it has memorised the noise",
    "coexistence": "it generalises, and has memorised the wrong labels as well (coexistence)",
    "partial inversion": "it generalises, and answers some of the examples with wrong labels rightly "
    "(partial inversion)",
    "full inversion": "it generalises, and answers the examples with wrong labels rightly (full inversion)",
    "forgetting": "it is within 0.05 of chance again (forgetting)",
    "in between": "it is in none of the phases that have a name",
}


def noise(a: Analysis) -> list[tuple[str, str]]:
    """What the labels are, how the network does against right answers, and what nobody could do better; empty
    where nothing is noisy."""
    noise = Operation.of(a.run.task).noise
    if noise is None:
        return []
    test = "test labels noisy too" if noise.test == "noisy" else "test labels right"
    drawn = (
        f"answer + Binomial({noise.n}, {noise.p:g}) − {noise.centre}"
        if isinstance(noise, Binomial)
        else f"{100 * noise.share:g} % of the training labels uniform"
    )
    rows = [
        (
            "Labels",
            f"{drawn}, seed {noise.seed}; {test}. Accuracy and loss above are of the labels as they are "
            "given",
        )
    ]
    rows.append(
        ("Right answers", f"accuracy {_by_part(a, 'clean_accuracy')}; loss {_by_part(a, 'clean_loss')} nats")
    )
    best = ("noise.bayes_accuracy", "noise.bayes_loss")
    if all(name in a.values for name in best):
        parts = [part for part in ("train", "test") if part in a.values[best[0]].coords["part"].values]
        accuracy, loss = (
            ", ".join(
                f"{part} {float(a.values[name].sel(part=part)) * scale:.{digits}f}{unit}" for part in parts
            )
            for name, scale, digits, unit in zip(best, (100, 1), (2, 4), (" %", ""), strict=True)
        )
        chance = f"{math.log(a.run.task.n_answers):.4f}"
        rows.append(
            (
                "Bayes",
                f"who knows the rule and not the draws: accuracy {accuracy}; loss {loss} nats. Chance: "
                f"{chance} nats",
            )
        )
    if a.noise_spans:
        rows.append(("Noise", noise_in_words(a.noise_spans)))
    return rows


def _by_part(a: Analysis, name: str) -> str:
    """A measure by part: accuracies in per cent."""
    value = a.values[name]
    shown = partial(percent, digits=2) if "accuracy" in name else number
    return ", ".join(f"{part} {shown(float(value.sel(part=part)))}" for part in value.coords["part"].values)


def training(a: Analysis) -> str:
    """How it was trained, as far as that is known."""
    t, imported = a.run.config.training, a.run.imported
    said_of = {
        "optimizer": t.optimizer,
        "lr": f"lr {t.lr}",
        "weight_decay": f"weight decay {t.weight_decay}",
        "fraction": f"{t.fraction:.0%} of the table",
        "split": f"{t.split}, seed {t.split_seed}",
    }
    if imported is None:
        start = a.run.config.start
        return ", ".join(
            [
                *said_of.values(),
                f"weights from {start}" if start else f"weights from seed {a.run.config.seed}",
            ]
        )
    return ", ".join(text for key, text in said_of.items() if key in imported["training"]) or "not known"


def facts(a: Analysis) -> list[tuple[str, str]]:
    """What the reader wants next: did it generalise, when, with which frequencies, how sure."""
    rows = [("Accuracy", _by_part(a, "accuracy")), ("Loss", _by_part(a, "loss") + " nats"), *noise(a)]
    if "accuracy.mirror" in a.values and a.standing.state == "learning":
        rows.append(("Mirror images", _mirrored(a)))
    if a.run.config.training.loss == "mse" and "loss.mse" in a.values:
        rows.append(("Squared error", _by_part(a, "loss.mse") + ", which was trained on"))
    if a.run.imported:
        rows.append(("Imported", f"from {a.run.imported['file']} (layout {a.run.imported['layout']})"))
    if a.run.diverged:
        rows.append(("Ended", a.run.divergence))
    if a.watched:
        rows.append(("When", _when(a)))
    if a.watched:
        rows.append(("Slingshots", slingshots_in_words(a.slingshots, a.loss or "a loss that is not known")))
    if a.keys is None:
        rows.append(("Key frequencies", "none: " + next(iter(a.skipped.values()), "no rule applies")))
    else:
        keys = a.keys.consensus
        rows.append(
            (
                "Key frequencies",
                f"{', '.join(map(str, keys))} (of 1 to {a.n_frequencies})" if keys else a.keys.why_none,
            )
        )
        if said := a.keys.harmonics_in_words:
            rows.append(("Multiples", said))
        if a.keys_used != keys:
            rows.append(
                (
                    "Keys in use",
                    f"{_several(a.keys_used)}, as asked for; measures and claims below are about these",
                )
            )
        rules = "; ".join(f"{rule}: {_several(found_k)}" for rule, found_k in a.keys.rules.items())
        rows.append(
            (
                "How sure",
                f"{len(a.keys.rules)} rules agree to {a.keys.agreement:.2f} (mean Jaccard index, 1 is full "
                f"agreement). {rules}",
            )
        )
    if a.replayed:
        rows.append(("Training", _how_it_went(a)))
    counts = [sum(claim.verdict == v for claim in a.claims) for v in ("supported", "refuted", "not tested")]
    rows.append(("Claims", f"{counts[0]} supported, {counts[1]} refuted, {counts[2]} not tested"))
    return rows


def _mirrored(a: Analysis) -> str:
    """How much of what is right was known from the mirror image of an example."""
    trained, unseen = (
        percent(float(a.values["accuracy.mirror"].sel(mirror=m))) for m in ("trained on", "unseen")
    )
    return (
        f"of unseen examples whose mirror image (b, a) was trained on {trained} are right, of those that "
        f"are new both ways {unseen}"
    )


def _when(a: Analysis) -> str:
    """By which steps of the whole run training and test examples were learned."""
    train, test = a.reached("train"), a.reached("test")
    factor = delay(train, test)
    said = [
        f"training accuracy {train.in_words}",
        f"test accuracy{' of right answers' if a.noisy else ''} {test.in_words}",
        *([f"grokking delay {factor}"] if factor else []),
    ]
    return ("" if a.is_last else f"in the whole run, up to {a.run.step_text(a.run.steps[-1])}: ") + "; ".join(
        said
    )


def _several(chosen: Sequence[int | str], of: str = "freq") -> str:
    if len(chosen) > 12:
        return f"{len(chosen)} {'frequencies' if of == 'freq' else of + 's'}"
    return (" " if of == "freq" else ", ").join(map(str, chosen)) or "none"


def _sections(a: Analysis) -> Iterator[Section]:
    keys = a.keys_used
    shown = keys[:_MOST_PANELS]
    more = f" {len(keys) - len(shown)} more key frequencies are not drawn." if len(keys) > len(shown) else ""
    section = partial(panels.section, measured=a.values, skipped=a.skipped)
    yield table_section(Operation.of(a.run.task))
    yield _training(a)
    if a.noisy:
        squared = a.run.config.training.loss == "mse"
        yield section(
            "Label noise",
            "Losses and accuracies are of the labels as they are given. Corrupted are the training examples "
            "whose labels are wrong, clean the others.",
            lambda: [
                Panel(
                    "What it has learned of the noise",
                    "Mean probability of the class k places after the right answer. Red: how labels are "
                    "drawn."
                    + (
                        " Trained by squared error, logits are no logarithms: accuracies tell more."
                        if squared
                        else ""
                    ),
                    Figure(figures.noise_profile(a)),
                    size="wide",
                )
            ],
            needs=["noise.profile"],
        )
    yield _formation(a)
    yield section(
        "Embedding",
        "If the network works with frequencies, few components of W_E are long, and the elements lie on "
        "circles in their planes." + more,
        lambda: [
            Panel(
                "Spectrum of W_E",
                "Left bar cosine, right bar sine; key frequencies are red.",
                Figure(figures.embedding_spectrum(a)),
                size="wide",
            ),
            Panel(
                "Principal components",
                "Elements on the first two, coloured in their order.",
                Figure(figures.pca_plane(a)),
            ),
            *(
                Panel(f"Circle of k = {k}", _circle_caption(a, k), Figure(figures.circle(a, k)))
                for k in shown
            ),
        ],
        needs=["fourier_norms.W_E", *(("circle.angle", "circle.radius_spread") if shown else ())],
    )
    yield section(
        "Neurons",
        "A neuron of one frequency is a function of a and b with that period. Activations after the "
        "nonlinearity, at the answer position.",
        lambda: [
            Panel(
                "Clusters",
                f"Neurons of which one frequency explains > {EXPLAINED:.0%} of the variance.",
                Figure(figures.neuron_clusters(a)),
            ),
            Panel(
                "Explained variance",
                f"Right of the line ({EXPLAINED}) a neuron counts.",
                Figure(figures.neuron_explained_variance(a)),
            ),
            Panel(
                "2-D spectrum of all neurons",
                "Bright points off the axes are products of waves in a and b.",
                Figure(figures.neuron_spectrum(a)),
            ),
            *_neuron_panels(a, shown),
            *_pruning(a),
        ],
        needs=["neuron.clusters", "neuron.explained_variance"],
    )
    yield section(
        "Logits",
        "The logits of a network that adds by frequencies are sums of cos w(c* − c), c* the right answer.",
        lambda: [
            Panel(
                "Cosines in the logits",
                "Cosine similarity with cos w(c* − c) for each frequency.",
                Figure(figures.logit_cosines(a)),
                size="wide",
            ),
            Panel(
                "2-D spectrum of the logits",
                "Summed over answers; bright blocks at the keys.",
                Figure(figures.logit_spectrum(a)),
            ),
        ],
        needs=["logit_cosine"],
    )
    yield section(
        "Reduced to its keys, and robbed of them",
        "Restricted: only the key frequencies are left. Excluded: everything but them. Each variant of "
        "either measure that papers and notebooks use has its own name; the table at the end defines them. "
        "Dotted: the network as it is, and chance.",
        lambda: [
            Panel(
                "Restricted and excluded loss",
                "By variant, on all examples.",
                Figure(figures.losses_by_variant(a)),
                size="wide",
            ),
            Panel(
                "Loss without one frequency",
                "Where the network stands on a frequency, it fails without it; key frequencies are red.",
                Figure(figures.excluded_by_frequency(a)),
                size="wide",
            ),
        ],
        needs=["excluded_loss.per_frequency"],
    )
    yield section(
        "Readout",
        "W_L = W_out W_U: what each neuron adds to each logit.",
        lambda: [
            Panel(
                "Spectrum of W_L",
                "Over the answers; key frequencies are red.",
                Figure(figures.readout_spectrum(a)),
                size="wide",
            )
        ],
        needs=["fourier_norms.W_L"],
    )
    yield section("Attention", _attention_lead(a), lambda: list(_attention_panels(a)))


def table_section(task: Operation) -> Section:
    """What the table of a task shows before any network is trained."""
    pictures = [
        Panel(
            "a ∘ b", "The answer to every pair, as the network has to learn it.", Figure(figures.table(task))
        ),
        Panel("Value counts", "How many pairs have each answer.", Figure(figures.value_counts(task))),
    ]
    if (circle := task.facts.circle) is not None:
        caption = (
            "Stripes along a + b: operands and answers stand on a circle, and the network may use its "
            "frequencies."
        )
        pictures.insert(1, Panel("In the order of the group", caption, Figure(figures.table(task, circle))))
    return Section("The table", " ".join(f"{sentence}." for sentence in in_words(task.facts)), pictures)


def in_words(facts: TableFacts) -> list[str]:
    """What a table shows, a sentence each."""
    scores = {
        "T[b, a]": facts.symmetry,
        "−T[b, a]": facts.antisymmetry,
        "−T[b, a] mod p": facts.antisymmetry_mod,
    }
    shares = [
        f"{100 * share:.2f} % have T[a, b] = {words}" for words, share in scores.items() if share is not None
    ]
    return [
        f"It is {facts.structure}",
        f"{len(facts.counts)} answers to {facts.examples:,} pairs",
        *([f"Of the pairs a < b, {', '.join(shares)}"] if shares else []),
        f"The value counts have {facts.entropy:.4f} of the entropy of equal ones, and always giving the "
        f"commonest answer is right for {100 * facts.majority:.2f} %",
    ]


def _training(a: Analysis) -> Section:
    """Losses and accuracies over training, where there is more than one evaluation to draw."""
    if len(a.history) < 2:
        count = "one evaluation" if len(a.history) else "no evaluation of which the step is known"
        why = f"this run has {count}, so there is no history to draw"
        return Section("Training", "", missing={"Training": why})
    pictures = [
        Panel("Loss", "Mean over the examples, log axis.", Figure(figures.losses(a)), size="wide"),
        Panel("Accuracy", accuracy_caption(a.noisy), Figure(figures.accuracies(a)), size="wide"),
    ]
    if "restricted_loss.logit_dirs" + FINAL in a.replayed:
        pictures.append(
            Panel(
                "Progress measures",
                "At the snapshots. The circuit is formed where the key frequencies alone do the task, and "
                "what is left without them fails.",
                Figure(figures.progress_measures(a)),
                size="wide",
            )
        )
    spans = ", ".join(f"{phase.name} {phase.start:,}–{phase.end:,}" for phase in a.phases.spans)
    return Section(
        "Training",
        f"{_how_it_went(a)}{_looked_at(a)} Ticks mark snapshots, the dotted line the analysed step"
        + (f", shades the phases: {spans}. " if spans else ". ")
        + spikes_in_words(a.spikes),
        pictures,
        [table for table in (_boundaries(a), _leads(a)) if table.rows],
    )


def _how_it_went(a: Analysis) -> str:
    """Kind and boundaries of the training; of the whole run, where the page is about another step than its
    last."""
    said = a.how_it_went
    return (
        said
        if a.is_last
        else f"Of the whole run, up to {a.run.step_text(a.run.steps[-1])}: {said[0].lower()}{said[1:]}"
    )


def _looked_at(a: Analysis) -> str:
    """That a replay would see more, where it would."""
    looked_at, count = a.replayed.sizes.get("step", 0), len(a.run.steps)
    return (
        f" The report looked at {looked_at} of {count} snapshots; grokinterp replay looks at all of them."
        if 0 < looked_at < count
        else ""
    )


def _boundaries(a: Analysis) -> Table:
    """Each boundary between phases: name, interval, what decided it and from what, and how far it moves."""
    rows = [
        (
            boundary.name,
            f"{boundary.after:,}–{boundary.by:,}",
            f"{boundary.rule} ({boundary.source})" + (f"; {boundary.flag}" if boundary.flag else ""),
            boundary.note,
        )
        for boundary in a.phases.boundaries
    ]
    header = ("Boundary", "Between steps", "Decided by", "How sure")
    return Table("Where one phase ends and the next begins", header, rows)


def _leads(a: Analysis) -> Table:
    """What made its jump before test accuracy did, and what after it: measure, steps, range."""
    rows = [
        (f"{lead.measure} {lead.part}".strip(), f"{lead.steps:+,}", f"{lead.low:+,} to {lead.high:+,}")
        for lead in a.phases.leads
    ]
    return Table(
        "Which measures lead the jump of test accuracy, and by how many steps",
        ("Measure", "Lead (steps)", "At least, at most"),
        rows,
        lead="Each taken where half of its own way is done (negative: it lags).",
        folded=True,
    )


def _formation(a: Analysis) -> Section:
    """When each frequency came and went, in each place; the final keys beside those of each snapshot."""
    title = "Frequencies over training"
    if a.lives is None:
        return Section(title, "", missing={title: a.not_replayed or "there are no frequencies"})
    places = {
        "W_E": "the embedding",
        "neurons": "the neurons",
        "W_L": "the readout W_L",
        "logits": "the logits",
    }
    pictures = [
        Panel(
            f"In {words}",
            "Share of the power; grey: not a key in the end; dotted line: born.",
            Figure(figures.lives(a, place)),
        )
        for place, words in places.items()
        if place in a.lives.share.place.values
        and any(life.place == place and life.fate != "never" for life in a.lives.lives)
    ]
    if "restricted_loss.logit_dirs" in a.replayed:
        caption = (
            "The same measure with the keys that each snapshot shows; where it has none yet there is no "
            "point."
        )
        pictures.append(
            Panel("Does it matter whose keys?", caption, Figure(figures.keys_differ(a)), size="wide")
        )
    return Section(title, f"{a.lives.sentence} {a.lives.sensitivity}", pictures)


def _circle_caption(a: Analysis, k: int) -> str:
    angle, spread = (float(a.values[name].sel(freq=k)) for name in ("circle.angle", "circle.radius_spread"))
    return (
        f"Angle follows {k}·a to {angle:.3f} (1 is exact), radius spread {spread:.2f} (0 is a perfect "
        "circle)."
    )


def _neuron_panels(a: Analysis, keys: list[int]) -> Iterator[Panel]:
    for k in keys:
        if (example := figures.example_neuron(a, k)) is not None:
            figure, neuron, share = example
            yield Panel(
                f"Neuron {neuron}, k = {k}",
                f"Its frequency explains {100 * share:.1f} % of its variance.",
                Figure(figure),
            )


def _pruning(a: Analysis) -> Iterator[Panel]:
    if all(f"pruning.{order}" in a.values for order in ("lowest_ipr", "highest_ipr", "random")):
        yield Panel(
            "Pruned",
            "Neurons removed in the order of their inverse participation ratio (IPR), or at random: those "
            "of low IPR are waves of no one frequency, and hold what a network has memorised beside its "
            "sums.",
            Figure(figures.pruning(a)),
            size="wide",
        )


def _attention_lead(a: Analysis) -> str:
    mean, variance = a.values.get("attention.mean"), a.values.get("attention.variance")
    if mean is None or variance is None:
        return "How much the answer position attends to each token."
    words = [str(word).split(": ")[1] for word in mean.coords["pos"].values]
    heads = [
        f"layer {layer} head {head}: "
        + ", ".join(
            f"{word} {float(mean[layer, head, i]):.2f} ± {float(variance[layer, head, i]) ** 0.5:.2f}"
            for i, word in enumerate(words)
        )
        for layer in range(mean.sizes["layer"])
        for head in range(mean.sizes["head"])
    ]
    return (
        "How much the answer position attends to each token, mean ± standard deviation over all inputs. "
        + "; ".join(heads[:16])
        + "."
    )


def _attention_panels(a: Analysis) -> Iterator[Panel]:
    layers, heads = a.view.attention.shape[:2]
    for layer in range(layers):
        for head in range(min(heads, 8)):
            yield Panel(
                f"Layer {layer}, head {head}",
                "Attention from the answer position to a.",
                Figure(figures.attention_to_first(a, layer, head)),
            )


def _rows(a: Analysis) -> Iterator[tuple[str, str, str, str, str]]:
    """Every measure: name, value in short, unit, source, definition."""
    for name, value in a.values.items():
        yield (
            name,
            summary(value),
            MEASURES[name].unit,
            MEASURES[name].ref,
            MEASURES[name].doc.split("\n\n")[0],
        )


def summary(value: Any) -> str:
    """A value in a few words: the number, the few numbers by name, or their range."""
    if isinstance(value, float):
        return number(value)
    if value.dtype == bool:
        return _several(value.coords[value.dims[0]].values[value.values].tolist(), str(value.dims[0]))
    if value.ndim == 1 and value.size <= 4:
        labels = value.coords[value.dims[0]].values
        return ", ".join(f"{label} {number(float(x))}" for label, x in zip(labels, value.values, strict=True))
    if value.dims == ("parameter",):
        return f"total {number(float(value.sel(parameter='total')))}"
    size = " × ".join(f"{value.sizes[dim]} {dim}" for dim in value.dims)
    return f"{number(float(value.min()))} to {number(float(value.max()))} over {size}"
