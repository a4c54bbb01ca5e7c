"""Trials of a plain function of weights and seed: one alone, or many by `jax.vmap`."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _records
from headwise import _scalars
from headwise.sweeps._design import _trials

Train = Callable[[dict[str, jax.Array], jax.Array], Mapping[str, Any]]

_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a traced number is made one of Python or NumPy."""


def checked(train: Train) -> Train:
    """`train`, whose metrics are looked at before they are computed."""

    def checked(weights: dict[str, jax.Array], seed: jax.Array) -> Mapping[str, Any]:
        metrics = _scalars.scalars(train(weights, seed))
        _records.check_metrics(metrics)
        return metrics

    return checked


def traceable(train: Train) -> Callable[..., Mapping[str, Any]]:
    """`train` over all trials in one program."""
    many = jax.jit(jax.vmap(train))

    def together(weights: Any, seeds: Any) -> Mapping[str, Any]:
        try:
            return many(weights, seeds)
        except TypeError as error:
            # NumPy's own words name the tracer that it was given.
            if not isinstance(error, _CONCRETE) and "Tracer" not in str(error):
                raise
            raise TypeError(
                "batched: expected a train that can be traced; this one makes a number "
                "of Python or NumPy of a weight or the seed (float(w), if w > 0, "
                "np.random.default_rng(seed)): keep them arrays (jnp, jnp.where, "
                "jax.random.key(seed)), or give batched=False"
            ) from error

    return together


def alone(train: Train, trial: _trials.Trial) -> list[dict[str, Any]]:
    """How one trial ends; one that raises `FloatingPointError` with its text.

    The error of `hw.training.fit` also knows the step at which the trial stopped.
    """
    arrays = {name: jnp.float32(w) for name, w in trial.weights.items()}
    try:
        return [{"metrics": jax.device_get(train(arrays, jnp.int32(trial.seed)))}]
    except FloatingPointError as error:
        stopped = getattr(error, "step", None)
        return [{"metrics": {}, "error": str(error), "stopped": stopped}]


def together(
    many: Callable[..., Any], trials: Sequence[_trials.Trial]
) -> list[dict[str, Any]]:
    """How trials end that run as one program."""
    stacked = {
        name: jnp.asarray([trial.weights[name] for trial in trials], jnp.float32)
        for name in trials[0].weights
    }
    seeds = jnp.asarray([trial.seed for trial in trials], jnp.int32)
    metrics = jax.device_get(many(stacked, seeds))
    return [
        {"metrics": jax.tree.map(lambda x: np.asarray(x)[k], metrics)}  # noqa: B023
        for k in range(len(trials))
    ]
