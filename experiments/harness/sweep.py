"""The trials of a study: what they share is built once, what differs is data."""

import functools
from typing import Any

import headwise as hw
from experiments.harness import programs
from experiments.harness import run
from experiments.harness.plan import Plan


def train(
    plan: Plan, *, progress: bool = True, workers: int = 1
) -> list[hw.sweeps.Record]:
    """Trains what a plan lists and its folder does not have yet.

    Trials that differ only in numbers that are arrays run as one program. What they
    share else is built once.

    Args:
        plan: of `plan.make`.
        progress: whether to show how far it is.
        workers: how many processes do this at the same time.

    Raises:
        UsageError: before anything is written: the experiment refuses its settings, or
            a balancer does not fit.
    """
    study, first = plan.study, plan.trials[0]
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
        dtype = study.dtype
        return programs.program(built[settings], plan.steps, balancer, dtype)

    return hw.sweeps.run(
        make,
        plan.trials,
        steps=plan.steps,
        static=static,
        settings=plan.recorded(),
        folder=plan.claim(),
        mode=study.mode,
        size=study.size,
        retry=study.retry,
        stop_on_failure=study.stop_on_failure,
        progress=progress,
        workers=workers,
    )


def _settings(trial: hw.sweeps.Trial, static: list[str]) -> tuple[Any, ...]:
    """What an experiment is built of."""
    return tuple(trial.varied[name] for name in static if name != "balancer")
