"""A transformer as other tools take it: the settings and the tensors of a HookedTransformer, or of a class of
transformers that computes exactly the same.

| normalisation | class of transformers | its logits |
|---|---|---|
| LN, LNPre | GPT2LMHeadModel | one for each token |
| RMS, RMSPre | ImageGPTForCausalImageModeling | one for each token but the last |

Both have learned positions, normalise before every part and at the end, and take any activation; neither has
a bias of the logits, nor heads whose widths do not add up to that of the stream. ImageGPT normalises by the
root of the mean square, and has one token, the last, that is read and never answered, as "=" is. Layers
without normalisation are in no class of transformers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import UsageError
from ..tasks import Reads
from .base import Weights, deprecation_silenced, in_float64, lens_classes

if TYPE_CHECKING:
    from .transformer import ModelConfig

Logits = Callable[[Int[Tensor, "n pos"]], Float[Tensor, "n pos classes"]]
FORMATS = ("safetensors", "transformer-lens", "huggingface")
"""What a network can be exported as."""


@dataclass(frozen=True)
class Exported:
    """A network in the files of another tool.

    Attributes:
        files: their contents by name; `config.json` and `model.safetensors` are among them.
        loading: how it is loaded, as lines of Python in which DIR stands for the directory.
        logits: those of the network that is loaded from these files, in float64; None where nothing but the
            weights is there to be loaded.
    """

    files: dict[str, bytes]
    loading: str
    logits: Logits | None = field(default=None, compare=False)


def packed(weights: Weights) -> bytes:
    """The bytes of a safetensors file."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return safetensors.torch.save(tensors, {"format": "pt"})


def as_json(settings: dict[str, Any]) -> bytes:
    """The bytes of a JSON file."""
    return (json.dumps(settings, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def of_lens(config: ModelConfig, reads: Reads, weights: Weights) -> Exported:
    """The state dict of a HookedTransformer, and what `HookedTransformerConfig.from_dict` takes.

    Raises:
        UsageError: TransformerLens has no such network.
    """
    if config.attention_mixing != 1:
        mixing = f"attention patterns are {config.attention_mixing:g} softmax + a constant (attention_mixing)"
        raise UsageError(f"{mixing}, which no HookedTransformer has: export it as safetensors")
    if _ends_bare(config):
        bare = "its layers are normalised and what leaves the last one is not (final_norm = false)"
        raise UsageError(f"{bare}, which no HookedTransformer has: export it as safetensors")
    settings = config.lens_settings(reads)
    data = {"config.json": as_json(settings), "model.safetensors": packed(weights)}

    def logits(tokens: Int[Tensor, "n pos"]) -> Float[Tensor, "n pos classes"]:
        with deprecation_silenced():
            network, cfg = lens_classes()
            model = network(cfg.from_dict({**json.loads(data["config.json"]), "device": "cpu"}))
        model = torch.nn.Module.to(model, next(iter(weights.values())).dtype)
        model.load_state_dict(model.state_dict() | safetensors.torch.load(data["model.safetensors"]))
        with torch.no_grad():
            return in_float64(model)(tokens)

    return Exported(data, _LENS, logits)


_LENS = """\
import json
from pathlib import Path

from safetensors.torch import load_file

weights = load_file("DIR/model.safetensors")
settings = json.loads(Path("DIR/config.json").read_text())
try:  # TransformerLens 3
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig.from_dict(settings))
    model.load_state_dict(model.state_dict() | weights)
except ImportError:  # TransformerLens 4
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    cfg = TransformerBridgeConfig.from_dict(settings)
    model = TransformerBridge.boot_native(cfg)
    model.load_state_dict(convert_tl_checkpoint(weights, cfg), strict=True)
"""


def _ends_bare(config: ModelConfig) -> bool:
    """Whether layers are normalised, and what leaves the last one is not."""
    return config.normalization != "none" and not config.is_normalised


def of_transformers(config: ModelConfig, reads: Reads, weights: Weights) -> Exported:
    """The files of the class of transformers that computes exactly what the network does.

    Raises:
        UsageError: there is none; the reason is said.
    """
    if reason := _no_class(config, reads, weights):
        bare = config.attention_mixing != 1 or _ends_bare(config)
        instead = "safetensors" if bare else "transformer-lens or safetensors"
        what = f"no class of transformers is this network exactly: {reason}"
        raise UsageError(f"{what}: export it as {instead}")
    import transformers

    is_gpt2, n_logits = config.normalization.startswith("LN"), config.n_logits(reads)
    name = "GPT2" if is_gpt2 else "ImageGPT"
    of = "GPT2LMHeadModel" if is_gpt2 else "ImageGPTForCausalImageModeling"
    vocabulary = n_logits if is_gpt2 else n_logits + 1
    settings = {
        "vocab_size": vocabulary, "n_positions": reads.n_ctx, "n_embd": config.d_model,
        "n_layer": config.n_layers, "n_head": config.n_heads, "n_inner": config.d_mlp,
        "activation_function": config.act_fn, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    dtype = next(iter(weights.values())).dtype
    with torch.random.fork_rng(devices=[]):  # it draws weights, which are replaced
        model = getattr(transformers, of)(getattr(transformers, f"{name}Config")(**settings)).to(dtype)
    model.load_state_dict(_named_by_transformers(config, weights, vocabulary), strict=True)
    with tempfile.TemporaryDirectory() as folder, _no_bars():
        model.save_pretrained(folder)
        data = {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}

    def logits(tokens: Int[Tensor, "n pos"]) -> Float[Tensor, "n pos classes"]:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad(), _no_bars():
            for file, content in data.items():
                (Path(folder) / file).write_bytes(content)
            again = getattr(transformers, of).from_pretrained(folder).eval().double()
            return again(tokens).logits

    return Exported(data, _TRANSFORMERS.replace("CLASS", of), logits)


_TRANSFORMERS = """\
from transformers import CLASS

model = CLASS.from_pretrained("DIR")
"""


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of transformers, which are for files of gigabytes."""
    from transformers.utils import logging as theirs

    logging: Any = theirs
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _no_class(config: ModelConfig, reads: Reads, weights: Weights) -> str:
    """Why no class of transformers is the network; empty where one is."""
    n_logits = config.n_logits(reads)
    answered = reads.d_vocab if config.normalization.startswith("LN") else reads.d_vocab - 1
    reasons = {
        "its layers have no normalisation": config.normalization == "none",
        "what leaves the last layer is not normalised (final_norm)": _ends_bare(config),
        "its attention sees every position (attention_dir)": config.attention_dir != "causal",
        "its attention is mixed with a constant (attention_mixing)": config.attention_mixing != 1,
        "it has no MLP": config.d_mlp == 0,
        f"{config.n_heads} heads of {config.d_head} are not d_model {config.d_model} wide": (
            config.n_heads * config.d_head != config.d_model
        ),
        f"it has {n_logits} logits, and with {config.normalization} at least {answered} are needed "
        f"(model.d_vocab_out = {answered} when it is trained)": n_logits < answered,
        "its logits have a bias (b_U)": bool(weights["unembed.b_U"].any()),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _named_by_transformers(config: ModelConfig, weights: Weights, vocabulary: int) -> Weights:
    """The weights under the names of GPT-2 and ImageGPT, in their orientation: tokens that there are not have
    rows of 0, normalisation without weights has 1 and 0."""
    tokens, d = weights["embed.W_E"], config.d_model
    spare = tokens.new_zeros(vocabulary - len(tokens), d)
    named = {
        "transformer.wte.weight": torch.cat([tokens, spare]),
        "transformer.wpe.weight": weights["pos_embed.W_pos"],
        "lm_head.weight": weights["unembed.W_U"].T,
    }
    norms = {"ln_f": "ln_final"}
    for layer in range(config.n_layers):
        at, theirs = f"blocks.{layer}", f"h.{layer}"
        norms |= {f"{theirs}.ln_1": f"{at}.ln1", f"{theirs}.ln_2": f"{at}.ln2"}
        into = [weights[f"{at}.attn.W_{letter}"].transpose(0, 1).flatten(1) for letter in "QKV"]
        biases = [weights[f"{at}.attn.b_{letter}"].flatten() for letter in "QKV"]
        named |= {
            f"transformer.{theirs}.attn.c_attn.weight": torch.cat(into, 1),
            f"transformer.{theirs}.attn.c_attn.bias": torch.cat(biases),
            f"transformer.{theirs}.attn.c_proj.weight": weights[f"{at}.attn.W_O"].flatten(0, 1),
            f"transformer.{theirs}.attn.c_proj.bias": weights[f"{at}.attn.b_O"],
            f"transformer.{theirs}.mlp.c_fc.weight": weights[f"{at}.mlp.W_in"],
            f"transformer.{theirs}.mlp.c_fc.bias": weights[f"{at}.mlp.b_in"],
            f"transformer.{theirs}.mlp.c_proj.weight": weights[f"{at}.mlp.W_out"],
            f"transformer.{theirs}.mlp.c_proj.bias": weights[f"{at}.mlp.b_out"],
        }
    for theirs, ours in norms.items():
        named[f"transformer.{theirs}.weight"] = weights.get(f"{ours}.w", tokens.new_ones(d))
        if config.normalization.startswith("LN"):
            named[f"transformer.{theirs}.bias"] = weights.get(f"{ours}.b", tokens.new_zeros(d))
    return {name: weight.contiguous() for name, weight in named.items()}
