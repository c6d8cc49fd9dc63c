"""Groups that a file numbers in another order: networks whose algorithm is known, renumbered at random, are
imported as if they had not been; what is no such group is told from one."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp.errors import NotBelieved, UsageError
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.tasks import TASKS, make_task, order, split
from grokinterp.tasks.groups import cayley_table
from test_foreign import CHECKPOINTS
from test_import import imported, lookup, said
from test_irreps import LOOP, made_of
from test_isomorphism import table_of


def shuffled(p: int, seed: int = 0) -> torch.Tensor:
    """Our number of the element that a file calls 0, 1, ..."""
    return torch.randperm(p, generator=torch.Generator().manual_seed(seed))


def renumbered(weights, ours, answers=None):
    """A transformer's weights in a file with such numbers; of the answers others, where they are given."""
    theirs, p = dict(weights), len(ours)
    rest = torch.arange(p, len(theirs["embed.W_E"]))
    theirs["embed.W_E"] = theirs["embed.W_E"][torch.cat([ours, rest])]
    answers = ours if answers is None else answers
    for name in ("unembed.W_U", "unembed.b_U"):
        theirs[name] = theirs[name][..., answers].contiguous()
    return theirs


def measured(view: gi.View) -> dict[str, np.ndarray]:
    """What is said of representations, those of one dimension in the order of their cosines."""
    cosines = gi.measure("irrep_cosine", view)
    named = sorted(
        zip([n.split(" #")[0] for n in cosines.irrep.values], cosines.values.round(9), strict=True)
    )
    names = [
        str(name) for name, marked in zip(cosines.irrep.values, cosines.values > 0.02, strict=True) if marked
    ]
    found = {"irrep_cosine": np.array([value for _, value in named])}
    for name in ("loss", "accuracy", "irrep_fve.logits"):
        found[name] = np.asarray(gi.measure(name, view))
    for name in (
        "irrep_fve.W_E",
        "irrep_fve.W_U",
        "irrep_fve.neurons",
        "irrep_fve.neurons_ab",
        "restricted_loss.hidden_irreps",
    ):
        found[name] = np.asarray(gi.measure(name, view, irreps=names))
    return found


def assert_same_measures(one: gi.View, other: gi.View) -> None:
    first, second = measured(one), measured(other)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-6, atol=1e-9, err_msg=name)


# Multilayer perceptrons that are made of some representations


ONE_HOT = """
doc = "one-hot operands, two layers"
kind = "mlp"
tokens = ["a b"]
[model]
embedding = "one_hot"
biases = "in"
[weights]
"blocks.0.mlp.W_in" = { key = "in.weight", axes = "(operand vocab) d_mlp" }
"blocks.0.mlp.b_in" = { key = "in.bias", axes = "d_mlp" }
"unembed.W_U" = { key = "out.weight", axes = "d_mlp out" }
"""
MADE = [("D7", (1, 2)), ("S4", (2,)), ("S4", (0, 1, 3)), ("A4", (1,)), ("D6", (3, 4)), ("S3", (0, 1))]


def in_file(view: gi.View, ours_a, ours_b, answers) -> dict[str, torch.Tensor]:
    a, b = view.weights["blocks.0.mlp.W_in"].chunk(2)
    return {
        "in.weight": torch.cat([a[ours_a], b[ours_b]]),
        "in.bias": view.weights["blocks.0.mlp.b_in"],
        "out.weight": view.weights["unembed.W_U"][:, answers].contiguous(),
    }


def imported_perceptron(tmp_path, content, **options) -> gi.Run:
    (tmp_path / "one_hot.toml").write_text(ONE_HOT)
    return imported(
        content, tmp_path, **{"layout": str(tmp_path / "one_hot.toml"), "believe": False, **options}
    )


@pytest.mark.parametrize(("group", "chosen"), MADE)
def test_a_renumbered_network_has_the_measures_of_the_one_that_is_not(tmp_path, group, chosen):
    view = made_of(group, chosen, 20.0)
    ours = shuffled(view.task.p)
    run = imported_perceptron(tmp_path, in_file(view, ours, ours, ours))
    assert run.config.task["group"] in (group, {"S3": "D3"}.get(group))  # two names of one
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1
    assert list(run.record["task"]["numbering"]) == ["elements"]
    assert "its elements are NUMBERED in another order" in said(run)
    assert_same_measures(run.view(-1), view)


def test_the_numbers_in_run_json_are_an_isomorphism(tmp_path):
    view, table = made_of("S4", (2,), 20.0), cayley_table("S4")
    ours = shuffled(24, 5)
    run = imported_perceptron(tmp_path, in_file(view, ours, ours, ours))
    found = torch.tensor(run.record["task"]["numbering"]["elements"])
    theirs = ours.argsort()[table[ours][:, ours]]
    assert torch.equal(found[theirs], table[found][:, found])


def test_measures_do_not_depend_on_which_isomorphism_is_taken(tmp_path):
    """The documented numbers turned by an automorphism, an outer one of D7 and an inner one of S4."""
    for group, chosen, turn in (("D7", (1, 2), lambda i: i % 7 * 3 % 7 + i // 7 * 7), ("S4", (1, 3), None)):
        view, table = made_of(group, chosen, 20.0), cayley_table(group)
        p = len(table)
        elements = torch.arange(p)
        inverse = (table == 0).long().argmax(1)
        image = table[table[5], inverse[5]] if turn is None else turn(elements)
        assert torch.equal(image[table], table[image][:, image])
        assert not torch.equal(image, elements)
        other = {
            "blocks.0.mlp.W_in": torch.cat(
                [half[image] for half in view.weights["blocks.0.mlp.W_in"].chunk(2)]
            ),
            "blocks.0.mlp.b_in": view.weights["blocks.0.mlp.b_in"],
            "unembed.W_U": view.weights["unembed.W_U"][:, image],
            "unembed.b_U": view.weights["unembed.b_U"],
        }
        config = MLPConfig(embedding="one_hot", d_mlp=p * p, biases=True)
        model = config.hooked(view.task.reads, other, torch.float64)
        assert_same_measures(gi.view(model, view.task), view)


def test_numbers_that_differ_between_the_places_are_an_isotopism_and_that_is_said(tmp_path):
    view = made_of("D7", (1, 2), 20.0)
    run = imported_perceptron(tmp_path, in_file(view, shuffled(14, 1), shuffled(14, 2), shuffled(14, 3)))
    assert list(run.record["task"]["numbering"]) == ["a", "b", "answers"]
    assert "a and b and answers differently (an isotopism)" in said(run)
    assert_same_measures(run.view(-1), view)


def test_answers_alone_in_another_order(tmp_path):
    view = made_of("D7", (1, 2), 20.0)
    same = torch.arange(14)
    run = imported_perceptron(tmp_path, in_file(view, same, same, shuffled(14, 3)))
    assert list(run.record["task"]["numbering"]) in (["operands", "answers"], ["a", "b", "answers"])
    assert_same_measures(run.view(-1), view)


# Lookups: a neuron for every pair


def perceptron(table: torch.Tensor, scale=lambda row: 20.0) -> dict[str, torch.Tensor]:
    """A file of one-hot operands that has a table by heart, each pair with a logit of its own."""
    p = len(table)
    pairs = torch.arange(p * p)
    w_in = torch.zeros(2 * p, p * p, dtype=torch.float64)
    w_in[pairs // p, pairs] = w_in[p + pairs % p, pairs] = 1
    sizes = torch.tensor([scale(row) for row in range(p * p)], dtype=torch.float64)
    out = sizes[:, None] * torch.nn.functional.one_hot(table.flatten(), p)
    return {"in.weight": w_in, "in.bias": torch.full((p * p,), -1.0, dtype=torch.float64), "out.weight": out}


def under_numbers(table: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    return ours.argsort()[table[ours][:, ours]]


@pytest.mark.parametrize("group", ["D4", "D7", "A4", "S3", "C12", "C15", "S4", "D10"])
def test_a_renumbered_group_is_found_from_its_answers(tmp_path, group):
    run = imported_perceptron(
        tmp_path, perceptron(under_numbers(table_of(group), shuffled(len(table_of(group)), 4)))
    )
    task = run.config.task
    assert task.get("group", f"C{task.get('p')}") in (group, {"S3": "D3"}.get(group))
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


# Transformers, which know both operands by one embedding, and may read b first


@functools.cache
def known_by_heart(group: str) -> dict[str, torch.Tensor]:
    task = make_task("modular_addition", p=len(table_of(group)))
    return lookup(task, lambda row: 9.0 + row / 100, table_of(group).flatten())


def test_a_transformer_of_a_renumbered_group(tmp_path):
    run = imported(renumbered(known_by_heart("D4"), shuffled(8, 4)), tmp_path, believe=False)
    plain = make_task("group_composition", group="D4")
    config = ModelConfig(d_model=27, n_heads=2, d_head=8, d_mlp=64, train_biases="mlp")
    view = gi.view(config.hooked(plain.reads, known_by_heart("D4"), torch.float64), plain)
    for name in ("loss", "accuracy", "irrep_fve.logits"):
        np.testing.assert_allclose(gi.measure(name, run.view(-1)), gi.measure(name, view))


@pytest.mark.parametrize("asked", [{"name": "group_composition", "group": "D7"}, "group_composition"])
def test_a_task_that_is_asked_for_is_renumbered_as_well(tmp_path, asked):
    run = imported_perceptron(
        tmp_path, perceptron(under_numbers(cayley_table("D7"), shuffled(14))), task=asked
    )
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


def test_the_file_of_a_reading_that_is_asked_for_keeps_its_numbers(tmp_path):
    weights = lookup_of(cayley_table("D4").T)
    run = imported(weights, tmp_path, task={"name": "group_composition", "layout": "b a ="}, believe=False)
    assert run.task.layout == "b a ="
    assert "numbering" not in run.record["task"]


def test_a_group_in_its_documented_order_has_no_numbering(tmp_path):
    run = imported_perceptron(tmp_path, perceptron(cayley_table("D7")))
    assert "numbering" not in run.record["task"]
    assert "NUMBERED" not in said(run)


def test_a_product_with_b_first_is_the_product_of_inverses(tmp_path):
    weights = lookup_of(cayley_table("D4").T)
    run = imported(weights, tmp_path, believe=False)
    assert run.task.layout == "a b ="
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


def test_some_wrong_answers_hide_no_group(tmp_path):
    table = cayley_table("D7")
    wrong = torch.rand(14, 14, generator=torch.Generator().manual_seed(0)) < 0.05
    table = torch.where(wrong, (table + 1) % 14, table)
    run = imported_perceptron(tmp_path, perceptron(under_numbers(table, shuffled(14))))
    assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == pytest.approx(
        1 - float(wrong.double().mean())
    )


# Which examples it was trained on


def surer_on(answers: torch.Tensor, trained: torch.Tensor):
    """How large the logit of each pair is: larger for these of the file's pairs."""
    known = torch.zeros(answers.numel(), dtype=torch.bool).index_fill(0, trained, True)
    noise = np.random.default_rng(0).normal(size=answers.numel())
    return lambda row: 6.0 + 3.0 * bool(known[row]) + 0.5 * float(noise[row])


def memorised(group: str, ours: torch.Tensor, trained: torch.Tensor):
    table = under_numbers(cayley_table(group), ours)
    return perceptron(table, surer_on(table, trained))


def test_the_split_is_looked_for_in_the_order_of_the_file(tmp_path):
    ours, p = shuffled(24, 7), 24
    theirs = split(p * p, 0.4, "torch_randperm", 11)
    run = imported_perceptron(tmp_path, memorised("S4", ours, theirs.train), forensics=True)
    assert "trained on torch_randperm with seed 11" in said(run)
    assert "in the file's own numbering" in said(run)
    numbers = torch.tensor(run.record["task"]["numbering"]["elements"])
    a, b = numbers[theirs.train // p], numbers[theirs.train % p]
    assert {*run.split.train.tolist()} == {*(a * p + b).tolist()}
    assert (
        gi.load_run(run.path).split.train.tolist() == run.split.train.tolist()
    )  # kept, as no recipe makes it


def test_rows_that_the_file_names_are_in_its_own_numbers(tmp_path):
    ours, p = shuffled(24, 8), 24
    theirs = split(p * p, 0.4, "python_shuffle", 3)
    content = {"model": memorised("S4", ours, theirs.train), "train_indices": theirs.train}
    (tmp_path / "more.toml").write_text(
        ONE_HOT.replace("[model]", '[contents]\nweights = "model"\ntrain_rows = "train_indices"\n[model]')
    )
    run = imported_perceptron(tmp_path, content, layout=str(tmp_path / "more.toml"))
    numbers = torch.tensor(run.record["task"]["numbering"]["elements"])
    a, b = numbers[theirs.train // p], numbers[theirs.train % p]
    assert {*run.split.train.tolist()} == {*(a * p + b).tolist()}


def test_a_network_that_reads_b_first_is_looked_at_in_the_order_that_it_reads(tmp_path):
    p = 13
    theirs = split(p * p, 0.5, "torch_randperm", 5)
    answers = make_task("modular_subtraction", p=p).table.T
    weights = lookup(make_task("modular_addition", p=p), surer_on(answers, theirs.train), answers.flatten())
    run = imported(weights, tmp_path, forensics=True)
    assert run.task.layout == "b a ="
    assert "trained on torch_randperm with seed 5" in said(run)
    assert {*run.split.train.tolist()} == {*(theirs.train % p * p + theirs.train // p).tolist()}


# What is none


def lookup_of(table: torch.Tensor):
    return lookup(make_task("modular_addition", p=len(table)), lambda row: 20.0, table.flatten())


NONE = {
    "a Latin square of no group": LOOP.repeat(3, 3)
    + 5 * cayley_table("C3").repeat_interleave(5, 0).repeat_interleave(5, 1),
    "a random table": torch.randint(15, (15, 15), generator=torch.Generator().manual_seed(3)),
}


@pytest.mark.parametrize("what", NONE)
def test_what_is_no_group_is_not_called_one(tmp_path, what):
    with pytest.raises((NotBelieved, UsageError)) as error:
        imported_perceptron(tmp_path, perceptron(NONE[what]))
    assert "group of order" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_of_a_network_that_is_right_on_little_nothing_is_taken_on_trust(tmp_path):
    table, draw = cayley_table("S4"), torch.Generator().manual_seed(0)
    known = torch.rand(24, 24, generator=draw) < 0.6
    ours = shuffled(24)
    table = under_numbers(table, ours)
    answers = torch.where(known, table, torch.randint(24, (24, 24), generator=draw))
    with pytest.raises(
        NotBelieved, match=r"its elements numbered in another order, and under it only 0\.\d+"
    ):
        imported_perceptron(tmp_path, perceptron(answers))
    run = imported_perceptron(tmp_path, perceptron(answers), believe=True)  # as the message says
    assert run.config.task["group"] == "S4"
    assert "That is little for a trained network" in said(run)


def test_another_group_than_the_one_asked_for_is_named(tmp_path):
    content = perceptron(under_numbers(cayley_table("A4"), shuffled(12)))
    with pytest.raises(
        NotBelieved,
        match=r"order 12, not commutative \(A4\), as --task group_composition --set task.group=A4",
    ):
        imported_perceptron(tmp_path, content, task={"name": "group_composition", "group": "D6"})


def test_a_group_that_is_not_known_is_said_to_be_one(tmp_path):
    with pytest.raises(
        NotBelieved, match=r"a group of order 8, not commutative, which is none of C8, D4.*@gi.task"
    ):
        imported(lookup_of(table_of("Q8")), tmp_path, believe=False)


@pytest.mark.parametrize("group", ["Q8", "C2xC4", "C3xC3"])
def test_a_group_of_ones_own_is_tried_as_the_message_says(tmp_path, group):
    table = table_of(group)

    def of_ones_own(p: int = len(table), layout: str = "a b =") -> gi.Task:
        return gi.Task.of_function(lambda a, b: int(table[a, b]), p, layout=layout)

    gi.task(of_ones_own)
    try:
        ours = shuffled(len(table))
        run = imported_perceptron(tmp_path, perceptron(under_numbers(table, ours)), task="of_ones_own")
        assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1
        assert "NUMBERED" in said(run)
    finally:
        TASKS.pop("of_ones_own", None)


def test_another_word_in_the_group_is_not_taken_for_the_product(tmp_path):
    table = cayley_table("D4")
    difference = table[:, (table == 0).long().argmax(1)]
    with pytest.raises(
        NotBelieved, match=r"under other names of the first operands, of the second and of the answers"
    ):
        imported(lookup_of(difference), tmp_path, believe=False)


# Two tasks in one network


def of_two_signs(p: int, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
    """A network of the tokens a op b =, one neuron for every pair and sign: with the token p as op it gives
    the one table, with p + 1 the other; = is p + 2."""
    width = p + 2
    config = ModelConfig(d_model=4 * width + 4, n_heads=3, d_head=width, d_mlp=2 * p * p, train_biases="mlp")
    task = make_task("modular_addition", p=p, layout=f"a op b =@{p + 2}")
    w = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in config.shapes(task.reads).items()}
    w["embed.W_E"][:width, :width] = torch.eye(width)
    at = 4 * width
    w["pos_embed.W_pos"][:, at:] = torch.eye(4)
    for head in range(3):
        w["blocks.0.attn.W_Q"][head, at + 3, 0] = 100 * width**0.5
        w["blocks.0.attn.W_K"][head, at + head, 0] = 1
        w["blocks.0.attn.W_V"][head, :width] = torch.eye(width)
        w["blocks.0.attn.W_O"][head, :, (1 + head) * width : (2 + head) * width] = torch.eye(width)
    neuron = torch.arange(2 * p * p)
    sign, a, b = neuron // (p * p), neuron // p % p, neuron % p
    for place, which in ((1, a), (2, p + sign), (3, b)):
        w["blocks.0.mlp.W_in"][place * width + which, neuron] = 1
    w["blocks.0.mlp.b_in"][:] = -2
    w["blocks.0.mlp.W_out"][neuron, torch.where(sign == 0, first[a, b], second[a, b])] = 20
    w["unembed.W_U"][:p] = torch.eye(config.d_model, dtype=torch.float64)[:p, : w["unembed.W_U"].shape[1]]
    return w


SIGNS = {
    "sums and differences": (
        make_task("modular_addition", p=7).table,
        make_task("modular_subtraction", p=7).table,
    ),
    "a b and a b a": (cayley_table("S3"), make_task("group_aba", group="S3").table),
}


@pytest.mark.parametrize("which", SIGNS)
def test_a_network_of_two_tasks_by_its_signs_is_told_so_and_either_can_be_imported(tmp_path, which):
    first, second = SIGNS[which]
    weights = of_two_signs(len(first), first, second)
    with pytest.raises(UsageError, match="does 2 tasks, one for each of its signs") as error:
        imported(weights, tmp_path, believe=False)
    assert "numbered" not in str(error.value)
    names = re.findall(r"--task (\w+)((?: --set task\.\w+=\w+)*)", str(error.value))
    assert len(names) == 2
    for i, (name, more) in enumerate(names):
        folder = tmp_path / str(i)
        folder.mkdir()
        section = dict(re.findall(r"task\.(\w+)=(\w+)", more))
        run = imported(weights, folder, task={"name": name, **section}, believe=False)
        assert float(gi.measure("accuracy", run.view(-1)).sel(part="all")) == 1


@pytest.mark.parametrize("by", ["first", "second"])
def test_a_network_of_two_tasks_by_an_operand_is_told_so(tmp_path, by):
    """In S4, a b where an operand is even and b a where it is odd."""
    table = cayley_table("S4")
    task = make_task("group_composition", group="S4")
    even = torch.tensor(
        [sum(x > y for i, x in enumerate(w) for y in w[i + 1 :]) % 2 == 0 for w in task.answer_names]
    )
    mixed = torch.where(even[:, None] if by == "first" else even, table, table.T)
    with pytest.raises(NotBelieved, match=f"it does two tasks, by its {by} operand: a b in S4") as error:
        imported_perceptron(tmp_path, perceptron(mixed))
    assert "numbered" not in str(error.value)
    run = imported_perceptron(tmp_path, perceptron(mixed), task="group_composition", believe=True)
    assert run.config.task["group"] == "S4"  # as the message says


# The published network


@pytest.fixture(scope="session")
def d59(tmp_path_factory):
    file = CHECKPOINTS / "chughtai/D59_T_seed1/model.pt"
    if not file.is_file():
        pytest.skip(f"no {file}; set GROKINTERP_CHECKPOINTS to the folder of foreign checkpoints")
    return gi.import_checkpoint(file, tmp_path_factory.mktemp("d59") / "run", progress=False)


def test_the_published_network_of_d59(d59):
    """Values of an independent analysis, from the README beside the files."""
    view = d59.view(-1)
    assert d59.config.task == {"name": "group_composition", "group": "D59", "layout": "a b ="}
    loss = gi.measure("loss", view)
    assert [f"{float(loss.sel(part=part)):.4e}" for part in ("train", "test", "all")] == [
        "1.2190e-07",
        "7.8266e-06",
        "5.5153e-06",
    ]
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    cosines = gi.measure("irrep_cosine", view)
    kept = {
        str(name): round(float(value), 4)
        for name, value in zip(cosines.irrep.values, cosines.values, strict=True)
        if value > 0.02
    }
    assert sorted(kept.values()) == [0.1923, 0.2182, 0.3149, 0.5290]
    assert kept["dim 1"] == 0.2182
    shares = [
        float(np.squeeze(gi.measure(f"irrep_fve.{name}", view)))
        for name in ("W_E", "W_U", "neurons", "neurons_ab")
    ]
    assert [round(share, 6) for share in shares] == [0.983573, 0.954625, 0.853762, 0.112970]
    restricted = [
        float(gi.measure(f"restricted_loss.{name}_irreps", view).sel(part="all"))
        for name in ("hidden", "logit")
    ]
    assert [f"{value:.5e}" for value in restricted] == ["1.05990e-04", "4.41444e-09"]


def test_its_training_set_is_that_of_a_recipe_in_its_own_numbers(d59):
    training = d59.config.training
    assert (training.split, training.split_seed, round(training.fraction, 2)) == ("torch_randperm", 1, 0.3)
    numbers = torch.tensor(d59.record["task"]["numbering"]["elements"])
    rows = order(118**2, "torch_randperm", 1)[: len(d59.split.train)]
    assert d59.split.train.tolist() == (numbers[rows // 118] * 118 + numbers[rows % 118]).tolist()
