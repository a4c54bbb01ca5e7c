"""Inner products of the head gradients: lengths, angles, conflicts."""

from collections.abc import Mapping
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise import _rows
from headwise import _trees
from headwise.typing import Array
from headwise.typing import PyTree


def rows_by_leaf(grads: Mapping[str, PyTree]) -> list[list[Array]]:
    """The head gradients leaf by leaf, each a list over the sorted names."""
    _checks.mapping("grads", grads)
    names = _checks.head_names("grads", grads)
    leaves = [jax.tree.leaves(grads[name]) for name in names]
    for name, mine in zip(names, leaves, strict=True):
        if _trees.structure(grads[name]) != _trees.structure(grads[names[0]]):
            raise ValueError(
                f"grads: expected the same structure for every head; {name!r} and "
                f"{names[0]!r} differ"
            )
        for a, b in zip(mine, leaves[0], strict=True):
            if jnp.shape(a) != jnp.shape(b):
                raise ValueError(
                    f"grads: {name!r} has a leaf of shape {jnp.shape(a)} where "
                    f"{names[0]!r} has {jnp.shape(b)}"
                )
    return [
        [_checks.array(f"grads[{name!r}]", g) for name, g in zip(names, heads)]
        for heads in zip(*leaves, strict=True)
    ]


def gramian(
    grads: Mapping[str, PyTree], axis_name: str | tuple[str, ...] | None = None
) -> Array:
    """Inner products of the head gradients over all parameters.

    ``gram[i, j] = <grads[names[i]], grads[names[j]]>``, names in sorted order.

    Args:
        grads: {name: pytree}, as `hw.head_grads` returns.
        axis_name: inside of `jax.shard_map`, of an axis (or several) over which
            parameters are split (FSDP): products of the rows of all devices are added
            up. Leaves that are whole on every device count once.

    Returns:
        [H, H], symmetric; float32 (also for bfloat16 gradients), float64 if a leaf is.

    Raises:
        ValueError: the gradients differ in structure or shapes; no leaf is split over
            `axis_name`, as far as its type tells (`check_vma`).

    Example:
        >>> grads = {"y1": {"b": 3.0, "c": 4.0}, "y2": {"b": 2.0, "c": 0.0}}
        >>> print(hw.gramian(grads))
        [[25.  6.]
         [ 6.  4.]]
    """
    parts = [_products.products(rows) for rows in rows_by_leaf(grads)]
    return jnp.asarray(_numerics.total_over_devices(parts, axis_name))


def cosines(gram: Array) -> Array:
    """Cosine of the angle between every two head gradients.

    ``cos[i, j] = gram[i, j] / sqrt(gram[i, i] * gram[j, j])``; negative means that the
    heads conflict. A zero gradient has cosine 0 to all, itself included.

    Args:
        gram: [..., H, H].

    Returns:
        [..., H, H] in [-1, 1].

    Raises:
        ValueError: `gram` is not square.

    Example:
        >>> print(hw.cosines(jnp.array([[25.0, -6.0], [-6.0, 4.0]])))
        [[ 1.  -0.6]
         [-0.6  1. ]]
    """
    gram = _checks.array("gram", gram)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2]:
        raise ValueError(f"gram: expected [..., H, H], got shape {gram.shape}")
    norms = jnp.sqrt(jnp.diagonal(gram, axis1=-2, axis2=-1))
    # Two divisions: the product of two small norms would underflow.
    rows = _numerics.safe_divide(gram, norms[..., :, None], 0.0)
    return jnp.clip(_numerics.safe_divide(rows, norms[..., None, :], 0.0), -1.0, 1.0)


def of_rows(rows: Sequence[Sequence[Array]]) -> Array:
    """[H, H] from a list of arrays for each head."""
    return _rows.gramian(len(rows), _rows.by_leaf(rows))
