"""Sweeps on a cluster: Ray is the pool of processes, and nothing else. What belongs to a sweep and what is
done stands in its directory; no dashboard and no usage report is started.

Members go to the cluster several at a time, each trained with one thread, or on a GPU those stacked that
differ in their seeds alone. Their directories lie where `out` does, on a filesystem that every node has; with
`copy_back` each node trains below its own temporary directory and sends the finished directory, which is
there whole or not at all. What a dead worker or node was training goes to another: on a shared filesystem it
goes on from its resume state.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, cast

from ..errors import GrokinterpError, Interrupted, UsageError
from ..runs import pool
from ..runs.many import Ends, Engine, Work
from ..runs.sent import put
from ..runs.train import is_finished
from .elsewhere import Watched, batches, paths_to_import_from, there

_SECONDS_TO_ANSWER = 20.0
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_SAVE = 60.0
_TRIES = 20
"""How often a member is given to the cluster whose workers die."""


def on_ray(
    address: str | None = None,
    per_task: int | None = None,
    gpus: int | float = 0,
    copy_back: bool = False,
) -> Engine:
    """Trains on a Ray cluster.

    Args:
        address: of the cluster, "host:port", "ray://host:port" or "auto"; by default that of the environment
            (RAY_ADDRESS), or one of this machine that ends with the sweep.
        per_task: how many members one process trains, one after the other.
        gpus: how many each process needs; configurations have `device = "cuda"` then.
        copy_back: whether nodes have no filesystem in common.

    Raises:
        UsageError: Ray is not installed, or nothing answers at the address within 20 s.
    """
    if per_task is not None and not (isinstance(per_task, int) and per_task >= 1):
        raise UsageError(f"engine 'ray': per_task={per_task!r}: needs a whole number from 1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        what = "engine 'ray' needs Ray, which is not installed"
        raise UsageError(f"{what}: pip install 'grokinterp[ray]', or --engine local") from None
    if not ray.is_initialized() and (meant := address or os.environ.get("RAY_ADDRESS")) is not None:
        _refuse_silent(meant)

    def engine(work: Work) -> Ends:
        ours = not ray.is_initialized()
        if ours:
            _begin(ray, address)
        try:
            at_once = int(cast("Any", ray).cluster_resources().get("GPU" if gpus else "CPU", 1) / (gpus or 1))
            yield from _Cluster(ray, work, gpus, copy_back).ends(batches(work, at_once, per_task))
        finally:
            if ours:
                ray.shutdown()

    return engine


def _begin(ray: Any, address: str | None) -> None:
    quiet = {"include_dashboard": False} if address is None and "RAY_ADDRESS" not in os.environ else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"no Ray cluster at {address}: {error}; {_REMEDY}") from None


_REMEDY = "`ray status` shows whether one runs; --engine local needs none"


def _refuse_silent(address: str) -> None:
    """
    Raises:
        UsageError: nothing answers there in time, or it is no Ray.
    """
    until = time.monotonic() + _SECONDS_TO_ANSWER
    said = f"no Ray cluster answers at {address} within {_SECONDS_TO_ANSWER:.0f} s"
    if address not in ("auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"engine 'ray': address {address!r}: needs host:port, ray://host:port, or auto")
        try:
            socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"{said} ({error}): {_REMEDY}") from None
    if address == "local" or address.startswith("ray://"):
        return
    # Ray itself waits for minutes.
    where = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    try:
        found = subprocess.run(command, capture_output=True, timeout=max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise UsageError(f"{said}: {_REMEDY}") from None
    if found.returncode:
        raise UsageError(f"{said}: {_REMEDY}")


class _Cluster:
    """A cluster that trains the members of some work."""

    def __init__(self, ray: Any, work: Work, gpus: int | float, copy_back: bool) -> None:
        self._ray, self._work, self._jobs = ray, work, work.jobs()
        options = {"num_cpus": 0 if gpus else 1, "num_gpus": gpus, "max_retries": 0}
        self._train = ray.remote(**options)(there())
        self._paths, self._what = paths_to_import_from(), "train_and_send" if copy_back else "train_jobs"

    def ends(self, batches: list[list[str]]) -> Ends:
        """Hands out the batches, and gives what has come of each member."""
        ray, tries = self._ray, dict.fromkeys(self._work.configs, 0)
        begun: dict[Any, list[str]] = {self._begun(names): names for names in batches}
        watched, asked = Watched(self._work), False
        try:
            while begun:
                ready, _ = ray.wait(list(begun), timeout=_SECONDS_BETWEEN_LOOKS)
                if self._work.stop.asked and not asked:
                    asked = True
                    for reference in begun:
                        ray.cancel(reference)
                for reference in ready:
                    names = begun.pop(reference)
                    answers = self._answers(reference)
                    if isinstance(answers, GrokinterpError):  # its process is gone
                        again = [name for name in names if tries[name] < _TRIES and not asked]
                        for name in again:
                            tries[name] += 1
                        if again:
                            begun[self._begun(again)] = again
                        yield from ((name, answers) for name in names if name not in again)
                        continue
                    for name, answer in zip(names, answers, strict=True):
                        yield name, self._come(name, answer)
                watched.look(name for names in begun.values() for name in names)
        finally:
            for reference in begun:
                with suppress(Exception):
                    ray.cancel(reference, force=True)

    def _begun(self, names: list[str]) -> Any:
        jobs = [self._jobs[name] for name in names]
        return self._train.remote(self._paths, self._what, jobs)

    def _answers(self, reference: Any) -> list[dict[str, Any]] | GrokinterpError:
        ray = self._ray
        try:
            answers: list[dict[str, Any]] = ray.get(reference)
            return answers
        except ray.exceptions.TaskCancelledError:
            return Interrupted("interrupted; nothing is lost: run the same command again to go on")
        except ray.exceptions.RayTaskError as error:
            cause = " ".join(str(error.cause or error).split())
            raise GrokinterpError(f"a process of the cluster cannot train: {cause}; {_SAME}") from None
        except ray.exceptions.RayError as error:
            lost = f"its process on the cluster was lost ({type(error).__name__})"
            return GrokinterpError(f"{lost}; run the same command again to go on")

    def _come(self, name: str, answer: pool.Answer) -> GrokinterpError | None:
        if (files := answer.get("files")) is not None:
            path = self._work.out / name
            try:
                is_finished(self._work.configs[name], path, resume=True)  # refuses what is something else
                put(files, path)
            except GrokinterpError as error:
                return error
        return pool.error_of(answer)


_SAME = "every node needs the Python and the packages that this one has"
