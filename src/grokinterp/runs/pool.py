"""Worker processes that train runs, one run at a time each, with one thread each.

A worker is a fresh Python, started with a command of its own: what runs the sweep may be a script without a
main guard or a notebook, and nothing of it is imported again. Jobs go in through its stdin, answers come out
of its stdout, one line of JSON each. The end of its stdin means that it shall save what it trains and leave;
so does the death of the process that started it, however sudden, because the system closes the pipe. Signals
of the terminal are left to that process.

Answers: {"ready"}; while training {"step", "metrics"}; {"warning"}; and at the end of a job {"ended": None},
or {"ended": class, "message"} of an error. A worker that ends without one has died: `answers` says {"ended":
"GrokinterpError", "message": how it died}.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import GrokinterpError
from ..tasks import TASKS
from ..training import Snapshot, TrainConfig
from .processes import fresh_python
from .train import Showing, Stop, Stopping, train_in
from .transfer import Source

Answer = Mapping[str, Any]

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_LEFT_TO_THE_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SECONDS_BETWEEN_ANSWERS = 0.2
_SECONDS_BETWEEN_LOOKS = 0.1


# What starts them


def job(
    config: TrainConfig, path: Path, resume: bool, watched: bool, source: Source | None = None,
    log: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What a worker needs to know; with `watched` it says every now and then how far it is."""
    return {
        "config": config.model_dump(mode="json"),
        **{"path": str(path), "resume": resume, "watched": watched, "log": [*log]},
        # A task that is not of this package is registered when its module is imported.
        "home": TASKS[config.task["name"]].__module__,
        "start": source and {"path": str(source.path), "step": source.step, "sha256": source.sha256},
    }


def answers(
    jobs: Sequence[Mapping[str, Any]], workers: int, asked_to_stop: Callable[[], bool]
) -> Generator[tuple[int, Answer], None, None]:
    """What workers say about the jobs, each with the number of the job, until all have ended; or, once asked
    to stop, those begun.

    Raises:
        GrokinterpError: a worker cannot even start.
    """
    waiting = deque(enumerate(jobs))
    there: list[_Worker] = []
    try:
        with selectors.DefaultSelector() as heard:
            while True:
                if asked_to_stop():
                    waiting.clear()
                    for worker in there:
                        worker.leave()
                while waiting and len(there) < workers:
                    there.append(_Worker(*waiting.popleft()))
                    heard.register(there[-1].answers, selectors.EVENT_READ, there[-1])
                if not there:
                    return
                for worker in [key.data for key, _ in heard.select(_SECONDS_BETWEEN_LOOKS)]:
                    for answer in worker.read():
                        yield worker.number, answer
                        if "ended" in answer and waiting:
                            worker.send(*waiting.popleft())
                        elif "ended" in answer:
                            worker.leave()
                    if worker.status is not None:
                        heard.unregister(worker.answers)
                        there.remove(worker)
                        if worker.busy:
                            yield worker.number, worker.last_words()
    finally:
        for worker in there:
            worker.leave()
        for worker in there:
            worker.wait()


class _Worker:
    """A process, as seen from the one that started it."""

    def __init__(self, number: int, job: Mapping[str, Any]) -> None:
        # The mask is handed down: not even while it starts does a Ctrl-C reach it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_PARENT)
        try:
            command = fresh_python(__name__, "serve")
            pipe, environment = subprocess.PIPE, os.environ | _ONE_THREAD
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs, self.answers = self._process.stdin, self._process.stdout
        self._unread = b""
        self._ready = False
        self.status: int | None = None
        self.send(number, job)

    def send(self, number: int, job: Mapping[str, Any]) -> None:
        self.number, self.busy = number, True
        with suppress(BrokenPipeError):  # it has died: the end of its answers will say so
            self._jobs.write(json.dumps(job).encode() + b"\n")
            self._jobs.flush()

    def leave(self) -> None:
        """Lets it end, with what it trains saved."""
        with suppress(BrokenPipeError):
            self._jobs.close()

    def wait(self) -> None:
        self.status = self._process.wait()
        self.answers.close()

    def read(self) -> list[Answer]:
        """What it has said since; its `status` is there when it has ended."""
        data = os.read(self.answers.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        said = [json.loads(line) for line in lines]
        self._ready = self._ready or any("ready" in answer for answer in said)
        self.busy = self.busy and not any("ended" in answer for answer in said)
        if not data:
            self.leave()
            self.wait()
        return [answer for answer in said if "ready" not in answer]

    def last_words(self) -> Answer:
        assert self.status is not None
        signalled = self.status < 0
        how = f"was killed by signal {-self.status}" if signalled else f"ended with exit status {self.status}"
        if not self._ready and not signalled:  # the next would fare no better
            raise GrokinterpError(f"a worker process {how} before it could train: see above")
        what = f"its process {how}; what it saved is safe: run the same command again to go on"
        return {"ended": "GrokinterpError", "message": what}


def error_of(answer: Answer) -> GrokinterpError | None:
    """How a job failed; None where it did not."""
    kind = answer["ended"]
    return None if kind is None else getattr(errors, kind)(answer["message"])


# The worker itself


def serve() -> None:
    """The life of a worker."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else writes to stdout must not stand among the answers

    def say(**answer: Any) -> None:
        with suppress(BrokenPipeError):  # nobody is there to hear it; the end of stdin says so too
            out.write(json.dumps(answer) + "\n")

    warnings.showwarning = lambda message, *rest, **more: say(warning=str(message))
    stop = Stop()
    jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        stop()
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()
    say(ready=True)
    while (asked := jobs.get()) is not None:
        showing = _saying(say) if asked["watched"] else lambda: nullcontext(lambda snapshot: None)
        say(**done(asked, stop.watching, showing))
    with suppress(BrokenPipeError):
        out.close()


def done(asked: Mapping[str, Any], stopping: Stopping, showing: Showing) -> Answer:
    """Trains what a job asks for, in this process with one thread: the answer at its end."""
    try:
        import_module(asked["home"])
        config = TrainConfig.make(asked["config"])
        path, start = Path(asked["path"]), asked["start"]
        source = start and Source(Path(start["path"]), start["step"], start["sha256"])
        options = {"threads": 1, "source": source, "log": asked["log"]}
        train_in(path, config, asked["resume"], stopping, showing, **options)
    except GrokinterpError as error:
        return ended(error)
    except Exception as error:
        return {"ended": "GrokinterpError", "message": f"{type(error).__name__}: {error}"}
    return ended(None)


def ended(error: GrokinterpError | None) -> Answer:
    """The answer at the end of a job."""
    return {"ended": None} if error is None else {"ended": type(error).__name__, "message": str(error)}


def _saying(say: Callable[..., None]) -> Callable[[], Any]:
    """Says how far a training is, not too often."""
    said = 0.0

    def show(snapshot: Snapshot) -> None:
        nonlocal said
        if snapshot.metrics is not None and time.monotonic() - said > _SECONDS_BETWEEN_ANSWERS:
            said = time.monotonic()
            say(step=snapshot.step, metrics=snapshot.metrics)

    return lambda: nullcontext(show)
