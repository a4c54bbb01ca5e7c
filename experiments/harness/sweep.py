"""A sweep of an experiment: every weighting with every seed, then the best watched."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

import headwise as hw
from experiments.harness import devices
from experiments.harness import programs
from experiments.harness import run
from experiments.harness import show
from experiments.harness.request import Request
from experiments.harness.spec import Experiment


def sweep(request: Request, experiment: Experiment, workdir: pathlib.Path) -> None:
    """All trials, then one watched run at the best weights."""
    records = train_request(request, experiment, workdir)
    if not any(record["finite"] for record in records):
        error = records[0]["error"]
        raise FloatingPointError(
            f"no trial came to a finite end (the first: {error}); --retry tries again"
        )
    show.show_sweep(request.spec, records, workdir)
    best = request._replace(
        weights=show.best_weights(request.spec, records),
        seed=request.spec.seeds[0],
        sweep=False,
    )
    run.run(best, experiment, workdir / "best", label="best weights")


def train_request(
    request: Request, experiment: Experiment, folder: pathlib.Path
) -> list[hw.sweeps.Record]:
    """Trains every weighting with every seed in one compiled program."""
    spec, steps = request.spec, request.steps
    optimizer, scale = experiment.optimizer(steps), devices.loss_scale(request.dtype)
    # The weights are data in the balancer's state: one step serves all trials.
    step = hw.training.make_step(
        experiment.values_fn,
        optimizer,
        hw.balancers.constant(),
        stateful=True,
        loss_scale=scale,
    )

    def start(weights: dict[str, jax.Array], seed: jax.Array) -> Any:
        balancer = hw.balancers.constant(weights)
        heads = spec.heads
        return run.first_state(experiment, heads, optimizer, balancer, seed, scale)

    def train_whole(weights: dict[str, jax.Array], seed: jax.Array) -> dict:
        batch = run.batches(experiment, seed)
        state, _ = jax.lax.scan(
            lambda state, t: (step(state, batch(t))[0], None),
            start(weights, seed),
            jnp.arange(steps),
        )
        return experiment.evaluate(state.params, state.rest)

    compiled_step = jax.jit(step, donate_argnums=0)
    compiled_start = jax.jit(start)

    def train_steps(weights: dict[str, jax.Array], seed: jax.Array) -> dict:
        state, _ = hw.training.fit(
            compiled_step,
            compiled_start(weights, seed),
            run.batches(experiment, seed),
            steps,
            log_every=100,
            progress=False,
        )
        return experiment.evaluate(state.params, state.rest)

    design = experiment.design if spec.design is None else spec.design
    assert design is not None, "the design: of SPEC or of the Experiment"
    return hw.sweeps.run(
        train_whole if spec.batched else train_steps,
        design,
        spec.seeds,
        settings=request.recorded(),
        folder=folder,
        batched=spec.batched,
        retry=request.retry,
    )


def train(plan: Any, *, progress: bool = True) -> list[hw.sweeps.Record]:
    """Trains what a plan lists and its folder does not have yet.

    Trials that differ only in numbers that are arrays run as one program. What they
    share else is built once.

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
    )


def _settings(trial: hw.sweeps.Trial, static: list[str]) -> tuple[Any, ...]:
    """What an experiment is built of."""
    return tuple(trial.varied[name] for name in static if name != "balancer")
