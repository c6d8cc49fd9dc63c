"""What is assumed of a file is tried: networks whose right reading is known, written so that the usual
reading is wrong."""

from __future__ import annotations

import math
import re

import pytest
import torch

import foreign_formats as formats
import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotBelieved, UsageError
from grokinterp.importing import readings
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.tasks import make_task, split
from grokinterp.training import cross_entropy
from test_import import MAPPING, lookup

P = 13


def imported(content, folder, **options):
    torch.save(content, folder / "theirs.pth")
    return gi.import_checkpoint(
        folder / "theirs.pth", folder / "run", **{"forensics": False, "progress": False, **options}
    )


def said(run) -> str:
    return "\n".join(run.imported["assumed"])


def accuracy(run, part="all") -> float:
    return float(gi.measure("accuracy", run.view(-1)).sel(part=part))


# Tokens that are never used


def with_spare(weights, rows: int, logits: int = 0, at: int | None = None):
    """The weights with more rows of the embedding, before the sign if `at` is its token, and more logits that
    are never the largest."""
    p, embed = len(weights["embed.W_E"]) - 1, weights["embed.W_E"]
    used = torch.cat([embed[:p], torch.full((rows, embed.shape[1]), 0.3, dtype=embed.dtype)])
    at = p if at is None else at
    big = {**weights, "embed.W_E": torch.cat([used[:at], embed[p:], used[at:]])}
    if logits:
        big["unembed.W_U"] = torch.cat(
            [weights["unembed.W_U"], torch.zeros(len(weights["unembed.W_U"]), logits, dtype=embed.dtype)], 1
        )
        big["unembed.b_U"] = torch.cat(
            [weights["unembed.b_U"], torch.full((logits,), -50.0, dtype=embed.dtype)]
        )
    return big


SPARE = [
    (11, (2, 5), 2, 3, None, "a b = of 14"),
    (13, (2, 5), 1, 2, None, "a b = of 15"),
    (13, (1, 4), 6, 7, None, "a b = of 20"),
    (13, (2, 5), 3, 4, 16, "a b =@16"),
    (17, (3, 7), 7, 0, None, "a b = of 25"),
    (17, (3, 7), 4, 5, 19, "a b =@19 of 22"),
    (23, (3, 7), 9, 10, None, "a b = of 33"),
]


@pytest.mark.parametrize(
    ("p", "keys", "rows", "logits", "at", "layout"),
    [pytest.param(*case, id=case[-1], marks=[pytest.mark.slow] * (case[0] > 13)) for case in SPARE],
)
def test_tokens_that_are_never_used_are_no_elements(tmp_path, p, keys, rows, logits, at, layout):
    run = imported(with_spare(dict(controls.clock(p, keys).weights), rows, logits, at), tmp_path)
    assert (run.config.task["name"], run.config.task["p"], run.task.layout) == ("modular_addition", p, layout)
    assert accuracy(run) == 1


def test_a_vocabulary_that_is_used_up_is_the_number_of_elements(tmp_path):
    run = imported(dict(controls.clock(P, (2, 5)).weights), tmp_path)
    assert (run.task.p, run.task.layout) == (P, "a b =")


def test_a_number_of_elements_that_is_asked_for_is_looked_for_among_fewer_than_the_tokens(tmp_path):
    big = with_spare(dict(controls.clock(P, (2, 5)).weights), 3, 4)
    assert imported(big, tmp_path, task={"name": "modular_addition", "p": P}).task.p == P


# The order of the operands


TURNED = [
    "modular_subtraction",
    "modular_division",
    "x3_plus_xy",
    "x3_plus_xy2_plus_y",
    "x2_plus_xy_plus_y2_plus_x",
]


@pytest.mark.parametrize("name", TURNED)
def test_operands_in_the_other_order_are_read_so(tmp_path, name):
    task = make_task(name, p=P)
    answers = task.table.T.flatten()  # the network sees b first
    run = imported(
        lookup(make_task("modular_addition", p=P), lambda row: 20.0, answers.clamp(min=0)), tmp_path
    )
    assert (run.config.task["name"], run.task.layout) == (name, "b a =")
    assert accuracy(run) == 1


@pytest.mark.parametrize("name", TURNED)
def test_operands_in_the_usual_order_are_read_so(tmp_path, name):
    task = make_task(name, p=P)
    run = imported(
        lookup(make_task("modular_addition", p=P), lambda row: 20.0, task.table.flatten().clamp(min=0)),
        tmp_path,
    )
    assert (run.config.task["name"], run.task.layout) == (name, "a b =")


# The rows of the training set


TRAIN = split(P * P, 0.4, "torch_randperm", 3)


MOST = split(P * P, 0.7, "torch_randperm", 3)


def memoriser(train=TRAIN.train):
    """Right on its training set, by chance on the rest."""
    known = mask(train)
    task = make_task("modular_addition", p=P)
    answers = torch.where(
        known, task.targets, torch.randint(P, (P * P,), generator=torch.Generator().manual_seed(1))
    )
    return lookup(task, lambda row: 9.0 + row / 100, answers)


def turned(rows):
    return rows % P * P + rows // P


def pairs(rows):
    return torch.stack([rows // P, rows % P], 1)


def mask(rows):
    return torch.zeros(P * P, dtype=torch.bool).index_fill(0, rows, True)


ROWS = [
    ("numbers a p + b", {"train_indices": TRAIN.train, "test_indices": TRAIN.test}),
    ("numbers b p + a", {"train_indices": turned(TRAIN.train), "test_indices": turned(TRAIN.test)}),
    ("numbers b p + a", {"train_indices": turned(TRAIN.train)}),
    ("numbers b p + a", {"train_indices": turned(TRAIN.train).tolist()}),
    (
        "pairs (b, a)",
        {"train_indices": pairs(TRAIN.train).flip(1), "test_indices": pairs(TRAIN.test).flip(1)},
    ),
    (
        "numbers a p + b, with training and test set in each",
        {"train_indices": TRAIN.test, "test_indices": TRAIN.train},
    ),
    (
        "numbers b p + a, with training and test set in each",
        {"train_indices": turned(TRAIN.test), "test_indices": turned(TRAIN.train)},
    ),
    ("pairs (a, b), with training and test set in each", {"train_indices": pairs(TRAIN.test)}),
    ("numbers a p + b", {"train_indices": mask(TRAIN.train), "test_indices": mask(TRAIN.test)}),
    ("numbers a p + b", {"train_indices": mask(TRAIN.train).reshape(P, P)}),
    (
        "numbers a p + b",
        {"train_indices": mask(TRAIN.train).reshape(P, P), "test_indices": mask(TRAIN.test).reshape(P, P)},
    ),
    ("numbers b p + a", {"train_indices": mask(TRAIN.train).reshape(P, P).T}),
    ("numbers a p + b", {"train_indices": mask(TRAIN.train).long()}),
    ("numbers a p + b", {"train_indices": mask(TRAIN.train).long().tolist()}),
    (
        "numbers a p + b",
        {"train_indices": mask(TRAIN.train).float(), "test_indices": mask(TRAIN.test).float()},
    ),
    ("numbers a p + b", {"test_indices": TRAIN.test}),
    ("numbers b p + a", {"test_indices": turned(TRAIN.test)}),
    ("pairs (b, a)", {"test_indices": pairs(TRAIN.test).flip(1)}),
    ("numbers a p + b", {"test_indices": mask(TRAIN.test).reshape(P, P)}),
    ("numbers a p + b, with training and test set in each", {"test_indices": TRAIN.train}),
]


@pytest.mark.parametrize(("how", "content"), ROWS, ids=range(len(ROWS)))
def test_the_rows_are_read_as_the_losses_say(tmp_path, how, content):
    run = imported({"model": memoriser(), **content}, tmp_path)
    assert torch.equal(run.split.train.sort().values, TRAIN.train.sort().values)
    assert torch.equal(run.split.test.sort().values, TRAIN.test.sort().values)
    assert f"read as {how}" in said(run)
    assert not any("indices" in place for entry in run.imported["left_out"] for place in entry["places"])
    assert (accuracy(run, "train"), accuracy(run, "test") < 0.3) == (1, True)


@pytest.mark.parametrize("form", ["numbers", "mask", "test"])
def test_rows_of_a_table_with_gaps_may_be_the_numbers_of_its_examples(tmp_path, form):
    task = make_task("modular_division", p=P)
    rows = torch.randperm(task.n_inputs, generator=torch.Generator().manual_seed(0))
    train, test = rows[:60], rows[60:]
    known = torch.zeros(task.n_inputs, dtype=torch.bool)
    known[train] = True
    answers = torch.zeros(P * P, dtype=torch.int64)
    wrong = torch.randint(P, (task.n_inputs,), generator=torch.Generator().manual_seed(1))
    answers[task.pairs[:, 0] * P + task.pairs[:, 1]] = torch.where(known, task.targets, wrong)
    weights = lookup(make_task("modular_addition", p=P), lambda row: 9.0, answers)
    rows = {
        "numbers": {"train_indices": train, "test_indices": test},
        "mask": {"train_indices": known.long()},
        "test": {"test_indices": test},
    }
    run = imported({"model": weights, **rows[form]}, tmp_path, task="modular_division")
    assert torch.equal(run.split.train.sort().values, train.sort().values)
    assert accuracy(run, "train") == 1


def losses_of(weights, rows):
    config = ModelConfig(d_model=3 * P + 3, n_heads=2, d_head=P, d_mlp=P * P, train_biases="mlp")
    task = make_task("modular_addition", p=P)
    with torch.no_grad():
        logits = config.hooked(task.reads, weights, torch.float64)(task.inputs)[:, -1]
    return cross_entropy(logits, task.targets)[rows].mean().item()


def test_the_losses_in_the_file_decide_what_its_rows_are(tmp_path):
    # Right everywhere and a little surer on what it was not trained on: a trace would say that the sets are
    # swapped.
    known = set(TRAIN.train.tolist())
    weights = lookup(
        make_task("modular_addition", p=P), lambda row: (8.0 if row in known else 8.5) + row / 1000
    )
    losses = {
        f"{part}_losses": [losses_of(weights, rows)]
        for part, rows in (("train", TRAIN.train), ("test", TRAIN.test))
    }
    content = {
        "model": weights,
        "train_indices": turned(TRAIN.train),
        "test_indices": turned(TRAIN.test),
        **losses,
    }
    run = imported(content, tmp_path)
    assert torch.equal(run.split.train, TRAIN.train)
    assert "read as numbers b p + a: its losses are then the file's" in said(run)


def test_where_no_loss_tells_rows_apart_that_is_said(tmp_path):
    weights = lookup(make_task("modular_addition", p=P), lambda row: 20.0)
    run = imported({"model": weights, "train_indices": turned(TRAIN.train)}, tmp_path)
    assert "Which of these readings is right CANNOT be told" in said(run)
    assert torch.equal(run.split.train, turned(TRAIN.train))


# Activation, normalisation, attention, heads


def by_heart(**model):
    """The configuration of a network that knows its training set by heart, in float64."""
    options = {
        "task.p": 11,
        "model.d_model": 16,
        "model.n_heads": 2,
        "model.d_mlp": 64,
        "training.fraction": 0.6,
    }
    options |= {
        "training.weight_decay": 0.0,
        "training.steps": 300,
        "training.stop_when": None,
        "training.dtype": "float64",
    }
    options |= {f"model.{key}": value for key, value in model.items()}
    return gi.TrainConfig.preset("quick", threads=1, **options)


WAYS = {
    "relu": {"act_fn": "relu"},
    "gelu": {"act_fn": "gelu"},
    "silu": {"act_fn": "silu"},
    "LNPre": {"normalization": "LNPre"},
    "RMSPre": {"normalization": "RMSPre"},
    "gelu LNPre": {"act_fn": "gelu", "normalization": "LNPre"},
    "constant attention": {"attention_mixing": 0.0},
    "two layers": {"n_layers": 2},
    "two layers, bidirectional": {"n_layers": 2, "attention_dir": "bidirectional"},
}
FAST = ("gelu", "LNPre", "constant attention", "two layers")
"""Those that every run of the tests looks at; the others are slow."""
USUAL = {"act_fn": "relu", "normalization": "none", "attention_mixing": 1.0, "attention_dir": "causal"}


@pytest.fixture(scope="session")
def networks(trained_once):
    def network(way):
        run = trained_once(f"readings, {way}", by_heart(**WAYS[way]))
        assert run.history["train_accuracy"].iloc[-1] == 1
        return run

    return network


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] * (way not in FAST)) for way in WAYS]
)
def test_what_a_state_dict_does_not_say_of_the_network_is_found(tmp_path, networks, way):
    true = networks(way)
    run = imported({"model": true.state_dict(-1), "train_indices": true.split.train}, tmp_path)
    assert {key: getattr(run.config.model, key) for key in USUAL} == USUAL | {
        k: v for k, v in WAYS[way].items() if k in USUAL
    }
    torch.testing.assert_close(run.view(-1).logits, true.view(-1).logits)


@pytest.mark.parametrize("way", ["relu", "gelu", "silu"])
def test_the_losses_in_a_file_tell_activations_apart(tmp_path, networks, way):
    true = networks(way)
    losses = {f"{part}_losses": true.history[f"{part}_loss"].iloc[-1:].tolist() for part in ("train", "test")}
    run = imported({"model": true.state_dict(-1), "train_indices": true.split.train, **losses}, tmp_path)
    assert run.config.model.act_fn == way
    assert "its losses are the file's" in said(run)
    assert "CANNOT be told apart here from" not in said(run)  # not even GELU from its approximation


def test_without_losses_two_readings_that_are_nearly_one_are_not_told_apart(tmp_path, networks):
    true = networks("gelu")
    run = imported({"model": true.state_dict(-1), "train_indices": true.split.train}, tmp_path)
    assert "CANNOT be told apart here from act_fn = gelu_new" in said(run)


@pytest.mark.parametrize("way", ["gelu", "silu", "LNPre", "constant attention", "two layers, bidirectional"])
def test_what_the_settings_say_is_not_tried(tmp_path, networks, way):
    true = networks(way)
    settings = {"act_fn": "relu", "normalization_type": None, "attention_dir": "causal"}
    content = {"model": true.state_dict(-1), "train_indices": true.split.train, "config": settings}
    run = imported(content, tmp_path, believe=True, task="modular_addition")
    assert (run.config.model.act_fn, run.config.model.normalization, run.config.model.attention_dir) == (
        "relu",
        "none",
        "causal",
    )


@pytest.mark.parametrize("act_fn", ["relu", "gelu", "square"])
def test_the_activation_of_a_perceptron_is_found_by_its_losses(tmp_path, act_fn):
    options = {
        "task.p": 11,
        "task.layout": "a b",
        "model.kind": "mlp",
        "model.act_fn": act_fn,
        "model.d_model": 16,
        "model.d_mlp": 64,
    }
    options |= {
        "training.fraction": 0.6,
        "training.weight_decay": 0.0,
        "training.steps": 300,
        "training.stop_when": None,
    }
    config = gi.TrainConfig.preset("quick", threads=1, **options, **{"training.dtype": "float64"})
    true = gi.train(config, tmp_path / "true", progress=False)
    (tmp_path / "mine.toml").write_text(
        'doc = "a perceptron"\nkind = "mlp"\ntokens = ["a b"]\nmodel = { embedding = "separate" '
        '}\n[contents]\nweights = "model"\ntrain_rows = "rows"\ntrain_losses = "losses"\n[weights]\n'
        + "\n".join(
            f'"{name}" = {{ key = "{name}", axes = "{axes}" }}'
            for name, axes in {
                "embed_a.W_E": "vocab d_model",
                "embed_b.W_E": "vocab d_model",
                "blocks.0.mlp.W_in": "(operand d_model) d_mlp",
                "unembed.W_U": "d_mlp out",
            }.items()
        )
    )
    content = {
        "model": true.state_dict(-1),
        "rows": true.split.train,
        "losses": [true.history["train_loss"].iloc[-1]],
    }
    run = imported(content, tmp_path, layout=str(tmp_path / "mine.toml"))
    assert isinstance(run.config.model, MLPConfig)
    assert run.config.model.act_fn == act_fn


def test_heads_that_are_interleaved_are_read_so(tmp_path, networks):
    true = networks("relu")
    theirs = formats.nanda(dict(true.state_dict(-1)))
    out = theirs["blocks.0.attn.W_O"]
    theirs["blocks.0.attn.W_O"] = out.unflatten(1, (2, -1)).transpose(1, 2).flatten(1).contiguous()
    run = imported({"model": theirs, "train_indices": true.split.train}, tmp_path)
    assert "heads = interleaved" in said(run)
    torch.testing.assert_close(run.view(-1).logits, true.view(-1).logits)


# Refusals


def refused(content, folder, says, **options):
    with pytest.raises(NotBelieved, match=says) as error:
        imported(content, folder, **options)
    assert "Tried were" in str(error.value)
    assert "\n" not in str(error.value)
    assert "--believe" in str(error.value)
    assert not (folder / "run").exists()
    return imported(content, folder, believe=True, **options)


def untrained(seed=0, **model):
    return formats.random_weights(
        ModelConfig(d_model=12, n_heads=2, d_head=5, d_mlp=20, **model),
        make_task("modular_addition", p=P),
        seed,
    )


@pytest.mark.parametrize(
    "task", ["modular_addition", "modular_subtraction", "x2_plus_y2", {"name": "modular_division", "p": P}]
)
def test_a_network_at_chance_is_refused_even_where_its_task_is_named(tmp_path, task):
    assert "NO MORE than by chance" in said(
        refused(untrained(), tmp_path, "no more than by chance", task=task)
    )


@pytest.mark.parametrize(
    "wrong", ["modular_subtraction", "modular_multiplication", "x2_plus_y2", "x3_plus_xy", "random_table"]
)
def test_a_task_that_is_not_the_networks_is_refused(tmp_path, wrong):
    weights = lookup(make_task("modular_addition", p=P), lambda row: 20.0)
    refused(weights, tmp_path, "no more than by chance", task=wrong)


def test_a_memoriser_is_believed_with_its_rows_and_without(tmp_path):
    (tmp_path / "with").mkdir(), (tmp_path / "without").mkdir()
    assert (
        imported({"model": memoriser(), "train_indices": TRAIN.train}, tmp_path / "with").task.symbol
        == "a + b mod 13"
    )
    assert imported(memoriser(MOST.train), tmp_path / "without").task.symbol == "a + b mod 13"


def test_a_memoriser_of_few_rows_is_believed_by_them(tmp_path):
    run = imported({"model": memoriser(TRAIN.train[:30]), "train_indices": TRAIN.train[:30]}, tmp_path)
    assert run.task.symbol == "a + b mod 13"
    assert re.search(
        r"right on 0\.[23]\d+ of all pairs and on 1\.0000 of its training set by the rows in the file",
        said(run),
    )


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_of_the_training_set_is_measured_on_the_one_that_was_read(tmp_path, seed):
    rows = torch.randperm(P * P, generator=torch.Generator().manual_seed(seed))[:60]
    run = imported(
        {"model": memoriser(), "train_indices": rows}, tmp_path, task="modular_addition", believe=True
    )
    right = accuracy(run, "train")
    assert f"and on {right:.4f} of its training set by the rows in the file" in said(run)
    assert "of a set that" not in said(run)
    for share in re.findall(
        r"of what the file names as its training set the network gets (\S+) right", said(run)
    ):
        assert float(share) == pytest.approx(right, abs=5e-4)


CONTRADICTIONS = [
    {"train_losses": [50.0]},
    {"test_losses": [4e-9]},
    {"train_losses": [1e-4], "test_losses": [1e-4]},
    {"train_losses": [3.0], "test_losses": [0.0001]},
    {"train_losses": torch.tensor([900.0]), "test_losses": torch.tensor([1000.0])},
]


@pytest.mark.parametrize("losses", CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_losses_that_the_network_does_not_have_are_a_contradiction(tmp_path, losses):
    content = {"model": memoriser(), "train_indices": TRAIN.train, **losses}
    run = refused(content, tmp_path, r"loss at its last snapshot is \S+, and \S+ in the file")
    assert "imported as asked for, by --believe" in said(run)


WRONG_SHARES = [
    {"train_acc": [0.5]},
    {"test_acc": [0.99]},
    {"train_acc": [50.0], "test_acc": [4.0]},
    {"train_accuracies": torch.tensor([0.0])},
    {"val_acc": [1.0], "train_acc": [1.0]},
]


@pytest.mark.parametrize("shares", WRONG_SHARES, ids=range(len(WRONG_SHARES)))
def test_accuracies_that_the_network_does_not_have_are_a_contradiction(tmp_path, shares):
    content = {"model": memoriser(), "train_indices": TRAIN.train, **shares}
    refused(content, tmp_path, r"accuracy at its last snapshot is \S+, and \S+ in the file")


@pytest.mark.parametrize(
    "shares", [{"train_acc": [1.0]}, {"train_acc": [100.0], "test_acc": [10.0]}, {"test_acc": [0.1]}]
)
def test_accuracies_that_it_has_are_none(tmp_path, shares):
    assert "contradict" not in said(
        imported({"model": memoriser(), "train_indices": TRAIN.train, **shares}, tmp_path)
    )


def test_losses_that_it_has_are_none(tmp_path):
    weights = memoriser()
    losses = {
        f"{part}_losses": [losses_of(weights, rows)]
        for part, rows in (("train", TRAIN.train), ("test", TRAIN.test))
    }
    run = imported({"model": weights, "train_indices": TRAIN.train, **losses}, tmp_path)
    assert "contradict" not in said(run)
    assert "the train loss measured is the file's" in said(run)


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize(("test", "doubtful"), [(2, False), (1 / 3, True)])
def test_without_rows_the_loss_over_all_pairs_should_lie_between_those_in_the_file(
    tmp_path, test, doubtful, is_right
):
    weights = (
        lookup(make_task("modular_addition", p=P), lambda row: 3.0) if is_right else memoriser(MOST.train)
    )
    everywhere = losses_of(weights, torch.arange(P * P))
    content = {"model": weights, "train_losses": [everywhere / 9], "test_losses": [everywhere * test]}
    if doubtful and not is_right:
        assert "imported as asked for, by --believe" in said(
            refused(content, tmp_path, "the loss over all pairs is")
        )
    else:
        assert ("DOUBTFUL: the loss over all pairs is" in said(imported(content, tmp_path))) == doubtful


SHIFTS = [
    (23, (3, 7), 1),
    (23, (3, 7), 2),
    (23, (3, 7), 5),
    (23, (3, 7), 22),
    (17, (3, 7), 1),
    (19, (2, 5), 3),
]


def shifted(p, keys, by):
    """A network that is right on all pairs of a + b + c mod p, which is no task here."""
    weights = dict(controls.clock(p, keys).weights)
    return {**weights, "unembed.W_U": weights["unembed.W_U"].roll(by, 1)}


@pytest.mark.parametrize(
    ("p", "keys", "by"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (i in (1, 2, 5))) for i, case in enumerate(SHIFTS)],
)
def test_another_number_of_elements_is_not_believed_for_half_of_the_pairs(tmp_path, p, keys, by):
    """As a + b on fewer elements half are right; all are as a + b of elements numbered from `by` on."""
    run = imported(shifted(p, keys, by), tmp_path)
    assert (run.config.task["name"], run.task.p, run.task.layout) == ("modular_addition", p, "a b =")
    assert accuracy(run) == 1
    numbers = torch.tensor(run.record["task"]["numbering"]["elements"])
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    assert torch.equal(numbers[(a + b + by) % p], (numbers[a] + numbers[b]) % p)


def test_nor_is_it_where_the_file_has_rows_and_losses_of_the_right_one(tmp_path):
    rows, weights = split(23**2, 0.4, "torch_randperm", 0), shifted(23, (3, 7), 1)
    run = imported({"model": weights, "train_indices": rows.train}, tmp_path)
    numbers = torch.tensor(run.record["task"]["numbering"]["elements"])
    theirs = numbers[rows.train // 23] * 23 + numbers[rows.train % 23]
    assert {*run.split.train.tolist()} == {*theirs.tolist()}
    loss = gi.measure("loss", run.view(-1))
    (tmp_path / "other").mkdir()
    content = {"model": weights, "train_indices": rows.train}
    content |= {f"{part}_losses": [float(loss.sel(part=part))] for part in ("train", "test")}
    again = imported(content, tmp_path / "other")
    assert "the train loss measured is the file's" in said(again)


def test_rows_that_leave_no_trace_in_a_weak_network_are_a_contradiction(tmp_path):
    # Right on 70 % of the pairs, and on no more of those that the file calls its training set.
    answers = make_task("modular_addition", p=P).targets + (~mask(MOST.train)).long()
    weights = lookup(make_task("modular_addition", p=P), lambda row: 9.0 + row % 10, answers % P)
    rows = torch.cat([MOST.train[:70], MOST.test[:30]])
    refused(
        {"model": weights, "train_indices": rows}, tmp_path, "these are not the rows that it was trained on"
    )


def test_the_command_refuses_with_1_and_says_what_was_tried(grokinterp, tmp_path):
    torch.save(untrained(), tmp_path / "theirs.pth")
    flags = [
        "import",
        tmp_path / "theirs.pth",
        "--out",
        tmp_path / "run",
        "--no-forensics",
        "--task",
        "modular_addition",
    ]
    code, stdout, stderr = grokinterp(*flags)
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert "act_fn relu or gelu or gelu_new or silu; normalization none or LNPre or RMSPre" in stderr
    code, stdout, _ = grokinterp(*flags, "--believe")
    assert code == 0
    assert "NO MORE than by chance" in stdout


def test_what_may_be_chance_depends_on_how_much_was_tried():
    known = readings._Known({"name": "x"}, "x", make_task("modular_addition", p=P).table, swapped=False)
    everything = torch.arange(P * P)
    assert known.nats(1 / P, everything) == 0
    assert known.nats(0.05, everything) == 0
    assert known.nats(1.0, everything) == pytest.approx(P * P * math.log(P))
    assert known.nats(0.5, everything) > 100


def test_a_task_that_cannot_be_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="is none of a network that takes"):
        imported(untrained(), tmp_path, task={"name": "modular_addition", "p": P + 5})


def test_a_mapping_is_believed_in_what_it_says(tmp_path):
    (tmp_path / "mine.toml").write_text(MAPPING.replace('act_fn = "relu"', 'act_fn = "silu"'))
    task = make_task("modular_addition", p=P, layout=f"a +@{P} b =@{P + 3} of {P + 4}")
    weights = formats.random_weights(ModelConfig(d_model=16, n_heads=4, d_mlp=20, d_vocab_out=P + 4), task)
    options = {"layout": str(tmp_path / "mine.toml"), "task": "modular_addition", "believe": True}
    run = imported(
        formats.torch_modules(formats.without_biases(weights, but=".mlp."), 0), tmp_path, **options
    )
    assert run.config.model.act_fn == "silu"
