"""The power of every frequency in four places: the embedding, the neurons, the readout and the logits.

In W_E and W_L the frequencies share out all of the variance. Neurons and logits have more than single
frequencies: there `variance.neurons` and `variance.logits` say what the power is a part of.
"""

from __future__ import annotations

from ...view import View
from ..base import Value
from .circular import circular, measure
from .embedding import frequency_power
from .logits import power_of_difference, variance_of_logits
from .neurons import block_variance


@measure(
    "power.W_E",
    unit="weight²",
    ref="Nanda et al. 2023, section 4.1: the squares of their norms, cosine and sine together",
)
def embedding_power(view: View) -> Value:
    """For each frequency k, ‖cos_k W_E‖² + ‖sin_k W_E‖², summed over d_model: the squares of
    `fourier_norms.W_E`."""
    z = circular(view)
    return z.per_frequency(frequency_power(z.embedding))


@measure(
    "power.W_L",
    unit="weight²",
    ref="Nanda et al. 2023, section 4.3: the squares of the norms, cosine and sine together",
    gauge=("scale",),
)
def readout_power(view: View) -> Value:
    """For each frequency k, ‖u_k‖² + ‖v_k‖², summed over the neurons: the squares of `fourier_norms.W_L`."""
    z = circular(view)
    return z.per_frequency(frequency_power(z.readout))


@measure(
    "power.logits",
    unit="logit²",
    ref="Nanda et al. 2023, section 4.3, on cos w_k(a + b − c); that any phase counts is ours",
)
def logit_power(view: View) -> Value:
    """For each frequency k, mean square, over examples and answers, of the part of the logits along cos
    w_k(c* − c) and sin w_k(c* − c).

    Only what is a function of the difference c* − c counts. As a share of `variance.logits` it is the square
    of `logit_cosine`, with the sine, of which a clock has nothing, beside the cosine.
    """
    return circular(view).per_frequency(power_of_difference(view))


@measure("variance.logits", unit="logit²", ref="here: what `power.logits` is a part of")
def logit_variance(view: View) -> Value:
    """Mean square, over examples and answers, of the logits centred over the answers. Softmax cannot see the
    centring."""
    return variance_of_logits(view)


@measure(
    "power.neurons",
    unit="activation²",
    ref="Nanda et al. 2023, section 4.2, on single neurons; here summed over all",
    gauge=("scale",),
)
def power_of_neurons(view: View) -> Value:
    """For each frequency k, variance over the table in the 3 x 3 block {1, cos, sin} ⊗ {1, cos, sin} of k,
    summed over the neurons.

    Loud neurons weigh more; `neuron.clusters` counts all that one frequency explains alike.
    """
    return circular(view).per_frequency(block_variance(view)[0].sum(1))


@measure(
    "variance.neurons", unit="activation²", ref="here: what `power.neurons` is a part of", gauge=("scale",)
)
def variance_of_neurons(view: View) -> Value:
    """Variance over the table, summed over the neurons."""
    return float(block_variance(view)[1].sum())
