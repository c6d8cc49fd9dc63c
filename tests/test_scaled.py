"""Training in parts, by several processes, and with matrix products in bfloat16."""

import json
import math
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError, Diverged, GrokinterpError
from grokinterp.models import ModelConfig
from grokinterp.runs import processes
from grokinterp.runs.train import Writer
from grokinterp.tasks import make_task
from grokinterp.training.examples import Examples, workers
from grokinterp.training.optimizers import learning_rate
from grokinterp.training.scaled import ScaledExamples

STEPS = 20


def config(**changes) -> gi.TrainConfig:
    """Two digits, all answers, by two layers: learned the plain way, from fresh examples."""
    small = {
        "task.n": 2, "task.examples": 64, "task.per_class": 4, "model.n_layers": 2, "model.d_model": 32,
        "training.batch_size": 48, "training.steps": STEPS, "training.evaluate_every": 1,
        "snapshots.every": 10, "threads": 1,
    }  # fmt: skip
    return gi.TrainConfig.preset("digits", **{**small, **changes})


def losses(run: gi.Run) -> torch.Tensor:
    return torch.tensor(run.history[["train_loss", "test_loss"]].to_numpy())


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> gi.Run:
    return gi.train(config(), tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> gi.Run:
    both = {"processes": 2, "training.accumulate": 2}
    return gi.train(config(**both), tmp_path_factory.mktemp("runs") / "shared")


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_give_the_losses_of_one_pass(plain, tmp_path, parts):
    run = gi.train(config(**{"training.accumulate": parts}), tmp_path / "run")
    torch.testing.assert_close(losses(run), losses(plain), atol=1e-5, rtol=0)
    assert not torch.equal(run.state_dict(STEPS)["embed.W_E"], plain.state_dict(0)["embed.W_E"])


def test_two_processes_give_the_losses_of_one(plain, shared):
    assert shared.steps == plain.steps
    torch.testing.assert_close(losses(shared), losses(plain), atol=1e-5, rtol=0)


def test_rows_of_a_table_are_shared_too(tmp_path):
    """The last batch of an epoch is a remainder, of which one process has more."""
    changes = {
        "task.p": 7, "training.batch_size": 8, "training.fraction": 0.8, "training.steps": STEPS,
        "model.n_layers": 2, "model.d_model": 16, "training.evaluate_every": 1,
    }  # fmt: skip
    runs = [
        gi.train(gi.TrainConfig.preset("quick", **changes, processes=n), tmp_path / str(n)) for n in (1, 2)
    ]
    torch.testing.assert_close(*map(losses, runs), atol=1e-5, rtol=0)


def test_processes_go_on_to_the_same_bytes_where_the_first_was_killed(shared, tmp_path):
    here = tmp_path / "run"
    # Killed once the first ten steps are committed.
    script = f"""
import os, signal, grokinterp as gi
from pathlib import Path
from grokinterp.runs.train import Writer
commit = Writer.commit
def killed(self, snapshot, trainer):
    commit(self, snapshot, trainer)
    if snapshot.step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
Writer.commit = killed
gi.train(gi.TrainConfig.make({shared.config.model_dump(mode="json")!r}), {str(here)!r})
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run = gi.train(shared.config, here)
    for step in shared.steps:
        for name, weight in shared.state_dict(step).items():
            assert torch.equal(weight, run.state_dict(step)[name])


def test_a_process_that_dies_is_told_in_one_line(tmp_path, monkeypatch):
    others, started, commit = [], processes._started, Writer.commit

    def noted(*of):
        others.append(started(*of))
        return others[-1]

    def killing(self, snapshot, trainer):
        commit(self, snapshot, trainer)
        if snapshot.step == 5:
            others[0].kill()

    monkeypatch.setattr(processes, "_started", noted)
    monkeypatch.setattr(Writer, "commit", killing)
    with pytest.raises(GrokinterpError, match=r"one of the 2 processes .* exit status -9; what was saved is"):
        gi.train(config(processes=2), tmp_path / "run")


def test_bfloat16_is_of_products_alone(plain, tmp_path):
    run = gi.train(config(**{"training.dtype": "bfloat16"}), tmp_path / "run")
    apart = (losses(run) - losses(plain)).abs().max()
    assert 1e-5 < apart < 0.1  # eight bits of a mantissa: 1 in 256
    assert all(weight.dtype == torch.float32 for weight in run.state_dict(STEPS).values())


def examples(dtype: torch.dtype, way=Examples) -> Examples:
    task = make_task("digit_addition", n=2, examples=60, per_class=1)
    asked = ModelConfig(n_layers=2, d_model=16, n_heads=2)
    weights = {
        name: weight.to(dtype).requires_grad_()
        for name, weight in asked.initial_weights(task.reads, 0).items()
    }
    labels = task.columns.clone()
    labels[::3, 1] = -1  # not asked: parts have different numbers of answers
    train, test = torch.arange(40), torch.arange(40, 60)
    return way(weights, weights, asked, "cross_entropy", task, train, test, labels)


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_gradients_of_parts_are_those_of_the_whole(parts):
    way = partial(ScaledExamples, parts=parts, processes=1, narrow=False)
    whole, in_parts = examples(torch.float64), examples(torch.float64, way)
    with workers(1):
        for rows in (None, torch.tensor([3, 1, 30, 12, 3])):
            expected, found = whole.gradients(rows), in_parts.gradients(rows)
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, atol=1e-12, rtol=1e-9)
        seen, of_parts = whole.evaluation(gradients=False), in_parts.evaluation(gradients=True)
    torch.testing.assert_close(of_parts.test.losses, seen.test.losses)
    assert torch.equal(of_parts.train.guesses, seen.train.guesses)
    assert of_parts.gradients is None


def test_the_learning_rate_falls_along_half_a_cosine():
    training = config(
        **{"training.decay": "cosine", "training.warmup": 4, "training.lr": 2.0, "training.steps": 24}
    ).training
    rates = [learning_rate(training, step) for step in range(1, 25)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[13] == pytest.approx(1.0)  # half way down
    plain = config(**{"training.warmup": 4, "training.lr": 2.0}).training
    assert [learning_rate(plain, step) for step in (1, 4, 5, 20)] == [0.5, 2, 2, 2]
    torch_way = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1)], lr=2.0), T_max=20
    )
    for rate in rates[3:]:
        assert rate == pytest.approx(torch_way.get_last_lr()[0], abs=1e-12)
        torch_way.optimizer.step()
        torch_way.step()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.accumulate": 5}, "48 examples do not divide into .*training.accumulate=5 equal parts"),
        ({"processes": 5}, "48 examples do not divide into processes=5"),
        ({"processes": 0}, "processes"),
        ({"training.accumulate": 0}, "training.accumulate"),
        ({"training.dtype": "bf16"}, "training.dtype"),
        ({"training.decay": "cos"}, "training.decay"),
    ],
)
def test_what_does_not_divide_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said) as told:
        config(**changes)
    assert "\n" not in str(told.value)


def test_several_processes_need_batches():
    with pytest.raises(ConfigError, match=r"processes: several share batches: set training.batch_size"):
        gi.TrainConfig.preset("quick", processes=2)


def test_a_divergence_is_told_by_the_first_process(tmp_path):
    changes = {"processes": 2, "training.optimizer": "sgd", "training.lr": 1e6, "training.steps": 200}
    with pytest.raises(Diverged, match="training diverged"):
        gi.train(config(**changes), tmp_path / "run")
    assert math.isfinite(gi.load_run(tmp_path / "run").history["train_loss"].iloc[0])


PAPER = Path(__file__).parents[1] / "experiments" / "linear_algebra" / "paper.toml"
DRY = {"device": "cpu", "training.steps": 2, "task.examples": 64, "training.evaluate_every": 1}


def test_the_network_of_the_paper_has_its_size():
    config = gi.TrainConfig.from_toml(PAPER.read_text(), **DRY)
    reads = config.make_task().reads
    assert (len(reads.words[: reads.positions[0]]), len(reads.answers)) == (2 + 25, 2 + 30 * 3)
    sizes = [math.prod(shape) for shape in config.model.shapes(reads).values()]
    assert 30e6 < sum(sizes) < 50e6


@pytest.mark.slow
def test_a_dry_run_at_the_size_of_the_paper(tmp_path, capsys):
    """Two updates in each way to need less, each in a process of its own; prints their peak memory."""
    script = """
import json, resource, sys
import grokinterp as gi
config = gi.TrainConfig.from_toml(open(sys.argv[1]).read(), **json.loads(sys.argv[2]))
run = gi.train(config, sys.argv[3])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps([peak, run.history[["train_loss", "test_loss"]].to_numpy().tolist()]))
"""
    ways = {
        "float32": {"training.dtype": "float32"},
        "bfloat16": {},
        "float32, 4 parts": {"training.dtype": "float32", "training.accumulate": 4},
    }
    found = {}
    for number, (name, changes) in enumerate(ways.items()):
        arguments = [str(PAPER), json.dumps({**DRY, **changes}), str(tmp_path / str(number))]
        ended = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
        )
        peak, losses = json.loads(ended.stdout.splitlines()[-1])
        with capsys.disabled():
            print(f"\npeak memory, {name}: {peak:.2f} GB")
        found[name] = torch.tensor(losses)
        assert found[name].shape == (3, 2)
        assert found[name].isfinite().all()
        assert peak < 8
    torch.testing.assert_close(found["float32, 4 parts"], found["float32"], atol=1e-4, rtol=0)
    apart = (found["bfloat16"] - found["float32"]).abs().max()
    assert 0 < apart < 0.05
