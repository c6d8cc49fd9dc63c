"""The loss without the neurons of each frequency, beside matched random controls."""

from __future__ import annotations

import torch

from ...fourier import strongest
from ...view import View
from ..ablation import ablate
from ..base import Value, array, once_per_view
from ..components import DRAWS, MAINLINE
from .circular import circular, measure
from .neurons import EXPLAINED, neuron_power


@measure(
    "ablation.single_frequency_neurons", unit="nats", ref=f"{MAINLINE} (2.0e-4 to 2.4e-2 for its five keys)"
)
def single_frequency_neurons(view: View) -> Value:
    """Loss over all examples when the neurons of one frequency, those that it explains more than 85 % of, are
    replaced by their means.

    Where a frequency has no neurons it is the loss of the network. `ablation.random_neurons` is the control.
    """
    return circular(view).per_frequency(_by_cluster(view)[:, 0])


@measure(
    "ablation.random_neurons", unit="nats", ref="here: the control of `ablation.single_frequency_neurons`"
)
def random_neurons(view: View) -> Value:
    """Mean and standard deviation of the loss when as many random neurons as each frequency has are replaced
    by their means."""
    frequencies, statistic = circular(view).frequencies, ["mean", "sd"]
    return array(_by_cluster(view)[:, 1:], ("freq", "statistic"), freq=frequencies, statistic=statistic)


@once_per_view
def _by_cluster(view: View) -> torch.Tensor:
    """For each frequency: the loss without its neurons, and mean and deviation of that without as many random
    ones."""
    share, frequency = strongest(neuron_power(view))
    loss = float(view.loss().mean())
    rows = torch.tensor([[loss, loss, 0.0] for _ in circular(view).frequencies], dtype=torch.float64)
    controls: dict[int, tuple[float, float]] = {}
    """By the number of neurons: as many random ones are the same for every frequency."""
    for i in frequency[share > EXPLAINED].unique().tolist():
        members = ((frequency == i) & (share > EXPLAINED)).nonzero().flatten().tolist()
        ablation = ablate(view, "neurons", members, draws=0 if len(members) in controls else 2 * DRAWS)
        if ablation.controls:
            controls[len(members)] = ablation.control_loss()
        rows[i] = torch.tensor([ablation.after.loss["all"], *controls[len(members)]], dtype=torch.float64)
    return rows
