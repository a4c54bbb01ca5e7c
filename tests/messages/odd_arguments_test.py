"""What random calls found to be told in the words of NumPy or JAX, one by one."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import headwise as hw

GRID = np.ones((2, 3))
GRADS, WEIGHTS = {"a": {"w": GRID}, "b": {"w": GRID}}, {"a": 1.0, "b": 1.0}
X = jnp.ones((2, 5, 5, 2))

PROGRAM = hw.sweeps.Program(
    init=lambda trial: trial["weights"]["a"],
    step=lambda state, t: (state, {}),
    evaluate=lambda state: {"a": state},
)


def record(**more):
    return hw.sweeps.record({"a": 1.0}, 0, {"m": 1.5}, **more)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: record(settings=GRID), TypeError, "settings: expected {name: value}"),
        (lambda: record(settings=GRID[:, :0]), TypeError, "settings: expected {name"),
        (lambda: record(stopped=GRID), ValueError, "stopped: expected an int"),
        (lambda: record(seconds=GRID), ValueError, "seconds: expected a finite number"),
        (lambda: record(error=GRID), TypeError, "error: expected a str"),
        (lambda: record(mode=3), TypeError, "mode: expected a str"),
        (
            lambda: hw.sweeps.trials({"a": [0.1, 1.0]}, np.float32(3)),
            TypeError,
            "seeds: expected a sequence of ints",
        ),
        (
            lambda: hw.losses.dice_ce(X, X, where=hw.balancers.mgda),
            TypeError,
            "where of head 'ce': expected an array",
        ),
        (
            lambda: hw.balanced_grad(lambda p: {}, hw.balancers.mgda(), stateful=GRID),
            TypeError,
            "stateful: expected True or False",
        ),
        (
            lambda: hw.sweeps.check(hw.balancers.mgda(), {"a": [0.1, 1.0]}, steps=1),
            TypeError,
            "program: expected hw.sweeps.Program",
        ),
        (
            lambda: hw.balancers.scalarization(lambda values: 0.0),
            TypeError,
            "function: expected a function of",
        ),
        (
            lambda: hw.sweeps.slopes(
                PROGRAM, hw.sweeps.trials({"a": [0.1, 1.0]}), steps=1, static=GRID[0, 0]
            ),
            TypeError,
            "static: expected names, got",
        ),
        (lambda: record(seconds={1: 2.0}), ValueError, "seconds: expected a finite"),
        (
            lambda: hw.contributions(GRADS, WEIGHTS, present={"a": True, "b": []}),
            ValueError,
            r"present\['b'\]: expected a bool",
        ),
        (
            lambda: hw.contributions(GRADS, WEIGHTS, present={"a": "x", "b": True}),
            TypeError,
            r"present\['a'\]: expected an array",
        ),
        (lambda: hw.balancers.Names(["a"], GRID), TypeError, "of: expected a str"),
        (
            lambda: hw.nn.Mlp(np.array(3), rngs=nnx.Rngs(0)),
            TypeError,
            "sizes: expected a sequence of ints",
        ),
    ],
)
def test_is_named(call, error, words):
    with pytest.raises(error, match=f"^{words}"):
        call()
