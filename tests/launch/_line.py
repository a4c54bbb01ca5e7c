"""Question: where do two lines pull one? Batches of eight rows, cut over devices.

With `--set=until=PATH` each process says by a file beside it that it is at its first
evaluation, a quarter of the run, and waits there until that file is there: a test makes
it, or one of them that has noted a signal.
"""

import os
import pathlib
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec

SLOPES = {"a": [1.0, 2.0, 3.0], "b": [3.0, -1.0, 0.0]}
SPEC = Spec(
    heads=("a", "b"),
    metrics={"a": False, "b": False},
    front=("a", "b"),
    steps=30,
    seeds=(0, 1),
    defaults={"lr": 0.02, "until": ""},
    design=hw.sweeps.grid({"a": [1.0], "b": [0.5, 1.0]}),
)


def noted():
    """Whether `fit`, which holds the signals, has got one."""
    holder = getattr(signal.getsignal(signal.SIGUSR1), "__self__", None)
    return getattr(holder, "noted", None) is not None


def build(settings):
    """A linear model of three slopes; no two batches are alike."""
    slopes = {name: np.float32(line) for name, line in SLOPES.items()}

    def values_fn(params, rest, batch, key):
        del key
        away = {n: batch["x"] @ (params["w"] - line) for n, line in slopes.items()}
        return {name: jnp.mean(jnp.square(d)) for name, d in away.items()}, rest

    @jax.jit
    def measured(w):
        return {n: jnp.sum(jnp.square(w - line)) for n, line in slopes.items()}

    def evaluate(params, rest):
        if settings["until"]:
            file = pathlib.Path(settings["until"])
            file.with_suffix(f".{os.getpid()}").touch()
            while not file.exists():
                if noted():
                    file.touch()
                time.sleep(0.02)
        return measured(params["w"])

    return Experiment(
        init=lambda key: ({"w": jax.random.normal(key, (3,))}, {}),
        values_fn=values_fn,
        batch=lambda key: {"x": jax.random.normal(key, (8, 3))},
        evaluate=evaluate,
        optimizer=lambda steps, lr=settings["lr"]: optax.sgd(lr),
    )
