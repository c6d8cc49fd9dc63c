"""Which frequency each neuron has at every snapshot, and how many neurons go from one to another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...measures.waves.neurons import EXPLAINED
from ..dataset import at_known_steps

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

NO_FREQUENCY = 0
"""The cluster of the neurons that no single frequency explains more than 0.85 of."""


@dataclass(frozen=True)
class NeuronFlows:
    """The clusters of neurons over training.

    Attributes:
        cluster: [step, neuron], the frequency that explains more than 0.85 of the neuron's variance; 0 where
            none does.
        counts: [step, cluster], how many neurons are in each; a row sums to d_mlp. Clusters that are always
            empty are left out, but for 0.
        settled: [step, freq] for every cluster of the last snapshot, the share of its members that are in it
            from this step to the end.
    """

    cluster: xr.DataArray
    counts: xr.DataArray
    settled: xr.DataArray

    @property
    def flows(self) -> pd.DataFrame:
        """How many neurons went from `from_freq` at `step_from` to `to_freq` at `step_to`, those that stayed
        included.

        For every pair of consecutive snapshots the neurons sum to d_mlp; flows of no neuron are left out.
        """
        import pandas as pd

        steps, rows = self.cluster.step.values.tolist(), []
        for i, between in enumerate(itertools.pairwise(steps)):
            pairs, neurons = np.unique(self.cluster.values[i : i + 2], axis=1, return_counts=True)
            rows += [(*between, int(a), int(b), int(n)) for a, b, n in zip(*pairs, neurons, strict=True)]
        return pd.DataFrame(rows, columns=["step_from", "step_to", "from_freq", "to_freq", "neurons"])

    @property
    def joined(self) -> int:
        """How many neurons were ever in a cluster."""
        return int((self.cluster.values != NO_FREQUENCY).any(0).sum())

    @property
    def changed(self) -> int:
        """How many were, at some time after they first joined a cluster, in that of another frequency."""
        values = self.cluster.values
        highest = values.max(0)
        lowest = np.where(values == NO_FREQUENCY, highest, values).min(0)
        return int((highest != lowest).sum())

    @property
    def left(self) -> int:
        """How many were ever in a cluster and are in none at the last snapshot."""
        values = self.cluster.values
        return int(((values != NO_FREQUENCY).any(0) & (values[-1] == NO_FREQUENCY)).sum())

    @property
    def sentence(self) -> str:
        """The whole in a few plain words."""
        sizes = {
            int(k): int(n)
            for k, n in zip(self.counts.cluster.values, self.counts.values[-1], strict=True)
            if k != NO_FREQUENCY and n
        }
        listed = ", ".join(f"{k}: {n}" for k, n in sizes.items()) or "none"
        return (
            f"Of {self.cluster.sizes['neuron']} neurons {self.joined} had a frequency at some time; "
            f"{self.changed} of them went on to another and {self.left} have none at the end. Neurons of "
            f"each frequency at the end: {listed}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: counts, the flows between different clusters, and since when final members have been
        where they are."""
        moves, settled = self.flows.query("from_freq != to_freq"), self.settled
        return {
            "steps": self.cluster.step.values.tolist(),
            "clusters": self.counts.cluster.values.tolist(),
            "counts": self.counts.values.tolist(),
            "moves": moves.to_dict("records"),
            "joined": self.joined,
            "changed": self.changed,
            "left": self.left,
            "settled": {str(k): settled.sel(freq=k).values.tolist() for k in settled.freq.values.tolist()},
            "sentence": self.sentence,
        }


def neuron_flows(data: xr.Dataset) -> NeuronFlows:
    """Each neuron's frequency over training, from a replay of `neuron.frequency` and
    `neuron.explained_variance`.

    Snapshots at which these do not apply are left out.

    Raises:
        NotApplicable: the network has no MLP, or its task no frequencies.
        UsageError: one of the two was not replayed.
    """
    frequency = at_known_steps(data, "neuron.frequency")
    explained = at_known_steps(data, "neuron.explained_variance")
    cluster = frequency.where(explained > EXPLAINED, NO_FREQUENCY).transpose("step", "neuron").astype("int64")
    labels = np.union1d([NO_FREQUENCY], cluster.values)
    counts = np.stack([(cluster.values == k).sum(1) for k in labels.tolist()], axis=1)
    steps = cluster.step.values
    ref = data["neuron.explained_variance"].attrs.get("ref", "")
    return NeuronFlows(
        cluster=cluster.rename("cluster").assign_attrs(unit="1", ref=ref),
        counts=_array(counts, "cluster", steps, labels),
        settled=_settled(cluster.values, steps),
    )


def _settled(cluster: np.ndarray, steps: Sequence[int] | np.ndarray) -> xr.DataArray:
    last = cluster[-1]
    stays = np.logical_and.accumulate((cluster == last)[::-1])[::-1]
    keys = [k for k in np.unique(last).tolist() if k != NO_FREQUENCY]
    shares = [stays[:, last == k].mean(1) for k in keys]
    return _array(np.stack(shares, axis=1) if shares else np.zeros((len(cluster), 0)), "freq", steps, keys)


def _array(
    values: np.ndarray, dim: str, steps: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray
) -> xr.DataArray:
    import xarray as xr

    return xr.DataArray(values, dims=["step", dim], coords={"step": steps, dim: labels})
