"""Published checkpoints through `grokinterp import` and `grokinterp analyze` alone: every value that is known
of them, to its digits.

Where a test asks for a few measures only, it takes them by `gi.measure` of the imported run, without the page
that `analyze` draws. Values are those of the README.md beside the files, of an independent analysis
(accuracy, loss, keys, ...) or of the publication. Key frequencies are found, never given, except where a
value is defined by leaving one out of those found. Set GROKINTERP_CHECKPOINTS to the folder that holds the
files; without it these tests skip.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import grokinterp as gi
from grokinterp.cli import main
from test_foreign import CHECKPOINTS
from test_import import MAPPING


class Analysed:
    """The report.json of an imported checkpoint."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.keys: list[int] = report["key_frequencies"]["consensus"]

    def value(self, name: str, **at: Any) -> Any:
        """A measure, at labels of its dimensions."""
        found = self.report["measures"][name]
        value = np.asarray(found["value"], dtype=float)
        for axis, dim in reversed(list(enumerate(found.get("dims", [])))):
            if dim in at:
                value = value.take(found["coords"][dim].index(at[dim]), axis=axis)
        return value if value.ndim else float(value)

    def all(self, name: str) -> float:
        return self.value(name, part="all")

    def clusters(self) -> dict[int, int]:
        counts = self.report["measures"]["neuron.clusters"]
        return {k: n for k, n in zip(counts["coords"]["freq"], counts["value"], strict=True) if n}


@pytest.fixture(scope="session")
def imported(tmp_path_factory):
    """Imports a file once, by the command line."""
    done: dict[tuple[str, ...], Path] = {}

    def imports(name: str, *flags: str) -> Path:
        file = CHECKPOINTS / name
        if not file.is_file():
            pytest.skip(
                f"no {name} in {CHECKPOINTS}; set GROKINTERP_CHECKPOINTS to the folder of foreign checkpoints"
            )
        asked = (name, *flags)
        if asked not in done:
            out = tmp_path_factory.mktemp("imported") / "run"
            run("import", str(file), "--out", str(out), "--no-forensics", *flags)
            done[asked] = out
        return done[asked]

    return imports


@pytest.fixture(scope="session")
def analysed(imported):
    """Analyses such a run by the command line, as a whole or for a few measures alone; once for each."""
    done: dict[tuple[str, ...], Analysed] = {}

    def analyse(name: str, *measures: str) -> Analysed:
        asked = (name, *measures)
        if asked not in done:
            out = imported(name)
            run("analyze", str(out), *(word for measure in measures for word in ("--measure", measure)))
            (report,) = out.glob("report*.json")
            done[asked] = Analysed(json.loads(report.read_text()))
            report.unlink()
        return done[asked]

    return analyse


def run(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grokinterp", *arguments])
        with contextlib.suppress(SystemExit):
            main()


def digits(value: float, count: int) -> float:
    return float(f"{value:.{count}g}")


FILES = {
    "nanda": "nanda/mod_addition_no_wd.pth",
    "C113": "chughtai/C113_T_seed1/model.pt",
    "C118": "chughtai/C118_T_seed1/model.pt",
}
SIGN = 59
OF_ADDITION = [
    "gini.W_E", "gini.W_L", "neuron.clusters", "logit_cosine", "restricted_loss.logit_dirs",
    "excluded_loss.logit_dirs",
]  # fmt: skip
OF_GROUPS = [
    "logit_fve.centred", "restricted_loss.hidden_irreps",
    *(f"irrep_fve.{place}" for place in ("W_E", "W_U", "logits", "neurons", "neurons_ab")),
]  # fmt: skip


def test_nanda_without_weight_decay(analysed):
    a = analysed(FILES["nanda"], *OF_ADDITION)
    assert a.keys == [36, 52]
    assert a.all("accuracy") == 1
    assert digits(a.all("loss"), 4) == 1.111e-7
    assert (round(a.value("gini.W_E"), 3), round(a.value("gini.W_L"), 3)) == (0.179, 0.373)
    assert a.clusters() == {36: 181, 52: 139}
    cosines = [a.value("logit_cosine", freq=k) for k in a.keys]
    assert round(sum(c * c for c in cosines), 4) == 0.9484
    assert digits(a.all("restricted_loss.logit_dirs"), 4) == 1.129e-8
    assert digits(a.all("excluded_loss.logit_dirs"), 3) == 76.0


def test_chughtai_c113_transformer(analysed):
    a = analysed(FILES["C113"], *OF_ADDITION, *OF_GROUPS)
    assert a.keys == [16, 30, 56]
    assert a.all("accuracy") == 1
    assert digits(a.all("loss"), 4) == 1.585e-7
    assert (round(a.value("gini.W_E"), 3), round(a.value("gini.W_L"), 3)) == (0.656, 0.842)
    assert a.clusters() == {16: 196, 30: 103, 56: 196}
    assert round(a.value("logit_fve.centred"), 4) == 0.9685
    assert digits(a.all("restricted_loss.logit_dirs"), 4) == 5.568e-8
    assert digits(a.all("excluded_loss.logit_dirs"), 3) == 9.35
    shares = [a.value(f"irrep_fve.{name}") for name in ("W_E", "W_U", "logits", "neurons", "neurons_ab")]
    assert [round(float(np.squeeze(share)), 5) for share in shares] == [
        0.90083,
        0.99494,
        0.96854,
        0.91420,
        0.15942,
    ]
    assert digits(a.all("restricted_loss.hidden_irreps"), 3) == 6.08e-7


def test_chughtai_c118_transformer_and_its_sign(analysed):
    a = analysed(FILES["C118"], *OF_ADDITION, *OF_GROUPS)
    assert a.keys == [10, 16, 19, 37, SIGN]
    assert a.all("accuracy") == 1
    assert digits(a.all("loss"), 4) == 1.451e-7
    assert (round(a.value("gini.W_E"), 3), round(a.value("gini.W_L"), 3)) == (0.768, 0.851)
    clusters = a.clusters()
    assert clusters.pop(SIGN) == 19
    assert clusters == {10: 74, 16: 126, 19: 153, 37: 55}
    assert round(a.value("logit_fve.centred"), 5) == 0.98547
    assert round(a.value("logit_fve.centred") - a.value("logit_cosine", freq=SIGN) ** 2, 4) == 0.9139
    assert digits(a.all("restricted_loss.hidden_irreps"), 3) == 1.41e-7


def test_chughtai_c118_transformer_without_its_sign(imported):
    view = gi.load_run(imported(FILES["C118"])).view(-1)
    found = gi.key_frequencies(view).consensus
    restricted, excluded = (
        float(
            gi.measure(f"{kind}_loss.logit_dirs", view, keys=[k for k in found if k != SIGN]).sel(part="all")
        )
        for kind in ("restricted", "excluded")
    )
    assert digits(restricted, 2) == 5.6e-5
    assert digits(excluded, 3) == 5.27


def test_chughtai_c113_mlp(analysed):
    a = analysed("chughtai/C113_MLP_seed1/model.pt", *OF_GROUPS)
    assert round(a.value("irrep_fve.W_E", operand="a"), 5) == 0.99232
    assert round(a.value("irrep_fve.W_U"), 5) == 0.97953
    assert round(a.value("irrep_fve.logits"), 5) == 0.93678
    assert round(a.value("irrep_fve.neurons"), 5) == 0.87047
    assert digits(a.all("restricted_loss.hidden_irreps"), 3) == 2.19e-6


def test_pizza_model_a(analysed):
    a = analysed("pizza/model_p99zdpze5l.pt")
    assert a.all("accuracy") == 1
    assert round(a.value("distance_irrelevance.correct"), 6) == 0.171736
    assert round(a.value("gradient_symmetricity"), 6) == 0.993665
    assert round(a.value("circularity"), 6) == 0.997818
    assert round(math.sqrt(a.value("sum_of_squares", parameter="total")), 3) == 22.854
    assert sorted((100 * a.value("clock_fit.pcs")).round(1)) == [75.4, 75.4, 75.6]
    assert sorted((100 * a.value("pizza_fit.pcs")).round(1)) == [98.3, 98.3, 98.4]
    claims = {claim["claim"]: claim["verdict"] for claim in a.report["claims"]}
    assert claims["It computes as a pizza (averages, constant attention)"] == "supported"


def test_pizza_model_b_is_a_clock(analysed):
    a = analysed("pizza/model_l8k1hzciux.pt")
    assert a.all("accuracy") == 1
    assert round(a.value("distance_irrelevance.correct"), 4) == 0.8483
    assert round(a.value("gradient_symmetricity"), 4) == 0.3336
    assert round(a.value("circularity"), 4) == 0.9989
    claims = {claim["claim"]: claim["verdict"] for claim in a.report["claims"]}
    assert claims["It computes as a clock (multiplies in the attention)"] == "supported"


@pytest.fixture(scope="session")
def mapping(tmp_path_factory) -> Path:
    """The mapping that docs/import.md prints, with the signs of these files."""
    file = tmp_path_factory.mktemp("mapping") / "zaidanmir.toml"
    file.write_text(MAPPING)
    return file


def test_zaidanmir_addition_by_a_mapping_file(imported, mapping):
    view = gi.load_run(imported("zaidanmir/addition.pt", "--layout", str(mapping))).view(-1)
    assert round(float(gi.measure("accuracy", view).sel(part="all")), 3) == 1.000


def test_zaidanmir_multiplication_at_its_logarithms(imported, mapping):
    run = gi.load_run(imported("zaidanmir/multiplication.pt", "--layout", str(mapping)))
    view = run.view(-1)
    assert run.task.name == "modular_multiplication"
    assert round(float(gi.measure("accuracy", view).sel(part="all")), 3) == 0.982
    assert len(gi.key_frequencies(view).consensus) >= 3
    assert gi.measure("neuron.single_frequency_share", view) > 0.9
    assert gi.measure("neuron.clusters", view).sizes == {"freq": 112 // 2}
