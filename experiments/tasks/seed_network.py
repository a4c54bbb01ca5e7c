"""Question: does loss2 update only the layers that lead to y2, or all of them?

The network of the question: A -> B, then B -> C -> loss1 and B -> D -> loss2, with
`loss_weights` 0.5 and 0.3. What is minimised is 0.5 * loss1 + 0.3 * loss2.

Command:   python -m experiments.main --experiment=seed_network
           ... --weights=loss1=0,loss2=1 --workdir=runs/without_loss1
Time:      15 seconds
Expected:  loss1 moves A, B, C; loss2 moves A, B, D. With loss1=0 module C keeps its
           first values, and A and B follow loss2 alone.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import headwise as hw
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec

SPEC = Spec(
    heads=("loss1", "loss2"),
    metrics={"loss1": False, "loss2": False},
    front=("loss1", "loss2"),
    steps=300,
    seeds=(0, 1, 2),
    defaults={"lr": 1e-2, "width": 16, "batch_size": 64, "delta": 0.1},
    design=hw.sweeps.simplex(["loss1", "loss2"], 4),
)


class Network(nnx.Module):
    """A and B shared, C and D private."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.A = nnx.Linear(4, width, rngs=rngs)
        self.B = nnx.Linear(width, width, rngs=rngs)
        self.C = nnx.Linear(width, 1, rngs=rngs)
        self.D = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """The outputs, by the name of their loss."""
        h = nnx.tanh(self.B(nnx.tanh(self.A(x))))
        return {"loss1": self.C(h), "loss2": self.D(h)}


def build(settings: Mapping[str, Any]) -> Experiment:
    """The network and its data: waves of the first inputs."""
    width, batch_size = settings["width"], settings["batch_size"]
    huber = functools.partial(optax.losses.huber_loss, delta=settings["delta"])
    example, dtype = Network(width, nnx.Rngs(0)), settings.get("dtype")
    apply, *_ = hw.nn.functional(example, dtype=dtype)
    objective = hw.Objective({"loss1": optax.losses.squared_error, "loss2": huber})

    def batch(key: jax.Array) -> dict:
        x = jax.random.normal(key, (batch_size, 4))
        first, second = jnp.sin(x[:, :1]), jnp.cos(x[:, :1] + x[:, 1:2])
        return {"inputs": x, "targets": {"loss1": first, "loss2": second}}

    def values_fn(params, rest, batch, key):
        del key
        outputs, rest = apply(params, rest, batch["inputs"])
        return objective.values(outputs, batch["targets"]), rest

    def evaluate(params, rest):
        return values_fn(params, rest, batch(jax.random.key(99)), None)[0]

    return Experiment(
        init=lambda key: hw.nn.functional(Network(width, nnx.Rngs(key)))[1:],
        values_fn=values_fn,
        batch=batch,
        evaluate=evaluate,
        optimizer=lambda steps, lr=settings["lr"]: optax.adam(lr),
    )
