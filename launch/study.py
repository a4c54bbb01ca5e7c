"""A plan that is checked, its folder, its records and its end: for every launcher.

A launcher adds how the commands are run. A trial is done when it has left a record in
its own folder; the study's records are appended to, so that a second grid in the same
folder joins the first.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax

import headwise as hw
from experiments.harness import find
from experiments.harness import request as requests
from experiments.harness import show
from experiments.harness.spec import Spec
from launch import plan


class Job(NamedTuple):
    """One process: the flags of `experiments.main`, and the folder that it fills."""

    name: str
    argv: list[str]
    workdir: pathlib.Path

    def record(self) -> hw.sweeps.Record | None:
        """What the trial left; None if it is not done."""
        records = hw.sweeps.read(self.workdir)
        return records[-1] if records else None


def prepare(study: plan.Study) -> tuple[Spec, list[Job]]:
    """Checks every trial as `experiments.main` would, then claims the folder.

    Raises:
        UsageError: a trial that `experiments.main` would refuse; nothing is written.
        WorkdirError: the folder belongs to other work.
    """
    jax.config.update("jax_platforms", "cpu")  # the accelerators are for the trials
    spec = find.load(study.experiment).SPEC
    plan.check_count(study, len(spec.heads))
    weightings = plan.grid(study.grid or {})
    if study.simplex is not None:
        weightings = hw.sweeps.rows(hw.sweeps.simplex(spec.heads, study.simplex))
    jobs = []
    for trial in plan.trials(study, weightings, spec.defaults):
        argv = plan.argv(study, trial)
        request = requests.read(["main", *argv])
        jobs.append(Job(trial.name, argv, request.workdir))
    config = {
        "experiment": request.experiment,
        "smoke": study.smoke,
        "steps": request.steps,
        "launched": True,
    }
    if study.dtype is not None:
        config["dtype"] = study.dtype
    hw.training.claim_workdir(study.folder, config, told=request.told())
    return spec, jobs


def collect(folder: pathlib.Path, jobs: Sequence[Job]) -> None:
    """Appends the records of finished trials that the study does not have yet."""
    known = hw.sweeps.read(folder)
    for job in jobs:
        record = job.record()
        if record is not None and record not in known:
            hw.sweeps.append(folder, record)


def to_run(study: plan.Study, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are not done; with `--retry`, also those without a result."""
    records = {job.name: job.record() for job in jobs}
    return [
        job
        for job in jobs
        if (record := records[job.name]) is None
        or (study.retry and not record["finite"])
    ]


def show_so_far(spec: Spec, study: plan.Study, jobs: Sequence[Job]) -> None:
    """What an interrupted study has: how many trials, and their table."""
    collect(study.folder, jobs)
    records = hw.sweeps.read(study.folder)
    if any(record["finite"] for record in records):
        print(hw.reports.sweep_table(records, spec.metrics, "so far"))
    done = sum(job.record() is not None for job in jobs)
    there = f"everything is in {study.folder}/"
    print(f"{done} of {len(jobs)} trials are done; {there}", flush=True)


def finish(spec: Spec, study: plan.Study, jobs: Sequence[Job]) -> int:
    """Shows all that is in the folder; 1 if a trial has no end or none is finite."""
    collect(study.folder, jobs)
    records = hw.sweeps.read(study.folder)
    undone = [job.name for job in jobs if job.record() is None]
    if undone:
        print(f"error: {len(undone)} of {len(jobs)} trials failed", file=sys.stderr)
    failed = sum(not record["finite"] for record in records)
    if failed:
        print(
            f"{failed} of {len(records)} trials have no finite result; they count as "
            "done: --retry tries them again",
            file=sys.stderr,
        )
    if not any(record["finite"] for record in records):
        print("error: no trial came to a finite end", file=sys.stderr)
        return 1
    show.show_sweep(spec, records, study.folder)
    print(f"everything is in {study.folder}/")
    return 1 if undone else 0
