"""All numbers of one dtype in one row: a loop writes and a host reads few arrays."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from headwise.typing import Array


def packed(leaves: Sequence[Array]) -> dict[str, Array]:
    """{name of a dtype: its numbers, leaf after leaf}."""
    by_type: dict[str, list[Array]] = {}
    for x in leaves:
        by_type.setdefault(x.dtype.name, []).append(jnp.ravel(x))
    return {name: jnp.concatenate(parts) for name, parts in by_type.items()}


def widths(types: Sequence[Any]) -> dict[str, int]:
    """{name of a dtype: how many numbers}, of what `packed` gives for such leaves."""
    found: dict[str, int] = {}
    for x in types:
        found[x.dtype.name] = found.get(x.dtype.name, 0) + math.prod(x.shape)
    return found


def unpacked(types: Sequence[Any], rows: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The leaves again, of rows [..., width]: [..., *shape] each."""
    used, found = dict.fromkeys(rows, 0), []
    for x in types:
        name, start = x.dtype.name, used[x.dtype.name]
        used[name] = start + math.prod(x.shape)
        row = rows[name][..., start : used[name]]
        found.append(np.reshape(row, (*row.shape[:-1], *x.shape)))
    return found
