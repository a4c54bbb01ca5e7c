"""Question: two overlapping digits, one trunk: what does favouring one head cost?

MultiMNIST: two digits overlap in one picture; `left` names the one at the top left,
`right` the one at the bottom right. Test pictures hold digits never seen in training.

Command:   python -m experiments.main --experiment=digits --weights=left=1,right=0.3
           python -m experiments.main --experiment=digits --balancer=mgda
           python -m experiments.main --experiment=digits --sweep
Time:      30 seconds a run, 3 minutes the sweep, on two CPU cores
Expected:  left and right accuracy 0.965 and 0.931 with left=1,right=0.3; 0.965 and
           0.943 with MGDA. In the sweep the favoured head gains 1 to 2 points; equal
           weights (0.963 and 0.939, seeds ± 0.005) lie on the front.
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
    heads=("left", "right"),
    metrics={"left_accuracy": True, "right_accuracy": True},
    front=("left_accuracy", "right_accuracy"),
    steps=800,
    seeds=(0, 1, 2),
    defaults={"lr": 3e-3, "width": 50, "batch_size": 64, "pictures": 20000},
    design=hw.sweeps.simplex(["left", "right"], 6, interior=True),
    remark=(
        "Adam takes steps of the same size whatever the loss is multiplied by, so "
        "only the ratio of the weights matters, and only in the shared trunk."
    ),
)


def build(settings: Mapping[str, Any]) -> Experiment:
    """The pictures, a convolutional trunk and two linear heads."""
    smoke, width = settings["smoke"], settings["width"]
    pictures, unseen_pictures = (1000, 200) if smoke else (settings["pictures"], 2000)
    seen, unseen = hw.data.split_digits(hw.data.load_digits(), jax.random.key(0))
    train = hw.data.multi_mnist(seen, jax.random.key(1), pictures)
    test = hw.data.multi_mnist(unseen, jax.random.key(2), unseen_pictures)
    sample = functools.partial(hw.data.sample, batch_size=settings["batch_size"])
    draw = jax.jit(sample)

    def model(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        heads = {name: nnx.Linear(width, 10, rngs=rngs) for name in SPEC.heads}
        return hw.nn.MultiHead(hw.nn.ConvNet(out_features=width, rngs=rngs), heads)

    example, dtype = model(jax.random.key(0)), settings.get("dtype")
    apply, *_ = hw.nn.functional(example, dtype=dtype)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    objective = hw.Objective({"left": loss, "right": loss})

    def values_fn(params, rest, batch, key):
        del key
        outputs, rest = apply(params, rest, batch.inputs)
        return objective.values(
            outputs, {"left": batch.left, "right": batch.right}
        ), rest

    @jax.jit
    def measure(params, rest, pictures):
        outputs, _ = apply(params, rest, pictures.inputs, train=False)

        def accuracy(name: str, labels: jax.Array) -> jax.Array:
            return jnp.mean(jnp.argmax(outputs[name], axis=-1) == labels)

        return {
            "left_accuracy": accuracy("left", pictures.left),
            "right_accuracy": accuracy("right", pictures.right),
        }

    def optimizer(steps: int, lr: Any = settings["lr"]) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(lr, steps))

    return Experiment(
        init=lambda key: hw.nn.functional(model(key))[1:],
        values_fn=values_fn,
        batch=lambda key: draw(train, key),
        evaluate=lambda params, rest: measure(params, rest, test),
        optimizer=optimizer,
    )
