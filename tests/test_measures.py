"""Measures: every one is documented, finite and repeatable."""

import numpy as np
import pytest

import grokinterp as gi


@pytest.mark.parametrize("name", list(gi.MEASURES))
def test_every_measure_is_finite_on_a_network_that_has_grokked(quick_run, name):
    value = gi.measure(name, quick_run.view(-1))
    assert np.isfinite(np.asarray(value, dtype=float)).all()
