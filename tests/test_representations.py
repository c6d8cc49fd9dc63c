"""Claims about representations, on networks that are built of some, on one that has all pairs by heart, on
one that knows its training examples alone, and on a published one."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.measures.groups.irreps import irreps_of
from grokinterp.models import MLPConfig
from grokinterp.tasks import make_task
from grokinterp.tasks.groups import cayley_table, permutations, representation
from test_irreps import by_heart, made_of

FEW = "Few irreducible representations carry it, and its embedding"
CHARACTERS = "Logits are sums of characters of a b c⁻¹"
SUFFICIENT = "The key representations are sufficient"
NECESSARY = "The key representations are necessary"
CLAIMS = {FEW, CHARACTERS, SUFFICIENT, NECESSARY}
MEASURES = [
    "accuracy", "loss", "irrep_cosine", "key_irreps", "key_irreps.share", "key_irreps.share_memoriser",
    "irrep_fve.logits", "irrep_fve.W_E", "restricted_loss.logit_irreps", "restricted_accuracy.logit_irreps",
    "restricted_loss.hidden_irreps", "restricted_loss.memoriser_irreps", "excluded_loss.hidden_irreps",
    "excluded_accuracy.hidden_irreps",
]  # fmt: skip


@functools.cache
def computing(group: str, chosen: tuple[int, ...], scale: float = 400.0) -> gi.View:
    """A network that embeds the matrix elements f of some representations alone, multiplies them by squaring
    sums and differences, and reads f(a b) = Σ C f(a) f(b) out along f(c): the character of a b c⁻¹."""
    task, table = make_task("group_composition", group=group, layout="a b"), cayley_table(group)
    irreps = irreps_of(table)
    f = torch.cat([irreps[i].functions for i in chosen])
    m = len(f)
    # Of orthonormal functions, f_i(a b) on f_j(a) f_k(b).
    c = torch.einsum("iab,ja,kb->jki", f[:, table], f, f).reshape(m * m, m)
    j, k = torch.cartesian_prod(torch.arange(m), torch.arange(m)).unbind(1)
    eye = torch.eye(m, dtype=torch.float64)
    w_in = torch.cat([torch.cat([eye[:, j], eye[:, j]], 1), torch.cat([eye[:, k], -eye[:, k]], 1)])
    weights = {
        "embed_a.W_E": f.T.contiguous(),
        "embed_b.W_E": f.T.contiguous(),
        "blocks.0.mlp.W_in": w_in,
        "unembed.W_U": scale * torch.cat([c @ f, -(c @ f)]) / 4,
    }
    config = MLPConfig(d_model=m, d_mlp=2 * m * m, act_fn="square")
    return gi.view(config.hooked(task.reads, weights, torch.float64), task)


def claims_of(view: gi.View) -> dict[str, tuple[str, str]]:
    found = gi.analyze(view, measures=MEASURES).to_dict()["claims"]
    return {claim["claim"]: (claim["verdict"], "; ".join(claim["evidence"])) for claim in found}


@pytest.mark.parametrize(("group", "chosen"), [("S4", (2,)), ("D7", (1,)), ("D10", (3, 5)), ("A5", (2,))])
def test_a_network_that_computes_by_few_representations_has_every_claim_supported(group, chosen):
    view = computing(group, chosen)
    assert float(gi.measure("accuracy", view).sel(part="all")) == 1
    report = gi.analyze(view, measures=MEASURES)
    claims = {claim.claim: claim for claim in report.analysis.claims}
    assert [claims[name].verdict for name in (FEW, CHARACTERS, SUFFICIENT, NECESSARY)] == ["supported"] * 4
    for irrep in (irreps_of(cayley_table(group))[i].name for i in chosen):
        assert all(irrep in claims[name].evidence[-1 - (name == FEW)] for name in claims.keys() & CLAIMS)
        assert irrep in report.analysis.found
    assert "their characters are enough to be right, and needed" in report.analysis.found


def test_one_hot_operands_are_no_sparse_embedding():
    """Logits of one representation, of operands in which all are alike: 9 of 24 dimensions."""
    claims = claims_of(made_of("S4", (2,), 20.0))
    assert claims[FEW][0] == "refuted"
    assert "irrep_fve.W_E (least of the operands) = 0.375, needs >= 0.75" in claims[FEW][1]
    assert claims[SUFFICIENT][0] == claims[NECESSARY][0] == "supported"


def test_a_network_that_knows_every_pair_by_heart_has_all_representations():
    claims = claims_of(by_heart("S4", 0, knows=True))
    assert claims[FEW][0] == "refuted"
    assert "key_irreps.share (representations) = 1.000, needs <= 0.5" in claims[FEW][1]
    assert "has 4 of 4 for keys" in claims[FEW][1]
    for name in (SUFFICIENT, NECESSARY):
        verdict, why = claims[name]
        assert (verdict, why) == (
            "not tested",
            "4 of 4 representations are keys: with so many left in, a projection tells nothing",
        )


def test_of_a_network_that_knows_its_training_examples_alone_nothing_is_asked():
    for name, (verdict, why) in claims_of(by_heart("S4", 0)).items():
        if name in (FEW, SUFFICIENT, NECESSARY):
            assert verdict == "not tested"
            assert why.startswith("there is no algorithm to ask this of")


@pytest.mark.parametrize("group", ["S4", "D7", "A5", "D10"])
def test_a_memoriser_would_keep_nearly_all_representations(group):
    """By cosines over all examples alone, which is the published rule."""
    share = gi.measure("key_irreps.share_memoriser", by_heart(group, 0))
    assert float(share.sel(of="representations")) >= 0.75
    few = gi.measure("key_irreps.share", computing(group, (2,)))
    np.testing.assert_allclose(float(few.sel(of="representations")), 1 / len(irreps_of(cayley_table(group))))


def test_operations_on_a_circle_are_asked_of_frequencies_and_others_of_nothing():
    for view in (controls.clock(7, (2,)), controls.random_network(3, name="group_aba")):
        claims = {claim["claim"] for claim in gi.analyze(view, measures=["loss"]).to_dict()["claims"]}
        assert not claims & CLAIMS


def test_each_claim_leads_to_a_figure_of_the_page():
    report = gi.analyze(computing("D7", (1,)), measures=MEASURES)
    page = report.to_html()
    for title in ("Cosines of representations", "Reduced to representations, and robbed of them"):
        assert page.count(title) >= 2  # the panel, and a link to it
    assert "4 of" not in report.analysis.found
    assert ("Key representations", "1 of 4: dim 2 #1 [k = 1]") in report.analysis.facts


CALLED = {
    "S4": {"(1, 1, 1, 1)", "(2, 2)", "(3, 1)", "(2, 1, 1)"},
    "S5": {"(1, 1, 1, 1, 1)", "(4, 1)", "(2, 1, 1, 1)", "(3, 2)", "(2, 2, 1)", "(3, 1, 1)"},
    "D5": {"r ↦ 1, s ↦ −1", "k = 1", "k = 2"},
    "D6": {"r ↦ 1, s ↦ −1", "r ↦ −1, s ↦ 1", "r ↦ −1, s ↦ −1", "k = 1", "k = 2"},
}


@pytest.mark.parametrize("group", CALLED)
def test_representations_are_called_what_the_literature_calls_them(group):
    irreps = irreps_of(cayley_table(group))
    called = {
        irrep.name: representation(group, int(irrep.name.split()[1]), irrep.character) for irrep in irreps
    }
    assert {*called.values()} == CALLED[group]
    for irrep in irreps:
        if called[irrep.name].startswith("k = "):  # 2 cos 2πk/n at r
            k, n = int(called[irrep.name][4:]), int(group[1:])
            ratio = float(irrep.character[1] / irrep.character[0])
            assert ratio == pytest.approx(math.cos(2 * math.pi * k / n))


def test_the_standard_representation_of_S4_counts_fixed_points():
    """Its character is their number less 1: 3 at the identity, −1 at every 4-cycle."""
    irreps, table = irreps_of(cayley_table("S4")), permutations("S4")
    fixed = (table == torch.arange(4)).sum(1).double() - 1
    (standard,) = (i for i in irreps if torch.allclose(i.character / i.character[0], fixed / 3))
    assert representation("S4", 3, standard.character) == "(3, 1)"
