"""Runs a study on this machine, a process a trial.

    python -m launch.local --experiment=digits --weights=left=1,right=0.1:0.3:1 \
        --seeds=0:2 --processes=2 --folder=studies/digits_grid
    python -m launch.local --experiment=digits --balancers=mgda,cagrad:c=0.4 --seeds=0:5
    python -m launch.local --flagfile=study.flags

Every trial is `python -m experiments.main` with its own workdir, so that a trial that
dies harms no other. Run the same command again to go on: finished trials are kept,
interrupted ones resume from their checkpoint. Where trials are small, the `--sweep` of
`experiments.main` is faster: it compiles one program for all.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import rich.progress
from absl import flags

from experiments.harness import command
from experiments.harness.text import UsageError
from launch import plan
from launch import study as studies


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    plan.define(values)
    flags.DEFINE_integer("processes", 2, "trials at a time", flag_values=values)


def run(jobs: Sequence[studies.Job], folder: pathlib.Path, processes: int) -> None:
    """Runs the jobs that have no record yet, so many at a time; says what failed.

    What a job prints is in `logs/NAME.txt`. Each record is appended to the study as
    soon as its trial ends.
    """
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder.absolute() / "cache")}

    def one(job: studies.Job) -> tuple[studies.Job, int]:
        if job.record() is not None:
            return job, 0
        words = [sys.executable, "-m", "experiments.main", *job.argv]
        with (logs / f"{job.name}.txt").open("w") as log:
            done = subprocess.run(
                words, env=cache | dict(os.environ), stdout=log, stderr=log, check=False
            )
        return job, done.returncode

    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        futures = [pool.submit(one, job) for job in jobs]
        try:
            for future in rich.progress.track(
                concurrent.futures.as_completed(futures), "trials", len(futures)
            ):
                job, code = future.result()
                studies.collect(folder, [job])
                if code:
                    print(f"{job.name}: {_last_line(logs, job)}", file=sys.stderr)
        except BaseException:  # an interrupt: what waits is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _last_line(logs: pathlib.Path, job: studies.Job) -> str:
    lines = (logs / f"{job.name}.txt").read_text().strip().splitlines()
    return lines[-1] if lines else "no output"


def main(argv: Sequence[str]) -> int:
    """Checks the flags, runs the trials, prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    if given.processes < 1:
        raise UsageError(f"--processes: expected 1 or more, got {given.processes}")
    study = plan.read(given)
    spec, jobs = studies.prepare(study)
    run(jobs, study.folder, given.processes)
    return studies.finish(spec, study, jobs)


if __name__ == "__main__":
    command.run(main)
