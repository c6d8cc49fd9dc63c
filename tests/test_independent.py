"""The same weights, analysed without the package: a forward pass and three measures written from their
definitions alone.

Of grokinterp only `run.state_dict` and the plain numbers of the configuration are used here: no
TransformerLens, no HookedTransformer, no view, no Fourier module, no split module.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "modular_addition_113"


class Plain:
    """A one-layer transformer on a + b mod p, as numpy arrays. Everything below is float64."""

    def __init__(self, run: gi.Run) -> None:
        config = run.config
        assert (config.task["name"], config.task["layout"], config.model.n_layers) == (
            "modular_addition",
            "a b =",
            1,
        )
        assert (config.model.act_fn, config.model.normalization, config.model.attention_mixing) == (
            "relu",
            "none",
            1.0,
        )
        assert (config.model.attention_dir, config.training.split) == ("causal", "python_shuffle")
        self.p: int = config.task["p"]
        self.fraction, self.split_seed = config.training.fraction, config.training.split_seed
        w = {name: value.double() for name, value in run.state_dict(-1).items()}
        self.W_E = w["embed.W_E"][: self.p].numpy()
        self.neurons, self.logits = self.forward(
            {name.replace("blocks.0.", ""): value for name, value in w.items()}
        )
        a, b = np.divmod(np.arange(self.p**2), self.p)
        self.answers = (a + b) % self.p

    def forward(self, w: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """MLP activations and logits at the last position, for all pairs in the order a p + b."""
        p = self.p
        tokens = torch.stack(
            [torch.arange(p).repeat_interleave(p), torch.arange(p).repeat(p), torch.full((p * p,), p)], dim=1
        )
        x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"]
        q = torch.einsum("nd,hde->nhe", x[:, -1], w["attn.W_Q"]) + w["attn.b_Q"]
        k = torch.einsum("npd,hde->nphe", x, w["attn.W_K"]) + w["attn.b_K"]
        v = torch.einsum("npd,hde->nphe", x, w["attn.W_V"]) + w["attn.b_V"]
        # The last position may look at every position, so the causal mask hides nothing from it.
        pattern = (torch.einsum("nhe,nphe->nhp", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
        z = torch.einsum("nhp,nphe->nhe", pattern, v)
        middle = x[:, -1] + torch.einsum("nhe,hed->nd", z, w["attn.W_O"]) + w["attn.b_O"]
        post = torch.relu(middle @ w["mlp.W_in"] + w["mlp.b_in"])
        out = middle + post @ w["mlp.W_out"] + w["mlp.b_out"]
        return post.numpy(), (out @ w["unembed.W_U"] + w["unembed.b_U"]).numpy()

    def rows(self) -> dict[str, np.ndarray]:
        """The split, with the lines of the released code of Nanda et al. 2023."""
        p, before = self.p, random.getstate()
        pairs = [(i, j, p) for i in range(p) for j in range(p)]
        random.seed(self.split_seed)
        random.shuffle(pairs)
        random.setstate(before)
        div = int(self.fraction * len(pairs))
        numbers = np.array([i * p + j for i, j, _ in pairs])
        return {"train": numbers[:div], "test": numbers[div:], "all": numbers}

    def losses(self) -> np.ndarray:
        """−log softmax of the right answer: log(1 + Σ e^{l_c − l_right}) over the wrong answers."""
        n = np.arange(len(self.answers))
        odds = np.exp(self.logits - self.logits[n, self.answers][:, None])
        odds[n, self.answers] = 0
        return np.log1p(odds.sum(1))

    def loud_frequencies(self) -> list[int]:
        """Frequencies of which the cosine's or the sine's coefficient of W_E is above a quarter of the
        largest."""
        x = np.arange(self.p)
        norms = {
            k: [
                np.linalg.norm(wave(2 * np.pi * k * x / self.p) @ self.W_E)
                / np.linalg.norm(wave(2 * np.pi * k * x / self.p))
                for wave in (np.cos, np.sin)
            ]
            for k in range(1, (self.p + 1) // 2)
        }
        largest = max(max(pair) for pair in norms.values())
        return [k for k, pair in norms.items() if max(pair) > largest / 4]

    def explained(self) -> tuple[np.ndarray, np.ndarray]:
        """For each neuron, the frequency whose nine waves of (a, b) explain most of its variance, and how
        much."""
        p = self.p
        power = np.abs(np.fft.fft2(self.neurons.reshape(p, p, -1), axes=(0, 1))) ** 2
        power[0, 0] = 0
        total = power.sum((0, 1))
        shares = np.zeros((p // 2, len(total)))
        for k in range(1, p // 2 + 1):
            for i in {0, k, p - k}:
                for j in {0, k, p - k}:
                    shares[k - 1] += power[i, j]
        shares = np.divide(shares, total, out=shares, where=total > 1e-12 * total.max())
        return shares.argmax(0) + 1, shares.max(0)


@pytest.fixture(scope="module", params=["quick", "shipped"])
def run(request):
    if request.param == "quick":
        return request.getfixturevalue("quick_run")
    if not SHIPPED.is_dir():
        pytest.skip(f"the shipped run is not there: {SHIPPED}")
    shipped = gi.load_run(SHIPPED)
    if not shipped.finished:
        pytest.skip("the shipped run is still being trained")
    return shipped


@pytest.fixture(scope="module")
def plain(run):
    return Plain(run)


@pytest.fixture(scope="module")
def view(run):
    return run.view(-1)


def test_the_logits_are_the_same(plain, view):
    np.testing.assert_allclose(
        view.logits, plain.logits[:, : plain.p], rtol=0, atol=1e-9 * np.abs(plain.logits).max()
    )


@pytest.mark.parametrize("part", ["train", "test", "all"])
def test_the_loss_is_the_same(plain, view, part):
    found = float(gi.measure("loss", view).sel(part=part))
    assert found == pytest.approx(plain.losses()[plain.rows()[part]].mean(), rel=1e-6, abs=0)


@pytest.mark.parametrize("part", ["train", "test", "all"])
def test_the_accuracy_is_the_same(plain, view, part):
    right = plain.logits.argmax(1) == plain.answers
    assert float(gi.measure("accuracy", view).sel(part=part)) == pytest.approx(
        right[plain.rows()[part]].mean(), rel=1e-12
    )


def test_the_key_frequencies_by_the_embedding_are_the_same(plain, view):
    mask = gi.measure("key_frequencies.w_e_norm", view)
    found = [int(k) for k, on in zip(mask.freq, mask, strict=True) if on]
    assert found == plain.loud_frequencies()
    assert 2 <= len(found) < plain.p // 2


def test_the_explained_variance_of_the_neurons_is_the_same(plain, view):
    frequency, share = plain.explained()
    np.testing.assert_allclose(gi.measure("neuron.explained_variance", view), share, rtol=1e-6, atol=1e-9)
    single = share > 0.85
    assert single.mean() > 0.5
    assert (gi.measure("neuron.frequency", view).values[single] == frequency[single]).all()
    assert gi.measure("neuron.single_frequency_share", view) == pytest.approx(single.mean(), rel=1e-12)
    clusters = gi.measure("neuron.clusters", view)
    assert clusters.values.tolist() == [int((frequency[single] == k).sum()) for k in clusters.freq.values]


def test_the_history_of_the_run_ends_with_the_same_losses(plain, run):
    last, rows, losses = run.history.iloc[-1], plain.rows(), plain.losses()
    if last["step"] != run.steps[-1]:
        pytest.skip("the last snapshot was not evaluated")
    # Training evaluates in float32.
    for part in ("train", "test"):
        assert last[f"{part}_loss"] == pytest.approx(losses[rows[part]].mean(), rel=1e-3, abs=0)
