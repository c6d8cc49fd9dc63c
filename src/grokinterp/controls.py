"""Networks whose algorithm is known: six that are built here by hand, and random ones.

One adds numbers of n digits with carries (`adder`), the others add mod p. Three of these compute with
frequencies, two with those that they are told to use:

    clock      one head copies a, one copies b; a neuron for every phase pair (s, t) of Z_p x Z_p. Exactly
               logits = scale Σ_k cos w_k(a + b − c)                          (Nanda et al. 2023)
    pizza      attention is the constant 1, so a and b arrive as a sum; a neuron for every phase of Z_p.
               Nearly logits = scale Σ_k |cos w_k(a − b)/2| cos w_k(a + b − c)       (Zhong et al. 2023)
    gromov     no attention and no embedding: every neuron squares the sum of a wave of a and a wave of b of
               one frequency, with random phases; all frequencies are used alike. The more neurons, the more
               nearly logits = scale (p [c = a + b] − 1) / (p − 1)                   (Gromov 2023) It can be
               given neurons that memorise a wrong answer to some pairs, as networks do that learn from noisy
               labels.

Two have no frequency at all: a neuron for every pair, as a table has a row.

    lookup     logits = scale [c = a + b]
    memoriser  logits = scale [c = a + b] on the training pairs, scale [c = r] on all others, r some random
               element

What follows from these formulas is what the measures must say.
"""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Int
from torch import Tensor

from .asked import asks
from .errors import UsageError
from .frozen import checked
from .models import MLPConfig, ModelConfig, NetworkConfig
from .tasks import Operation, Task, make_task, split
from .tasks.digits import Digits
from .view import View, view


def waves(p: int, k: int) -> tuple[Tensor, Tensor]:
    """cos 2πkx/p and sin 2πkx/p of every residue, in float64; the Nyquist frequency's sine is exactly 0."""
    angle = 2 * math.pi * (k * torch.arange(p) % p).double() / p
    return angle.cos(), torch.zeros(p, dtype=torch.float64) if 2 * k == p else angle.sin()


def rectified_sum(p: int, k: int) -> Tensor:
    """relu(cos w_k a + cos w_k b) over the grid: every neuron of the clock, up to a shift of a and of b."""
    cos, _ = waves(p, k)
    return (cos[:, None] + cos).relu()


def amplitude(p: int, k: int) -> float:
    """How much of cos w_k(a + b) the readout of all shifts of `rectified_sum` gives."""
    cos, _ = waves(p, k)
    s = torch.arange(p)
    return float((cos[(s[:, None] + s) % p] * rectified_sum(p, k)).sum())


def _copies_of_a_and_b(weights: dict[str, Tensor], width: int) -> None:
    """Two heads that look at position 0 and at position 1 alone, and copy what is embedded there.

    In the stream: 0..width the embedding (empty at "="), then the copy of a, the copy of b, and one dimension
    for each position.
    """
    position = 3 * width
    weights["pos_embed.W_pos"][:, position:] = torch.eye(3)
    for head in (0, 1):
        # A score of 100: the softmax is 1 to all digits.
        weights["blocks.0.attn.W_Q"][head, position + 2, 0] = 100 * math.sqrt(width)
        weights["blocks.0.attn.W_K"][head, position + head, 0] = 1
        weights["blocks.0.attn.W_V"][head, :width] = torch.eye(width)
        weights["blocks.0.attn.W_O"][head, :, (1 + head) * width : (2 + head) * width] = torch.eye(width)


@functools.cache
@asks("controls.clock")
def clock(
    p: int,
    keys: tuple[int, ...],
    scale: float = 10.0,
    idle: tuple[int, ...] = (),
    n_logits: int | None = None,
) -> View:
    """The clock. Frequencies in `idle` are embedded as loudly as the keys and read by no neuron."""
    task = make_task("modular_addition", p=p)
    circles = (*keys, *idle)
    width = 2 * len(circles)
    config = ModelConfig(
        d_model=3 * width + 3, n_heads=2, d_head=width, d_mlp=len(keys) * p * p, d_vocab_out=n_logits
    )
    weights = _zeros(config, task)
    _copies_of_a_and_b(weights, width)
    for i, k in enumerate(circles):
        weights["embed.W_E"][:p, 2 * i], weights["embed.W_E"][:p, 2 * i + 1] = waves(p, k)
    a, b = width, 2 * width
    s, t = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    for i, k in enumerate(keys):
        cos, sin = waves(p, k)
        at = slice(i * p * p, (i + 1) * p * p)
        w_in, w_out = weights["blocks.0.mlp.W_in"][:, at], weights["blocks.0.mlp.W_out"][at]
        # cos w(a + s) + cos w(b + t), rectified; read out with e^{-iw(s + t)}
        w_in[a + 2 * i], w_in[a + 2 * i + 1] = cos[s], -sin[s]
        w_in[b + 2 * i], w_in[b + 2 * i + 1] = cos[t], -sin[t]
        w_out[:, 2 * i] = cos[(s + t) % p] / amplitude(p, k)
        w_out[:, 2 * i + 1] = -sin[(s + t) % p] / amplitude(p, k)
        weights["unembed.W_U"][2 * i, :p], weights["unembed.W_U"][2 * i + 1, :p] = scale * cos, scale * sin
    return _seen(config, task, weights)


@functools.cache
@asks("controls.pizza")
def pizza(p: int, keys: tuple[int, ...], scale: float = 50.0, overtones: tuple[int, ...] = ()) -> View:
    """The pizza, for odd p. With `overtones` the readout takes, beside each key, these multiples of it from
    the same neurons: waves that are embedded nowhere, and that rectifying makes."""
    task = make_task("modular_addition", p=p)
    orders = (1, *overtones)
    width = 2 * len(keys)
    config = ModelConfig(
        d_model=width * (1 + len(orders)), n_heads=1, d_head=width, d_mlp=len(keys) * p, attention_mixing=0
    )
    weights = _zeros(config, task)
    weights["blocks.0.attn.W_V"][0, :width] = torch.eye(width)
    weights["blocks.0.attn.W_O"][0, :, :width] = torch.eye(width)
    s = torch.arange(p)
    for i, k in enumerate(keys):
        cos, sin = waves(p, k)
        at = slice(i * p, (i + 1) * p)
        weights["embed.W_E"][:p, 2 * i], weights["embed.W_E"][:p, 2 * i + 1] = cos, sin
        weights["blocks.0.mlp.W_in"][2 * i, at], weights["blocks.0.mlp.W_in"][2 * i + 1, at] = cos, -sin
        for j, n in enumerate(orders, 1):
            # relu(cos u) = 1/π + cos(u)/2 + 2/(3π) cos 2u − 2/(15π) cos 4u + ... Over p phases the 2n-th sums
            # to ± 2p/((4n² − 1)π) |cos w(a − b)/2|, at n times the frequency.
            size = (-1) ** (n + 1) * 2 * p / ((4 * n**2 - 1) * math.pi)
            at_sum = width * j + 2 * i
            readout = weights["blocks.0.mlp.W_out"][at]
            readout[:, at_sum], readout[:, at_sum + 1] = cos[2 * n * s % p] / size, -sin[2 * n * s % p] / size
            cos_n, sin_n = waves(p, n * k)
            weights["unembed.W_U"][at_sum], weights["unembed.W_U"][at_sum + 1] = scale * cos_n, scale * sin_n
    return _seen(config, task, weights)


@functools.cache
@asks("controls.gromov")
def gromov(p: int, d_mlp: int, scale: float = 20.0, seed: int = 0, memorised: int = 0) -> View:
    """Gromov's analytic solution, for odd p: neuron u has the frequency σ(u) and two random phases,

    W_in = A cos(w_σ a + φ_a), A cos(w_σ b + φ_b) and W_U = A cos(w_σ c − φ_a − φ_b).

    Of (x + y)², the product 2xy has the wave w_σ(a + b) + φ_a + φ_b, in phase with the readout; all else has
    phases that cancel over many neurons, as 1/√d_mlp. The published A = (2/N)^(-1/3) is for logits divided by
    N²; here A³ = 2 scale / N, N = d_mlp. Frequencies follow one another, so that all are equally frequent
    where floor(p/2) divides d_mlp.

    With `memorised` (up to p) pairs, two more neurons for each of them add 2 scale to a wrong answer at the
    pair (i, 2i), and nothing anywhere else: ([a = i] + [b = 2i])² − ([a = i] − [b = 2i])² = 4
    [a = i][b = 2i]. The answer is the right one and 1 more.
    """
    task = make_task("modular_addition", p=p)
    config = MLPConfig(embedding="one_hot", act_fn="square", d_mlp=d_mlp + 2 * memorised)
    weights = _zeros(config, task)
    generator = torch.Generator().manual_seed(seed)
    phase_a, phase_b = 2 * math.pi * torch.rand(2, d_mlp, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi / p * (torch.arange(p)[:, None] * (1 + torch.arange(d_mlp) % (p // 2)) % p).double()
    size = (2 * scale / d_mlp) ** (1 / 3)
    w_in = weights["blocks.0.mlp.W_in"].chunk(2)
    w_in[0][:p, :d_mlp], w_in[1][:p, :d_mlp] = size * (angle + phase_a).cos(), size * (angle + phase_b).cos()
    weights["unembed.W_U"][:d_mlp, :p] = size * (angle + phase_a + phase_b).cos().T
    a = torch.arange(memorised)
    for sign, neuron in ((1, d_mlp + 2 * a), (-1, d_mlp + 2 * a + 1)):
        w_in[0][a, neuron], w_in[1][2 * a % p, neuron] = 1, sign
        weights["unembed.W_U"][neuron, (3 * a + 1) % p] = sign * scale / 2
    return _seen(config, task, weights)


@functools.cache
@asks("controls.lookup")
def lookup(p: int, scale: float = 20.0) -> View:
    """The look-up table."""
    return _table(p, make_task("modular_addition", p=p).targets, scale)


@functools.cache
@asks("controls.memoriser")
def memoriser(p: int, scale: float = 20.0, seed: int = 0) -> View:
    """A table that is right on the training pairs and random on the others."""
    task = make_task("modular_addition", p=p)
    answers = torch.randint(p, (p * p,), generator=torch.Generator().manual_seed(seed))
    trained_rows = split(task.n_inputs, 0.5).train
    answers[trained_rows] = task.targets[trained_rows]
    return _table(p, answers, scale)


def _table(p: int, answers: Int[Tensor, "n"], scale: float) -> View:
    """A neuron for every pair, which is on for this pair only and adds `scale` to one logit."""
    task = make_task("modular_addition", p=p)
    config = ModelConfig(d_model=3 * p + 3, n_heads=2, d_head=p, d_mlp=p * p, train_biases="mlp")
    weights = _zeros(config, task)
    _copies_of_a_and_b(weights, p)
    weights["embed.W_E"][:p, :p] = torch.eye(p)
    a, b = Operation.of(task).pairs.unbind(1)
    neuron = torch.arange(p * p)
    weights["blocks.0.mlp.W_in"][p + a, neuron] = 1
    weights["blocks.0.mlp.W_in"][2 * p + b, neuron] = 1
    weights["blocks.0.mlp.b_in"][:] = -1  # on for one pair only
    weights["blocks.0.mlp.W_out"][neuron, answers] = scale
    weights["unembed.W_U"][:p] = torch.eye(p)
    return _seen(config, task, weights)


MOST_DIGITS = 12
"""A carry is told from none by one unit in 10^n, which float64 then holds with three more digits."""


@functools.cache
@asks("controls.adder")
def adder(n: int, scale: float = 20.0, **parameters: int | str) -> View:
    """All digits of a + b for numbers of n digits, the highest first, by the carries of pupils.

    At the position that answers the digit of place k

        head 0 of layer 0   attends to x_k and y_k alike and gives the digit sum s_k (0 above the highest)
        head 1 of layer 0   attends to all digits below with weights in proportion to 10^j, and gives
                            N_k = Σ_{j<k} s_j 10^j up to a factor of the position, which MLP 0 undoes
        MLP 0               relu(N_k - 10^k + 1) - relu(N_k - 10^k): the carry, by two neurons for each place,
                            which are silent at all other positions
        heads of layer 1    give nothing
        MLP 1               hats around every value of s_k + c_k: logits = scale [d = (s_k + c_k) mod 10]

    Args:
        n: the number of digits, 1 to 12.
        scale: the logit of the answer; all others are 0.
        parameters: of the task, such as `examples` and `layout`.

    Raises:
        UsageError: float64 cannot tell the carry of so many digits.
    """
    if n > MOST_DIGITS:
        raise UsageError(
            f"adder({n}): float64 does not hold a carry through {n} digits: {MOST_DIGITS} at most"
        )
    task = make_task("digit_addition", n=n, **parameters)
    assert isinstance(task, Digits)
    n_ctx, first = task.reads.n_ctx, task.reads.positions[0]
    summed, below, carry, logits = range(1 + n_ctx, 5 + n_ctx)
    config = ModelConfig(
        n_layers=2, d_model=logits + 10, n_heads=2, d_head=n_ctx, d_mlp=max(22, 2 * n), train_biases="all"
    )
    weights = _zeros(config, task)
    weights["embed.W_E"][:10, 0] = torch.arange(10)
    weights["pos_embed.W_pos"][:, 1 : 1 + n_ctx] = torch.eye(n_ctx)
    query, key = weights["blocks.0.attn.W_Q"], weights["blocks.0.attn.W_K"]
    key[:, 1 : 1 + n_ctx] = torch.eye(n_ctx)
    weights["blocks.0.attn.W_V"][:, 0, 0] = 1
    weights["blocks.0.attn.W_O"][0, 0, summed], weights["blocks.0.attn.W_O"][1, 0, below] = 2, 1
    mlp = {name: weights[f"blocks.0.mlp.{name}"] for name in ("W_in", "b_in", "W_out")}
    for place, position in zip(task.places, task.reads.positions, strict=True):
        for head, seen in enumerate(([place] if place < n else [], list(range(place)))):
            scores = torch.full((n_ctx,), -1e3, dtype=torch.float64)
            for j in seen:
                scores[[task.reads.words.index(f"{letter}{j}") for letter in "xy"]] = (j - place) * math.log(
                    10
                )
            if not seen:
                scores[first] = 0  # "=", whose value is 0
            query[head, 1 + position] = math.sqrt(n_ctx) * scores
        if place:
            at = slice(2 * place - 2, 2 * place)
            mlp["W_in"][below, at] = 2 * (10**place - 1) // 9
            mlp["b_in"][at] = torch.tensor([1.0, 0.0]).double() - 4 * 10**place
            mlp["W_in"][1 + position, at] = 3 * 10**place
            mlp["W_out"][at, carry] = torch.tensor([1.0, -1.0]).double()
    corners = torch.arange(-1, 21)
    weights["blocks.1.mlp.W_in"][[[summed], [carry]], torch.arange(22)] = 1
    weights["blocks.1.mlp.b_in"][:22] = -corners
    for value in range(20):
        hat = torch.tensor([1.0, -2.0, 1.0]).double() * scale
        weights["blocks.1.mlp.W_out"][value : value + 3, logits + value % 10] += hat
    weights["unembed.W_U"][logits:, :10] = torch.eye(10)
    return _seen(config, task, weights)


@functools.cache
@asks("controls.random_like")
def random_like(known: View, seed: int = 0) -> View:
    """A network of the shape of another, on its task, that was never trained."""
    config = ModelConfig.of_hooked(known.model.cfg)
    return _seen(config, known.task, config.initial_weights(known.task.reads, seed))


@functools.cache
@asks("controls.random_network")
def random_network(p: int = 53, seed: int = 0, name: str = "modular_addition", **model: object) -> View:
    """A network that was never trained."""
    task = make_task(name, **({"group": f"S{p}"} if name.startswith("group") else {"p": p}))
    config = checked(ModelConfig, {"d_model": 64, "n_heads": 4, "d_mlp": 256, **model}, at="model")
    return _seen(config, task, config.initial_weights(task.reads, seed), torch.float32)


def _zeros(config: NetworkConfig, task: Task) -> dict[str, Tensor]:
    shapes = config.shapes(task.reads)
    return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}


def _seen(
    config: NetworkConfig, task: Task, weights: dict[str, Tensor], dtype: torch.dtype = torch.float64
) -> View:
    """A view with half of the examples called the training set: the built networks have seen none."""
    return view(config.hooked(task.reads, weights, dtype), task, split=split(task.n_inputs, 0.5))
