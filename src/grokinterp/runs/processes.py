"""A training that several processes of this machine share: they draw the same batches, each computes its
share, and torch's DistributedDataParallel averages the gradients.

The process that trains into the directory is the first; it alone evaluates and writes. The others are fresh
Pythons that make the same updates until it ends, and keep nothing: whatever happens to them, the run goes on
from its resume state.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, Diverged, GrokinterpError
from ..models import Weights
from ..tasks import TASKS
from ..training import State, TrainConfig, Trainer, resolve_device

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import {}; {}()"
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_SECONDS_TO_DIE = 1.0
_LONGEST_EVALUATION = timedelta(days=1)
"""The others wait so long while the first one evaluates and writes."""


@contextmanager
def shared(config: TrainConfig, state: State | None, weights: Weights | None) -> Iterator[None]:
    """The other processes of a training, from the state or the weights that it begins with; they are ended at
    the end. Does nothing for a single one.

    Raises:
        ConfigError: there are fewer CUDA devices.
        GrokinterpError: another process has died.
    """
    if config.processes == 1:
        yield
        return
    _refuse_too_few_devices(config)
    job = json.dumps(
        {"config": config.model_dump(mode="json"), "home": TASKS[config.task["name"]].__module__}
    )
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        others = [_started(rank, meeting, job) for rank in range(1, config.processes)]
        try:
            _meet(config, 0, meeting)
            bare = weights and {name: weight.detach().cpu() for name, weight in weights.items()}
            torch.distributed.broadcast_object_list([state, bare])
            yield
        except RuntimeError as error:
            time.sleep(_SECONDS_TO_DIE)
            if dead := [other for other in others if other.poll() is not None]:
                how = f"ended with exit status {dead[0].returncode}"
                what = f"one of the {config.processes} processes of this training {how}"
                raise GrokinterpError(
                    f"{what}; what was saved is safe: run the same command again to go on"
                ) from error
            raise
        finally:
            for other in others:
                other.kill()
                other.communicate()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def fresh_python(module: str, function: str, *arguments: str) -> list[str]:
    """The command of a Python that imports from where this one does and calls a function; its arguments are
    sys.argv[2] and so on."""
    return [sys.executable, "-c", _START.format(module, function, function), json.dumps(sys.path), *arguments]


def _started(rank: int, meeting: Path, job: str) -> subprocess.Popen[bytes]:
    """Another process; what runs this one may be a script without a main guard, and is not imported again."""
    command = fresh_python(__name__, "follow", str(rank), str(meeting))
    # In a session of its own, so that a Ctrl-C leaves it to the first process to end the step.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has died: the first sum that it is missed in will say so
        process.stdin.write(job.encode() + b"\n")
        process.stdin.flush()
    return process


def _refuse_too_few_devices(config: TrainConfig) -> None:
    on_gpus, there = resolve_device(config.device).type == "cuda", torch.cuda.device_count()
    if on_gpus and there < config.processes:
        what = f"processes: {config.processes} were asked for, and torch finds {there} CUDA devices"
        raise ConfigError(f"{what}: ask for as many, or for device = 'cpu'")


def _meet(config: TrainConfig, rank: int, meeting: Path) -> None:
    on_gpus = resolve_device(config.device).type == "cuda"
    if on_gpus:
        torch.cuda.set_device(rank)
    if sys.platform in _LOOPBACK:  # a laptop's own name may lead nowhere
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
    torch.distributed.init_process_group(
        "nccl" if on_gpus else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=config.processes,
        timeout=_LONGEST_EVALUATION,
    )


def _end_with_the_first() -> None:
    """The system closes the pipe when the first process dies, however suddenly."""
    sys.stdin.read()
    os._exit(0)


def follow() -> None:
    """The life of another process: updates until the first one ends it, or is no more."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    import_module(asked["home"])
    config = TrainConfig.make(asked["config"])
    _meet(config, int(sys.argv[2]), Path(sys.argv[3]))
    given: list[Any] = [None, None]
    torch.distributed.broadcast_object_list(given)
    with suppress(Diverged):  # the first one says so
        Trainer(config, *given).follow()
