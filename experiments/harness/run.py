"""One run of an experiment: built, checked, trained, recorded, shown."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import headwise as hw
from experiments.harness import devices
from experiments.harness import show
from experiments.harness.request import Request
from experiments.harness.request import TRACKERS
from experiments.harness.spec import Experiment
from experiments.harness.text import UsageError


def build(request: Request) -> Experiment:
    """The experiment of a request; what its settings or balancer break is said now.

    Raises:
        UsageError: as `experiment` and `check_balancer`.
    """
    made = experiment(request)
    check_balancer(request, made)
    return made


def experiment(request: Request) -> Experiment:
    """The experiment of a request, whatever its balancer is.

    What also breaks with the defaults is a fault of the experiment: a traceback helps.

    Raises:
        UsageError: the experiment refuses its settings, its dtype or its mesh.
    """
    mesh = devices.make_mesh(request.mesh)
    smoke: dict[str, Any] = {"smoke": request.smoke}
    if request.dtype is not None:
        if "dtype" in request.settings:
            raise UsageError("--dtype: the experiment has a setting dtype; use --set")
        smoke["dtype"] = jnp.dtype(request.dtype)
    try:
        made = request.task.build(request.settings | smoke)
        if request.settings != request.spec.defaults:
            _check_batch(made)
    except (ValueError, TypeError, OverflowError) as error:
        if request.settings == request.spec.defaults:
            raise
        _check_batch(request.task.build(dict(request.spec.defaults) | smoke))
        raise UsageError(f"--set: {error}") from error
    if request.dtype is not None:
        devices.check_dtype(made, request.dtype)
    return made if mesh is None else devices.on_mesh(made, mesh)


def _check_batch(experiment: Experiment) -> None:
    """Raises ValueError where no batch can be drawn, or there is nothing in it."""
    arrays = jax.tree.leaves(jax.eval_shape(experiment.batch, jax.random.key(0)))
    if arrays and not any(array.size > 0 for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"batch: expected examples, got arrays of shape {shapes}")


def check_balancer(request: Request, experiment: Experiment) -> None:
    """A UsageError where a step cannot be traced for the balancer's sake alone.

    It does not fit, then: a batch that cannot be cut into its parts, say. What also
    fails with equal weights is a fault of the experiment, as in `experiment`.
    """
    if request.weights is not None:
        return

    def trace(balancer: hw.balancers.Balancer) -> None:
        optimizer = experiment.optimizer(request.steps)
        parts = (experiment.values_fn, optimizer, balancer)
        step = hw.training.make_step(*parts, stateful=True)
        heads = request.spec.heads
        jax.eval_shape(
            lambda: step(
                first_state(experiment, heads, optimizer, balancer, 0),
                experiment.batch(jax.random.key(0)),
            )
        )

    try:
        trace(request.make_balancer())
    except ValueError as error:
        trace(hw.balancers.equal())
        raise UsageError(f"--balancer={request.balancer}: {error}") from error


def first_state(
    experiment: Experiment,
    heads: tuple[str, ...],
    optimizer: optax.GradientTransformation,
    balancer: hw.balancers.Balancer,
    seed: Any,
    loss_scale: hw.training.LossScale | None = None,
) -> hw.training.TrainState:
    """The state before the first step; everything follows from the seed."""
    of_model, of_run = jax.random.split(jax.random.key(seed))
    params, rest = experiment.init(of_model)
    parts = heads, params, optimizer, balancer, rest, of_run
    return hw.training.init_state(*parts, loss_scale=loss_scale)


def batches(experiment: Experiment, seed: Any) -> Callable[[Any], Any]:
    """`batches(t)`: the batch of step t depends on seed and t alone."""
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return lambda t: experiment.batch(jax.random.fold_in(key, t))


def run(
    request: Request,
    experiment: Experiment,
    workdir: pathlib.Path,
    label: str = "training",
) -> dict[str, float]:
    """Trains once in `workdir` (goes on if it was interrupted); records and prints."""
    steps, seed, balancer = request.steps, request.seed, request.make_balancer()
    optimizer = experiment.optimizer(steps)
    heads, scale = request.spec.heads, devices.loss_scale(request.dtype)
    state = first_state(experiment, heads, optimizer, balancer, seed, scale)
    parts = (experiment.values_fn, optimizer, balancer)
    step, report = (
        hw.training.make_step(*parts, stateful=True, contributions=on, loss_scale=scale)
        for on in (False, True)
    )
    often = max(1, steps // 20)
    start = time.perf_counter()

    def keep(metrics: dict[str, float], **rest: Any) -> None:
        if not devices.speaks():
            return
        record = hw.sweeps.record(
            request.weights or {},
            seed,
            metrics,
            settings=request.recorded(),
            seconds=round(time.perf_counter() - start, 3),
            **rest,
        )
        hw.sweeps.append(workdir, record)

    try:
        state, history = hw.training.fit(
            step,
            state,
            batches(experiment, seed),
            steps,
            workdir=workdir,
            settings=request.config(),
            validate=experiment.evaluate,
            validate_every=often * 5,
            log_every=often,
            checkpoint_every=often * 5,
            report=report,
            report_every=often,
            label=label,
            profile=request.profile,
            track=[TRACKERS[name]() for name in request.track],
        )
    except hw.training.NonFiniteError as error:
        keep({}, error=str(error), stopped=error.step)
        raise
    except Exception as error:
        if hw.sweeps.out_of_memory(error):
            keep({}, error=f"out of memory: {error}")
        raise
    if not history or history[-1]["step"] < steps:
        raise hw.training.WorkdirError(
            f"{workdir / 'metrics.jsonl'}: the record of step {steps}, the result, is "
            "not there any more (give another folder)"
        )
    metrics = history[-1]["validation"]
    keep(metrics)
    if devices.speaks():
        # Whole or not at all: a reader of it never sees a part.
        result = workdir / "result.json.part"
        result.write_text(json.dumps(metrics, indent=2) + "\n")
        result.replace(workdir / "result.json")
        show.show_heads(experiment, state, history, workdir)
    return metrics
