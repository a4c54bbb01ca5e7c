"""Question: how do the values of two lines through noisy points trade off?

A template: copy it to tasks/NAME.py (or anywhere), then change it from the top down.

Command:   python -m experiments.main --experiment=experiments/template.py
           ... --set=lr=0.1 --weights=slope=1,offset=0.3
           ... --sweep --set=lr=0.03:0.1
Time:      10 seconds
Expected:  slope and offset 0.01 each, which is the variance of the noise.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from flax import nnx

import headwise as hw
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec

SPEC = Spec(
    heads=("offset", "slope"),
    metrics={"slope": False, "offset": False},  # {metric: is more better?}
    front=("slope", "offset"),
    steps=200,
    seeds=(0, 1, 2),
    defaults={"lr": 0.03, "noise": 0.1},  # what --set may change
    design=hw.sweeps.grid({"slope": [1.0], "offset": [0.1, 1.0]}),
)


def build(settings: Mapping[str, Any]) -> Experiment:
    """Everything that costs something. `settings["smoke"]` asks for little of it."""
    count = 20 if settings["smoke"] else 1000

    def points(key: jax.Array, count: int) -> dict:
        of_x, *of_noise = jax.random.split(key, 3)
        x = jax.random.normal(of_x, (count, 1))
        lines = {"slope": 2.0 * x, "offset": x + 1.0}
        targets = {
            name: y + settings["noise"] * jax.random.normal(of_this, y.shape)
            for (name, y), of_this in zip(lines.items(), of_noise, strict=True)
        }
        return {"inputs": x, "targets": targets}

    def model(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        trunk = nnx.Linear(1, 4, rngs=rngs)
        heads = {name: nnx.Linear(4, 1, rngs=rngs) for name in SPEC.heads}
        return hw.nn.MultiHead(trunk, heads)

    example, dtype = model(jax.random.key(0)), settings.get("dtype")
    apply, *_ = hw.nn.functional(example, dtype=dtype)  # --dtype=bfloat16
    objective = hw.Objective(dict.fromkeys(SPEC.heads, optax.losses.squared_error))
    held_out = points(jax.random.key(99), count)

    def values_fn(params, rest, batch, key):
        del key  # for dropout and the like
        outputs, rest = apply(params, rest, batch["inputs"])
        return objective.values(outputs, batch["targets"]), rest

    return Experiment(
        init=lambda key: hw.nn.functional(model(key))[1:],
        values_fn=values_fn,
        batch=lambda key: points(key, 32),
        evaluate=lambda params, rest: values_fn(params, rest, held_out, None)[0],
        # What it takes beside the steps is an array of a sweep: --set=lr=0.03:0.1
        optimizer=lambda steps, lr=settings["lr"]: optax.adam(lr),
    )
