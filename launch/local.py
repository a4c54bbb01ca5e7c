"""Runs a study on this machine, a process a trial.

    python -m launch.local --experiment=digits --weights=left=1,right=0.1:0.3:1 \
        --seeds=0:2 --processes=2 --folder=studies/digits_grid
    python -m launch.local --experiment=digits --balancers=mgda,cagrad:c=0.4 --seeds=0:5
    python -m launch.local --flagfile=study.flags

Every trial is `python -m experiments.main` with its own workdir, so that a trial that
dies harms no other. Run the same command again to go on: finished trials are kept,
interrupted ones resume from their checkpoint. Ctrl-C (or SIGTERM, or a closed
terminal) ends all trials and shows what there is; exit code 75. Where trials are small,
the `--sweep` of `experiments.main` is faster: it compiles one program for all.
"""

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Sequence

import rich.progress
from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness.text import UsageError
from launch import plan
from launch import processes
from launch import study as studies


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    plan.define(values)
    flags.DEFINE_integer("processes", 2, "trials at a time", flag_values=values)


def run(jobs: Sequence[studies.Job], folder: pathlib.Path, at_once: int) -> None:
    """Runs the jobs, so many at a time; says what failed.

    What a job prints is in `logs/NAME.txt`. Each record is appended to the study as
    soon as its trial ends. An interrupt, or an error here, ends the jobs that run.
    """
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder.absolute() / "cache")}
    by_name = {job.name: job for job in jobs}
    commands = [
        processes.Command(name, "experiments.main", job.argv, logs / f"{name}.txt")
        for name, job in by_name.items()
    ]
    ends = processes.run(commands, at_once, cache | dict(os.environ))
    with contextlib.closing(ends):
        for name, code in rich.progress.track(ends, "trials", len(jobs)):
            studies.collect(folder, [by_name[name]])
            if code:
                print(f"{name}: {_why(logs / f'{name}.txt', code)}", file=sys.stderr)


def _why(log: pathlib.Path, code: int) -> str:
    """How a trial ended: a signal, or the last that it said."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {code}, no output"


def main(argv: Sequence[str]) -> int:
    """Checks the flags, runs the trials, prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    if given.processes < 1:
        raise UsageError(f"--processes: expected 1 or more, got {given.processes}")
    study = plan.read(given)
    spec, jobs = studies.prepare(study)
    with hw.training.hold_workdir(study.folder):
        try:
            run(studies.to_run(study, jobs), study.folder, given.processes)
        except KeyboardInterrupt:
            studies.show_so_far(spec, study, jobs)
            raise
        return studies.finish(spec, study, jobs)


if __name__ == "__main__":
    command.run(main)
