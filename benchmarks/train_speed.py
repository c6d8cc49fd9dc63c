"""How much faster does grokinterp train than the loop that people use, at the same cadence, and with which
differences?

The peer is the loop of the TransformerLens Grokking_Demo: HookedTransformer's forward at all positions, a
loss of float64 log-probabilities, AdamW, and the test loss at every epoch. Ours is the package's own Trainer,
evaluating at every step. The two take turns, now one first and now the other, each in a process of its own,
so that neither warms the other's memory, with the same number of threads; the ratio of every pair is taken
from neighbours in time. The network is that of Nanda et al. 2023 at every p. Prints the median ratio, its
spread, and how far the losses have come apart after 50 steps from the same weights.

    python benchmarks/train_speed.py --threads 2
    python benchmarks/train_speed.py --p 53 --layers 2 --threads 1 --batch-size 512
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

COMPARED = 50


def config(a: argparse.Namespace):
    import grokinterp as gi

    d_model = 128
    overrides = {
        "task.p": a.p,
        "model.n_layers": a.layers,
        "model.d_model": d_model,
        "model.d_mlp": 4 * d_model,
        "training.lr": 1e-3,
        "training.batch_size": a.batch_size,
        "training.evaluate_every": 1,
        "training.steps": 10**6,
        "training.stop_when": None,
        "snapshots.log": None,
        "snapshots.every": None,
        "snapshots.events": [],
        "threads": a.threads,
    }
    return gi.TrainConfig.preset("fast113", **overrides)


def ours(a: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """A function that makes one step and gives the losses before it."""
    import torch

    from grokinterp.training import Trainer

    torch.set_num_threads(a.threads)
    trainer = Trainer(config(a))
    print(
        "folded into tables" if trainer.folded else "not folded: the forward pass at the answer position",
        file=sys.stderr,
    )
    return stepping(trainer)


def stepping(trainer) -> Callable[[], tuple[float, float]]:
    """A function that goes on to the next evaluation of a trainer and gives its losses."""
    steps = iter(trainer)

    def step() -> tuple[float, float]:
        metrics = next(steps).metrics
        assert metrics is not None
        return metrics["train_loss"], metrics["test_loss"]

    return step


def theirs(a: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """The same in the Grokking_Demo's way, from the same weights, on the same examples, in the same
    batches."""
    import torch

    torch.set_num_threads(a.threads)
    asked = config(a)
    task = asked.make_task()
    split = asked.make_split(task)
    model = asked.model.hooked(task.reads, asked.model.initial_weights(task.reads, asked.seed)).train()
    training = asked.training
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        learning, lr=training.lr, weight_decay=training.weight_decay, betas=training.betas
    )
    train, test = (rows.sort().values for rows in (split.train, split.test))
    (train_inputs, train_targets), (test_inputs, test_targets) = (
        (task.inputs[rows], task.targets[rows]) for rows in (train, test)
    )
    generator, order, at = torch.Generator().manual_seed(asked.seed), train, 0

    def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probs = logits[:, -1].to(torch.float64).log_softmax(dim=-1)
        return -log_probs.gather(dim=-1, index=labels[:, None])[:, 0].mean()

    def step() -> tuple[float, float]:
        nonlocal order, at
        rows = train
        if a.batch_size is not None and a.batch_size < len(train):
            if at % len(train) == 0 or at >= len(train):
                order, at = train[torch.randperm(len(train), generator=generator)], 0
            rows = order[at : at + a.batch_size]
            at += a.batch_size
        with torch.inference_mode():
            test_loss = loss_fn(model(test_inputs), test_targets)
            if rows is not train:  # ours evaluates all training examples too
                loss_fn(model(train_inputs), train_targets)
        whole = rows is train
        train_loss = loss_fn(
            model(train_inputs if whole else task.inputs[rows]),
            train_targets if whole else task.targets[rows],
        )
        train_loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return train_loss.item(), test_loss.item()

    return step


def timed(
    step: Callable[[], tuple[float, float]], steps: int, warm: int = 5, compared: int = COMPARED
) -> dict[str, object]:
    """Seconds that a step takes after some to warm up, and the losses of the first steps."""
    losses = [step() for _ in range(warm)]
    started = time.perf_counter()
    losses += [step() for _ in range(steps)]
    seconds = (time.perf_counter() - started) / steps
    losses += [step() for _ in range(compared + 1 - len(losses))]
    return {"seconds": seconds, "losses": losses[: compared + 1]}


def in_a_process(side: str, arguments: list[str]) -> dict:
    done = subprocess.run(
        [sys.executable, sys.argv[0], *arguments, "--side", side],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=int, default=113)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, help="minibatches; absent: full batch")
    parser.add_argument("--pairs", type=int, default=5, help="of timings, ours and theirs in turn")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each timing")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        print(json.dumps(timed({"ours": ours, "theirs": theirs}[a.side](a), a.steps)))
        return
    ratios, apart = [], 0.0
    for pair in range(a.pairs):
        found = {
            side: in_a_process(side, sys.argv[1:])
            for side in (("theirs", "ours"), ("ours", "theirs"))[pair % 2]
        }
        there, here = found["theirs"], found["ours"]
        ratios.append(there["seconds"] / here["seconds"])
        # Of minibatches, theirs has the loss before an update and ours that of all training examples: only
        # the test losses are the same.
        both = zip(there["losses"], here["losses"], strict=True)
        differences = [
            abs(x - y)
            for one, other in both
            for x, y in list(zip(one, other, strict=True))[a.batch_size is not None :]
        ]
        apart = (
            math.nan if any(map(math.isnan, differences)) else max(apart, *differences)
        )  # a NaN stays: no number is larger
        print(
            f"pair {pair + 1}: {1e3 * there['seconds']:.1f} ms a step there, {1e3 * here['seconds']:.1f} ms "
            f"here: {ratios[-1]:.2f} times"
        )
    batch = "full batch" if a.batch_size is None else f"batches of {a.batch_size}"
    print(f"p = {a.p}, {a.layers} layer(s), {a.threads} thread(s), {batch}, test loss at every step")
    print(
        f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} pairs)"
    )
    print(f"largest difference of a loss in the first {COMPARED} steps: {apart:.2g} nats")


if __name__ == "__main__":
    main()
