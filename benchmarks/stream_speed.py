"""How much faster does grokinterp train on fresh sums than the loop that people write, and do losses agree?

The peer is HookedTransformer's forward at all positions (of an encoder-decoder torch.nn.Transformer's), the
mean over the answers of float64 log-probabilities, torch's optimiser, and the loss of the evaluation sample
as often as ours. Both learn from the same
batches of the same stream, drawn as they go. The two take turns, now one first and now the other, each in a
process of its own, with the same number of threads; the ratio of every pair is taken from neighbours in time.

    python benchmarks/stream_speed.py --threads 2                        # all digits at once
    python benchmarks/stream_speed.py --threads 2 --preset one_digit     # the tens
    python benchmarks/stream_speed.py --threads 2 --evaluate-every 1000  # next to no evaluation
    python benchmarks/stream_speed.py --threads 2 --preset pixel_vit     # vision: pixel, patch, double
    python benchmarks/stream_speed.py --threads 2 --preset matrices      # an encoder-decoder
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

from torch_transformer import torch_transformer
from train_speed import COMPARED, in_a_process, stepping, timed


def config(a: argparse.Namespace):
    import grokinterp as gi

    return gi.TrainConfig.preset(
        a.preset,
        **{
            "training.evaluate_every": a.evaluate_every,
            "training.steps": 10**6,
            "snapshots.log": None,
            "snapshots.every": None,
            "threads": a.threads,
        },
    )


def ours(a: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """A function that makes the updates from one evaluation to the next and gives the losses before them."""
    import torch

    from grokinterp.training import Trainer

    torch.set_num_threads(a.threads)
    return stepping(Trainer(config(a)))


def theirs(a: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """The same in people's way, from the same weights, on the same batches."""
    import torch

    from grokinterp.training.batches import Fresh
    from grokinterp.training.optimizers import learning_rate

    torch.set_num_threads(a.threads)
    asked = config(a)
    task, training = asked.make_task(), asked.training
    reads = task.reads
    weights = asked.model.initial_weights(reads, asked.seed)
    if asked.model.kind == "encoder_decoder":
        model, positions = torch_transformer(asked.model, weights, reads.positions[0]), slice(None)
    else:
        model = asked.model.hooked(reads, weights).train()
        positions = list(asked.model.sequence(reads).positions)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer](
        learning, lr=training.lr, weight_decay=training.weight_decay, betas=training.betas
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: learning_rate(training, done + 1) / training.lr
    )
    stream, number = Fresh(task, training.batch_size, asked.seed), 0
    evaluated = asked.make_split(task).test
    sample, answers = task.inputs[evaluated], task.columns[evaluated]

    def loss_fn(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model(inputs)[:, positions]
        log_probs = logits.to(torch.float64).log_softmax(dim=-1)
        return -log_probs.gather(-1, labels.view(len(labels), -1, 1)).mean()

    def step() -> tuple[float, float]:
        nonlocal number
        with torch.inference_mode():
            test_loss = loss_fn(sample, answers)
        first = None
        for _ in range(a.evaluate_every):
            batch = stream.batch(number)
            loss = loss_fn(batch.inputs, task.of_one_axis(batch.answers))
            loss.backward()
            if training.clip is not None:
                torch.nn.utils.clip_grad_norm_(learning, training.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            first, number = loss.item() if first is None else first, number + 1
        assert first is not None
        return first, test_loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--evaluate-every", type=int, default=10, help="updates")
    parser.add_argument("--pairs", type=int, default=5, help="of timings, ours and theirs in turn")
    parser.add_argument("--steps", type=int, default=60, help="timed updates of each timing, about")
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        side = {"ours": ours, "theirs": theirs}[a.side](a)
        compared = max(1, COMPARED // a.evaluate_every)
        print(json.dumps(timed(side, max(1, a.steps // a.evaluate_every), warm=1, compared=compared)))
        return
    ratios, apart = [], 0.0
    for pair in range(a.pairs):
        order = (("theirs", "ours"), ("ours", "theirs"))[pair % 2]
        found = {side: in_a_process(side, sys.argv[1:]) for side in order}
        there, here = found["theirs"], found["ours"]
        ratios.append(there["seconds"] / here["seconds"])
        both = zip(there["losses"], here["losses"], strict=True)
        apart = max(apart, *(abs(x - y) for one, other in both for x, y in zip(one, other, strict=True)))
        ms = {side: 1e3 * one["seconds"] / a.evaluate_every for side, one in found.items()}
        print(
            f"pair {pair + 1}: {ms['theirs']:.1f} ms an update there, {ms['ours']:.1f} ms here: "
            f"{ratios[-1]:.2f} times"
        )
    print(f"preset {a.preset}, {a.threads} thread(s), the sample evaluated every {a.evaluate_every} updates")
    print(
        f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} pairs)"
    )
    updates = max(1, COMPARED // a.evaluate_every) * a.evaluate_every
    print(f"largest difference of a loss in the first {updates} updates: {apart:.2g} nats")


if __name__ == "__main__":
    main()
