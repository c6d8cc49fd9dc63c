"""How much faster does grokinterp measure the snapshots of a run than the loop that people write, and does it
get the same numbers?

The peer is a loop in the way of the TransformerLens Grokking_Demo and of the ARENA chapter that grew out of
it: every snapshot is loaded into a HookedTransformer, `run_with_cache` goes over all pairs, and then come,
one after the other, the loss, the restricted loss (of the neurons, through W_logit), the excluded loss of
every frequency, the share of each neuron's variance that each frequency explains, the coefficients of cos(w(a
+ b - c)) in the logits, and the Gini coefficients of the embedding and of the neuron-to-logit map. What is
the same for every snapshot (waves, cubes, the network itself) is made once, before the clock starts. It
computes in float64, because in float32 its losses have no six digits: 1e-6 is asked of the values, and
--float32 prints how long it takes with less. The key frequencies of the final network, for the restricted
loss, are given to it, as they are typed into the notebook by eye.

Ours is `gi.replay` with the same measures, on a copy of the run without anything kept of it; it finds the key
frequencies of the final network itself. --own-keys lets it find those of every snapshot too, and the
restricted loss with them, which the peer does not. The two take turns, each in a process of its own, with the
same number of threads, and the ratio of every pair is taken from neighbours in time. The clock runs from the
first snapshot that is read to the last number; imports are on neither side. `--progress` times all measures
that `gi.replay` takes by default against the same peer, which computes far fewer.

    python benchmarks/replay_speed.py --threads 2
    python benchmarks/replay_speed.py --run runs/add113 --pairs 5
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "modular_addition_113"

MEASURES = {
    "loss": "loss",
    "restricted_loss": "restricted_loss.neuron_dirs@final_keys",
    "excluded_loss": "excluded_loss.per_frequency",
    "neuron_explained": "neuron.explained_variance",
    "logit_coefficients": "logit_cosine",
    "gini_W_E": "gini.W_E",
    "gini_W_L": "gini.W_L",
}
"""The quantities of the peer, and the variables of the replay that hold the same."""


def ours(a: argparse.Namespace) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds, and the values by quantity, the snapshots first."""
    import torch

    import grokinterp as gi

    torch.set_num_threads(a.threads)
    import pandas  # noqa: F401 - both are imported late
    import xarray  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(a.run, copy, ignore=shutil.ignore_patterns("replay", "lock", "resume"))
        run = gi.load_run(copy)
        names = (
            None
            if a.progress
            else [name.partition("@")[0] if a.own_keys else name for name in MEASURES.values()]
        )
        started = time.perf_counter()
        data = gi.replay(run, names, run.steps[: a.snapshots], progress=False)
        seconds = time.perf_counter() - started
        return seconds, {} if a.progress else {
            name: data[variable].values for name, variable in MEASURES.items()
        }


def theirs(a: argparse.Namespace) -> tuple[float, dict[str, np.ndarray]]:
    """The same of the notebook's loop."""
    import einops
    import safetensors.torch
    import torch
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    warnings.filterwarnings("ignore", message="HookedTransformer is deprecated")
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    dtype = torch.float32 if a.float32 else torch.float64
    record = json.loads(a.facts)
    p, split, key_freqs = record["p"], record["split"], record["keys"]
    files = [Path(a.run) / file for file in record["files"]][: a.snapshots]
    first = safetensors.torch.load_file(files[0])
    n_heads, d_model, d_head = first["blocks.0.attn.W_Q"].shape
    d_mlp, d_vocab = first["blocks.0.mlp.W_in"].shape[1], len(first["embed.W_E"])
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=1,
            n_heads=n_heads,
            d_model=d_model,
            d_head=d_head,
            d_mlp=d_mlp,
            act_fn="relu",
            normalization_type=None,
            d_vocab=d_vocab,
            d_vocab_out=first["unembed.W_U"].shape[1],
            n_ctx=3,
            device="cpu",
            dtype=dtype,
        )
    )
    a_vector = einops.repeat(torch.arange(p), "i -> (i j)", j=p)
    b_vector = einops.repeat(torch.arange(p), "j -> (i j)", i=p)
    dataset = torch.stack([a_vector, b_vector, torch.full_like(a_vector, p)], dim=1)
    labels = (a_vector + b_vector) % p
    train, test = torch.tensor(split["train"]), torch.tensor(split["test"])
    n_freqs = p // 2
    waves = [torch.ones(p, dtype=dtype) / math.sqrt(p)]
    for freq in range(1, n_freqs + 1):
        for wave in (torch.cos, torch.sin):
            row = wave(2 * torch.pi * torch.arange(p, dtype=dtype) * freq / p)
            waves.append(row / row.norm())
    fourier_basis = torch.stack(waves)
    cos_apb, sin_apb, cos_cubes = {}, {}, {}
    for freq in range(1, n_freqs + 1):
        angle = (2 * torch.pi * freq / p) * (a_vector + b_vector).to(dtype)
        cos_apb[freq] = (torch.cos(angle) / torch.cos(angle).norm())[:, None]
        sin_apb[freq] = (torch.sin(angle) / torch.sin(angle).norm())[:, None]
        cube = torch.cos(angle[:, None] - (2 * torch.pi * freq / p) * torch.arange(p, dtype=dtype))
        cos_cubes[freq] = cube / cube.norm()

    def losses(logits: torch.Tensor) -> list[float]:
        log_probs = logits.to(torch.float64).log_softmax(dim=-1)
        each = -log_probs.gather(dim=-1, index=labels[:, None])[:, 0]
        return [each[train].mean().item(), each[test].mean().item(), each.mean().item()]

    def gini(vector: torch.Tensor) -> float:
        vector = vector.sort().values
        n = len(vector)
        return ((2 * torch.arange(1, n + 1) - n - 1) * vector).sum().item() / (n * vector.sum().item())

    found: dict[str, list[object]] = {name: [] for name in MEASURES}
    started = time.perf_counter()
    for file in files:
        model.load_state_dict(safetensors.torch.load_file(file), strict=False)
        logits, cache = model.run_with_cache(dataset)
        logits = logits[:, -1, :]
        neuron_acts = cache["post", 0, "mlp"][:, -1, :]
        W_logit = model.blocks[0].mlp.W_out @ model.unembed.W_U
        found["loss"].append(losses(logits))

        approx_neuron_acts = torch.zeros_like(neuron_acts)
        for freq in key_freqs:
            approx_neuron_acts += (neuron_acts * cos_apb[freq]).sum(dim=0) * cos_apb[freq]
            approx_neuron_acts += (neuron_acts * sin_apb[freq]).sum(dim=0) * sin_apb[freq]
        restricted_logits = approx_neuron_acts @ W_logit
        restricted_logits += logits.mean(dim=0, keepdim=True) - restricted_logits.mean(dim=0, keepdim=True)
        found["restricted_loss"].append(losses(restricted_logits))

        excluded = []
        for freq in range(1, n_freqs + 1):
            logits_cos = cos_apb[freq] @ (cos_apb[freq].T @ logits)
            logits_sin = sin_apb[freq] @ (sin_apb[freq].T @ logits)
            excluded.append(losses(logits - logits_cos - logits_sin))
        found["excluded_loss"].append(excluded)

        square = einops.rearrange(neuron_acts, "(a b) neuron -> neuron a b", a=p, b=p)
        fourier_neuron_acts = fourier_basis @ square @ fourier_basis.T
        fourier_neuron_acts[:, 0, 0] = 0.0
        neuron_freq_norm = torch.zeros(n_freqs, d_mlp, dtype=dtype)
        for freq in range(n_freqs):
            for x in [0, 2 * (freq + 1) - 1, 2 * (freq + 1)]:
                for y in [0, 2 * (freq + 1) - 1, 2 * (freq + 1)]:
                    neuron_freq_norm[freq] += fourier_neuron_acts[:, x, y] ** 2
        neuron_freq_norm = neuron_freq_norm / fourier_neuron_acts.pow(2).sum(dim=[-1, -2])[None, :]
        found["neuron_explained"].append(
            neuron_freq_norm.max(dim=0).values.nan_to_num(0).tolist()
        )  # 0 / 0 where a neuron is dead

        centred = logits - logits.mean(dim=-1, keepdim=True)
        size = centred.norm()
        found["logit_coefficients"].append(
            [((centred * cos_cubes[freq]).sum() / size).item() for freq in range(1, n_freqs + 1)]
        )

        found["gini_W_E"].append(gini((fourier_basis @ model.embed.W_E[:p]).norm(dim=-1)[1:]))
        found["gini_W_L"].append(gini((fourier_basis @ W_logit.T).norm(dim=-1)[1:]))
    seconds = time.perf_counter() - started
    return seconds, {name: np.array(values, dtype=float) for name, values in found.items()}


def facts(a: argparse.Namespace) -> str:
    """What the author of the notebook knows of the run: p, the split, the files, and the key frequencies that
    were read off a plot."""
    import grokinterp as gi

    run = gi.load_run(a.run)
    config = run.config
    if (
        run.task.name != "modular_addition"
        or run.task.inputs.shape[1] != 3
        or run.split is None
        or config.model.n_layers != 1
    ):
        sys.exit(f"{a.run}: the notebook's loop is about addition by one layer on three tokens")
    known = {
        "p": run.task.p,
        "split": {"train": run.split.train.tolist(), "test": run.split.test.tolist()},
        "keys": gi.key_frequencies(run.view(-1)).consensus,
        "files": [f"snapshots/step_{step:08d}.safetensors" for step in run.steps],
    }
    return json.dumps(known)


def in_a_process(side: str, arguments: list[str], facts: str) -> tuple[float, dict[str, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        known, values = Path(folder) / "facts.json", Path(folder) / "values.npz"
        known.write_text(facts)
        command = [
            sys.executable,
            __file__,
            *arguments,
            "--side",
            side,
            "--facts",
            str(known),
            "--values",
            str(values),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return float(done.stdout.split()[-1]), dict(np.load(values))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference as a share of the larger value, over all numbers; NaN where one of them is
    none."""
    if one.shape != other.shape:
        sys.exit(f"values of the shapes {one.shape} and {other.shape} cannot be compared")
    size = np.maximum(abs(one), abs(other))
    return float(np.max(np.divide(abs(one - other), size, out=np.zeros_like(size), where=size != 0)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run",
        default=str(SHIPPED),
        help="a run directory of modular addition with one layer; by default the shipped one",
    )
    parser.add_argument("--snapshots", type=int, help="only so many, the first ones; by default all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3, help="of timings, ours and theirs in turn")
    parser.add_argument(
        "--progress", action="store_true", help="ours computes all that gi.replay does by default"
    )
    parser.add_argument(
        "--own-keys", action="store_true", help="ours finds the key frequencies of every snapshot too"
    )
    parser.add_argument("--float32", action="store_true", help="theirs computes in float32")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--facts", help=argparse.SUPPRESS)
    parser.add_argument("--values", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        a.facts = Path(a.facts).read_text()
        seconds, values = {"ours": ours, "theirs": theirs}[a.side](a)
        np.savez(a.values, **values)
        print(seconds)
        return
    known = facts(a)
    snapshots = len(json.loads(known)["files"][: a.snapshots])
    ratios: list[float] = []
    differences: dict[str, float] = {}
    for pair in range(a.pairs):
        done = {
            side: in_a_process(side, sys.argv[1:], known)
            for side in (("theirs", "ours"), ("ours", "theirs"))[pair % 2]
        }
        (there, expected), (here, found) = done["theirs"], done["ours"]
        ratios.append(there / here)
        for name in found:
            differences[name] = float(
                np.maximum(differences.get(name, 0.0), apart(found[name], expected[name]))
            )  # NaN stays
        each = f"{1e3 * there / snapshots:.0f} ms a snapshot there, {1e3 * here / snapshots:.0f} ms here"
        print(f"pair {pair + 1}: {each}: {ratios[-1]:.2f} times", flush=True)
    print(f"{snapshots} snapshots, {a.threads} thread(s), theirs in {'float32' if a.float32 else 'float64'}")
    print(
        f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} pairs)"
    )
    for name, difference in differences.items():
        print(f"largest relative difference of {MEASURES[name]}: {difference:.2g}")


if __name__ == "__main__":
    main()
