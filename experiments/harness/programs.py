"""Experiments as programs of a sweep: what is an array in them, what makes another."""

import inspect
from collections.abc import Callable
from typing import Any

import optax

import headwise as hw
from experiments.harness import devices
from experiments.harness.spec import Experiment


def varied(experiment: Experiment) -> tuple[str, ...]:
    """Settings that are arrays: trials that differ in them alone share a program."""
    _, *names = inspect.signature(experiment.optimizer).parameters
    return tuple(names)


def program(
    experiment: Experiment,
    steps: int,
    balancer: hw.balancers.Balancer | None = None,
    dtype: str | None = None,
) -> hw.sweeps.Program:
    """The experiment as three pure functions, with the numbers of `run.run`.

    Args:
        experiment: what `build` made.
        steps: of one training.
        balancer: finds the weights; None: they are the trial's, and static.
        dtype: what the model computes in; float16 has a loss scale.
    """
    return hw.training.program(
        experiment.values_fn,
        _optimizer(experiment, steps),
        balancer,
        init=experiment.init,
        batch=experiment.batch,
        evaluate=experiment.evaluate,
        stateful=True,
        loss_scale=devices.loss_scale(dtype),
    )


def _optimizer(
    experiment: Experiment, steps: int
) -> Callable[[Any], optax.GradientTransformation] | optax.GradientTransformation:
    names = varied(experiment)
    if not names:
        return experiment.optimizer(steps)

    def of_trial(trial: Any) -> optax.GradientTransformation:
        mine = {name: trial[name] for name in names if name in trial}
        return experiment.optimizer(steps, **mine)

    return of_trial
