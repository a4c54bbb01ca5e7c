"""The kernels that convolutions begin with: Flax's, drawn as matrices."""

from collections.abc import Sequence
from typing import Any

import jax

from headwise import _xla


def lecun_normal(key: jax.Array, shape: Sequence[int], *args: Any) -> jax.Array:
    """`jax.nn.initializers.lecun_normal` of a kernel [..., in, out]: the same bits.

    Its fan-in is that of the matrix [all but out, out], and numbers are drawn by their
    place in the whole array, whatever its shape.
    """
    drawn = jax.nn.initializers.lecun_normal()(key, _xla.drawn_as(shape), *args)
    return drawn.reshape(shape)
