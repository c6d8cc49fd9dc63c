"""What a replay takes from the final network of an operation: its key frequencies, the neurons that stand for
them, and the frequencies that it makes of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...measures import MEASURES, key_frequencies
from ...tasks import Operation
from ..cache import FROM_FINAL, FromFinal, Measured, Taken
from .pictures import example_neurons


@FROM_FINAL.registering(partial(FromFinal, "keys", Operation))
def _keys(last: Measured) -> Taken:
    """What measures and pictures take as their options `keys` and `neurons`: the key frequencies of the last
    snapshot, and the neuron that each explains best. The Dataset says of them which are made of which."""
    consensus = last.entry(MEASURES["key_frequencies.consensus"])
    marked = [] if consensus.values is None else consensus.values.nonzero().flatten().tolist()
    keys = [consensus.coords["freq"][i] for i in marked]
    neurons = _numbers(last, "example_neurons", lambda: example_neurons(last.view, keys)) if keys else []
    multiples = _numbers(last, "multiples", lambda: _multiples(last))
    attributes = {
        "final_keys": keys,
        "harmonics": {k: [of, order] for k, of, order in multiples if order},
        "doubles": {k: [of] for k, of, order in multiples if not order},
    }
    why_none = "no neuron of the final network has one frequency"
    if not keys:
        why_none = consensus.reason or "the final network has no key frequencies"
    described = {name: json.dumps(each) for name, each in attributes.items()}
    return Taken({"keys": keys, "neurons": neurons}, why_none, described)


def _multiples(last: Measured) -> list[list[int]]:
    """The harmonics of a snapshot, each with its fundamental and its order, and the doubles of keys, each
    with its key and 0."""
    keys = key_frequencies(last.view)
    harmonics = [[k, each.of, each.order] for k, each in keys.harmonics.items()]
    return harmonics + [[k, of, 0] for k, of in keys.doubles.items()]


def _numbers(last: Measured, label: str, compute: Callable[[], list[Any]]) -> list[Any]:
    """Whole numbers about a snapshot, computed once; none where they have no meaning for it."""

    def array() -> Any:
        import xarray as xr

        values = np.array(compute(), dtype="int64")
        return xr.DataArray(values, dims=["row", "column"][: values.ndim])

    entry = last.of_label(label, array)
    return [] if entry.values is None else entry.values.tolist()
