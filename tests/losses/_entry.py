"""One loss in the battery: the loss, its float64 reference, and what it takes."""

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from headwise import _reduction

ACTIVATIONS = {None: None, "softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}
FLAGS = [False, True]
NOTHING: Mapping = MappingProxyType({})


def make_targets(rng, shape, kind):
    """Targets for preds of this shape: "labels", "one-hot" or "soft"."""
    if kind == "soft":
        return rng.uniform(size=shape).astype(np.float32)
    # -1 is no class; the last class is absent from the first example.
    labels = rng.integers(-1, shape[-1], shape[:-1])
    labels[0] = np.minimum(labels[0], shape[-1] - 2)
    if kind == "labels":
        return labels
    return np.stack([labels == c for c in range(shape[-1])], -1).astype(np.float32)


def probabilities(rng, shape):
    """Entries in (0, 1), far from the kinks at 0 and 1."""
    return rng.uniform(0.05, 0.95, shape).astype(np.float32)


def normal(rng, shape):
    """Any real entries: logits, or values of a regression."""
    return rng.normal(size=shape).astype(np.float32)


def declared_shape(loss, shape, over_batch=False, background=True):
    """The shape of the values for preds of this shape, by what the loss declares."""
    batch = () if over_batch else shape[:1]
    return {
        "example": batch,
        "class": (*batch, shape[-1] if background else shape[-1] - 1),
        "position": shape[:-1],
        "entry": shape,
    }[_reduction.layout_of(loss)]


class Entry(NamedTuple):
    """What the battery needs to know of a loss."""

    loss: Callable
    reference: Callable
    """The same in float64 NumPy: `reference(preds, targets, *, where=None, ...)`."""
    options: Mapping = NOTHING
    """{option: list of values to draw from}; names of activations as in ACTIVATIONS"""
    traced: Mapping = NOTHING
    """Hyper-parameters that may be traced: two values of each."""
    preds: Callable = probabilities
    """(rng, shape) -> preds, where no activation is drawn"""
    targets: tuple = ("labels", "one-hot", "soft")
    """Kinds of `make_targets` that it takes."""
    make_targets: Callable = make_targets
    """(rng, shape, kind) -> targets"""
    perfect_is_0: bool = False
    """Predictions equal to hard targets have loss 0, and worse ones more."""
    spatial: bool = False
    """Neighbours matter: positions can be neither cut out nor put in another order."""
    order: int = 2
    """Derivatives that are checked numerically."""
    close: Mapping = NOTHING
    """Own tolerances against the reference, with the reason beside the entry."""
    shapes: Mapping | None = None
    """Own {name: shape of preds} instead of the battery's."""
