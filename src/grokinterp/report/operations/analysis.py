"""What more is found of a network that has learned a binary operation: key frequencies, what became of them
over training, and what noise on the labels made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch

from ...errors import NotApplicable
from ...measures import KeyFrequencies, key_frequencies
from ...measures.base import per_part
from ...measures.groups.irreps import group_of
from ...measures.noise import NoisePhase, learned, noise_phase
from ...measures.standing import Standing, percent, standing
from ...measures.waves.circular import circular
from ...measures.waves.keys import chosen
from ...replay import (
    Lives,
    NoiseSpan,
    keys_over_time,
    lives,
    neuron_flows,
    noise_in_words,
    noise_spans,
    where_keys_differ,
)
from ...tasks import Operation
from ...tasks.groups import representation
from ...tasks.noise import Binomial
from ..analysis import ANSWERS, Analysis, labelled
from ..words import CODES, by_part, several

if TYPE_CHECKING:
    import pandas as pd

CODES.update({
    "w_e_norm:": "loud in the embedding:",
    "gap:": "above the gap in the embedding:",
    "neurons:": "a neuron cluster:",
    "w_l:": "loud in the readout:",
    "load_bearing:": "the loss needs it:",
    "logits:": "a cosine in the logits:",
})  # fmt: skip
_OF_NOISE = ("clean_accuracy", "clean_loss", "noise.profile", "noise.bayes_loss", "noise.bayes_accuracy")
"""What every report on noisy labels measures."""
SUFFICIENT, NECESSARY = "The key frequencies are sufficient", "The key frequencies are necessary"
SINGLE_FREQUENCY = "Neurons are single-frequency"
SUFFICIENT_IRREPS = "The key representations are sufficient"
NEEDED_IRREPS = "The key representations are necessary"
CLOCK = "It computes as a clock (multiplies in the attention)"
PIZZA = "It computes as a pizza (averages, constant attention)"
"""Claims that decide how it is said to compute."""
CLOCK_IS, PIZZA_IS = (0.7, 0.6), (0.9, 0.4)
"""Gradient symmetricity, at most of a clock and at least of a pizza, and distance irrelevance (correct), at
least and at most."""
_VERBS = {
    "modular_addition": "adds",
    "modular_subtraction": "subtracts",
    "modular_multiplication": "multiplies",
    "modular_division": "divides",
}
"""What a network does that computes an operation; any other is computed."""
_MOST_KEYS = 12
"""Of more frequencies it is said only how many there are."""
_OF_LOGITS = 0.9
"""The share of the variance of the logits from which they are said to be made of something."""
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


class OperationAnalysis(Analysis):
    """What was found of a run whose task is a binary operation, at one step."""

    of = Operation

    def _keys_asked_for(self, keys: Sequence[int] | None) -> list[int] | None:
        return None if keys is None else chosen(self.view, keys)

    @property
    def _always_measured(self) -> tuple[str, ...]:
        return (*super()._always_measured, *(_OF_NOISE if self.noisy else ()))

    @property
    def task(self) -> Operation:
        """The task of the run."""
        return Operation.of(self.run.task)

    @cached_property
    def _found_keys(self) -> KeyFrequencies | str:
        """What the rules found, or why none applies."""
        try:
            return key_frequencies(self.view)
        except NotApplicable as reason:
            return str(reason)

    @property
    def keys(self) -> KeyFrequencies | None:
        """The key frequencies that the rules found, or None where no rule applies."""
        return None if isinstance(self._found_keys, str) else self._found_keys

    @property
    def keys_used(self) -> list[int]:
        """The key frequencies that measures were given: the consensus of the rules, unless the caller chose
        others."""
        if self.asked_keys is not None:
            return self.asked_keys
        return self.keys.consensus if self.keys else []

    @property
    def frequencies(self) -> list[int] | None:
        return None if self.keys is None else self.keys_used

    @property
    def algorithm(self) -> str:
        """Clock, pizza or neither: of the two known ones for which there are measures; of a network that has
        learned something, and stands on its key frequencies."""
        clock, pizza = self._holds(CLOCK), self._holds(PIZZA)
        if clock is None or pizza is None or not self._stands_on_its_keys:
            return ""
        return "clock" if clock else "pizza" if pizza else "neither"

    @property
    def n_frequencies(self) -> int:
        """How many frequencies the elements have; 0 where they stand on no circle."""
        return self.task.circle.m // 2 if self.task.circle else 0

    @property
    def accuracy_name(self) -> str:
        """The measure that says how many examples are right, whatever their labels."""
        return "clean_accuracy" if self.noisy else "accuracy"

    def part(self, wanted: str) -> str:
        """That part of the examples where the split is known, else all of them."""
        return wanted if wanted in self.values["loss"].coords["part"].values else "all"

    @cached_property
    def _rows_on_circle(self) -> torch.Tensor:
        return circular(self.view).on_circle if self.n_frequencies else torch.arange(self.task.n_inputs)

    @cached_property
    def on_circle(self) -> Standing:
        """How far the network has learned the examples that stand on the circle: for multiplication, those
        without 0; all where there is none."""
        return standing(self.view, self._rows_on_circle)

    @cached_property
    def loss_on_circle(self) -> dict[str, float]:
        """The loss of these examples, by part."""
        rows = self._rows_on_circle
        return labelled(per_part(self.view, self.view.loss()[rows], rows), "part")

    @cached_property
    def noise_spans(self) -> list[NoiseSpan]:
        """The phases of training on noisy labels; none where labels are not noisy."""
        try:
            return noise_spans(self.history, self.task.n_answers)
        except NotApplicable:
            return []

    @cached_property
    def noise_phase(self) -> NoisePhase | None:
        """The phase at the analysed step; None where labels are not noisy, or none came out wrong."""
        if not self.noisy or not {"corrupted", "test"} <= {*self.values["accuracy"].coords["part"].values}:
            return None
        of_labels, of_answers = self.by_part("accuracy"), self.by_part("clean_accuracy")
        earlier = self.history[self.history["step"] < self.step]
        pairs = earlier[["train_accuracy", "test_clean_accuracy"]].itertuples(index=False)
        return noise_phase(
            of_labels["train"], of_answers["test"], of_labels["corrupted"], of_answers["corrupted"],
            1 / self.task.n_answers, learned_before=any(learned(*pair) for pair in pairs),
        )  # fmt: skip

    @property
    def verdict(self) -> str:
        """The sentence that a page opens with; on noisy labels it names the phase."""
        if self.noise_phase is None:
            return super().verdict
        state = self.standing.state
        answer, _ = ANSWERS[state]
        rest = " and not generalised" if self.noise_phase == "memorisation" and state != "learning" else ""
        return f"{answer}{_ON_NOISE[self.noise_phase]}{rest}. {self.standing.words}."

    @property
    def _how_it_computes(self) -> list[str]:
        """On which circles it computes, or of which representations; when that formed, and by which of the
        two known algorithms."""
        if not (how := self._on_circles or self._by_representations):
            how = [*super()._how_it_computes, *self._on_no_few, *self._in_mirror_images]
        return [*how, *self._of_noise]

    @property
    def _on_no_few(self) -> list[str]:
        """That no few frequencies stand out where there are some, and whether each neuron has one."""
        if not self.n_frequencies or self.frequencies:
            return []
        waves = self._holds(SINGLE_FREQUENCY)
        each = "its neurons are waves of one frequency each, and " if waves else ""
        return [f"{each}none of {self.n_frequencies} frequencies stands out"]

    @property
    def _verb(self) -> str:
        verb = _VERBS.get(self.task.name, f"computes {self.task.symbol}")
        return f"{verb}{' in part' if self.on_circle.state == 'learning' else ''}"

    def _holds(self, sentence: str) -> bool | None:
        """Whether a claim holds; None where it was not tested."""
        verdict = {claim.claim: claim.verdict for claim in self.claims}.get(sentence, "not tested")
        return None if verdict == "not tested" else verdict == "supported"

    @property
    def _stands_on_its_keys(self) -> bool:
        """Whether its key frequencies are few, sufficient and necessary for what it has learned."""
        knows_little = self.standing.state in ("at chance", "memorises")
        return not knows_little and bool(self._holds(SUFFICIENT) and self._holds(NECESSARY))

    @property
    def _on_circles(self) -> list[str]:
        """Its circles, where it stands on their frequencies."""
        if not self._stands_on_its_keys:
            return []
        circle, n = self.task.circle, len(self.keys_used)
        assert circle is not None
        clock, pizza = self._holds(CLOCK), self._holds(PIZZA)
        how = "by rotating " if clock else "by averaging " if pizza else ""
        of = "" if circle.m == self.task.p and self.task.opaque is None else f" of Z_{circle.m}"
        which = "" if n > _MOST_KEYS else f", k = {several(self.keys_used)}"
        asked = "" if self.asked_keys is None else ", as asked for"
        said = [f"it {self._verb} {how}on {n} circle{'s' * (n > 1)}{of}{which}{asked}"]
        said += self._when_formed or self._when_learned
        if clock is not None and pizza is not None:
            said.append(
                "a clock, not a pizza" if clock else "a pizza, not a clock" if pizza
                else "neither a clock nor a pizza"
            )  # fmt: skip
        return said

    @property
    def _when_formed(self) -> list[str]:
        """Between which snapshots the circuit formed, where that was by the analysed step, and how long
        before unseen examples were learned."""
        formed = next((each for each in self.phases.boundaries if each.name == "circuit formed"), None)
        if formed is None or formed.by > self.step or formed.keys != self.keys_used:
            return []
        if formed.after == formed.by:
            return [f"formed at or before step {formed.by:,}"]
        said, test = f"formed between steps {formed.after:,} and {formed.by:,}", self.reached("test")
        if test.after is not None and test.by is not None and formed.by < test.after <= test.by <= self.step:
            said += f", at least {test.after - formed.by:,} steps before test accuracy reached 99 %"
        return [said]

    @property
    def key_irreps(self) -> list[str]:
        """The representations that the logits are made of."""
        if (keys := self.values.get("key_irreps")) is None or isinstance(keys, float):
            return []
        return [str(name) for name in keys["irrep"].values[keys.values]]

    @property
    def key_irreps_in_words(self) -> str:
        """The same, each with what the literature calls it."""
        group, irreps = str(self.task.params.get("group", "")), group_of(self.view).irreps
        called = {}
        for irrep in irreps if group and self.key_irreps else ():
            dimension = int(irrep.name.split()[1])
            called[irrep.name] = representation(group, dimension, irrep.character)
        names = [f"{name} [{called[name]}]" if called.get(name) else name for name in self.key_irreps]
        return several(names, "irrep")

    @property
    def _by_representations(self) -> list[str]:
        """The representations of a group by which it computes, where they are sufficient and necessary; else
        of which its logits are made."""
        names, when = self.key_irreps, self._when_learned
        if self.n_frequencies or not names or "irrep_fve.logits" not in self.values:
            return []
        share = self.number("irrep_fve.logits")
        of = f"{len(names)} of {len(self.values['key_irreps'])} irreducible representations"
        of += f" ({self.key_irreps_in_words})"
        if self._holds(SUFFICIENT_IRREPS) and self._holds(NEEDED_IRREPS):
            return [f"it {self._verb} by {of}; their characters are enough to be right, and needed", *when]
        if share < _OF_LOGITS:
            return []
        return [f"it {self._verb}; {percent(share)} of its logits' variance lies in {of}", *when]

    @property
    def _in_mirror_images(self) -> list[str]:
        """That what it knows beyond its training pairs are mostly their mirror images."""
        trained, unseen = self._mirrored or (0.0, 0.0)
        if trained <= 2 * unseen:
            return []
        of = f"{percent(trained)} of these are right, of pairs that are new both ways {percent(unseen)}"
        return [f"mostly the mirror images (b, a) of its training pairs: {of}"]

    @property
    def _of_noise(self) -> list[str]:
        """What it makes of wrong labels."""
        phase = self.noise_phase
        return [] if phase is None else [_ON_NOISE[phase].removeprefix("it generalises, and ")]

    @property
    def _mirrored(self) -> tuple[float, float] | None:
        """Of unseen pairs the share of right ones whose mirror images were trained on, and of the others;
        None where that tells nothing."""
        if "accuracy.mirror" not in self.values or self.standing.state != "learning":
            return None
        trained, unseen = self.values["accuracy.mirror"].values.tolist()
        return trained, unseen

    @property
    def facts(self) -> list[tuple[str, str]]:
        """On noisy labels what they are and what the network makes of them; how much was known from mirror
        images; the key frequencies, and how sure they are."""
        rows = self._facts_of_noise()
        if self._mirrored is not None:
            trained, unseen = map(percent, self._mirrored)
            mirrored = f"of unseen examples whose mirror image (b, a) was trained on {trained} are right"
            rows.append(("Mirror images", f"{mirrored}, of those that are new both ways {unseen}"))
        if self.key_irreps and is_of_a_group(self):
            of = f"{len(self.key_irreps)} of {len(self.values['key_irreps'])}"
            return [*rows, ("Key representations", f"{of}: {self.key_irreps_in_words}")]
        if self.keys is None:
            return [*rows, ("Key frequencies", f"none: {self._found_keys}")]
        keys = self.keys.consensus
        of_rules = f"{', '.join(map(str, keys))} (of 1 to {self.n_frequencies})"
        rows.append(("Key frequencies", of_rules if keys else self.keys.why_none))
        if multiples := self.keys.harmonics_in_words:
            rows.append(("Multiples", multiples))
        if self.keys_used != keys:
            asked = f"{several(self.keys_used)}, as asked for; measures and claims below are about these"
            rows.append(("Keys in use", asked))
        rules = "; ".join(f"{rule}: {several(marked)}" for rule, marked in self.keys.rules.items())
        agree = f"{len(self.keys.rules)} rules agree to {self.keys.agreement:.2f}"
        return [*rows, ("How sure", f"{agree} (mean Jaccard index, 1 is full agreement). {rules}")]

    def _facts_of_noise(self) -> list[tuple[str, str]]:
        if (noise := self.task.noise) is None:
            return []
        test = "test labels noisy too" if noise.test == "noisy" else "test labels right"
        if isinstance(noise, Binomial):
            drawn = f"answer + Binomial({noise.n}, {noise.p:g}) − {noise.centre}"
        else:
            drawn = f"{100 * noise.share:g} % of the training labels uniform"
        above = "Accuracy and loss above are of the labels as they are given"
        right, loss = self.by_part("clean_accuracy"), self.by_part("clean_loss")
        of_answers = f"accuracy {by_part(right, shares=True)}; loss {by_part(loss, shares=False)} nats"
        rows = [("Labels", f"{drawn}, seed {noise.seed}; {test}. {above}"), ("Right answers", of_answers)]
        if {"noise.bayes_accuracy", "noise.bayes_loss"} <= self.values.keys():
            share_of, loss_of = self.by_part("noise.bayes_accuracy"), self.by_part("noise.bayes_loss")
            parts = [part for part in ("train", "test") if part in share_of]
            accuracy = ", ".join(f"{part} {100 * share_of[part]:.2f} %" for part in parts)
            least = ", ".join(f"{part} {loss_of[part]:.4f}" for part in parts)
            best = f"who knows the rule and not the draws: accuracy {accuracy}; loss {least} nats"
            rows.append(("Bayes", f"{best}. Chance: {math.log(self.task.n_answers):.4f} nats"))
        if self.noise_spans:
            rows.append(("Noise", noise_in_words(self.noise_spans)))
        return rows

    @property
    def task_in_words(self) -> str:
        """What the network had to learn, and in which tokens."""
        order = f", numbered in an order of their own (seed {self.task.opaque})"
        opaque = "" if self.task.opaque is None else order
        return f"{super().task_in_words}, tokens {self.task.layout}{opaque}"

    @cached_property
    def lives(self) -> Lives | None:
        """What became of every frequency; None where nothing was replayed, or there are none."""
        try:
            return lives(self.replayed) if self.replayed and self.n_frequencies else None
        except NotApplicable:
            return None

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json, with the table, the key frequencies and the noise."""
        keys = self.keys or KeyFrequencies([], {}, 0.0, {}, 0)
        return {
            **super().to_dict(),
            "table": self.task.facts.to_dict(),
            "key_frequencies": {
                "consensus": keys.consensus,
                "rules": keys.rules,
                "agreement": keys.agreement,
                "harmonics": {str(k): asdict(each) for k, each in keys.harmonics.items()},
                "doubles": {str(k): of for k, of in keys.doubles.items()},
                "used": self.keys_used,
            },
            **({"noise": self._noise()} if self.noisy else {}),
        }

    def _noise(self) -> dict[str, Any]:
        """The phase on noisy labels, accuracies and losses against right answers, and the best that can be
        done of the labels."""
        names = ("clean_accuracy", "clean_loss", "noise.bayes_accuracy", "noise.bayes_loss")
        return {
            "phase": self.noise_phase,
            "spans": [span.to_dict() for span in self.noise_spans],
            **{name.removeprefix("noise."): self.by_part(name) for name in names if name in self.values},
            "chance_loss": math.log(self.task.n_answers),
        }

    def _training(self) -> dict[str, Any]:
        described = super()._training()
        if self.lives is not None:
            described["lives"] = self.lives.to_dict()
            described["keys_over_time"] = _records(keys_over_time(self.replayed))
            differ = _records(where_keys_differ(self.replayed)) if self.lives.final_keys else []
            described["keys_differ"] = differ
            with suppress(NotApplicable):
                described["neuron_flows"] = neuron_flows(self.replayed).to_dict()
        return described


def is_of_a_group(a: OperationAnalysis) -> bool:
    """Whether the operation is the product of a group that is not cyclic, so that there are representations
    to ask about which are no frequencies."""
    return not a.n_frequencies and bool(a.task.facts.group)


def has_frequencies(a: OperationAnalysis) -> bool:
    """Whether the elements of the operation stand on a circle, so that there are frequencies to ask about."""
    return a.n_frequencies > 0


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values; what is not finite is None."""
    return cast("list[dict[str, Any]]", json.loads(table.to_json(orient="records", double_precision=15)))
