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

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import headwise as hw
from experiments.experiment import Experiment


class Network(nnx.Module):
    """A and B shared, C and D private."""

    def __init__(self, rngs: nnx.Rngs):
        self.A = nnx.Linear(4, 16, rngs=rngs)
        self.B = nnx.Linear(16, 16, rngs=rngs)
        self.C = nnx.Linear(16, 1, rngs=rngs)
        self.D = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """The outputs, by the name of their loss."""
        h = nnx.tanh(self.B(nnx.tanh(self.A(x))))
        return {"loss1": self.C(h), "loss2": self.D(h)}


def make(smoke: bool = False) -> Experiment:
    """The experiment; `smoke` is a small version of a few seconds."""
    apply, *_ = hw.nn.functional(Network(nnx.Rngs(0)))
    objective = hw.Objective(
        {
            "loss1": optax.losses.squared_error,
            "loss2": functools.partial(optax.losses.huber_loss, delta=0.1),
        }
    )

    def batch(key: jax.Array) -> dict:
        x = jax.random.normal(key, (64, 4))
        first, second = jnp.sin(x[:, :1]), jnp.cos(x[:, :1] + x[:, 1:2])
        return {"inputs": x, "targets": {"loss1": first, "loss2": second}}

    def values_fn(params, rest, batch, key):
        del key
        outputs, rest = apply(params, rest, batch["inputs"])
        return objective.values(outputs, batch["targets"]), rest

    def evaluate(params, rest):
        return values_fn(params, rest, batch(jax.random.key(99)), None)[0]

    return Experiment(
        names=objective.names,
        init=lambda key: hw.nn.functional(Network(nnx.Rngs(key)))[1:],
        values_fn=values_fn,
        batch=batch,
        evaluate=evaluate,
        optimizer=lambda steps: optax.adam(1e-2),
        steps=12 if smoke else 300,
        higher={"loss1": False, "loss2": False},
        design=hw.sweeps.simplex(["loss1", "loss2"], 4),
        seeds=(0, 1, 2),
        front=("loss1", "loss2"),
        batched=True,
    )
