"""The check of examples that several data functions share; others: `_checks`."""

from typing import Any

import jax
import numpy as np


def leading_axis(name: str, arrays: Any) -> int:
    """Returns the length that the leading axes of all leaves have in common."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(leaf)
        for path, leaf in leaves
    }
    if not shapes:
        raise ValueError(f"{name}: expected at least one array, got {arrays!r}")
    (first, shape), *others = shapes.items()
    for path, of_path in shapes.items():
        if not of_path:
            at = f" at {path!r}" if path else ""
            raise ValueError(
                f"{name}: expected arrays with a leading axis, got a scalar{at}"
            )
    for path, other in others:
        if other[0] != shape[0]:
            raise ValueError(
                f"{name}: expected equal leading axes, got {first!r} of shape {shape} "
                f"and {path!r} of shape {other}"
            )
    if shape[0] == 0:
        raise ValueError(
            f"{name}: expected at least one example, got shape {shape}"
            + (f" at {first!r}" if first else "")
        )
    return shape[0]
