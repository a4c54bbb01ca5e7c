"""The trials of a study: what they share is built once, what differs is data."""

import functools
from collections.abc import Callable
from typing import Any

import headwise as hw
from experiments.harness import programs
from experiments.harness import run
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.text import UsageError


def train(
    plan: Plan,
    *,
    progress: bool = True,
    workers: int = 1,
    cohorts: int | None = None,
) -> list[hw.sweeps.Record]:
    """Trains what a plan lists and its folder does not have yet.

    Trials that differ only in numbers that are arrays run as one program. What they
    share else is built once. The study's text is left in the folder, by which workers
    join; not that of a mesh, whose trials take all devices.

    Args:
        plan: of `plan.make`.
        progress: whether to show how far it is.
        workers: how many processes do this at the same time.
        cohorts: after how many this one ends; None: when no trial is left.

    Raises:
        UsageError: before anything is written: the experiment refuses its settings, or
            a balancer does not fit.
    """
    study, mode = plan.study, _mode(plan)
    make, static = maker(plan)
    folder = plan.claim()
    if study.mesh is None:
        texts.write(plan)
    try:
        return hw.sweeps.run(
            make,
            plan.trials,
            steps=plan.steps,
            static=static,
            settings=plan.recorded(),
            folder=folder,
            mode=mode,
            size=study.size,
            retry=study.retry,
            stop_on_failure=study.stop_on_failure,
            progress=progress,
            workers=workers,
            cohorts=cohorts,
        )
    except ValueError as error:
        if str(error).startswith("size: "):  # more memory than there is
            raise UsageError(f"--{error}") from error
        raise


def _mode(plan: Plan) -> str:
    """How trials run; on a mesh one after the other, each on all of its devices."""
    if plan.study.mesh is None or plan.study.mode in ("scan", "loop", "vmap"):
        return plan.study.mode
    if plan.study.mode == "auto":
        return "scan"
    raise UsageError(
        "--mode: expected one of auto, vmap, scan, loop with --mesh, which takes all "
        f"devices for each trial; got {plan.study.mode}"
    )


def verify(plan: Plan) -> bool:
    """Runs one trial of a study again for its first steps; whether it is the same.

    Raises:
        UsageError: the folder has no such trial, or several.
    """
    folder, given = plan.study.folder, str(plan.study.verify)
    trials = [
        hw.sweeps.Trial(record["weights"], record["seed"], record["settings"])
        for record in hw.sweeps.read(folder)
    ]
    found = [trial for trial in trials if trial.key.startswith(given)]
    if len(found) != 1:
        raise UsageError(
            f"--verify: expected the key of one trial of {folder}, or how it begins, "
            f"got {given}, which {len(found)} of {len(trials)} have (the files in "
            "done/ are called by their keys)"
        )
    (trial,), settings = found, plan.recorded()
    varied = {n: x for n, x in trial.varied.items() if n not in settings}
    others = {n: x for n, x in trial.varied.items() if n in settings}
    if others != settings:
        raise UsageError(f"--verify: trial {trial.key} is of {others}, not {settings}")
    make, _ = maker(plan._replace(trials=[trial._replace(varied=varied)]))
    verified = hw.sweeps.verify(make, folder, trial.key)
    print(verified)
    return verified.holds


def maker(plan: Plan) -> tuple[Callable[..., hw.sweeps.Program], list[str]]:
    """The function that makes the program of a plan's trials, and what it is given.

    Raises:
        UsageError: the experiment refuses its settings, or a balancer does not fit.
    """
    first = plan.trials[0]
    experiment = run.experiment(plan.request(first))
    for trial in {trial.varied["balancer"]: trial for trial in plan.trials}.values():
        run.check_balancer(plan.request(trial), experiment)
    arrays = programs.varied(experiment)
    static = [name for name in first.varied if name not in arrays]
    built = {_settings(first, static): experiment}

    @functools.cache
    def make(**values: Any) -> hw.sweeps.Program:
        """The program of the trials that have these values."""
        trial = next(t for t in plan.trials if values.items() <= t.varied.items())
        request, settings = plan.request(trial), _settings(trial, static)
        if settings not in built:
            built[settings] = run.experiment(request)
        balancer = None if request.weights is not None else request.make_balancer()
        dtype = plan.study.dtype
        return programs.program(built[settings], plan.steps, balancer, dtype)

    return make, static


def _settings(trial: hw.sweeps.Trial, static: list[str]) -> tuple[Any, ...]:
    """What an experiment is built of."""
    return tuple(trial.varied[name] for name in static if name != "balancer")
