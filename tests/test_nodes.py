"""Nodes are ablated where they are, in the network itself, for all answers and groups at once."""

from __future__ import annotations

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformer_lens import HookedRootModule

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable, UsageError
from grokinterp.measures import MEASURES, nodes
from grokinterp.models import MLPConfig, ModelConfig
from grokinterp.models.base import part_of_network
from grokinterp.report import nodes as section
from grokinterp.report import page
from grokinterp.report.analysis import analysis_of
from grokinterp.tasks import make_task

HOWS = ("mean", "zero", "resample")
SMALL = {"d_model": 16, "n_heads": 2, "d_mlp": 24}
WORDS = make_task("reverse", n=3, v=4, examples=60)
"""x1 x2 x3 = y1 y2, answered at "=" and at what follows."""
SUMS = make_task("digit_addition", n=3, answer="tens", examples=200, per_class=24)


@functools.cache
def untrained(of: str = "words", seed: int = 0, **model: object) -> gi.View:
    task = {"words": WORDS, "sums": SUMS}[of]
    config = ModelConfig(**{**SMALL, **model})
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: weight + 0.3 * torch.randn(weight.shape, generator=generator)
        for name, weight in config.initial_weights(task.reads, seed).items()
    }
    return gi.View.of_weights(task, config, weights)


def copier(scale: float = 20.0) -> gi.View:
    """Head 1 attends from each answer to the symbol that is asked for and copies it; head 0 and the MLP do
    whatever they do, and nothing of it is added to the stream."""
    config = ModelConfig(d_model=16, n_heads=2, d_head=8, d_mlp=8)
    generator = torch.Generator().manual_seed(0)
    w = {name: torch.zeros(shape).double() for name, shape in config.shapes(WORDS.reads).items()}
    w["embed.W_E"][:, :5], w["pos_embed.W_pos"][:, 5:11] = torch.eye(5), torch.eye(6)
    for at in (3, 4, 5):
        w["blocks.0.attn.W_Q"][1, 5 + at, at], w["blocks.0.attn.W_K"][1, 5 + 5 - at, at] = (
            100 * math.sqrt(8),
            1,
        )
    w["blocks.0.attn.W_V"][1, :5, :5], w["blocks.0.attn.W_O"][1, :4, 11:15] = torch.eye(5), torch.eye(4)
    for name in ("attn.W_Q", "attn.W_K", "attn.W_V"):
        w[f"blocks.0.{name}"][0] = torch.randn(16, 8, generator=generator).double()
    w["blocks.0.mlp.W_in"] = torch.randn(16, 8, generator=generator).double()
    w["unembed.W_U"][11:15] = scale * torch.eye(4)
    return gi.View.of_weights(WORDS, config, w)


@pytest.mark.parametrize("how", HOWS)
def test_the_head_that_copies_matters_and_nothing_else_does(how):
    value = gi.measure(f"node_ablation.{how}", copier())
    assert value.sizes == {"node": 3, "pos": 3, "answer": 3, "part": 1, "statistic": 4}
    assert value.coords["pos"].values.tolist() == ["3: =", "4: y1", "5: y2"]
    for i, pos in enumerate(value.coords["pos"].values):
        for j, answer in enumerate(value.coords["answer"].values):
            lost = value.sel(pos=pos, answer=answer, part="all")
            assert not lost.sel(node=["L0H0", "L0 MLP"]).values.any()
            copies = lost.sel(node="L0H1", statistic=["loss", "accuracy"])
            assert (copies.values > 0.2).all() if i == j else not lost.values.any()


def test_what_is_lost_is_what_follows_from_the_weights():
    view, answers = copier(), WORDS.sample.answers
    before = math.log(1 + 3 * math.exp(-20))
    zeroed = gi.measure("node_ablation.zero", view).sel(node="L0H1", pos="4: y1", answer="y2", part="all")
    # All logits are 0, of which the first counts as the largest.
    assert float(zeroed.sel(statistic="loss")) == pytest.approx(math.log(4) - before, abs=1e-12)
    assert float(zeroed.sel(statistic="accuracy")) == pytest.approx(
        float((answers[:, 1] != 0).double().mean())
    )
    share = answers[:, 1].bincount(minlength=4).double() / len(answers)
    logits = 20 * share
    expected = float(logits.logsumexp(0) - (share * logits).sum()) - before
    averaged = gi.measure("node_ablation.mean", view).sel(node="L0H1", pos="4: y1", answer="y2", part="all")
    assert float(averaged.sel(statistic="loss")) == pytest.approx(expected, abs=1e-12)
    assert float(averaged.sel(statistic="accuracy")) == pytest.approx(1 - float(share.max()))


def test_a_node_beats_its_controls_where_it_alone_matters_and_has_none_where_it_does_not():
    view = copier()
    rise = gi.measure("node_ablation.mean", view).sel(part="all", statistic="loss")
    control = gi.measure("node_ablation.control", view)
    for i, pos in enumerate(control.coords["pos"].values):
        mean, quantile = control.sel(node="L0H1", pos=pos).isel(answer=i).values
        assert 0 <= mean <= quantile < float(rise.sel(node="L0H1", pos=pos).isel(answer=i))
    assert np.isnan(control.sel(node=["L0H0", "L0 MLP"]).values).all()


def by_hooks(view: gi.View, layer: int, head: int | None, position: int, how: str) -> torch.Tensor:
    """Loss and accuracy of each answer that are lost on average, and the standard errors of the two, by
    TransformerLens and torch alone."""
    tokens, answers, at = WORDS.inputs, WORDS.sample.answers, [3, 4, 5]
    name = f"blocks.{layer}." + ("mlp.hook_post" if head is None else "attn.hook_z")

    def replace(x: torch.Tensor, hook: object) -> torch.Tensor:
        x = x.clone()
        here = x[:, position] if head is None else x[:, position, head]
        here[:] = here.mean(0) if how == "mean" else 0
        return x

    lost = []
    for hooks in ([], [(name, replace)]):
        logits = view.model.run_with_hooks(tokens, fwd_hooks=hooks)[:, at]
        loss = torch.nn.functional.cross_entropy(logits.mT, answers, reduction="none")
        lost.append(torch.stack([loss, -(logits.argmax(-1) == answers).double()]))
    of_each = (lost[1] - lost[0]).detach()
    return torch.cat([of_each.mean(1), of_each.std(1) / len(answers) ** 0.5])


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"normalization": "LN", "act_fn": "gelu"},
        {"n_layers": 2, "normalization": "LN"},
        {"n_layers": 2, "attention_dir": "bidirectional"},
    ],
    ids=str,
)
def test_the_network_itself_gives_the_same(network):
    view, last = untrained(**network), network.get("n_layers", 1) - 1
    for how in ("mean", "zero"):
        value = gi.measure(f"node_ablation.{how}", view).sel(part="all")
        for layer, head, position in ((0, 1, 3), (0, None, 4), (0, 0, 1), (last, 0, 5), (last, None, 3)):
            pos = f"{position}: {WORDS.reads.words[position]}"
            expected = by_hooks(view, layer, head, position, how)
            if pos not in value.coords["pos"].values:
                assert not expected.any()
                assert (layer, position) == (last, 1)
                continue
            found = value.sel(node=f"L{layer} MLP" if head is None else f"L{layer}H{head}", pos=pos)
            np.testing.assert_allclose(found.transpose("statistic", "answer"), expected, atol=1e-12)


def test_only_later_answers_are_reached_where_attention_is_causal():
    causal, both = (untrained(n_layers=2, attention_dir=way) for way in ("causal", "bidirectional"))
    at = {"node": "L0H1", "pos": "5: y2", "part": "all", "statistic": "loss"}
    assert (gi.measure("node_ablation.zero", causal).sel(at).values != 0).tolist() == [False, False, True]
    assert (gi.measure("node_ablation.zero", both).sel(at).values != 0).all()
    of_last = gi.measure("node_ablation.zero", both).sel(at | {"node": "L1H1"})
    assert (of_last.values != 0).tolist() == [False, False, True]


@pytest.mark.parametrize("how", HOWS)
def test_the_shortcut_gives_what_a_pass_gives(monkeypatch, how):
    short = gi.measure(f"node_ablation.{how}", untrained())
    asked = []
    monkeypatch.setattr(nodes, "has_shortcut", lambda *of: asked.append(of))
    passed = gi.measure(f"node_ablation.{how}", untrained.__wrapped__())
    np.testing.assert_allclose(passed, short, atol=1e-12)
    assert asked
    assert (short.values != 0).any()


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_all_answers_at_once_are_each_answer_alone(how):
    view = untrained(n_layers=2)
    together = gi.measure(f"node_ablation.{how}", view)
    for answer in view.answers[:2]:
        alone = gi.measure(f"node_ablation.{how}", view.at(answer))
        assert alone.coords["answer"].values.tolist() == [answer]
        same = together.sel(answer=[answer], pos=alone.coords["pos"])
        np.testing.assert_allclose(alone, same, atol=1e-12)


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_what_gives_the_same_on_every_example_loses_nothing_to_the_digit(how):
    # The first layer's MLP where attention adds nothing, at "=", which is the same in every example.
    view = untrained(n_layers=2)
    still = view.with_weights({"blocks.0.attn.W_O": torch.zeros_like(view.weights["blocks.0.attn.W_O"])})
    lost = gi.measure(f"node_ablation.{how}", still).sel(node="L0 MLP")
    assert not lost.sel(pos="3: =").values.any()
    assert lost.sel(pos="2: x3").values.any()
    assert gi.measure("node_ablation.zero", still).sel(node="L0 MLP", pos="3: =").values.any()


def test_a_group_is_a_mean_over_its_examples_and_all_over_those_that_stand_for_the_task():
    view = untrained("sums")
    value = gi.measure("node_ablation.zero", view, examples=128).sel(node="L0 MLP").squeeze(drop=True)
    excerpt = nodes._plan(view, 128, 0).some.task
    rows, classes = excerpt.rows, SUMS.classes[excerpt.rows]
    assert len(rows) == len(set(rows.tolist()))
    assert excerpt.n_representative == 128
    assert bool((rows[:128] < 200).all())
    hooks = [("blocks.0.mlp.hook_post", lambda x, hook: 0 * x)]
    rise = view.loss(view.activations([], hooks)["logits"]) - view.loss()
    assert float(value.sel(part="all", statistic="loss")) == pytest.approx(float(rise[rows[:128]].mean()))
    assert value.coords["part"].values.tolist() == ["all", "S0", "S1", "S2", "S3"]
    for cls in range(4):
        of_class = rows[classes == cls]
        assert len(of_class) >= 16
        found = float(value.sel(part=f"S{cls}", statistic="loss"))
        assert found == pytest.approx(float(rise[of_class].mean()))


def test_the_sample_is_that_of_its_seed():
    view = untrained("sums")
    first, again, other = (
        gi.measure("node_ablation.mean", one, examples=64, seed=seed)
        for one, seed in ((view, 1), (untrained.__wrapped__("sums"), 1), (view, 2))
    )
    assert first.identical(again)
    assert not np.allclose(first, other, atol=1e-6)
    donors = (
        nodes._plan(view, 64, 0)
        ._replaced(torch.arange(100.0).double()[:, None, None], "resample", 0)
        .flatten()
    )
    assert float(donors.max()) < 64
    assert not (donors == torch.arange(100.0)).any()


def test_a_hook_of_a_user_counts():
    view = untrained(n_layers=2, seed=1)
    writes = ("blocks.0.attn.W_O", "blocks.0.attn.b_O")
    louder = view.with_weights({name: 2 * view.weights[name] for name in writes})
    model = view.model
    model.blocks[0].hook_attn_out.add_hook(lambda x, hook: 2 * x)
    hooked = gi.view(model, WORDS)
    for how in ("mean", "zero"):
        expected = gi.measure(f"node_ablation.{how}", louder)
        found = gi.measure(f"node_ablation.{how}", hooked).sel(pos=expected.coords["pos"])
        np.testing.assert_allclose(found, expected, atol=1e-12)


class Summing(HookedRootModule):
    """An MLP at each position, on the sum of what is embedded up to there."""

    def __init__(self) -> None:
        super().__init__()
        self.cfg = SimpleNamespace(n_layers=1, n_ctx=6, d_vocab=5, d_vocab_out=4, act_fn="relu", d_mlp=8)
        generator, shapes = torch.Generator().manual_seed(0), {"embed.W_E": (5, 7), "unembed.W_U": (8, 4)}
        shapes["blocks.0.mlp.W_in"] = (7, 8)
        weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        self.embed, self.unembed = (part_of_network(x, weights, torch.float32) for x in ("embed", "unembed"))
        self.blocks = torch.nn.ModuleList([torch.nn.Module()])
        self.blocks[0].mlp = part_of_network("blocks.0.mlp", weights, torch.float32, "hook_post")
        self.setup()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mlp = self.blocks[0].mlp
        return mlp.hook_post((self.embed.W_E[tokens].cumsum(1) @ mlp.W_in).relu()) @ self.unembed.W_U


def test_a_network_without_attention_has_mlps_alone_and_one_without_mlps_heads():
    view = gi.view(Summing(), WORDS)
    value = gi.measure("node_ablation.zero", view).sel(part="all", statistic="loss")
    assert value.coords["node"].values.tolist() == ["L0 MLP"]
    rise = math.log(4) - np.array([float(view.at(answer).loss().mean()) for answer in view.answers])
    np.testing.assert_allclose(value.values[0], np.diag(rise), atol=1e-12)
    assert np.isnan(gi.measure("node_ablation.control", view)).all()
    heads = gi.measure("node_ablation.mean", untrained(d_mlp=0))
    assert heads.coords["node"].values.tolist() == ["L0H0", "L0H1"]


def test_a_network_without_positions_has_no_nodes():
    task = make_task("modular_addition", p=5, layout="a b")
    config = MLPConfig(d_model=8, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    with pytest.raises(
        NotApplicable, match=r"^the network has no heads and no MLP that work at each position"
    ):
        gi.measure("node_ablation.mean", view)


def test_one_example_has_no_other():
    with pytest.raises(UsageError, match=r"^examples: needs 2 or more.*got 1$"):
        gi.measure("node_ablation.resample", untrained(), examples=1)


def test_reports_on_tables_do_not_ask_for_nodes():
    names = [f"node_ablation.{how}" for how in (*HOWS, "control")]
    assert not any(MEASURES[name].applies_to(make_task("modular_addition", p=5)) for name in names)
    assert all(MEASURES[name].applies_to(WORDS) and not MEASURES[name].replayed for name in names)
    assert gi.measure("node_ablation.mean", controls.random_network(5)).sizes["pos"] == 1  # where asked


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    values = {
        "task": {"name": "digit_addition", "n": 2, "examples": 64, "per_class": 8},
        "model": SMALL,
        "training": {"data": "fresh", "batch_size": 16, "steps": 2},
        "threads": 1,
    }
    return gi.train(gi.TrainConfig.make(values), tmp_path_factory.mktemp("nodes") / "run", progress=False)


def of_nodes(run, *names: str):
    a = analysis_of(run, -1, [f"node_ablation.{name}" for name in names], None, False)
    return next((each for each in page.sections(a) if each.title == "Which part knows it"), None)


def test_the_report_has_maps_and_the_nodes_that_matter_most(run, monkeypatch):
    assert of_nodes(run, "zero") is None
    monkeypatch.setattr(section, "MATTERS", 100)
    (why,) = of_nodes(run, "mean").missing.values()
    assert why == "without none of 9 nodes any answer loses 10000% of its accuracy, or 100 nats"
    monkeypatch.setattr(section, "MATTERS", -1)
    shown = of_nodes(run, "mean", "zero", "resample", "control")
    assert [panel.title for panel in shown.panels] == ["What each answer loses", "What each group loses"]
    by_answer, by_group = (panel.body.figure.data[0] for panel in shown.panels)
    assert list(by_answer.x) == ["hundreds", "tens", "units"]
    assert list(by_group.x) == ["all", "S0", "S1", "S2"]
    assert len(by_answer.y) == len(by_group.y) == 9
    (table,) = shown.tables
    value = gi.measure("node_ablation.mean", run.view(-1)).sel(part="all", statistic="loss")
    assert table.rows[0][1].startswith(f"{float(value.max()):.4g}")
    control = gi.measure("node_ablation.control", run.view(-1)).max("answer")
    assert {row[6] for row in table.rows} <= {"yes", "no", "–"}
    assert np.isfinite(control).any()
    assert len(table.rows) == 9
