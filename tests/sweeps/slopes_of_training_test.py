"""Slopes through a whole training: batch normalisation, Adam, heads of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import headwise as hw

HEADS = ("left", "right")
STEPS = 8


def network(key):
    rngs = nnx.Rngs(key)
    trunk = nnx.Sequential(
        nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs), nnx.tanh
    )
    heads = {name: nnx.Linear(3, 1, rngs=rngs) for name in HEADS}
    return hw.nn.functional(hw.nn.MultiHead(trunk, heads))


APPLY = network(jax.random.key(0))[0]
OBJECTIVE = hw.Objective(dict.fromkeys(HEADS, optax.losses.squared_error))


def batch(key):
    x = jax.random.normal(key, (16, 2))
    left, right = jnp.sin(2 * x[:, :1]), x[:, :1] * x[:, 1:]
    return {"x": x, "y": {"left": left, "right": right}}


def values_fn(params, rest, batch, key):
    outputs, rest = APPLY(params, rest, batch["x"])
    return OBJECTIVE.values(outputs, batch["y"]), rest


def evaluate(params, rest):
    held_out = batch(jax.random.key(99))
    outputs, _ = APPLY(params, rest, held_out["x"])
    values = OBJECTIVE.values(outputs, held_out["y"])
    positive = (outputs["left"] > 0) == (held_out["y"]["left"] > 0)
    return {"mse": dict(values), "accuracy": positive.mean()}


def test_forward_mode_and_neighbours_agree():
    program = hw.training.program(
        values_fn,
        # A bias before batch normalisation has gradients of 0 or about it.
        optax.adam(0.03, eps_root=1e-12),
        init=lambda key: network(key)[1:],
        batch=batch,
        evaluate=evaluate,
        stateful=True,
    )
    trials = hw.sweeps.trials({"left": [1.0, 0.1], "right": [0.3, 1.0]}, seeds=(0, 1))
    given = {"program": program, "trials": trials, "steps": STEPS, "mode": "vmap"}
    forward = hw.sweeps.slopes(**given)
    assert forward.metrics == ("accuracy", "mse/left", "mse/right")
    assert forward.forward.tolist() == [[False, True, True]] * 4
    near = hw.sweeps.slopes(**given, method="differences", change=0.02)
    got, expected = forward.slopes[:, 1:], near.slopes[:, 1:]
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=2e-4)
