"""The programs of one member after the other: the same for cohorts of all sizes.

A call of one takes some members with small states, since it costs as much as some of
their steps.
"""

import functools
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise.sweeps._cohort import _chunk
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports
from headwise.sweeps._cohort import _stream
from headwise.sweeps._cohort import _ways
from headwise.typing import Array

AT_A_CALL, SMALL = 8, 2**18
"""How many members a call of the program takes, if a state has fewer bytes than this:
their steps are short beside the 2 ms of a call, and they stay in the caches."""


class _Carry(NamedTuple):
    i: Array
    way: _chunk.Way
    rows: _reports.Rows


def programs(
    parts: _program.Parts, trial: Any, mode: str
) -> tuple[_ways.Compiler, int, int]:
    """The programs of one member, for cohorts of all sizes; how many a call takes."""
    nbytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(parts.state))
    at_a_call = AT_A_CALL if mode == "scan" and nbytes < SMALL else 1
    room = _reports.room(parts.report, at_a_call)
    compiler = _ways.Compiler(mode, 1)

    def start(arrays: dict, trial: Any) -> _members.Members:
        return _members.first(_program.called(parts.init, arrays["init"], trial))

    def begin(member: _members.Members) -> _Carry:
        rows = _reports.empty(parts.report, room, ())
        return _Carry(jnp.int32(0), _chunk.begun(parts, member), rows)

    def step(
        arrays: dict, carry: _Carry, limits: _reports.Limits, *blocks: _stream.Block
    ) -> _Carry:
        i, way, rows = carry
        batch = [_stream.row(block, way.t) for block in blocks]
        after, packed = _chunk.stepped(parts, arrays, way, i, *batch)
        rows = _reports.written(rows, i, limits, way.t, packed)
        return _Carry(i + 1, after, rows)

    def end(
        member: _members.Members, carry: _Carry, limits: _reports.Limits
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        member, whole, broke = _chunk.ended(member, carry.way, limits)
        return member, _reports.of_whole(carry.rows, whole), broke

    def of_one(
        arrays: dict,
        member: _members.Members,
        limits: _reports.Limits,
        blocks: Sequence[_stream.Block],
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        def goes_on(carry: _Carry) -> Array:
            more = carry.i < limits.number
            return more & _chunk.goes_on(member, carry.way, limits)

        carry = lax.while_loop(
            goes_on, lambda carry: step(arrays, carry, limits, *blocks), begin(member)
        )
        return end(member, carry, limits)

    def advance(
        arrays: dict,
        members: _members.Members,
        limits: _reports.Limits,
        *blocks: _stream.Block,
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        def body(k: Array, carry: Any) -> Any:
            members, rows, broke = carry
            member = jax.tree.map(functools.partial(_row, k=k), members)
            mine = limits._replace(active=limits.active[k])
            member, own, at = of_one(arrays, member, mine, blocks)
            put = functools.partial(lax.dynamic_update_index_in_dim, index=k)
            members = jax.tree.map(functools.partial(put, axis=0), members, member)
            rows = jax.tree.map(functools.partial(put, axis=1), rows, own)
            return members, rows, put(broke, at, axis=0)

        rows = _reports.empty(parts.report, room, (at_a_call,))
        broke = jnp.full((at_a_call,), _chunk.NEVER, jnp.int32)
        places = jnp.arange(1, at_a_call + 1)
        last = jnp.max(jnp.where(limits.active, places, 0))
        return lax.fori_loop(0, last, body, (members, rows, broke))

    def finish(arrays: dict, state: Any) -> Any:
        assert parts.evaluate is not None
        return _program.called(parts.evaluate, arrays["evaluate"], state)

    member = jax.eval_shape(_members.first, parts.state)
    types = jnp.int32, jnp.bool_, jnp.int32, jnp.int32
    limits = _reports.Limits(*(jax.ShapeDtypeStruct((), kind) for kind in types))
    arrays = jax.tree.map(_ways.like, parts.arrays)
    blocks = [] if parts.stream is None else [parts.stream.block_like]
    compiler.add("start", jax.jit(start), arrays, trial)
    if mode == "loop":
        carry = jax.eval_shape(begin, member)
        # Steps are given the carry for good, and the member stays beside it.
        begin_apart = jax.jit(lambda member: jax.tree.map(jnp.copy, begin(member)))
        compiler.add("begin", begin_apart, member)
        run = jax.jit(step, donate_argnums=1)
        compiler.add("advance", run, arrays, carry, limits, *blocks)
        compiler.add("end", jax.jit(end, donate_argnums=0), member, carry, limits)
    else:
        of_many = (
            jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((at_a_call, *x.shape), x.dtype), x
            )
            for x in (member, limits.active)
        )
        members, active = of_many
        limits = limits._replace(active=active)
        run = jax.jit(advance, donate_argnums=1)
        compiler.add("advance", run, arrays, members, limits, *blocks)
    if parts.evaluate is not None:
        compiler.add("finish", jax.jit(finish), arrays, member.state)
    return compiler, room, at_a_call


def _row(x: Array, k: Array) -> Array:
    return lax.dynamic_index_in_dim(x, k, keepdims=False)
