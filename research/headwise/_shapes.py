"""What the shapes of predictions, targets and values say of a loss that is not ours.

NumPy's rule lets [8, 1] and [8] make [8, 8]: all pairs, of which a mean is a number
like any other. Values are one an entry, or fewer; so such a result is an error.

Example:
    >>> from headwise import _shapes
    >>> p, t = jnp.ones((8, 1)), jnp.ones(8)
    >>> try:
    ...     _shapes.check_values(jnp.ones((8, 8)), p, t)
    ... except ValueError as error:
    ...     print(str(error).split(":")[0])
    values of the loss
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

_FIX = "give preds and targets one shape"


def of(tree: PyTree) -> str:
    """Types and shapes, for an error text."""
    leaf = jax.tree.map(_of_leaf, tree)
    return leaf if isinstance(leaf, str) else str(leaf).replace("'", "")


def _of_leaf(x: Any) -> str:
    try:
        return f"{jnp.result_type(x)} {jnp.shape(x)}"
    except (TypeError, ValueError):  # it is no array
        return type(x).__name__


def loss_name(loss: Loss) -> str:
    """What its author calls a loss."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def check_values(values: Array, preds: PyTree, targets: PyTree) -> None:
    """Raises ValueError if values are larger than what they are values of.

    Of pytrees only the leading axis is known: it must be that of one of the arrays.
    """
    shapes = [jnp.shape(x) for x in jax.tree.leaves((preds, targets))]
    if all(hasattr(x, "shape") for x in (preds, targets)):
        fits = values.size <= max(map(math.prod, shapes))
        expected = f"no more entries than preds {shapes[0]} or targets {shapes[1]}"
    else:
        lengths = {shape[0] for shape in shapes if shape}
        fits = not values.ndim or not lengths or values.shape[0] in lengths
        expected = f"a leading axis of {sorted(lengths)}"
    if not fits:
        raise ValueError(
            f"values of the loss: expected {expected}, got {values.shape}; where one "
            f"is broadcast against the other, {_FIX}"
        )


def check_ranks(loss: Loss, preds: Any, targets: Any) -> None:
    """Raises ValueError if a loss makes pairs of [B, *S, 1] and [B, *S]."""
    p, t = (jnp.shape(x) if hasattr(x, "shape") else () for x in (preds, targets))
    short, long = sorted((p, t), key=len)
    if not short or long != (*short, 1) or math.prod(short) < 2:
        return
    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(loss, preds, targets)
    except Exception as error:
        if "rank_promotion" in str(error):
            raise ValueError(
                f"preds {p} and targets {t} make pairs in the loss, since they "
                f"differ by an axis of length 1; {_FIX}"
            ) from error
