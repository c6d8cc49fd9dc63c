"""What a run is made of: one frozen value, with the same keys in TOML, in Python and on the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from ..asked import NAME, TASK_OR_NAME, TEXT, VALUES, asks, asks_all
from ..errors import ConfigError
from ..frozen import Frozen, checked, for_kind, in_one_line, text_of
from ..models import DEFAULT_KIND, KINDS, ModelConfig, NetworkConfig, network_config, none_if_zero
from ..shown import Rows, Shown, in_words
from ..tasks import TASKS, Split, SplitRecipe, Task, make_task, split, task_parameters
from ..tasks.encoding import Seed
from ..tasks.noise import KINDS as NOISES
from .monitor import known, refuse_unknown
from .presets import DEFAULTS, PRESETS, UNTUNED
from .schedule import METRICS, NOISE_METRICS, Condition, ConditionText, SnapshotConfig, metrics_of_answers
from .words import keys_meant, meant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_SNAPSHOTS = 100_000
_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that need no quotes in TOML."""
Optimizer = Literal["adamw", "adam", "sgd", "muon"]
Loss = Literal["cross_entropy", "log_softmax", "stablemax", "mse", "squared_distance"]
_WITH_CLASSES = ("cross_entropy", "log_softmax", "stablemax")
"""The losses that make probabilities of logits."""
_GROKFAST: dict[str, dict[str, float]] = {
    "ema": {"grokfast_alpha": 0.98, "grokfast_lamb": 2.0},
    "ma": {"grokfast_window": 100, "grokfast_lamb": 5.0},
}
"""What each kind of Grokfast takes, with what its authors' code has where nothing is given."""
_NO_OPTIMIZERS = {
    "grokfast": "training.grokfast='ema'",
    "orthograd": "training.orthogonal_gradient=true",
    "orthogonal_gradient": "training.orthogonal_gradient=true",
}
"""What people take for an optimiser, and the key that it is here, beside any of them."""


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _an_optimizer(value: object) -> object:
    if not isinstance(value, str):
        return value
    if (key := _NO_OPTIMIZERS.get(value.lower().replace("-", "_"))) is not None:
        raise ValueError(f"{value} is done to gradients before an optimiser: choose adamw, and set {key}")
    return value.lower()


def _none_if_one(value: object) -> object:
    return None if isinstance(value, int | float) and value == 1 else value


def _a_device(value: object) -> object:
    if isinstance(value, str) and (numbered := re.fullmatch(r"cuda:(\d+)", value)):
        which = f"choose 'cuda', with CUDA_VISIBLE_DEVICES={numbered[1]} in the environment"
        raise ValueError(f"takes no number of a GPU: {which}")
    return value


def _inside_unit_interval(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("needs a number between 0 and 1, both excluded")
    return value


class TrainingConfig(Frozen):
    """The split, the optimiser, and how long."""

    fraction: Annotated[float, AfterValidator(_inside_unit_interval)] = 0.3
    """The share of the table that is trained on."""
    split: SplitRecipe = "python_shuffle"
    split_seed: Seed = 0
    optimizer: Annotated[Optimizer, BeforeValidator(_an_optimizer)] = "adamw"
    lr: float = Field(1e-3, gt=0, le=1e6)
    weight_decay: float = Field(1.0, ge=0, le=1e6)
    """Decoupled for adamw and muon; added to the gradient for adam and sgd."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """For adamw and adam; sgd and muon take the first as their momentum."""
    eps: float | None = Field(None, gt=0, le=1)
    """What adamw and adam (and the adamw beside muon) add to the root of the second moment; absent: 1e-8."""
    warmup: int = Field(0, ge=0)
    """The learning rate grows linearly over so many updates: update i of them uses lr i / warmup."""
    decay: Annotated[
        Literal["none", "linear", "cosine"], BeforeValidator(lambda x: "none" if x == "constant" else x)
    ] = "none"
    """What the learning rate does after the warmup: "none", or "constant": it stays; "linear": it falls to 0
    at the last step; "cosine": the same along half a cosine."""
    steps: int = Field(20_000, ge=1, le=10**9)
    """The largest number of optimiser updates."""
    batch_size: int | None = Field(None, ge=1)
    """Absent: full batch. Otherwise each epoch is a fresh permutation of the training set, its last batch the
    remainder."""
    loss: Loss = "cross_entropy"
    """Mean over examples; mse is also the mean over classes, against the one-hot answer. log_softmax is
    cross_entropy as people compute it, to which rounding does what `training.loss` describes. stablemax has
    terms in the place of exponentials that grow linearly. squared_distance is of the number that a network
    answers with, from that of the right answer."""
    label_smoothing: Annotated[float | None, Field(gt=0, lt=1), BeforeValidator(none_if_zero)] = None
    """With cross_entropy or log_softmax: what is learned is (1 - this) of the label and this of the even
    distribution over all classes. Losses that are recorded are those of the label alone. Absent: 0."""
    temperature: Annotated[float | None, Field(gt=0, le=1e6), BeforeValidator(_none_if_one)] = None
    """With a loss that makes probabilities of logits: what is learned is the loss of the logits divided by
    this. Losses that are recorded are those of the logits as they are. Absent: 1."""
    data: Annotated[Literal["fresh"] | None, BeforeValidator(lambda x: None if x == "sample" else x)] = None
    """Absent, or "sample": a share of the task's sample is trained on, the rest is to test on. "fresh": every
    update learns from batch_size examples that the task draws anew, and the whole sample is to test on."""
    clip: float | None = Field(None, gt=0)
    """Gradients are scaled down to this global norm."""
    grokfast: Literal["ema", "ma"] | None = None
    """What is slow in the gradient is added to it before the optimiser (`recipes.Grokfast`): "ema", an
    exponential moving average; "ma", the mean of the last ones."""
    grokfast_alpha: float | None = Field(None, ge=0, lt=1)
    """What the average of "ema" keeps of itself in every update; absent: .98."""
    grokfast_lamb: float | None = Field(None, gt=0, le=1e6)
    """How many times what is slow is added; absent: 2 for "ema", 5 for "ma"."""
    grokfast_window: int | None = Field(None, ge=1, le=100_000)
    """The gradients that "ma" takes the mean of, all of which are kept; absent: 100."""
    orthogonal_gradient: Annotated[bool | None, BeforeValidator(none_if_zero)] = None
    """The gradient of every parameter loses what points along the parameter itself (`recipes.orthogonal`)."""
    norm_clamp: float | None = Field(None, gt=0, le=1e6)
    """After every update all weights that are trained are multiplied by one number: the norm of all together
    is this times that of step 0."""
    evaluate_every: int = Field(10, ge=1)
    """Losses and accuracies on all examples every so many steps, and at every snapshot."""
    stop_when: ConditionText | None = None
    """Ends the run early, for example "test_accuracy >= 0.999 for 200". Columns of monitored measures can
    stand here too."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Of weights and of all that is computed; bfloat16: of matrix products alone (torch's autocast), all else
    is float32."""
    accumulate: int = Field(1, ge=1, le=1 << 20)
    """The examples of an update are computed in so many parts, one after the other, and their gradients
    added: the memory of one part."""
    yes_or_no: ClassVar[frozenset[str]] = frozenset({"orthogonal_gradient"})

    def grokfast_setting(self, name: str) -> float:
        """That key of `grokfast`, or what its kind has where it is absent; 0 for what its kind has not."""
        if self.grokfast is None:
            return 0.0
        given: float | None = getattr(self, f"grokfast_{name}")
        return float(_GROKFAST[self.grokfast].get(f"grokfast_{name}", 0) if given is None else given)

    @property
    def recipes(self) -> list[str]:
        """What is done to gradients and weights beside the optimiser, in words."""
        said = []
        if self.grokfast is not None:
            names = [key.removeprefix("grokfast_") for key in _GROKFAST[self.grokfast]]
            settings = ", ".join(f"{name} {self.grokfast_setting(name):g}" for name in names)
            said.append(f"Grokfast-{self.grokfast.upper()} ({settings})")
        said += ["gradients orthogonal to the weights"] * bool(self.orthogonal_gradient)
        held = f"norm of the weights held at {self.norm_clamp} of the first"
        return said + [held] * bool(self.norm_clamp)


class StartConfig(Frozen):
    """The snapshot of another run that the initial weights are; `grokinterp train --from` and
    `gi.train(start=)` fill it in."""

    run: str
    """The name of that run's directory. Another name of the same weights is the same start."""
    step: int = Field(ge=0)
    sha256: str = Field(pattern=r"[0-9a-f]{64}")
    """Of the snapshot."""
    task: dict[str, Any]
    """What it had learned: `name` and parameters."""
    last: bool = True
    """Whether it was the last snapshot of that run."""
    yes_or_no: ClassVar[frozenset[str]] = frozenset({"last"})

    def __str__(self) -> str:
        return f"step {self.step:,} of {self.run} (sha256 {self.sha256[:12]})"


@asks_all("config")
class TrainConfig(Shown, Frozen):
    """Everything that a run depends on, task included.

    The same `seed` gives the same bytes on the same machine and torch, at any number of threads.
    """

    def __init__(self, **sections: Any) -> None:
        """A configuration of these sections and keys, as a TOML file has them; `make` takes dotted ones.

        Raises:
            ConfigError: an unknown key (the nearest is named) or a bad value, in one line.
        """
        _refuse_out_of_place(sections)
        with in_one_line(type(self)):
            super().__init__(**sections)

    seed: Seed = 0
    """Of the initial weights and of the batches. The split has its own: training.split_seed."""
    threads: int = Field(2, ge=1, le=1024)
    processes: int = Field(1, ge=1, le=1024)
    """So many processes on this machine share every batch (torch's DistributedDataParallel): on CUDA a GPU
    each, on the CPU one thread each. Results are the same up to rounding."""
    device: Annotated[Literal["cpu", "cuda", "mps", "auto"], BeforeValidator(_a_device)] = "cpu"
    task: dict[str, Any] = Field(default_factory=lambda: {"name": "modular_addition"})
    """`name`, then the task's own parameters, and those of `tasks.base.Common` that were given."""
    model: SerializeAsAny[NetworkConfig] = ModelConfig()
    """Of a transformer, or of another `kind` of network, such as "mlp"."""
    training: TrainingConfig = TrainingConfig()
    snapshots: SnapshotConfig = SnapshotConfig()
    start: StartConfig | None = None
    """Absent: initial weights are drawn from the seed. Otherwise they are those of a snapshot, with a fresh
    optimiser, and steps count from 0; the seed is then of the batches alone."""
    monitor: Annotated[tuple[str, ...], BeforeValidator(_one_or_several), AfterValidator(known)] = ()
    """Names of measures that are taken at every evaluation, in float64, as columns beside the losses
    (`training.monitor` says how these are named). A measure that uses key frequencies takes the consensus at
    that step."""
    monitor_every: int | None = Field(None, ge=1)
    """Takes them at multiples of so many steps alone, which are evaluations: at p = 113 a restricted loss
    costs more than ten steps."""

    @field_validator("task")
    @classmethod
    def _task_with_all_its_parameters(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("needs the name of a task, such as name = 'modular_addition'")
        parameters = {key: item for key, item in value.items() if key != "name"}
        task = checked(task_parameters(value["name"]), parameters, at="task")
        return {"name": value["name"], **task.model_dump(exclude_none=True)}

    @field_validator("model", mode="before")
    @classmethod
    def _network_of_its_kind(cls, value: Any) -> NetworkConfig:
        if isinstance(value, NetworkConfig):
            return value
        if not isinstance(value, Mapping):
            raise ValueError("needs a section, that is a dictionary of keys")
        return network_config(value)

    @model_validator(mode="after")
    def _a_bearable_number_of_snapshots(self) -> TrainConfig:
        if (every := self.snapshots.every) and (count := self.training.steps // every) > _MOST_SNAPSHOTS:
            what = f"snapshots.every={every} over {self.training.steps:,} steps makes {count:,} snapshots"
            raise ValueError(f"{what}; at most {_MOST_SNAPSHOTS:,} may be")
        return self

    @model_validator(mode="after")
    def _fresh_examples_in_batches(self) -> TrainConfig:
        if self.training.data == "fresh" and self.training.batch_size is None:
            raise ValueError("training.data: fresh examples come in batches: set training.batch_size")
        if self.training.data == "fresh" and self.task.get("noise"):
            raise ValueError("training.data: labels of fresh examples have no noise: leave task.noise out")
        return self

    @model_validator(mode="after")
    def _examples_for_every_part(self) -> TrainConfig:
        training, shares = self.training, self.processes * self.training.accumulate
        if shares > 1 and training.batch_size is not None and training.batch_size % shares:
            of = f"processes={self.processes} x training.accumulate={training.accumulate}"
            what = f"{training.batch_size} examples do not divide into {of} equal parts"
            raise ValueError(f"training.batch_size: {what}: change one of them")
        if self.processes > 1 and training.batch_size is None:
            raise ValueError("processes: several share batches: set training.batch_size")
        return self

    @model_validator(mode="after")
    def _a_number_where_its_distance_is_the_loss(self) -> TrainConfig:
        if self.training.loss == "squared_distance" and not self.model.gives_number:
            what = f"squared_distance is of a number, and this {self.model.kind} answers with classes"
            raise ValueError(f"training.loss: {what}: set model.readout='number' of an mlp, or another loss")
        return self

    @model_validator(mode="after")
    def _keys_that_do_something(self) -> TrainConfig:
        training = self.training
        if training.eps is not None and training.optimizer == "sgd":
            raise ValueError("training.eps: sgd has none: leave it out, or choose adamw or adam")
        if training.label_smoothing and training.loss not in ("cross_entropy", "log_softmax"):
            lacks = "no softmax" if training.loss == "stablemax" else "no classes to spread a label over"
            what = f"training.label_smoothing: {training.loss} has {lacks}"
            raise ValueError(f"{what}: leave it out, or set training.loss='cross_entropy'")
        if training.temperature and training.loss not in _WITH_CLASSES:
            what = f"training.temperature: {training.loss} makes no probabilities of logits"
            raise ValueError(f"{what}: leave it out, or set training.loss='cross_entropy'")
        return self

    @model_validator(mode="after")
    def _keys_of_this_grokfast(self) -> TrainConfig:
        training = self.training
        takes = _GROKFAST[training.grokfast] if training.grokfast else {}
        for key in ("grokfast_alpha", "grokfast_lamb", "grokfast_window"):
            if getattr(training, key) is not None and key not in takes:
                kind = next(kind for kind, keys in _GROKFAST.items() if key in keys)
                here = f"{training.grokfast!r} has none" if training.grokfast else "nothing is filtered"
                raise ValueError(f"training.{key}: {here}: leave it out, or set training.grokfast={kind!r}")
        return self

    @model_validator(mode="after")
    def _measures_at_evaluations(self) -> TrainConfig:
        if self.monitor_every and self.monitor_every % (every := self.training.evaluate_every):
            what = f"is no multiple of training.evaluate_every={every}"
            raise ValueError(f"monitor_every={self.monitor_every} {what}")
        refuse_unknown(self.conditions, self.monitor, self.metrics)
        return self

    def _in_a_line(self) -> str:
        task = ", ".join(f"{key} {in_words(value)}" for key, value in self.task.items() if key != "name")
        return f"of {self.task['name']}{f' ({task})' if task else ''}: {self.model}, seed {self.seed}"

    def _as_rows(self) -> Rows:
        return list(flat(self.model_dump(exclude_none=True)).items())

    @property
    def metrics(self) -> tuple[str, ...]:
        """What every evaluation measures, beside what is monitored."""
        metrics = METRICS + (NOISE_METRICS if self.task.get("noise") else ())
        if any(condition.metric not in (*metrics, *self.monitor) for _, condition in self.conditions):
            return metrics + metrics_of_answers(self.make_task().reads.answers)
        return metrics

    @property
    def conditions(self) -> list[tuple[str, Condition]]:
        """The key and the meaning of every condition: when the run ends, and which events are saved."""
        texts = [
            ("training.stop_when", self.training.stop_when),
            *(("snapshots.events", text) for text in self.snapshots.events),
        ]
        return [(key, Condition.parse(text)) for key, text in texts if text]

    @classmethod
    @asks("gi.TrainConfig.make", values=VALUES)
    def make(cls, values: Mapping[str, Any] | None = None, /, **overrides: Any) -> TrainConfig:
        """A configuration from nested `values`, with dotted keys such as `{"training.lr": 3e-3}` laid over
        them.

        Raises:
            ConfigError: an unknown key (the nearest is named) or a bad value, in one line.
        """
        laid = _overlaid(values or {}, overrides)
        _refuse_out_of_place(laid)
        return checked(cls, laid)

    @classmethod
    @asks("gi.TrainConfig.preset", name=NAME)
    def preset(cls, name: str, /, **overrides: Any) -> TrainConfig:
        """A known recipe, changed by `overrides`: `TrainConfig.preset("quick", seed=3, **{"training.lr":
        1e-3})`.

        Overriding `task.name` keeps those parameters of the recipe's task that the other task has too, and
        overriding `model.kind` those of its network.
        """
        return cls.make(_for_overrides(_preset(name), overrides), **overrides)

    @classmethod
    @asks("gi.TrainConfig.of_task", name=TASK_OR_NAME)
    def of_task(cls, name: str | Task, /, **overrides: Any) -> TrainConfig:
        """The recipe that `grokinterp train NAME` takes where none is asked for (`presets.DEFAULTS`), changed
        by `overrides`. A task that is known by name is that name with its parameters."""
        if isinstance(name, Task):
            params = {f"task.{key}": value for key, value in name.params.items()}
            return cls.of_task(name.name, **params | overrides)
        default = DEFAULTS.get(name, UNTUNED)
        changes = {"task.name": name, **default.changes}
        values = _overlaid(_for_overrides(_preset(default.preset), changes), changes)
        return cls.make(_for_overrides(values, overrides), **overrides)

    def changed(self, /, **overrides: Any) -> TrainConfig:
        """This configuration with other values. It starts from no snapshot; another `task.name` keeps those
        parameters of the task that the other one has too, another `model.kind` those of the network."""
        return self.make(_for_overrides(self.model_dump(exclude={"start"}), overrides), **overrides)

    @classmethod
    @asks("gi.TrainConfig.from_toml", text=TEXT)
    def from_toml(cls, text: str | Path, /, **overrides: Any) -> TrainConfig:
        """A configuration from the text of a TOML file, or from its path, changed by `overrides`."""
        if isinstance(text, Path):
            text = text_of(text, "configuration")
        try:
            values = tomllib.loads(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the configuration is no TOML: {error}") from None
        return cls.make(values, **overrides)

    def to_toml(self) -> str:
        """The whole configuration as the text of a TOML file, from which `from_toml` makes it again. A key
        without a value is left out."""
        values = self.model_dump(mode="json")
        plain = {key: item for key, item in values.items() if not isinstance(item, dict)}
        sections = {"": plain, **{key: item for key, item in values.items() if isinstance(item, dict)}}
        blocks = []
        for name, section in sections.items():
            lines = [f"{key} = {_as_toml(item)}" for key, item in section.items() if item is not None]
            blocks.append("\n".join([f"[{name}]"] * bool(name) + lines))
        return "\n\n".join(blocks) + "\n"

    def monitors_at(self, step: int) -> bool:
        """Whether an evaluation at this step takes what is monitored."""
        return self.monitor_every is None or step % self.monitor_every == 0

    def make_task(self) -> Task:
        """The task that this configuration names."""
        return make_task(**self.task)

    def make_split(self, task: Task) -> Split:
        """The training and test rows of the task's sample; to train on none, where examples are fresh."""
        training, n, together = self.training, task.n_representative, task.together
        if training.data == "fresh":
            return Split(torch.empty(0, dtype=torch.long), torch.arange(n))
        bundles = None if together is None else together[:n]
        return split(n, training.fraction, training.split, training.split_seed, bundles)


def _as_toml(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        named = {key if _BARE.fullmatch(key) else _as_toml(key): item for key, item in value.items()}
        items = [f"{key} = {_as_toml(item)}" for key, item in named.items() if item is not None]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    # JSON's strings, numbers, true and false are TOML's, but for a control character that it leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse_out_of_place(values: Mapping[str, Any]) -> None:
    """
    Raises:
        ConfigError: a key stands in a section, or outside of all, that does not know it, and another section
            does, or another kind of network, or it is a word for another key: it is named.
    """
    places: dict[str, Collection[str]] = {
        "": TrainConfig.model_fields,
        "training": TrainingConfig.model_fields,
        "snapshots": SnapshotConfig.model_fields,
    }
    # Of a section that is none, and of a name or a kind that nobody knows, another error tells.
    model, task = (values.get(name, {}) for name in ("model", "task"))
    if isinstance(model, NetworkConfig):
        places["model"] = type(model).model_fields
    elif isinstance(model, Mapping) and isinstance(kind := model.get("kind", DEFAULT_KIND), str):
        places["model"] = KINDS[kind].model_fields if kind in KINDS else ()
    if isinstance(task, Mapping) and isinstance(name := task.get("name", "modular_addition"), str):
        places["task"] = [*task_parameters(name).model_fields, "name"] if name in TASKS else ()
    for section, own in places.items():
        given = values if not section else values.get(section)
        for key in given if isinstance(given, Mapping) else ():
            if not own or key in own or not isinstance(key, str):
                continue
            unknown = f"unknown key {f'{section}.{key}'.lstrip('.')!r}"
            if homes := [f"{home}.{key}".lstrip(".") for home, keys in places.items() if key in keys]:
                raise ConfigError(f"{unknown}; did you mean {' or '.join(map(repr, homes))}?")
            known = {f"{home}.{each}".lstrip(".") for home, keys in places.items() for each in keys}
            if (hint := meant(key, known)) is not None:
                raise ConfigError(unknown + hint)
            if places.get("model"):
                _refuse_key_of_other_kinds(unknown, {f"model.{key}", *keys_meant(key)})


def _refuse_key_of_other_kinds(unknown: str, keys: Collection[str]) -> None:
    """
    Raises:
        ConfigError: other kinds of network have one of these keys.
    """
    for kind, network in sorted(KINDS.items(), key=lambda item: item[0] != DEFAULT_KIND):
        for key in network.model_fields:
            if f"model.{key}" in keys:
                raise ConfigError(f"{unknown}: model.{key} is a key of model.kind={kind!r}, not of this one")


def _preset(name: str) -> dict[str, Any]:
    """The sections of a preset."""
    return {key: item for key, item in PRESETS[name].items() if key != "doc"}


def _for_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values without the parameters that the overrides' task, noise and network do not have."""
    result = dict(values)
    if (other := overrides.get("task.name")) is not None:
        parameters = task_parameters(str(other)).model_fields
        result["task"] = {key: item for key, item in values["task"].items() if key in parameters}
    if "task.noise.kind" in overrides and isinstance(noise := result["task"].get("noise"), Mapping):
        other = NOISES[str(overrides["task.noise.kind"])]
        result["task"] = {**result["task"], "noise": for_kind(other, noise)}
    kind = overrides.get("model.kind")
    if kind is not None and kind != values["model"].get("kind", DEFAULT_KIND):
        result["model"] = for_kind(KINDS[str(kind)], values["model"])
    return result


def _overlaid(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with each dotted key of `overrides` set; neither argument is changed.

    A whole section goes over the one that is there key by key, except that another task, or another kind of
    network, comes with its own parameters alone.
    """
    result = _copied(values)
    for dotted, item in overrides.items():
        inner, last = result, str(dotted)
        # The one section inside another is task.noise.
        while "." in last and (inner is result or last.startswith("noise.")):
            section, last = last.split(".", 1)
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{dotted}: {section} is a single value here, not a section")
        inner[last] = _over(inner.get(last), item)
    return result


def _copied(section: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: _over(None, item) for key, item in section.items()}


def _over(old: Any, item: Any) -> Any:
    """An item over an old one; of a section what it does not name stays, unless name or kind changes."""
    if not isinstance(item, Mapping):
        return item
    if not isinstance(old, dict):
        return _copied(item)
    same = {"name": old.get("name"), "kind": old.get("kind", DEFAULT_KIND)}
    if any(item.get(key, value) != value for key, value in same.items()):
        return _copied(item)
    return {**old, **{key: _over(old.get(key), value) for key, value in item.items()}}


_NO_HARDER = {"task.layout", "task.examples", "task.per_class", "task.sample_seed"}
"""How examples are written, and which of them are evaluated: no recipe depends on that."""


def doubt_of_default(config: TrainConfig) -> str | None:
    """Why a task may not be learned with its default recipe, as this configuration has it; None where it was
    seen to be."""
    name = config.task["name"]
    default = DEFAULTS.get(name)
    if default is None:
        return f"{name} may not be learned: no recipe was tuned for it, so this is {UNTUNED}"
    if default.unlearned is not None:
        what = f"{name} will not be learned to 99 % of the unseen examples"
        return f"{what}: {default.unlearned} (docs/tasks.md)"
    asked, tuned = (
        {f"task.{key}": value for key, value in each.task.items()} | {"model.kind": each.model.kind}
        for each in (config, TrainConfig.of_task(name))
    )
    other = [key for key in asked if key not in _NO_HARDER and asked[key] != tuned.get(key)]
    if not other:
        return None
    theirs, ours = (", ".join(f"{key}={of.get(key, 'none')}" for key in other) for of in (tuned, asked))
    return f"{name} may not be learned: its recipe was tuned with {theirs}, not with {ours} (docs/tasks.md)"


def toml_value(text: str) -> Any:
    """What a text means on the right of "=" in TOML; a text that means nothing there is itself, so strings
    need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    # TOMLDecodeError is a ValueError; so is a number of five thousand digits.
    except (ValueError, RecursionError):
        return text


def toml_values(text: str) -> list[Any] | None:
    """What a text means between the brackets of a list in TOML; None where it means nothing there."""
    try:
        values: list[Any] = tomllib.loads(f"values = [{text}\n]")["values"]
    except (ValueError, RecursionError):
        return None
    return values


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """The dotted keys in which two configurations differ, `threads` aside: it changes no result. `start` is
    one key: its weights count."""
    a, b = (
        flat(config.model_dump(exclude={"threads", "start"}))
        | {"start": config.start and (config.start.step, config.start.sha256)}
        for config in (old, new)
    )
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def flat(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A nested configuration by dotted keys."""
    by_key: dict[str, Any] = {}
    for key, item in values.items():
        by_key |= flat(item, f"{at}{key}.") if isinstance(item, Mapping) else {f"{at}{key}": item}
    return by_key
