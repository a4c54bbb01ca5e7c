"""What members report, thinned: rows on the device, fetched once a chunk."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise import _packing
from headwise.typing import Array

ROWS, BYTES = 128, 2**24
"""The most rows of a chunk, and the most that they take."""


class Reports(NamedTuple):
    """The reports of steps that were due, on the host."""

    t: np.ndarray
    """int32 [rows, K]: of which step each is; -1: of none. Rising down a column."""
    report: Any
    """Arrays [rows, K, ...]; what stands where `t` is -1 means nothing."""


class Limits(NamedTuple):
    """How far a chunk goes, and which steps report: arguments of its program."""

    number: Any
    """int32 []: steps."""
    active: Any
    """bool [K] or []: who goes them, if alive."""
    every: Any
    """int32 []: the last of so many steps reports."""
    last: Any
    """int32 []: so does this one."""


class Rows(NamedTuple):
    """Room for reports, with K members after the axis of rows, or one without."""

    t: Any
    packed: dict[str, Any]


def room(report: Any, members: int) -> int:
    """How many rows there is memory for."""
    nbytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(report))
    return max(1, min(ROWS, BYTES // max(nbytes * members, 1)))


def empty(report: Any, room: int, lead: tuple[int, ...]) -> Rows:
    """No reports yet. One row more is for last steps, wherever they fall."""
    widths = _packing.widths(jax.tree.leaves(report))
    return Rows(
        t=jnp.full((room + 1, *lead), -1, jnp.int32),
        packed={n: jnp.zeros((room + 1, *lead, w), n) for n, w in widths.items()},
    )


def written(rows: Rows, i: Array, limits: Limits, t: Array, packed: dict) -> Rows:
    """With the reports of the i-th step of a chunk, where due.

    Members at different steps are due in different steps of a chunk, but in `every`
    consecutive ones each is due once, so these share a row.
    """
    last = t == limits.last
    regular = ((t + 1) % limits.every == 0) & ~last
    row, end = i // limits.every, len(rows.t) - 1
    if not t.ndim:
        rows = _write(rows, jnp.where(last, end, row), regular | last, t, packed)
        return rows
    rows = _write(rows, row, regular, t, packed)
    return _write(rows, jnp.int32(end), last, t, packed)


def _write(rows: Rows, row: Array, due: Array, t: Array, packed: dict) -> Rows:
    def write(many: Array, new: Array) -> Array:
        old = lax.dynamic_index_in_dim(many, row, keepdims=False)
        which = jnp.reshape(due, due.shape + (1,) * (new.ndim - due.ndim))
        new = jnp.where(which, new, old)
        return lax.dynamic_update_index_in_dim(many, new, row, 0)

    return jax.tree.map(write, rows, Rows(t, packed))


def of_whole(rows: Rows, whole: Array) -> Rows:
    """Those of members that went through the chunk; those of others tell nothing."""
    return rows._replace(t=jnp.where(whole, rows.t, -1))


def fetched(rows: Rows) -> Rows:
    """On the host, those that have something in them."""
    rows = jax.device_get(rows)
    used = rows.t.reshape(len(rows.t), -1).max(axis=1, initial=-1) >= 0
    return jax.tree.map(lambda x: x[used], rows)


def none(report: Any, lead: tuple[int, ...]) -> Rows:
    """No rows, of members of so many axes, on the host."""
    widths = _packing.widths(jax.tree.leaves(report))
    packed = {n: np.zeros((0, *lead, w), n) for n, w in widths.items()}
    return Rows(np.zeros((0, *lead), np.int32), packed)


def joined(pieces: Sequence[Rows]) -> Rows:
    """The rows of pieces, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def side_by_side(none: Rows, found: Sequence[tuple[np.ndarray, Rows]]) -> Rows:
    """The rows of all members from those of some; who has fewer has none at the end.

    Args:
        none: of `none`, of all members.
        found: which members, and their rows, in as many columns or more.
    """
    longest = max((len(rows.t) for _, rows in found), default=0)

    def filled(empty: np.ndarray, *parts: np.ndarray) -> np.ndarray:
        many = np.zeros((longest, *empty.shape[1:]), empty.dtype)
        for (which, _), x in zip(found, parts, strict=True):
            many[: len(x), which] = x[:, : len(which)]
        return many

    after = [rows._replace(t=rows.t + 1) for _, rows in found]  # 0: of no step
    rows = jax.tree.map(filled, none, *after)
    return rows._replace(t=rows.t - 1)


def told(report: Any, rows: Rows, members: int) -> Reports:
    """What so many members told, of all of their rows."""
    leaves, structure = jax.tree.flatten(report)
    t, packed = jax.tree.map(lambda x: x[:, :members], rows)
    return Reports(t, jax.tree.unflatten(structure, _packing.unpacked(leaves, packed)))
