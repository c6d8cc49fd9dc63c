"""Configuration: what is accepted comes back unchanged, and whatever is not is refused in one line."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grokinterp.errors import ConfigError, GrokinterpError
from grokinterp.models import ModelConfig
from grokinterp.tasks import TASKS, task_parameters
from grokinterp.training import (
    DEFAULTS,
    PRESETS,
    SnapshotConfig,
    TrainConfig,
    TrainingConfig,
    differences,
    doubt_of_default,
)

ADDITION = {"task": {"name": "modular_addition"}}

BEYOND_PRINTING = 10**5000
"""An integer that Python refuses to write in decimals."""


def refusal(values: dict[str, Any] | None = None, /, **overrides: Any) -> str:
    """The one line with which these are refused."""
    with pytest.raises(ConfigError) as error:
        TrainConfig.make(values, **overrides)
    return the_line(error.value)


def the_line(error: GrokinterpError) -> str:
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1, message
    return message


def round_trip(config: TrainConfig) -> TrainConfig:
    """As a run directory does it: through JSON, in which None cannot stand."""
    return TrainConfig.make(
        json.loads(json.dumps(config.model_dump(mode="json", exclude_none=True), allow_nan=False))
    )


# What is accepted


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration_that_survives_a_round_trip(name):
    config = TrainConfig.preset(name)
    assert round_trip(config) == config
    known, task = {"point_slope": 2352, "plain_division": 31 * 30}, config.task
    n = known.get(task["name"], task["p"] ** 2 if "p" in task else task.get("examples"))
    assert config.make_task().n_representative == n
    assert PRESETS[name]["doc"]


def test_no_values_at_all_are_the_defaults():
    assert TrainConfig.make() == TrainConfig.make({}) == TrainConfig()
    assert TrainConfig.make().task == {
        "name": "modular_addition",
        "p": 113,
        "layout": "a b =",
        "convention": "paper",
    }
    assert round_trip(TrainConfig.make()) == TrainConfig.make()


OF_MATRICES = ("eigenvalues", "eigenvectors", "matrix_inverse", "matrix_transpose", "matrix_addition")


@pytest.mark.parametrize("name", TASKS)
def test_a_configuration_holds_all_parameters_of_its_task(name):
    config = TrainConfig.make(**{"task.name": name})
    absent = {key for key, known in task_parameters(name).model_fields.items() if known.default is None}
    of_families = {
        "majority": set(),
        "reverse": set(),
        "digit_addition": set(),
        "line_images": {"sample_flips"},
        "point_slope": {"noise"},
        **{key: {"input_exponents", "output_exponents"} for key in OF_MATRICES},
    }
    assert absent == of_families.get(name, {"noise", "opaque"})
    assert config.task.keys() == {"name", *task_parameters(name).model_fields} - absent
    assert config.make_task().name == name
    assert round_trip(config) == config


def test_values_toml_and_dotted_overrides_are_three_ways_to_say_the_same():
    toml = """
        seed = 3
        threads = 1
        device = "cpu"
        [task]
        name = "modular_division"
        p = 13
        [model]
        d_model = 32
        train_biases = "mlp"
        [training]
        betas = [0.9, 0.95]
        clip = 1
        stop_when = "test_accuracy >= 0.9 for 5"
        [snapshots]
        at = [1, 2, 3]
        events = []
    """
    nested = {
        "seed": 3,
        "threads": 1,
        "device": "cpu",
        "task": {"name": "modular_division", "p": 13},
        "model": {"d_model": 32, "train_biases": "mlp"},
        "training": {"betas": (0.9, 0.95), "clip": 1.0, "stop_when": "test_accuracy >= 0.9 for 5"},
        "snapshots": {"at": (1, 2, 3), "events": ()},
    }
    sections = {key: item for key, item in nested.items() if isinstance(item, dict)}
    dotted = {
        f"{section}.{key}": item for section, values in sections.items() for key, item in values.items()
    }
    expected = TrainConfig.make(nested)
    assert TrainConfig.from_toml(toml) == expected
    assert TrainConfig.make(**dotted, seed=3, threads=1, device="cpu") == expected
    assert (
        TrainConfig.make(
            {"seed": 99, "model": {"d_model": 5}, **{k: nested[k] for k in ("threads", "device")}},
            seed=3,
            **dotted,
        )
        == expected
    )
    assert TrainConfig.from_toml(toml, **{"training.clip": 2}).training.clip == 2


def test_a_preset_can_be_overridden_key_by_key():
    config = TrainConfig.preset("quick", seed=3, **{"training.lr": 0.5})
    plain = TrainConfig.preset("quick")
    assert (config.seed, config.training.lr) == (3, 0.5)
    assert differences(plain, config) == ["seed", "training.lr"]


def test_another_task_keeps_the_parameters_that_it_shares_with_that_of_the_preset():
    assert TrainConfig.preset("quick", **{"task.name": "modular_division"}).task["p"] == 53
    group = TrainConfig.preset("quick", **{"task.name": "group_composition", "task.group": "S3"})
    assert group.task == {"name": "group_composition", "group": "S3", "layout": "a b ="}


def test_a_whole_section_goes_over_the_one_that_is_there_key_by_key():
    config = TrainConfig.make({"model": {"d_model": 64, "d_mlp": 10}}, model={"d_mlp": 20, "n_heads": 2})
    assert (config.model.d_model, config.model.d_mlp, config.model.n_heads) == (64, 20, 2)
    assert TrainConfig.preset("quick", task={"p": 7}).task["p"] == 7
    assert TrainConfig.preset("quick", task={"layout": "a op b ="}).task["p"] == 53


def test_a_whole_section_of_another_task_comes_with_its_own_parameters_alone():
    assert (
        TrainConfig.preset("quick", task={"name": "random_table"}).task
        == TrainConfig.make(task={"name": "random_table"}).task
    )


@pytest.mark.parametrize(("said", "meant"), [(True, "all"), (False, "none"), ("mlp", "mlp"), ("all", "all")])
def test_biases_may_be_a_yes_or_a_no(said, meant):
    assert TrainConfig.make(**{"model.train_biases": said}).model.train_biases == meant


def test_a_configuration_never_changes():
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().model.d_model = 5


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ({"model": {"d_model": 64}}, {"model.d_model": 32}),
        ({"task": {"name": "modular_addition", "p": 7}}, {"task.p": 5}),
        ({}, {"model": {"d_model": 64}, "model.d_model": 32}),
        ({"snapshots": {"at": [1, 2]}}, {"snapshots": {"at": [3]}, "snapshots.at": [4]}),
    ],
)
def test_making_a_configuration_leaves_its_arguments_as_they_were(values, overrides):
    before = copy.deepcopy((values, overrides, PRESETS))
    TrainConfig.make(values, **overrides)
    TrainConfig.preset("quick", **overrides)
    assert (values, overrides, PRESETS) == before


# What is refused


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("task.p", 1, "greater than or equal to 2, got 1"),
        ("task.p", "x", "integer"),
        ("task.name", "modular_additon", "unknown task 'modular_additon'; did you mean 'modular_addition'?"),
        ("task.name", 5, "needs the name of a task"),
        ("task.name", None, "needs the name of a task"),
        ("training.fraction", 0, "between 0 and 1, both excluded, got 0"),
        ("training.fraction", 1, "between 0 and 1, both excluded, got 1"),
        ("training.fraction", 1.5, "between 0 and 1, both excluded, got 1.5"),
        ("training.fraction", -0.3, "between 0 and 1, both excluded, got -0.3"),
        ("training.fraction", float("nan"), "finite number, got nan"),
        ("training.fraction", float("inf"), "finite number, got inf"),
        ("training.fraction", None, "number, got None"),
        ("training.fraction", "half", "number, .*got 'half'"),
        ("training.lr", 0, "greater than 0"),
        ("training.lr", -1e-3, "greater than 0"),
        ("training.lr", 10**400, "number"),
        ("training.weight_decay", -1, "greater than or equal to 0"),
        ("training.betas", [0.9], "betas"),
        ("training.betas", [0.9, 1.0], "less than 1"),
        ("training.betas", 0.9, "tuple|list"),
        ("training.steps", 0, "greater than or equal to 1"),
        ("training.steps", 10**10, "less than or equal to 1000000000"),
        ("training.steps", 1.5, "integer.*got 1.5"),
        ("training.batch_size", 0, "greater than or equal to 1"),
        ("training.clip", 0, "greater than 0"),
        ("training.evaluate_every", 0, "greater than or equal to 1"),
        ("training.warmup", -1, "greater than or equal to 0"),
        ("training.optimizer", "adan", "'adamw', 'adam', 'sgd' or 'muon', got 'adan'"),
        ("training.loss", "nll", "'stablemax', 'mse' or 'squared_distance', got 'nll'"),
        ("training.split", "random", "'python_shuffle' or 'torch_randperm', got 'random'"),
        ("training.split_seed", -1, "greater than or equal to 0"),
        ("training.dtype", "float16", "'float64' or 'bfloat16', got 'float16'"),
        (
            "training.stop_when",
            "soon",
            "needs a condition such as 'test_accuracy >= 0.999 for 200', got 'soon'",
        ),
        ("training.stop_when", "test_accuracy", "needs a condition"),
        ("training.stop_when", "test_accuracy => 1", "needs a condition"),
        ("training.stop_when", "test_accuracy >= 1 for ever", "needs a condition"),
        ("training.stop_when", "test_accuracy >= 1e", "needs a condition"),
        ("training.stop_when", "test_accuracy >= nan", "needs a condition"),
        ("training.stop_when", "", "needs a condition"),
        (
            "training.stop_when",
            "test_acuracy >= 1",
            "unknown metric 'test_acuracy'; did you mean 'test_accuracy'",
        ),
        ("training.stop_when", 1, "string"),
        ("model.n_heads", 3, "3 heads do not divide d_model 128"),
        ("model.n_heads", 0, "greater than or equal to 1"),
        ("model.n_layers", 0, "greater than or equal to 1"),
        ("model.n_layers", 65, "less than or equal to 64"),
        ("model.d_model", 0, "greater than or equal to 1"),
        ("model.d_model", "wide", "integer"),
        ("model.d_mlp", -1, "greater than or equal to 0"),
        ("model.attention_mixing", 1.1, "less than or equal to 1"),
        ("model.attention_dir", "both", "'causal' or 'bidirectional'"),
        ("model.normalization", "batch", "'none', 'LN'"),
        ("model.act_fn", "tanh", "'relu', 'gelu'"),
        ("model.init_scale", float("inf"), "finite"),
        ("model.train_biases", "some", "'none', 'mlp' or 'all'"),
        ("snapshots.every", 0, "greater than or equal to 1"),
        ("snapshots.log", 1, "greater than or equal to 2"),
        ("snapshots.at", [1, -1], "greater than or equal to 0"),
        ("snapshots.at", 5, "tuple|list"),
        ("snapshots.events", ["test_loss"], "needs a condition"),
        ("snapshots.events", "test_loss < 1", "tuple|list"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        ("threads", 0, "greater than or equal to 1"),
        ("device", "tpu", "'cpu', 'cuda', 'mps' or 'auto', got 'tpu'"),
        ("model", 3, "dictionary"),
        ("training", "fast", "dictionary"),
        ("snapshots", [1, 2], "dictionary"),
        ("task", "modular_addition", "dictionary"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_its_key(key, value, says):
    message = refusal(ADDITION, **{key: value})
    assert re.search(says, message)
    assert key == "task.name" or message.startswith((f"{key}: ", f"{key}.", "model: 3 heads", "task: needs"))


NUMBERS = [
    *("seed", "threads", "task.p", "task.table_seed"),
    *(
        f"model.{key}"
        for key in (
            "n_layers",
            "d_model",
            "n_heads",
            "d_head",
            "d_mlp",
            "attention_mixing",
            "init_scale",
            "d_vocab_out",
        )
    ),
    *(
        f"training.{key}"
        for key in ("fraction", "split_seed", "lr", "weight_decay", "warmup", "steps", "batch_size", "clip")
    ),
    *("training.evaluate_every", "snapshots.every", "snapshots.log", "monitor_every"),
]


@pytest.mark.parametrize("key", NUMBERS)
def test_yes_is_no_number(key):
    message = refusal({"task": {"name": "random_table"}}, **{key: True})
    assert message.startswith(f"{key}: ")
    assert message.endswith("got True")


@pytest.mark.parametrize(
    "wide",
    [{"d_model": 128, "n_heads": 5}, {"d_model": "128", "n_heads": "5"}, {"d_model": 128.0, "n_heads": 5.0}],
)
def test_heads_that_do_not_divide_the_width_are_refused_however_the_numbers_are_written(wide):
    assert "5 heads do not divide d_model 128" in refusal({"model": wide})


def test_heads_need_not_divide_the_width_when_their_own_is_given():
    assert TrainConfig.make({"model": {"d_model": 128, "n_heads": 5, "d_head": 7}}).model.d_head == 7


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("seeed", "unknown key 'seeed'; did you mean 'seed'?"),
        ("trainig.lr", "unknown key 'trainig'; did you mean 'training'?"),
        ("training.stepps", "unknown key 'training.stepps'; did you mean 'steps'?"),
        ("model.d_modle", "unknown key 'model.d_modle'; did you mean 'd_model'?"),
        ("snapshots.evry", "unknown key 'snapshots.evry'; did you mean 'every'?"),
        ("task.layot", "unknown key 'task.layot'; did you mean 'layout'?"),
        (
            "zebra",
            "unknown key 'zebra'; known: device, model, monitor, monitor_every, processes, seed, snapshots, "
            "start, task, threads, training",
        ),
        ("model.zebra", "unknown key 'model.zebra'; known: act_fn, .*train_biases"),
        ("training.lr.x", "unknown key 'training.lr.x'; did you mean 'lr'?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, says):
    assert re.search(re.escape(says).replace(r"\.\*", ".*"), refusal(ADDITION, **{key: 1}))


OWN_TASKS = {name for name, make in TASKS.items() if make.__module__.startswith("grokinterp.")}


def test_every_task_has_a_recipe_that_learns_it_or_the_reason_why_not():
    assert DEFAULTS.keys() == OWN_TASKS
    for default in DEFAULTS.values():
        assert default.preset in PRESETS
        assert default.unlearned is None or default.unlearned.strip()
    assert DEFAULTS["random_table"].unlearned


@pytest.mark.parametrize("name", sorted(OWN_TASKS))
def test_the_recipe_of_a_task_is_its_preset_with_its_changes_and_can_be_overridden(name):
    default, config = DEFAULTS[name], TrainConfig.of_task(name)
    assert config == TrainConfig.preset(default.preset, **{"task.name": name, **default.changes})
    assert round_trip(config) == config
    changes = {"training.steps": 7, "training.stop_when": None, "seed": 3, "model.d_mlp": 24}
    assert TrainConfig.of_task(name, **changes) == config.changed(**changes)
    other = TrainConfig.of_task(
        name, **{"model.kind": "mlp" if config.model.kind == "transformer" else "transformer"}
    )
    assert other.model.kind != config.model.kind
    assert other.training == config.training


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("modular_addition", {}, None),
        ("modular_subtraction", {"training.steps": 5, "seed": 1, "model.d_mlp": 8}, None),
        ("modular_subtraction", {"task.layout": "a op b ="}, None),
        (
            "random_table",
            {},
            "random_table will not be learned to 99 % of the unseen examples: every answer is drawn by "
            "chance",
        ),
        ("random_table", {"task.p": 11}, "no rule to find"),
        (
            "modular_division",
            {"task.p": 113},
            "modular_division may not be learned: its recipe was tuned with task.p=97, not with task.p=113",
        ),
        ("digit_addition", {"task.examples": 100, "task.per_class": 0, "task.sample_seed": 1}, None),
        ("digit_addition", {"task.n": 6}, "tuned with task.n=5, not with task.n=6"),
        ("group_composition", {"task.group": "A5"}, "tuned with task.group=S5, not with task.group=A5"),
        (
            "modular_subtraction",
            {"task.convention": "julia"},
            "task.convention=paper, not with task.convention=julia",
        ),
        ("modular_subtraction", {"task.opaque": 7}, "task.opaque=none, not with task.opaque=7"),
        (
            "modular_subtraction",
            {"model.kind": "transformer"},
            "model.kind=mlp, not with model.kind=transformer",
        ),
    ],
)
def test_what_speaks_against_a_recipe_is_said_in_one_line(name, overrides, says):
    doubt = doubt_of_default(TrainConfig.of_task(name, **overrides))
    assert (doubt is None) if says is None else (says in doubt and "\n" not in doubt)


def test_a_task_of_ones_own_has_no_recipe_that_was_tuned(monkeypatch):
    monkeypatch.setitem(TASKS, "mine", TASKS["modular_addition"])
    config = TrainConfig.of_task("mine", **{"task.p": 5})
    assert config == TrainConfig.preset("fast113", **{"task.name": "mine", "task.p": 5})
    assert (
        doubt_of_default(config) == "mine may not be learned: no recipe was tuned for it, so this is fast113"
    )
    with pytest.raises(ConfigError, match=r"^unknown task 'minee'; did you mean 'mine'\?$"):
        TrainConfig.of_task("minee")


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"^unknown preset 'quik'; did you mean 'quick'\?$"):
        TrainConfig.preset("quik")
    with pytest.raises(
        ConfigError,
        match=r"^unknown preset 'zebra'; known: chughtai_mlp, concat_mlp, digits, doshi, double_vit, "
        r"fast113, grokking_demo, matrices, nalu, nanda, one_digit, patch_vit, pixel_vit, point_slope, "
        r"quick, regression, words$",
    ):
        TrainConfig.preset("zebra")


def test_several_errors_are_counted():
    assert refusal(**{"training.lr": -1, "training.steps": 0, "seed": -1}).endswith("(and 2 more)")


@pytest.mark.parametrize("key", ["model.n_layers", "model.d_model", "model.n_heads"])
def test_one_mistake_counts_as_one_even_if_defaults_follow_from_it(key):
    assert refusal(**{key: 0}) == f"{key}: input should be greater than or equal to 1, got 0"


def test_more_snapshots_than_a_disk_should_hold_are_refused():
    assert TrainConfig.make(**{"snapshots.every": 10, "training.steps": 10**6}).snapshots.every == 10
    message = refusal(**{"snapshots.every": 1, "training.steps": 10**9})
    assert (
        message
        == "snapshots.every=1 over 1,000,000,000 steps makes 1,000,000,000 snapshots; at most 100,000 may be"
    )


def test_a_key_inside_a_single_value_is_refused():
    message = refusal({"model": 3}, **{"model.d_model": 5})
    assert "model.d_model" in message
    assert "is a single value here, not a section" in message


def test_keys_of_a_section_are_strings():
    assert "5" in refusal({"model": {5: 1}})
    assert "5" in refusal({"task": {"name": "modular_addition", 5: 1}})


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ({"training": {"lr": np.eye(3)}}, {}),  # its repr has several lines
        ({"training": {"lr": BEYOND_PRINTING}}, {}),  # has no repr at all
        ({"training": {"betas": [BEYOND_PRINTING]}}, {}),
        ({}, {"task.p": BEYOND_PRINTING}),
        ({"a\nb": 1}, {"a\nb.c": 1}),
        ({"model": {"a\nb": 1}}, {}),
        ({"task": {"name": "a\nb"}}, {}),
        ({"training": {"stop_when": "a\nb > 1"}}, {}),
        ({"training": {"stop_when": "test_loss > 1 for " + "9" * 5000}}, {}),
        ({"model": "a\u2028b"}, {}),
        ({"model": {"\ud800": 1}}, {}),
    ],
)
def test_even_what_cannot_be_printed_in_one_line_is_refused_in_one(values, overrides):
    assert len(refusal(values, **overrides)) < 1000


@pytest.mark.parametrize(
    "toml",
    [
        "seed",
        "seed = ",
        "[model",
        "seed = 1\nseed = 2",
        "seed = 3x",
        "\x00",
        "seed = " + "9" * 5000,
        "seed = " + "[" * 5000,
    ],
)
def test_what_is_no_toml_is_refused(toml):
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_toml(toml)
    assert the_line(error.value).startswith("the configuration is no TOML: ")


@pytest.mark.parametrize(
    "toml",
    ["seed = 1979-05-27", "threads = nan", "training.lr = inf", "model = []", "seed = 99999999999999999999"],
)
def test_toml_values_of_another_kind_are_refused(toml):
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_toml(toml)
    assert the_line(error.value).startswith(toml.split(" =")[0])


# Differences


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ({}, []),
        ({"threads": 1}, []),
        ({"seed": 1}, ["seed"]),
        ({"seed": 1, "threads": 4, "training.lr": 0.5}, ["seed", "training.lr"]),
        ({"device": "auto"}, ["device"]),
        ({"task.p": 7}, ["task.p"]),
        ({"task.name": "random_table"}, ["task.convention", "task.name", "task.table_seed"]),
        (
            {"model.d_model": 256},
            ["model.d_head", "model.d_mlp", "model.d_model"],
        ),  # the defaults of the first two follow the third
        ({"model.d_model": 256, "model.d_head": 32, "model.d_mlp": 512}, ["model.d_model"]),
        (
            {"training.stop_when": "test_loss < 1", "snapshots.at": [3]},
            ["snapshots.at", "training.stop_when"],
        ),
        ({"training.clip": 1}, ["training.clip"]),
    ],
)
def test_differences_are_the_keys_that_differ_and_never_threads(overrides, keys):
    old, new = TrainConfig.make(ADDITION), TrainConfig.make(ADDITION, **overrides)
    assert differences(old, new) == differences(new, old) == keys


# Anything at all

SECTIONS = {"model": ModelConfig, "training": TrainingConfig, "snapshots": SnapshotConfig}
REAL = {section: sorted(model.model_fields) for section, model in SECTIONS.items()} | {
    "task": sorted({"name"} | {key for name in TASKS for key in task_parameters(name).model_fields})
}
WORDS = [
    *TASKS,
    *PRESETS,
    "S5",
    "C7",
    "S99",
    "a b =",
    "a op b =",
    "LN",
    "sgd",
    "muon",
    "mse",
    "squared_distance",
    "log_softmax",
    "stablemax",
    "ema",
    "ma",
    "cpu",
    "auto",
    "mlp",
    "nalu",
    "number",
    "integer",
    "float64",
    "test_loss < 1 for 3",
    "gini.W_E",
]

integers = st.one_of(
    st.integers(-3, 200), st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**30, 10**400]), st.integers()
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.floats(0, 1),
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.binary(max_size=4),
)
odd_keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.floats(),
    st.binary(max_size=3),
    st.tuples(st.text(max_size=3)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
strange_names = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["\n", "lr\n", "d_modell", "", ".", "seed.", "__class__", "model_config"]),
)


def sections(name: str) -> st.SearchStrategy[Any]:
    """A section: mostly real keys, mostly a real task, now and then anything."""
    entries = st.dictionaries(
        st.one_of(st.sampled_from(REAL[name]), strange_names, odd_keys), values, max_size=3
    )
    if name == "task":
        named = st.tuples(entries, st.sampled_from(list(TASKS))).map(
            lambda pair: {**pair[0], "name": pair[1]}
        )
        entries = st.one_of(named, entries)
    return st.one_of(entries, entries, entries, values)


nested = st.fixed_dictionaries(
    {},
    optional={
        **{name: sections(name) for name in REAL},
        "a\nb": values,
        **dict.fromkeys(("seed", "threads", "device", "monitor", "monitor_every"), values),
    },
)
dotted_keys = st.one_of(
    st.sampled_from([f"{section}.{key}" for section, keys in REAL.items() for key in keys]),
    st.sampled_from(
        [
            *REAL,
            "seed",
            "threads",
            "device",
            "a\nb.c",
            "seed.x",
            "model..d_model",
            "task.noise.seed",
            "task.noise.kind",
            "task.noise.",
        ]
    ),
    st.tuples(st.sampled_from([*REAL, "seed"]), strange_names).map(".".join),
    strange_names,
)
overrides = st.dictionaries(dotted_keys, values, max_size=3)


def assert_made_or_refused_in_one_line(make: Any) -> None:
    try:
        config = make()
        config.make_task()  # builds nothing yet, but may refuse what cannot fit into memory
    except GrokinterpError as error:
        the_line(error)
    else:
        assert round_trip(config) == config
        assert differences(config, config) == []


def examples(count: int) -> settings:
    """The same examples in every run, so that the suite does not fail one day in ten."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@examples(600)
@given(nested, overrides)
def test_anything_is_made_into_a_configuration_or_refused_in_one_line(nested, overrides):
    assert_made_or_refused_in_one_line(lambda: TrainConfig.make(nested, **overrides))


@examples(1000)
@given(st.one_of(st.sampled_from(list(PRESETS)), st.text(max_size=5)), overrides)
def test_any_change_to_a_preset_is_made_or_refused_in_one_line(name, overrides):
    assert_made_or_refused_in_one_line(lambda: TrainConfig.preset(name, **overrides))


@examples(500)
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(["seed", "=", "1", "\n", "[", "]", "model", ".", '"', "9" * 5000, "nan"]),
            max_size=8,
        ).map(" ".join),
    )
)
def test_any_text_is_a_configuration_or_refused_in_one_line(text):
    assert_made_or_refused_in_one_line(lambda: TrainConfig.from_toml(text))
