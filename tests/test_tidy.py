"""A replay as one table of a row for each number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

import grokinterp as gi


def test_every_number_has_a_row_with_the_labels_of_its_own_dimensions():
    data = xr.Dataset(
        {
            "loss": (["step", "part"], [[1.0, np.nan], [2.0, 3.0]]),
            "power": (["step", "freq", "part"], np.arange(8.0).reshape(2, 2, 2)),
            "count": (["step"], [5, 6]),
            "keys": (["step", "freq"], [[True, False], [True, True]]),
        },
        {"step": [0, 100], "part": ["train", "test"], "freq": [3, 7]},
    )
    table = gi.tidy(data)
    assert list(table.columns) == ["variable", "step", "part", "freq", "value"]
    assert table["variable"].value_counts().to_dict() == {"loss": 3, "power": 8, "count": 2, "keys": 4}
    for row in table.to_dict("records"):
        labels = {dim: row[dim] for dim in ("step", "part", "freq") if pd.notna(row[dim])}
        values = data[row["variable"]]
        assert labels.keys() == set(values.dims)
        assert float(values.sel(labels)) == row["value"]
    assert table["step"].dtype == "int64"
    assert table["freq"].dtype == "Int64"


def test_dimensions_do_not_multiply():
    """As one frame of the labels of all it would have 10^16 rows."""
    sizes = {"step": 10, "neuron": 1000, "freq": 1000, "component": 1000, "pair": 1000, "pos": 1000}
    data = xr.Dataset({dim + "s": (["step", dim], np.ones((10, n))) for dim, n in sizes.items() if n > 10})
    table = gi.tidy(data)
    assert len(table) == 50_000
    assert table.memory_usage(deep=True).sum() < 5_000_000


def test_nothing_is_an_empty_table():
    assert list(gi.tidy(xr.Dataset()).columns) == ["variable", "value"]
    empty = gi.tidy(xr.Dataset({"loss": ("step", [np.nan])}, {"step": [0]}))
    assert (len(empty), list(empty.columns)) == (0, ["variable", "step", "value"])


def test_a_replay_goes_to_csv(grokinterp, tiny_run, tmp_path):
    code, _, err = grokinterp("replay", tiny_run.path, "--data", tmp_path / "x.csv")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "x.csv")
    of_loss = table[(table["variable"] == "loss") & (table["part"] == "test")]
    assert of_loss["step"].tolist() == tiny_run.steps
    replayed = gi.replay(tiny_run, ["loss"]).loss.sel(part="test")
    np.testing.assert_allclose(of_loss["value"], replayed, rtol=1e-12)
    assert not table["variable"].str.startswith("picture.").any()


def test_another_ending_names_all_three(grokinterp, tiny_run, tmp_path):
    code, _, err = grokinterp("replay", tiny_run.path, "--data", tmp_path / "x.xlsx")
    assert code == 2
    assert all(ending in err for ending in (".nc", ".parquet", ".csv"))
