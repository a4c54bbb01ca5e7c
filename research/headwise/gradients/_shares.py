"""How far the gradient of each head goes along the update, module by module.

What `contributions` divides into shares: [H] inner products <g_h, u>. They are read off
the gramian where u = Σ w g, with g = (3, 4) and (5, 0)::

    gram = [[25, 15], [15, 25]],  w = (1, 1)   ->   <g_h, u> = (40, 40)
"""

from collections.abc import Sequence

import jax.numpy as jnp

from headwise import _products
from headwise.typing import Array


def along_sum(gram: Array, w: Array) -> Array:
    """[H] <g_h, Σ w g> of one module; a head of weight 0 takes no part."""
    both = (w != 0)[:, None] & (w != 0)[None, :]
    moving = jnp.where(both, gram, jnp.zeros_like(gram))
    return jnp.matmul(moving, w, precision="highest")


def along_update(
    leaves: Sequence[Sequence[int]],
    grams: Sequence[Array],
    rows: Sequence[Sequence[Array]],
    updates: Sequence[Array],
    reached: Sequence[Sequence[int]],
) -> list[Array]:
    """[H] <g_h, u> of every module, of its leaves' rows and updates.

    Where one head alone reaches a module all of the update is that head's, wherever it
    lies along the gradient: then only whether both are 0 is asked, of all such leaves
    at once.
    """
    owners = [sorted({h for i in mine for h in reached[i]}) for mine in leaves]
    pairs = zip(leaves, owners, strict=True)
    alone = [i for mine, heads in pairs if len(heads) == 1 for i in mine]
    flags = _products.nonzero([updates[i] for i in alone])
    moves = dict(zip(alone, flags, strict=True))
    pull = []
    for mine, heads, gram in zip(leaves, owners, grams, strict=True):
        if len(heads) == 1:
            (h,) = heads
            moving = jnp.any(jnp.stack([moves[i] for i in mine]))
            moving = moving & (gram[h, h] != 0)
            pull.append(jnp.zeros_like(gram[0]).at[h].set(moving.astype(gram.dtype)))
        else:
            each = [_products.along(rows[i], updates[i], reached[i]) for i in mine]
            pull.append(jnp.asarray(sum(each)))
    return pull
