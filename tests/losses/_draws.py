"""What the battery draws its examples from, and which losses a test concerns."""

import functools
import inspect
import random
import re
from collections.abc import Callable
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tests.losses import _entry

SHAPES = {"1-D": (2, 5, 3), "2-D": (2, 3, 4, 3), "3-D": (2, 2, 3, 2, 3)}

# float32 against float64: sums of up to 24 terms, and of weights up to 1 / volume²,
# keep 5 digits (eps = 6e-8, and differences of numbers near 1 lose no more than two).
CLOSE: Mapping = dict(rtol=2e-5, atol=2e-6)
# The same operations fused or in another order: the last float32 digits may differ.
SAME: Mapping = dict(rtol=1e-5, atol=1e-6)

WHERE = [
    None,
    "example",
    "position",
    "position of all examples",
    "channel axis of 1",
    "entry",
    "class of example",
]


def make_where(rng, shape, kind):
    """A mask of about 70 % True; `shape` is that of preds."""
    shapes = {
        "example": shape[:1],
        "position": shape[:-1],
        "position of all examples": (1, *shape[1:-1]),
        "channel axis of 1": (*shape[:-1], 1),
        "entry": shape,
        "class of example": (shape[0], *(1 for _ in shape[1:-1]), shape[-1]),
    }
    return None if kind is None else rng.random(shapes[kind]) < 0.7


def concerns(condition):
    """Marks a test of the losses whose entry meets the condition."""

    def mark(test):
        test.concerns = condition
        return test

    return mark


def optimized(condition):
    """Marks a test to run optimised programs of the losses that meet the condition."""

    def mark(test):
        test.optimized = condition
        return test

    return mark


def parameters(entry):
    """Names of all parameters of the loss."""
    return inspect.signature(entry.loss).parameters


def takes(option) -> Callable:
    """Whether a loss has the option."""
    return lambda entry: option in entry.options


def takes_labels(entry):
    """Whether integer labels may be its targets."""
    return "labels" in entry.targets


def ignores(entry):
    """Whether it can ignore a label."""
    return takes_labels(entry) and "ignore" in parameters(entry)


def both(one, other):
    """A pattern for texts that hold both, in any order."""
    return f"(?s)(?=.*{re.escape(one)})(?=.*{re.escape(other)})"


def bind(entry, options):
    """The loss as a function of the arrays alone."""
    options = dict(options)
    if "activation" in options:
        options["activation"] = _entry.ACTIVATIONS[options["activation"]]
    return functools.partial(entry.loss, **options)


def shapes_of(entry):
    return entry.shapes or SHAPES


def smallest(entry):
    return min(shapes_of(entry).values(), key=np.prod)


def draws(name, entry, shape, count, seed=0):
    """Random members of the product of all options: (preds, targets, options)."""
    choose = random.Random(f"{name} {shape} {seed}")
    rng = np.random.default_rng(len(shape) + seed)
    # Each draw has another mask and the next form of targets, so that all occur over
    # the three ranks.
    start = len(shape) * count
    for i in range(start, start + count):
        options = {key: choose.choice(values) for key, values in entry.options.items()}
        make = entry.preds if options.get("activation") is None else _entry.normal
        preds = make(rng, shape)
        targets = entry.make_targets(rng, shape, entry.targets[i % len(entry.targets)])
        where = make_where(rng, shape, WHERE[i % len(WHERE)])
        yield preds, targets, options | dict(where=where)


def example(entry, shape=None, kind=None):
    """Predictions and hard targets, without options."""
    rng = np.random.default_rng(7)
    shape = shape or smallest(entry)
    kind = kind or ("one-hot" if "one-hot" in entry.targets else entry.targets[0])
    return jnp.array(entry.preds(rng, shape)), jnp.array(
        entry.make_targets(rng, shape, kind)
    )


def total(entry, **options):
    """The sum of the values, as a function of the arrays."""
    loss = bind(entry, options)
    return lambda preds, targets: jnp.sum(loss(preds, targets))


@functools.cache
def _gradient(loss, activation):
    bound = (
        loss if activation is None else functools.partial(loss, activation=activation)
    )

    def total(preds, targets, where):
        values = bound(preds, targets, where=where)
        return jnp.sum(values), values

    gradient = jax.jit(jax.grad(total, has_aux=True))
    return lambda *arrays: gradient(*arrays)[::-1]


def gradient(entry, activation=None):
    """(preds, targets, where) -> the values and the gradient of their sum, one program.

    Kept, so that tests with examples of the same shapes share what is compiled.
    """
    return _gradient(entry.loss, _entry.ACTIVATIONS[activation])


def values(entry, drawn):
    """Of several draws, all values in one program; masks are arguments of it."""

    def all_of(arrays):
        return [
            bind(entry, options | dict(where=where))(preds, targets)
            for (preds, targets, where), (*_, options) in zip(arrays, drawn)
        ]

    return jax.jit(all_of)([(p, t, options["where"]) for p, t, options in drawn])
