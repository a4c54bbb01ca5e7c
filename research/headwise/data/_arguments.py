"""The check of examples that several data functions share; others: `_checks`."""

from typing import Any

import jax
import numpy as np


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
