"""Checks of arguments that several data functions share.

Only static facts (types, Python integers, shapes) are looked at, never array values.
"""

import numbers
from typing import Any

import jax
import numpy as np


def positive_int(name: str, value: Any) -> int:
    """Returns `value` as an int; it must be an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {value}")
    return int(value)


def leading_axis(name: str, arrays: Any) -> int:
    """Returns the length that the leading axes of all leaves have in common."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    shapes = {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
    if not shapes:
        raise ValueError(f"{name}: expected at least one array, got {arrays!r}")
    if any(len(shape) == 0 for shape in shapes.values()):
        raise ValueError(f"{name}: expected arrays with a leading axis, got {shapes}")
    lengths = {shape[0] for shape in shapes.values()}
    if len(lengths) > 1:
        raise ValueError(f"{name}: expected equal leading axes, got shapes {shapes}")
    length = lengths.pop()
    if length == 0:
        raise ValueError(f"{name}: expected at least one example, got shapes {shapes}")
    return length
