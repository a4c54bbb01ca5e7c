"""Question: where do two parabolas pull one number? It compiles at once.

A head's value is (x - its place)², with a place that the seed moves. By hand: gradient
descent with rate r comes to x = Σ w p / Σ w, (1 - 2 r Σ w)^steps away from it.
"""

import jax
import jax.numpy as jnp
import optax

import headwise as hw
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec

SPEC = Spec(
    heads=("a", "b"),
    metrics={"x": True, "a": False},
    front=("x", "a"),
    steps=30,
    seeds=(0, 1),
    defaults={"lr": 0.1, "power": 2},
    design=hw.sweeps.grid({"a": [1.0], "b": [0.5, 1.0]}),
)


def build(settings):
    """The parabolas; a power of 0 is none."""
    if settings["power"] < 1:
        raise ValueError(f"power: expected 1 or more, got {settings['power']}")

    def values_fn(params, rest, batch, key):
        del batch, key
        away = {"a": params["x"] - rest["place"], "b": params["x"]}
        return {n: jnp.abs(d) ** settings["power"] for n, d in away.items()}, rest

    return Experiment(
        init=lambda key: (
            {"x": jnp.float32(0.0)},
            {"place": 1.0 + jax.random.uniform(key)},
        ),
        values_fn=values_fn,
        batch=lambda key: {"nothing": jnp.zeros(())},
        evaluate=lambda params, rest: {
            "x": params["x"],
            "a": (params["x"] - rest["place"]) ** 2,
        },
        optimizer=lambda steps, lr=settings["lr"]: optax.sgd(lr),
    )
