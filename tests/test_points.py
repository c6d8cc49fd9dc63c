"""Slopes between points: the table against a computation by hand, the split that keeps a pair on one side,
and what a split leaves untrained."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError
from grokinterp.tasks import make_task, split
from grokinterp.training import TrainConfig


def by_hand(p: tuple[int, int], q: tuple[int, int]) -> str:
    dx, dy = q[0] - p[0], q[1] - p[1]
    if dx == 0:
        return "vertical"
    common = math.gcd(dx, dy) * (1 if dx > 0 else -1)
    return f"{dy // common}/{dx // common}".removesuffix("/1")


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("opaque", [0, 5])
def test_the_answer_is_the_reduced_slope_of_the_two_points(n, opaque):
    task = make_task("point_slope", n=n, opaque=opaque)
    task.look_through()
    place = dict(enumerate(task.vocabulary["token"]))
    assert sorted(task.operand_names) == sorted(f"({x}, {y})" for x in range(n) for y in range(n))
    for row, answer in zip(task.inputs.tolist(), task.targets.tolist(), strict=True):
        p, q = (tuple(map(int, place[token].strip("()").split(","))) for token in row[:2])
        assert p != q
        assert task.answer_names[answer] == by_hand(p, q)


@pytest.mark.parametrize(
    ("n", "pairs", "classes", "majority"), [(7, 2352, 48, 0.125), (10, 9900, 112, 1 / 11)]
)
def test_there_are_so_many_pairs_and_classes(n, pairs, classes, majority):
    task = make_task("point_slope", n=n)
    assert (task.n_inputs, task.n_answers) == (pairs, classes) == (n**2 * (n**2 - 1), classes)
    assert task.chance == task.facts.majority == pytest.approx(majority)
    assert task.facts.symmetry == 1
    slopes = task.symbols.answers[:-1]
    assert list(slopes) == sorted(slopes)
    assert all(isinstance(slope, Fraction) for slope in slopes)
    assert task.answer_names[-1] == "vertical"
    assert task.circle is None


def test_points_have_tokens_in_an_order_of_their_own():
    tokens = make_task("point_slope").element_tokens
    assert sorted(tokens.tolist()) != tokens.tolist()
    assert not torch.equal(make_task("point_slope", opaque=1).element_tokens, tokens)


def test_what_is_known_of_every_pair():
    task = make_task("point_slope", n=4)
    known = {name: [factor.names[i] for i in factor.values] for name, factor in task.factors.items()}
    for row, (p, q) in enumerate(task.pairs.tolist()):
        (x_a, y_a), (x_b, y_b) = ((point // 4, point % 4) for point in (p, q))
        numbers = {"x_a": x_a, "y_a": y_a, "x_b": x_b, "y_b": y_b, "dx": x_b - x_a, "dy": y_b - y_a}
        assert {name: int(known[name][row]) for name in numbers} == numbers
        assert known["a"][row] == f"({x_a}, {y_a})"
        assert known["answer"][row] == by_hand((x_a, y_a), (x_b, y_b))
    assert set(task.read) < set(known)
    assert task.coordinates.values.tolist() == [[i // 4, i % 4] for i in range(16)]


def test_both_orders_of_a_pair_are_on_one_side_of_a_split_unless_they_are_ordered():
    for pairs, together in (("unordered", True), ("ordered", False)):
        task = make_task("point_slope", pairs=pairs)
        known = split(task.n_inputs, 0.9, together=task.together)
        trained = {tuple(pair) for pair in task.pairs[known.train].tolist()}
        mirrored = sum((q, p) in trained for p, q in trained)
        assert (mirrored == len(trained)) == together
        assert len(known.train) == (2116 if together else int(0.9 * 2352))
    config = TrainConfig.preset("point_slope")
    assert config.task["pairs"] == "unordered"


def test_a_network_that_is_only_symmetric_knows_most_of_a_split_of_ordered_pairs():
    """The leak: who takes (q, p) for (p, q), and knows what it was trained on, is right on that share."""
    for pairs, right in (("ordered", 0.9), ("unordered", 0.0)):
        task = make_task("point_slope", pairs=pairs)
        known = split(task.n_inputs, 0.9, together=task.together)
        trained = {tuple(pair) for pair in task.pairs[known.train].tolist()}
        leaked = [(q, p) in trained for p, q in task.pairs[known.test].tolist()]
        assert sum(leaked) / len(leaked) == pytest.approx(right, abs=0.05)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 1}, "task.n: input should be greater than or equal to 2, got 1"),
        ({"n": 101}, "task.n: input should be less than or equal to 100, got 101"),
        ({"pairs": "both"}, "task.pairs: input should be 'unordered' or 'ordered', got 'both'"),
        ({"opaque": -1}, "task.opaque: input should be greater than or equal to 0, got -1"),
        ({"p": 7}, "unknown key 'task.p'; known: layout, n, noise, opaque, pairs"),
    ],
)
def test_bad_parameters_are_refused_in_a_line(params, message):
    with pytest.raises(ConfigError) as refused:
        make_task("point_slope", **params)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match="leaves 0 to train on"):
        split(12, 0.1, together=make_task("point_slope", n=2).together)


def test_the_task_is_made_again_by_its_parameters():
    task = make_task("point_slope", n=3, pairs="ordered", opaque=4, layout="a op b =")
    assert make_task("point_slope", **task.params) == task
    assert task.ordered
    assert gi.TrainConfig.preset("point_slope", **{"task.n": 3}).task["opaque"] == 0


# Classes that a split leaves out of training


def test_classes_that_no_training_example_has_are_said_with_what_they_cost():
    task = make_task("point_slope", n=4)
    known = split(task.n_inputs, 0.5, together=task.together)
    (found,) = task.untrained(known)
    trained = {task.answer_names[i] for i in task.targets[known.train].tolist()}
    tested = [task.answer_names[i] for i in task.targets[known.test].tolist()]
    missing = [name for name in task.answer_names if name not in trained]
    assert found.classes == tuple(missing)
    assert found.of == len(task.answer_names)
    assert found.share == pytest.approx(sum(name in missing for name in tested) / len(tested))
    assert str(found).startswith(
        f"{len(missing)} of {found.of} classes have no training example ({', '.join(missing)}): "
    )
    assert task.untrained(split(task.n_inputs, 0.95, together=task.together)) == []
    assert task.untrained(None) == []


def test_many_classes_are_not_all_named():
    task = make_task("point_slope")
    (found,) = task.untrained(split(task.n_inputs, 0.02, together=task.together))
    assert len(found.classes) > 13
    assert f"{found.classes[11]} and {len(found.classes) - 12} more)" in str(found)


def test_wrong_labels_count_as_what_they_say():
    plain = make_task("point_slope", n=4)
    known = split(plain.n_inputs, 0.5, together=plain.together)
    noisy = make_task("point_slope", n=4, noise={"kind": "uniform", "share": 0.9})
    given = {noisy.answer_names[i] for i in noisy.labels(known)[known.train].tolist()}
    missing = [each for found in noisy.untrained(known) for each in found.classes]
    assert missing == [name for name in noisy.answer_names if name not in given]
    assert missing != [*plain.untrained(known)[0].classes]


def test_of_several_answers_each_is_asked():
    task = make_task("reverse", n=2, v=6, examples=30)
    known = split(task.n_inputs, 0.2)
    for found in task.untrained(known):
        column = task.reads.answers.index(found.answer)
        trained = set(task.targets[known.train][:, column].tolist())
        assert found.classes == tuple(str(i) for i in range(6) if i not in trained)
    assert [found.answer for found in task.untrained(known)]


@pytest.mark.parametrize("name", ["modular_addition", "group_composition", "digit_addition", "majority"])
def test_tasks_whose_classes_all_occur_say_nothing(name):
    task = make_task(name)
    assert task.untrained(split(task.n_representative, 0.5)) == []


def test_the_report_and_the_command_say_which_classes_were_never_trained(grokinterp, tmp_path):
    small = {"task.n": 3, "training.fraction": 0.5, "training.steps": 4, "training.batch_size": None}
    shape = {"model.d_model": 16, "model.d_mlp": 16, "snapshots.log": None, "snapshots.every": 2}
    sets = [
        word
        for key, value in {**small, **shape}.items()
        if value is not None
        for word in ("--set", f"{key}={value}")
    ]
    code, stdout, _ = grokinterp("train", "point_slope", "--out", tmp_path / "run", *sets)
    run = gi.load_run(tmp_path / "run")
    (found,) = run.task.untrained(run.split)
    assert code == 0
    assert str(found) in stdout
    report = gi.analyze(run, measures=["geometry.r2_top2"])
    report.save_html(tmp_path / "report.html")
    assert str(found) in (tmp_path / "report.html").read_text()
    assert json.loads(json.dumps(report.to_dict()))["task"]["untrained"] == [
        {"answer": "answer", "classes": [*found.classes], "of": found.of, "share": found.share}
    ]
