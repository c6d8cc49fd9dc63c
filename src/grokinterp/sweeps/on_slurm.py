"""Sweeps by Slurm: submitit makes job arrays of the members that are left. What belongs to a sweep and what
is done stands in its directory, on a filesystem that every node has.

Who waits for the jobs may be stopped: they go on, and a later call waits for what they train.
"""

from __future__ import annotations

import time
from typing import Any

from ..errors import GrokinterpError, UsageError
from ..runs import pool
from ..runs.many import Ends, Engine, Work
from .elsewhere import Watched, batches, paths_to_import_from, there

_SECONDS_BETWEEN_LOOKS = 1.0
_PATIENCE = 86_400.0
"""Seconds for which a job waits for a member that a job of an earlier call still trains."""
_FOLDER = ".slurm"
"""In the directory of the sweep: what submitit writes."""


def on_slurm(
    cluster: str | None = None, at_once: int = 64, per_task: int | None = None, **parameters: Any
) -> Engine:
    """Trains in job arrays.

    Args:
        cluster: "slurm"; "local", to try it without: processes of this machine; by default what submitit
            finds.
        at_once: how many jobs of the array may run at once.
        per_task: how many members a job trains, one after the other.
        parameters: of `submitit.AutoExecutor.update_parameters`, such as `timeout_min` or `slurm_partition`.

    Raises:
        UsageError: submitit is not installed, there is no Slurm, or it does not take a parameter.
    """
    for name, value in (("at_once", at_once), ("per_task", per_task)):
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise UsageError(f"engine 'slurm': {name}={value!r}: needs a whole number from 1")
    try:
        import submitit
    except ImportError:
        what = "engine 'slurm' needs submitit, which is not installed"
        raise UsageError(f"{what}: pip install 'grokinterp[slurm]', or --engine local") from None
    if cluster not in (None, "slurm", "local"):
        raise UsageError(f"engine 'slurm': cluster {cluster!r}: needs slurm or local")
    if cluster != "local" and submitit.SlurmExecutor.affinity() < 0:
        what = "engine 'slurm': there is no srun here, so no Slurm"
        raise UsageError(
            f"{what}: run it where jobs are submitted, or try it with --engine-set cluster=local"
        )

    def engine(work: Work) -> Ends:
        executor = submitit.AutoExecutor(folder=work.out / _FOLDER, cluster=cluster)
        given = {"name": "grokinterp", "cpus_per_task": 1, **parameters}
        if cluster != "local":
            given = {"slurm_array_parallelism": at_once, **given}
        try:
            executor.update_parameters(**given)
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise UsageError(f"engine 'slurm': {' '.join(str(error).split())}") from None
        yield from _ends(submitit, executor, work, batches(work, at_once, per_task), at_once, cluster)

    return engine


def _ends(
    submitit: Any, executor: Any, work: Work, waiting: list[list[str]], at_once: int, cluster: str | None
) -> Ends:
    """Submits the batches, and gives what has come of each member. Locally there is no array that lets only
    so many run."""
    jobs_of, paths = work.jobs(), paths_to_import_from()
    train, watched = there(), Watched(work)
    running: dict[str, tuple[Any, list[str]]] = {}

    def submit(several: list[list[str]]) -> None:
        with executor.batch():
            jobs = [
                executor.submit(
                    train, paths, "train_jobs", [jobs_of[name] for name in names], None, _PATIENCE
                )
                for names in several
            ]
        for job, names in zip(jobs, several, strict=True):
            running[job.job_id] = (job, names)

    while waiting or running:
        room = at_once - len(running) if cluster == "local" else len(waiting)
        if waiting and room > 0 and not work.stop.asked:
            submit(waiting[:room])
            waiting = waiting[room:]
        if work.stop.asked:
            for job, _ in running.values():
                job.cancel(check=False)
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        for number, (job, names) in list(running.items()):
            if not job.done():
                continue
            del running[number]
            error = job.exception()
            if error is None:
                for name, answer in zip(names, job.result(), strict=True):
                    yield name, pool.error_of(answer)
                continue
            lost = f"its job {number} ended without a result ({type(error).__name__})"
            logs = f"see {job.paths.stderr}; run the same command again to go on"
            yield from ((name, GrokinterpError(f"{lost}: {logs}")) for name in names)
        watched.look(name for _, names in running.values() for name in names)
