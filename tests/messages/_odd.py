"""Arguments that hardly any parameter is made for."""

import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

HOSTILE = (
    lambda: None,
    lambda: True,
    lambda: "abc",
    lambda: "",
    lambda: -1,
    lambda: 0,
    lambda: 2.5,
    lambda: -0.5,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 10**400,
    lambda: -(2**40),
    lambda: 1e39,
    lambda: 1 + 2j,
    lambda: b"a",
    lambda: [],
    lambda: {},
    lambda: (),
    lambda: [1.0, 2.0],
    lambda: [None],
    lambda: {"a": 1.0},
    lambda: {"a": {}, "b": None},
    lambda: {"a": "x", "b": []},
    lambda: {1: 2.0},
    lambda: {"c": 1.0, "d": 2.0},
    lambda: {"a": float("nan"), "b": 10**400},
    lambda: object(),
    lambda: len,
    lambda: int,
    lambda: lambda *args: args,
    lambda: np.zeros((0, 3), np.float32),
    lambda: np.zeros((2, 0)),
    lambda: np.array(3),
    lambda: np.ones((2, 3)),
    lambda: np.ones((2, 2, 2, 2, 3), np.float32),
    lambda: np.full((2, 4, 3), np.nan, np.float32),
    lambda: np.ones((2, 4, 3), complex),
    lambda: np.ones((2, 4, 3), bool),
    lambda: np.array(["a", "b"]),
    lambda: jnp.ones((2, 4, 3), jnp.bfloat16),
    lambda: jnp.ones((2, 4), jnp.uint8),
    lambda: jnp.float32(-1.0),
    lambda: optax.sgd(0.1),
    lambda: hw.balancers.mgda(),
    lambda: hw.balancers.mgda,
)


def hostile(rng):
    """A value that hardly any parameter is made for."""
    return rng.choice(HOSTILE)()
