"""torch.nn.Transformer from the weights of an encoder-decoder: the peer of stream_speed.py, and what tests
hold the network against."""

from __future__ import annotations

import warnings

import torch
from torch import nn


def torch_transformer(config, weights: dict, split: int):
    """torch.nn.Transformer with these weights, as a function of rows whose first `split` tokens are the
    question."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            d, post = config.d_model, config.norm_position == "post"
            with warnings.catch_warnings():  # that pre-norm layers take no nested tensors, which are not used
                warnings.filterwarnings("ignore", "enable_nested_tensor")
                self.core = nn.Transformer(
                    d, config.n_heads, config.n_layers, config.decoder_layers, config.d_mlp, 0.0,
                    config.act_fn, batch_first=True, norm_first=not post,
                )  # fmt: skip
            if post:  # each layer ends in a norm already
                self.core.encoder.norm = self.core.decoder.norm = None
            self.embed = nn.Embedding(*weights["embed.W_E"].shape)
            sides = ("encoder", "decoder")
            lengths = [len(weights[f"{side}.pos_embed.W_pos"]) for side in sides]
            self.positions = nn.ParameterList(torch.zeros(n, d) for n in lengths)
            self.norms = nn.ModuleList(nn.LayerNorm(d) if post else nn.Identity() for _ in sides)
            self.unembed = nn.Linear(*weights["unembed.W_U"].shape)
            mask = nn.Transformer.generate_square_subsequent_mask(lengths[1])
            self.register_buffer("mask", mask)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            both = (tokens[:, :split], tokens[:, split:])
            question, answer = (
                norm(self.embed(some) + at)
                for some, at, norm in zip(both, self.positions, self.norms, strict=True)
            )
            return self.unembed(self.core(question, answer, tgt_mask=self.mask, tgt_is_causal=True))

    model = Network().to(weights["embed.W_E"].dtype)
    state = {"embed.weight": weights["embed.W_E"], "unembed.weight": weights["unembed.W_U"].T}
    state["unembed.bias"] = weights["unembed.b_U"]
    attention = {"attn": "self_attn", "cross_attn": "multihead_attn"}
    for i, side in enumerate(("encoder", "decoder")):
        state[f"positions.{i}"] = weights[f"{side}.pos_embed.W_pos"]
        for ours, theirs in (("ln_embed", f"norms.{i}"), ("ln_final", f"core.{side}.norm")):
            for key, name in (("w", "weight"), ("b", "bias")):
                if f"{side}.{ours}.{key}" in weights:
                    state[f"{theirs}.{name}"] = weights[f"{side}.{ours}.{key}"]
        for layer in range(getattr(config, "n_layers" if side == "encoder" else "decoder_layers")):
            at, to = f"{side}.blocks.{layer}.", f"core.{side}.layers.{layer}."
            for part, name in attention.items():
                if f"{at}{part}.W_Q" in weights:
                    q, k, v = (weights[f"{at}{part}.W_{x}"].transpose(1, 2).flatten(0, 1) for x in "QKV")
                    state[f"{to}{name}.in_proj_weight"] = torch.cat([q, k, v])
                    biases = [weights[f"{at}{part}.b_{x}"].flatten() for x in "QKV"]
                    state[f"{to}{name}.in_proj_bias"] = torch.cat(biases)
                    state[f"{to}{name}.out_proj.weight"] = weights[f"{at}{part}.W_O"].flatten(0, 1).T
                    state[f"{to}{name}.out_proj.bias"] = weights[f"{at}{part}.b_O"]
            for n, side_of_mlp in ((1, "in"), (2, "out")):
                state[f"{to}linear{n}.weight"] = weights[f"{at}mlp.W_{side_of_mlp}"].T
                state[f"{to}linear{n}.bias"] = weights[f"{at}mlp.b_{side_of_mlp}"]
            for n in (1, 2, 3):
                if f"{at}ln{n}.w" in weights:
                    state[f"{to}norm{n}.weight"] = weights[f"{at}ln{n}.w"]
                    state[f"{to}norm{n}.bias"] = weights[f"{at}ln{n}.b"]
    model.load_state_dict({"mask": model.mask, **state})
    return model.train()
