"""A shuffle of 0 .. n - 1 of which any entry is computed alone, without the others.

What a compiled training step needs to draw without replacement: the time is that of a
batch, however many examples there are, where `jax.random.permutation` sorts them all.

The numbers are cells of a square with an incomplete last row::

    0 1 2 3        n = 10: width 4, 3 rows, of which the last has 2 cells;
    4 5 6 7        the first 2 columns have 3 cells, the others 2
    8 9

and in turn every row and every column is rotated by a random number of its own. Each
rotation is one to one, whatever the number of cells. It is a Feistel network on a
staircase: nothing lies outside of n, so that no entry has to be drawn again.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from headwise.typing import Array

ROUNDS = 12
"""Half of rows, half of columns. 8 pass the tests of uniformity; these are cheap."""


def permuted(places: Array, words: Sequence[Array], count: int) -> Array:
    """The entries at these places of the permutation that the words choose.

    Args:
        places: uint32 below `count`.
        words: `ROUNDS` random uint32 numbers, or arrays that broadcast with `places`:
            each place then sees the permutation of its own words.
        count: n, 1 <= n < 2**30.
    """
    width = math.isqrt(count - 1) + 1
    rows = -(-count // width)
    last = count - (rows - 1) * width
    row, column = places // width, places % width
    for k, word in enumerate(words):
        if k % 2 == 0:
            length = jnp.where(row == rows - 1, last, width).astype(jnp.uint32)
            column = _rotated(column, _mixed(row ^ word), length)
        else:
            length = jnp.where(column < last, rows, rows - 1).astype(jnp.uint32)
            row = _rotated(row, _mixed(column ^ word), length)
        # Each round uses the last one's places twice: fused into one expression, as
        # XLA's CPU backend of jaxlib 0.12 does, twelve of them compile for minutes.
        row, column = lax.optimization_barrier((row, column))
    return row * width + column


def _rotated(place: Array, random: Array, length: Array) -> Array:
    """(place + a number below length, made of 16 random bits) % length."""
    moved = place + (((random >> 16) * length) >> 16)
    return jnp.where(moved >= length, moved - length, moved)


def _mixed(x: Array) -> Array:
    """Every bit of the result depends on every bit: MurmurHash3's `fmix32`."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def divmod_of_product(t: Array, factor: int, count: int) -> tuple[Array, Array]:
    """divmod(t * factor, count), where the product need not fit into 32 bits.

    Digit by digit of t, as on paper.

    Args:
        t: uint32 below 2**31.
        factor: 1 <= factor <= count.
        count: below 2**30.
    """
    bits = 31 - count.bit_length()
    quotient, remainder = jnp.zeros_like(t), jnp.zeros_like(t)
    for shift in reversed(range(0, 31, bits)):
        digit = (t >> shift) & jnp.uint32((1 << bits) - 1)
        here = (remainder << bits) + digit * factor
        quotient = (quotient << bits) + here // count
        remainder = here % count
    return quotient, remainder
