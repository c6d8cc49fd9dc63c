"""Where elements lie: embeddings that are a grid, a fold, a circle, or nothing, by their definitions, and the
same numbers by a second route: least squares, elements left out one by one, all pairs one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from clouds import (
    CENTRED,
    FOLD_IN_SPACE,
    GRID,
    GRID_BEHIND_A_FOLD,
    GRID_IN_SPACE,
    D,
    M,
    N,
    network,
    noise,
    rotation,
)
from grokinterp import controls, geometry
from grokinterp.errors import ConfigError, NotApplicable
from grokinterp.measures.geometry import SIZES
from grokinterp.models import MLPConfig, ModelConfig, VisionConfig
from grokinterp.tasks import Coordinates

NAMES = [name for name in gi.MEASURES if name.startswith("geometry.") and ".circle." not in name]


def value(name: str, view: gi.View, **at: object) -> float:
    return float(gi.measure(name, view).sel(statistic="value", **at))


def beats_chance(name: str, view: gi.View, **at: object) -> bool:
    found = gi.measure(name, view).sel(**at)
    return float(found.sel(statistic="value")) > float(found.sel(statistic="maximum"))


# Built answers


def test_a_grid_in_space_is_all_that_a_grid_can_be():
    view = network(GRID_IN_SPACE)
    for name in ("planarity", "r2_top2", "best_pair", "alignment.top2", "alignment.best_pair"):
        assert value(f"geometry.{name}", view) == pytest.approx(1), name
        assert beats_chance(f"geometry.{name}", view), name
    assert gi.measure("geometry.best_pair.components", view).values.tolist() == [0, 1]
    assert gi.measure("geometry.carried", view).sum("pc").values.tolist() == pytest.approx([1, 1])
    loo = gi.measure("geometry.loo_r2", view)
    assert loo["components"].values.tolist() == [2]  # it has no more
    assert value("geometry.loo_r2", view, components=2) == pytest.approx(1)
    assert [value("geometry.poly_share", view, degree=d) for d in (1, 2, 3)] == pytest.approx([1, 1, 1])
    assert value("geometry.fold.polynomial", view) == pytest.approx(-1)
    assert value("geometry.fold.reflection", view) == pytest.approx(-1)


def test_its_picture_is_the_grid_upright_in_its_own_size():
    for points in gi.measure("geometry.plane", network(GRID_IN_SPACE)).values:
        np.testing.assert_allclose(points, 3 * CENTRED, atol=1e-10)


def test_a_fold_has_no_grid_in_it():
    view = network(FOLD_IN_SPACE)
    assert value("geometry.poly_share", view, degree=1) == pytest.approx(0, abs=1e-12)
    assert value("geometry.poly_share", view, degree=2) == pytest.approx(1)
    assert value("geometry.fold.polynomial", view) == pytest.approx(1)
    assert value("geometry.fold.reflection", view) == pytest.approx(1)
    for name in ("r2_top2", "best_pair", "alignment.top2"):
        assert value(f"geometry.{name}", view) == pytest.approx(0, abs=1e-12)
        assert not beats_chance(f"geometry.{name}", view)
    assert beats_chance("geometry.fold.polynomial", view)
    assert beats_chance("geometry.fold.reflection", view)
    assert beats_chance("geometry.poly_share", view, degree=2)
    assert not beats_chance("geometry.poly_share", view, degree=1)


def test_a_grid_behind_a_fold_is_found_in_its_own_two_components():
    view = network(GRID_BEHIND_A_FOLD)
    assert gi.measure("geometry.best_pair.components", view).values.tolist() == [3, 4]
    assert value("geometry.best_pair", view) == pytest.approx(1)
    assert beats_chance("geometry.best_pair", view)
    assert value("geometry.r2_top2", view) == pytest.approx(0, abs=1e-12)
    assert gi.measure("geometry.carried", view).values[3:5].tolist() == [
        pytest.approx([1, 0], abs=1e-12),
        pytest.approx([0, 1], abs=1e-12),
    ]
    assert value("geometry.poly_share", view, degree=1) == pytest.approx(13 / (81 + 64 + 49 + 13))
    assert value("geometry.planarity", view) == pytest.approx(145 / 207)
    even_less_odd = (81 + 64 + 49 - 13) / 207
    assert value("geometry.fold.reflection", view) == pytest.approx(even_less_odd)
    assert value("geometry.fold.polynomial", view) == pytest.approx(even_less_odd)
    # The x axis is 3/2 as long as y: (3 + 2)² / (2 (3² + 2²)), and 1 only where they are alike.
    assert value("geometry.alignment.best_pair", view) == pytest.approx(25 / 26)
    assert value("geometry.loo_r2", view, components=5) > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_of_a_random_embedding_nothing_is_told_from_chance(seed):
    view = network(noise(seed=seed))
    for name in NAMES:
        found = gi.measure(name, view)
        if "statistic" in found.dims:
            found = found.transpose("statistic", ...)
            assert (found.sel(statistic="value") <= found.sel(statistic="maximum") + 0.02).all(), name
            assert (found.sel(statistic="mean") < found.sel(statistic="quantile")).all(), name
            assert (found.sel(statistic="quantile") <= found.sel(statistic="maximum")).all(), name
    assert abs(value("geometry.fold.reflection", view)) < 0.4


def test_chance_of_what_needs_no_choice_is_its_expectation():
    """A random direction carries 1/(m − 1) of a centred coordinate; degree 2 spans five of m − 1."""
    view = network(noise())
    assert float(gi.measure("geometry.r2_top2", view).sel(statistic="mean")) == pytest.approx(
        2 / (M - 1), rel=0.1
    )
    shares = gi.measure("geometry.poly_share", view).sel(statistic="mean").values
    assert shares == pytest.approx([2 / (M - 1), 5 / (M - 1), 9 / (M - 1)], rel=0.05)
    assert float(gi.measure("geometry.fold.polynomial", view).sel(statistic="mean")) == pytest.approx(
        (3 - 6) / (M - 1), rel=0.1
    )


def test_the_choice_of_the_best_pair_is_in_its_chance():
    view = network(noise())
    chosen, first = (gi.measure(f"geometry.{name}", view) for name in ("best_pair", "r2_top2"))
    assert float(chosen.sel(statistic="mean")) > 3 * float(first.sel(statistic="mean"))
    assert float(chosen.sel(statistic="quantile")) > float(first.sel(statistic="maximum"))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_circle_is_one_and_chance_is_none(k):
    p = 13
    view = controls.clock(p, (k,))
    angle, spread = (gi.measure(f"geometry.circle.{name}", view) for name in ("angle", "radius_spread"))
    assert float(angle[0]) == pytest.approx(1)
    assert float(angle[3]) < 0.95
    assert float(spread[0]) == pytest.approx(0, abs=1e-9)
    assert float(spread[3]) > 0.05
    assert spread["statistic"].values.tolist()[-1] == "minimum"


def test_an_ellipse_has_the_angles_of_a_circle_and_no_radius():
    cos, sin = controls.waves(12, 1)
    points = torch.stack([2 * cos, sin], 1)
    radius = np.hypot(2 * cos.numpy(), sin.numpy())
    assert float(geometry.radius_spread(points)) == pytest.approx(radius.std() / radius.mean())
    assert 0.8 < float(geometry.circle_angle(points, torch.arange(12))) < 1


# A second route


CLOUDS = {
    "noise": noise(),
    "grid in noise": 0.4 * CENTRED @ rotation()[:2] + 0.3 * noise(),
    "fold": FOLD_IN_SPACE + 0.1 * noise(),
}
LABELS = {"grid": CENTRED, "shuffled": CENTRED[geometry.relabellings(M)[5]], "line": CENTRED[:, :1]}
pairs_of_both = pytest.mark.parametrize(
    ("cloud", "labels"), [(x, c) for x in CLOUDS for c in LABELS], ids=lambda name: name.replace(" ", "_")
)


def fitted(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The affine function of the columns that is nearest to the values."""
    columns = np.column_stack([np.ones(len(columns)), columns])
    return columns @ np.linalg.lstsq(columns, values, rcond=None)[0]


def r2(columns: np.ndarray, values: np.ndarray) -> float:
    return 1 - ((values - fitted(columns, values)) ** 2).sum() / ((values - values.mean(0)) ** 2).sum()


def scores(x: torch.Tensor) -> np.ndarray:
    """By the eigenvectors of the covariance."""
    centred = (x - x.mean(0)).numpy()
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, values.argsort()[::-1]][:, : min(M - 1, D)]


@pairs_of_both
def test_what_components_carry_is_what_least_squares_explain(cloud, labels):
    x, c = CLOUDS[cloud], LABELS[labels]
    of, slow = geometry.principal(x), scores(x)
    assert float(geometry.r2_top2(of, c)) == pytest.approx(r2(slow[:, :2], c.numpy()))
    by_pair = {
        pair: r2(slow[:, list(pair)], c.numpy())
        for pair in itertools.combinations(range(geometry.MOST_COMPONENTS), 2)
    }
    best = max(by_pair, key=by_pair.__getitem__)
    assert tuple(geometry.best_pair(of, c).tolist()) == best
    assert float(geometry.best_pair_r2(of, c)) == pytest.approx(by_pair[best])
    each = geometry.carried_of_each(of, c)
    for axis in range(c.shape[1]):
        assert float(each[3, axis]) == pytest.approx(r2(slow[:, 3:4], c[:, axis : axis + 1].numpy()))


@pairs_of_both
@pytest.mark.parametrize("k", SIZES)
def test_leaving_out_is_fitting_without(cloud, labels, k):
    x, c = CLOUDS[cloud], LABELS[labels]
    slow, values, missed = scores(x)[:, :k], c.numpy(), 0.0
    for i in range(M):
        rest = np.arange(M) != i
        columns = np.column_stack([np.ones(M), slow])
        weights = np.linalg.lstsq(columns[rest], values[rest], rcond=None)[0]
        missed += ((columns[i] @ weights - values[i]) ** 2).sum()
    expected = 1 - missed / ((values - values.mean(0)) ** 2).sum()
    assert float(geometry.left_out_r2(geometry.principal(x), c, k)) == pytest.approx(expected)


@pairs_of_both
def test_shares_of_polynomials_are_what_least_squares_explain(cloud, labels):
    x, c = CLOUDS[cloud], LABELS[labels]
    by_degree = {
        n: np.column_stack(
            [
                c[:, list(term)].prod(1).numpy()
                for term in itertools.combinations_with_replacement(range(c.shape[1]), n)
            ]
        )
        for n in (1, 2, 3)
    }
    for degree in (1, 2, 3):
        columns = np.column_stack([by_degree[n] for n in range(1, degree + 1)])
        assert float(geometry.polynomial(x, c, degree)) == pytest.approx(r2(columns, x.numpy()))
    odd = np.column_stack([by_degree[1], by_degree[3]])
    expected = r2(by_degree[2], x.numpy()) - r2(odd, x.numpy())
    assert float(geometry.polynomial_fold(x, c)) == pytest.approx(expected)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_fold_is_that_of_points_and_their_mirror_images(cloud):
    x, coordinates = CLOUDS[cloud], Coordinates(GRID, ("x", "y"))
    e = (x - x.mean(0)).numpy()
    for order in geometry.relabellings(M)[:3]:
        place = {tuple(GRID[order[i]].tolist()): i for i in range(M)}
        partner = [place[N - 1 - a, N - 1 - b] for a, b in GRID[order].tolist()]
        even, odd = (e + e[partner]) / 2, (e - e[partner]) / 2
        expected = ((even**2).sum() - (odd**2).sum()) / (e**2).sum()
        assert float(geometry.reflected_fold(x, coordinates.mirror, order)) == pytest.approx(expected)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_best_turn_is_the_best_of_all_turns(cloud):
    """Alignment by trying all angles, mirrored or not, with the best scale of each."""
    of = geometry.principal(CLOUDS[cloud])
    pair = torch.tensor([1, 2])
    z, c = of.scores[:, pair].numpy(), CENTRED.numpy()
    z, c = z / np.linalg.norm(z), c / np.linalg.norm(c)
    turned = []
    for angle, mirror in itertools.product(np.linspace(0, 2 * np.pi, 20_001), (1, -1)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1, mirror]
        turned.append((z @ turn * c).sum())
    assert float(geometry.alignment(of, CENTRED, pair)) == pytest.approx(max(turned) ** 2, rel=1e-6)
    found = geometry.upright(of.scores[:, pair], CENTRED)
    assert float((found / found.norm() * CENTRED / CENTRED.norm()).sum()) == pytest.approx(
        max(turned), rel=1e-6
    )
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(of.scores[:, pair], of.scores[:, pair]))


def test_chance_is_the_same_number_of_elements_that_exchanged_their_labels():
    view = network(CLOUDS["grid in noise"])
    of = geometry.principal(view.W_E)
    draws = [float(geometry.best_pair_r2(of, GRID[order])) for order in geometry.relabellings(M)[1:]]
    expected = [np.mean(draws), np.quantile(draws, 0.95), max(draws)]
    assert len(draws) == 200
    found = gi.measure("geometry.best_pair", view)
    assert found.sel(statistic=["mean", "quantile", "maximum"]).values == pytest.approx(expected)


def test_chance_of_planarity_is_that_of_random_clouds():
    view = network(noise(seed=9))
    generator, draws = torch.Generator().manual_seed(0), []
    for _ in range(geometry.DRAWS):
        s = np.linalg.svd(
            np.asarray(scores(torch.randn(M, D, generator=generator, dtype=torch.float64))), compute_uv=False
        )
        draws.append((s[:2] ** 2).sum() / (s**2).sum())
    found = gi.measure("geometry.planarity", view).values
    assert found[1:] == pytest.approx([np.mean(draws), np.quantile(draws, 0.95), max(draws)])


# Measures


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_does_not_depend_on_how_the_embedding_is_turned_scaled_or_moved(name):
    x = CLOUDS["grid in noise"]
    turn = rotation(D, seed=3)
    before, after = (gi.measure(name, network(each)).values for each in (x, 2.5 * x @ turn + 4))
    np.testing.assert_allclose(after, 2.5 * before if name == "geometry.plane" else before, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_is_the_same_again_and_leaves_everything_as_it_was(name):
    view, generator = network(noise()), torch.get_rng_state()
    first = gi.measure(name, view)
    first.values[...] = 7
    np.testing.assert_array_equal(gi.measure(name, network(noise())).values, gi.measure(name, view).values)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_coordinates_has_no_geometry(name):
    with pytest.raises(NotApplicable, match="it is not known where the elements of a \\+ b mod 7 lie"):
        gi.measure(name, controls.clock(7, (1,)))
    assert not gi.MEASURES[name].applies_to(gi.make_task("modular_addition", p=7))


@pytest.mark.parametrize("name", NAMES)
def test_elements_that_are_all_embedded_alike_have_none_either(name):
    with pytest.raises(NotApplicable, match="all elements are embedded in one place"):
        gi.measure(name, network(torch.ones(M, D, dtype=torch.float64)))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_grid_and_the_narrowest_network_have_values(name):
    for view in (network(noise(4), n=2), network(noise(4, 1), n=2), network(noise(M, 1))):
        if name == "geometry.loo_r2" and view.task.n == 2 and view.W_E.shape[1] > 1:
            assert gi.measure(name, view)["components"].values.tolist() == [2]
        elif name == "geometry.loo_r2":
            with pytest.raises(NotApplicable, match="too few elements"):
                gi.measure(name, view)
        else:
            assert np.isfinite(gi.measure(name, view).values).all()


def test_two_tables_of_one_point_stand_side_by_side():
    task = gi.make_task("point_slope", n=3, layout="a b")
    config = MLPConfig(embedding="separate", d_model=6, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    assert view.W_E.shape == (9, 12)
    assert np.isfinite(gi.measure("geometry.r2_top2", view).values).all()


def test_a_function_of_tuples_has_the_coordinates_that_these_are():
    """Of three numbers each: a task of a user's own."""
    places = list(itertools.product(range(3), range(3), range(2)))
    task = gi.Task.of_function(lambda p, q: sum(p) > sum(q), operands=places)
    assert task.coordinates.axes == ("x", "y", "z")
    assert task.coordinates.values.tolist() == [[*map(float, place)] for place in places]
    config = ModelConfig(d_model=8, n_heads=1, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    assert gi.measure("geometry.carried", view)["axis"].values.tolist() == ["x", "y", "z"]
    assert {name for name in NAMES if gi.MEASURES[name].applies_to(task)} == {*NAMES}


# Coordinates


def test_neighbours_are_the_lines_of_a_grid_and_mirror_images_its_opposite_points():
    coordinates = Coordinates(GRID, ("x", "y"))
    steps = GRID[coordinates.neighbours[:, 0]] - GRID[coordinates.neighbours[:, 1]]
    assert len(steps) == 2 * N * (N - 1)
    assert (steps.norm(dim=1) == 1).all()
    assert torch.equal(GRID[coordinates.mirror], N - 1 - GRID)
    assert Coordinates(GRID[:-1], ("x", "y")).mirror is None
    twice = Coordinates(torch.tensor([[0.0], [0.0], [2.0]], dtype=torch.float64), ("x",))
    assert twice.neighbours.tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("values", "axes", "message"),
    [
        (torch.zeros(3, 2), ("x",), r"got the shape \[3, 2\] and x"),
        (torch.zeros(3, 2), ("x", "x"), "a name for every axis"),
        (torch.ones(3, 2), ("x", "y"), "all elements lie in one place"),
        (torch.tensor([[0.0], [math.nan]]), ("x",), "a coordinate of element 1 is not finite"),
    ],
)
def test_coordinates_that_are_none_are_refused_in_a_line(values, axes, message):
    with pytest.raises(ConfigError, match=message):
        Coordinates(values.double(), axes)


@pytest.mark.parametrize(
    "operands", [[(1, 2), (3,)], [(1, "a"), (2, "b")], ["12", "34"], [(True, 1), (False, 2)], [(), (1,)]]
)
def test_symbols_that_are_no_places_have_no_coordinates(operands):
    assert gi.Task.of_function(lambda a, b: a == b, operands=operands).coordinates is None


def laid_out(exact: bool) -> gi.View:
    """A vision network whose position embeddings are rows and columns of the patches, turned, or chance."""
    task = gi.make_task("line_images", size=12, slopes=4, examples=20)
    config = VisionConfig(patch_size=2, n_layers=1, d_model=16, n_heads=2)
    weights = config.initial_weights(task.reads, 0)
    if exact:
        places = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
        turned = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))[0]
        weights["pos_embed.W_pos"][1:] = torch.nn.functional.pad(places, (0, 14)) @ turned
    return gi.View.of_weights(task, config, weights)


def test_position_embeddings_that_are_the_grid_show_it_and_others_do_not():
    for name in ("r2_top2", "best_pair"):
        grid, chance = (gi.measure(f"position_grid.{name}", laid_out(exact)) for exact in (True, False))
        assert grid.sel(statistic="value").item() == pytest.approx(1, abs=1e-5)
        assert grid.sel(statistic="maximum").item() < 0.6
        assert chance.sel(statistic="value").item() <= chance.sel(statistic="maximum").item()
    e = laid_out(False).weights["pos_embed.W_pos"][1:].numpy()
    u = np.linalg.svd(e - e.mean(0), full_matrices=False)[0][:, :2]
    c = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(36, 2) - 2.5
    expected = ((u.T @ c) ** 2).sum() / (c**2).sum()
    found = gi.measure("position_grid.r2_top2", laid_out(False)).sel(statistic="value").item()
    assert found == pytest.approx(expected)
