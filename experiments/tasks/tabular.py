"""Question: with 14 heads of very different frequency, do rare ones need more weight?

Yeast genes: 103 features, 14 yes-or-no labels; `class14` is true for 34 of 2417 genes,
`class12` for three quarters. Three weightings: equal; by the inverse of the label's
variance; by its square root. All trials of the sweep are one compiled program.

Command:   python -m experiments.main --experiment=tabular --sweep
Time:      40 seconds on two CPU cores
Expected:  loss relative to the label's frequency 0.90 with equal weights and 0.93 by
           the inverse variance (8 seeds, ± 0.004): rare heads gain 0.007 at most,
           common ones lose 0.01 to 0.04.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import headwise as hw
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec

SPEC = Spec(
    heads=tuple(f"class{i + 1:02}" for i in range(14)),
    metrics={"all": False, "rare": False, "common": False},
    front=("common", "rare"),
    steps=300,
    seeds=tuple(range(8)),
    defaults={"lr": 1e-3, "width": 64, "batch_size": 128},
    remark=(
        "weighting 1: all equal; weighting 2: by 1 / sqrt(p (1 - p)), p being the\n"
        "label's frequency; weighting 3: by 1 / (p (1 - p)). The metrics are\n"
        "losses relative to always saying p: below 1 is worth something."
    ),
)


def build(settings: Mapping[str, Any]) -> Experiment:
    """The genes, a shared MLP and 14 heads; the weightings follow the frequencies."""
    width = settings["width"]
    genes = hw.data.load_yeast()
    train_rows, test_rows = hw.data.split(len(genes.inputs), jax.random.key(0))
    train, test = (
        {
            "inputs": jnp.asarray(genes.inputs[rows]),
            "targets": jnp.asarray(genes.targets[rows]),
        }
        for rows in (train_rows, test_rows)
    )
    names = genes.names
    positive = genes.targets[train_rows].mean(axis=0)
    variance = positive * (1.0 - positive)
    rare = np.argsort(positive)[:4]

    def model(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        trunk = hw.nn.Mlp((103, width, width), activate_last=True, rngs=rngs)
        heads = {name: nnx.Linear(width, 1, rngs=rngs) for name in names}
        return hw.nn.MultiHead(trunk, heads)

    example, dtype = model(jax.random.key(0)), settings.get("dtype")
    apply, *_ = hw.nn.functional(example, dtype=dtype)
    objective = hw.Objective(
        dict.fromkeys(names, optax.losses.sigmoid_binary_cross_entropy)
    )

    def values_fn(params, rest, batch, key):
        del key
        outputs, rest = apply(params, rest, batch["inputs"])
        targets = {n: batch["targets"][:, i : i + 1] for i, n in enumerate(names)}
        return objective.values(outputs, targets), rest

    def evaluate(params, rest):
        values, _ = values_fn(params, rest, test, None)
        losses = jnp.stack([values[name] for name in names])
        # Against always saying the label's frequency: below 1 is worth something.
        entropy = -(positive * np.log(positive) + (1 - positive) * np.log(1 - positive))
        relative = losses / jnp.asarray(entropy, jnp.float32)
        return {
            "all": jnp.mean(relative),
            "rare": jnp.mean(relative[rare]),
            "common": jnp.mean(jnp.delete(relative, rare, assume_unique_indices=True)),
        }

    weightings = [np.ones(14), variance**-0.5, 1.0 / variance]
    # The same sum for all, so that they differ in what they favour alone.
    table = np.stack([14 * w / w.sum() for w in weightings])
    return Experiment(
        init=lambda key: hw.nn.functional(model(key))[1:],
        values_fn=values_fn,
        batch=functools.partial(_draw, train, settings["batch_size"]),
        evaluate=evaluate,
        optimizer=lambda steps, lr=settings["lr"]: optax.adam(lr),
        design={name: table[:, i] for i, name in enumerate(names)},
    )


def _draw(arrays: dict, batch_size: int, key: jax.Array) -> dict:
    return hw.data.sample(arrays, key, batch_size=batch_size)
