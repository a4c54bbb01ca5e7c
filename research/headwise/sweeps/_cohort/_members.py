"""The members of a cohort: their states, who goes on, and a hash of what they are."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise.typing import Array


class Members(NamedTuple):
    """A cohort, all that a checkpoint holds; of one member without the leading axis."""

    state: Any
    t: Array
    """int32 [K]: steps done, and the number of the next one."""
    alive: Array
    """bool [K]"""
    stopped: Array
    """int32 [K]: the step that broke; -1: none has."""
    cause: Array
    """int32 [K]: what broke first: the head of that number, or -2 - the number of an
    array of the state; -1: not known (`Parts.cause` says it in words)."""
    digest: Array
    """uint32 [K]: a chain of hashes, see `digested`."""


def first(state: Any) -> Members:
    """One member before its first step."""
    none = jnp.full((), -1, jnp.int32)
    return Members(
        state=state,
        t=jnp.zeros((), jnp.int32),
        alive=jnp.ones((), bool),
        stopped=none,
        cause=none,
        digest=jnp.zeros((), jnp.uint32),
    )


def take(members: Members, indices: Any) -> Members:
    """Some of the members, in this order; of an int32 scalar one, without its axis."""
    return _take(members, _int32(indices))


def put(members: Members, indices: Any, others: Members) -> Members:
    """The members with others in some places; their arrays are given for good."""
    return _put(members, _int32(indices), others)


def _int32(indices: Any) -> Any:
    """Those of the host stay there until a program takes them: a call less."""
    host = not isinstance(indices, jax.Array)
    return np.asarray(indices, np.int32) if host else indices.astype(jnp.int32)


@jax.jit
def _take(members: Members, indices: Array) -> Members:
    return jax.tree.map(lambda x: x[indices], members)


def _placed(members: Members, indices: Array, others: Members) -> Members:
    return jax.tree.map(lambda x, y: x.at[indices].set(y), members, others)


_put = jax.jit(_placed, donate_argnums=0)


def spread(member: Members, size: int) -> Members:
    """So many copies of one member, that wait to be replaced: none is alive."""
    return _spread(member, size=size)


def _copies(member: Members, size: int) -> Members:
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), member)
    return many._replace(alive=jnp.zeros((size,), bool))


_spread = jax.jit(_copies, static_argnames="size")


def padded(members: Members, size: int) -> Members:
    """So many members: copies of the last one, not alive, where they are too few."""
    few = len(members.t)
    if few == size:
        return members
    if few > size:
        raise ValueError(f"members: expected at most {size} of this cohort, got {few}")
    several = take(members, jnp.minimum(jnp.arange(size), few - 1))
    return several._replace(alive=several.alive & (jnp.arange(size) < few))


def digested(members: Members, which: Array) -> Members:
    """The members with the hash chain one link longer, for those of `which` alive.

    A link is a hash of the bits of the state and of t, where every bit and its place
    count; sums of uint32, so that no order of summing changes it. The same trial in the
    same mode on the same kind of device has the same chain if links are added at the
    same steps, whatever chunks it ran in.
    """
    return _digested(members, jnp.asarray(which, bool))


def _linked(members: Members, which: Array) -> Members:
    digest = jax.vmap(_link)(members)
    digest = jnp.where(which & members.alive, digest, members.digest)
    return members._replace(digest=digest)


_digested = jax.jit(_linked, donate_argnums=0)


def _link(member: Members) -> Array:
    digest = _mixed(member.digest * jnp.uint32(31) + member.t.astype(jnp.uint32))
    for x in jax.tree.leaves(member.state):
        words = _words(x)
        places = lax.iota(jnp.uint32, words.size) * jnp.uint32(0x85EBCA77)
        hashes = _mixed(words ^ _mixed(places))
        total = jnp.sum(hashes, dtype=jnp.uint32)
        digest = _mixed(digest * jnp.uint32(31) + total)
    return digest


def _mixed(x: Array) -> Array:
    """Every bit of the result hangs on every bit (Wellons' "lowbias32")."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _words(x: Array) -> Array:
    """The bits of an array as uint32 [n]."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == bool:
        return jnp.ravel(x).astype(jnp.uint32)
    if x.dtype.itemsize == 8:
        return jnp.ravel(lax.bitcast_convert_type(x, jnp.uint32))
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.ravel(x).astype(jnp.uint32)
    same_size = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    return jnp.ravel(lax.bitcast_convert_type(x, same_size)).astype(jnp.uint32)
