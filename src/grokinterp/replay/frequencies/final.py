"""What a replay takes from the final network of an operation: its key frequencies, the neurons that stand for
them, and the frequencies that it makes of others."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ...measures import MEASURES, key_frequencies
from ...tasks import Operation
from ..cache import FROM_FINAL, Entry, FromFinal, Measured
from .pictures import example_neurons


def _options(last: Measured) -> dict[str, list[int]]:
    """What measures and pictures take as their options `keys` and `neurons`: the key frequencies of the last
    snapshot, and the neuron that each explains best."""
    consensus = last.entry(MEASURES["key_frequencies.consensus"])
    keys = (
        []
        if consensus.values is None
        else [consensus.coords["freq"][int(i)] for i in consensus.values.nonzero().flatten()]
    )

    def examples() -> Any:
        import xarray as xr

        return xr.DataArray(example_neurons(last.view, keys), dims="neuron").astype("int64")

    neurons = last.of_label("example_neurons", examples) if keys else Entry(None, [], {})
    return {"keys": keys, "neurons": [] if neurons.values is None else neurons.values.tolist()}


def _why_none(last: Measured, options: dict[str, list[int]]) -> str:
    """Why measures that take these options have no value with those of the final network."""
    if not options["keys"]:
        reason = last.entry(MEASURES["key_frequencies.consensus"]).reason
        return reason or "the final network has no key frequencies"
    return "no neuron of the final network has one frequency"


def _attributes(last: Measured, options: dict[str, list[int]]) -> dict[str, str]:
    """What a replay says of the keys of the last snapshot, beside its variables."""
    keys = {"final_keys": options["keys"], **_multiples(last)}
    return {name: json.dumps(each) for name, each in keys.items()}


def _multiples(last: Measured) -> dict[str, Any]:
    """The harmonics of the last snapshot, each with its fundamental and its order, and the doubles of keys,
    each with its key."""

    def rows_of_multiples() -> Any:
        import xarray as xr

        keys = key_frequencies(last.view)
        rows = [[k, each.of, each.order] for k, each in keys.harmonics.items()] + [
            [k, of, 0] for k, of in keys.doubles.items()
        ]
        return xr.DataArray(np.array(rows, dtype="int64").reshape(-1, 3), dims=["multiple", "of"])

    entry = last.of_label("multiples", rows_of_multiples)
    rows = [] if entry.values is None else entry.values.tolist()
    return {
        "harmonics": {k: [of, order] for k, of, order in rows if order},
        "doubles": {k: [of] for k, of, order in rows if not order},
    }


FROM_FINAL.add(FromFinal("keys", Operation, _options, _why_none, _attributes))
