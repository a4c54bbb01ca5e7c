"""All members in one program, on one device or split over several."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from headwise.sweeps._cohort import _chunk
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _modes_in_turn
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports
from headwise.sweeps._cohort import _stream
from headwise.sweeps._cohort import _ways
from headwise.typing import Array

_AXIS = "members"


def ways(
    parts: _program.Parts, trial: Any, size: int, devices: Sequence[jax.Device] | None
) -> _ways.Ways:
    """For so many trials of one type; devices None: on one, as it comes."""
    number = 1 if devices is None else len(devices)
    places = -(-size // number) * number
    room = _reports.room(parts.report, places)
    compiler = _ways.Compiler("vmap" if devices is None else "shard", size)

    def start(arrays: dict, trials: Any) -> _members.Members:
        make = functools.partial(_program.called, parts.init, arrays["init"])
        return jax.vmap(lambda trial: _members.first(make(trial)))(trials)

    def advance(
        arrays: dict,
        members: _members.Members,
        limits: _reports.Limits,
        *blocks: _stream.Block,
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        begin = functools.partial(_chunk.begun, parts)
        step = functools.partial(_chunk.stepped, parts, arrays)
        each = _reports.Limits(None, 0, None, None)

        def goes_on(carry: tuple) -> Array:
            i, way, _ = carry
            return (i < limits.number) & _chunk.goes_on(members, way, limits)

        def body(carry: tuple) -> tuple:
            i, way, rows = carry
            # Of a stream: who goes steps is at the same one, so that all share a batch.
            t = jnp.max(jnp.where(members.alive & limits.active, way.t, 0))
            batch = [_stream.row(block, t) for block in blocks]
            along = jax.vmap(step, (0, None, *(None for _ in batch)))
            after, packed = along(way, i, *batch)
            return i + 1, after, _reports.written(rows, i, limits, way.t, packed)

        rows = _reports.empty(parts.report, room, members.t.shape)
        first = jnp.int32(0), jax.vmap(begin)(members), rows
        _, way, rows = lax.while_loop(goes_on, body, first)
        end = jax.vmap(_chunk.ended, (0, 0, each))
        members, whole, broke = end(members, way, limits)
        return members, _reports.of_whole(rows, whole), broke

    def finish(arrays: dict, state: Any) -> Any:
        assert parts.evaluate is not None
        return lax.map(
            functools.partial(_program.called, parts.evaluate, arrays["evaluate"]),
            state,
        )

    arrays, sharding, shared = parts.arrays, None, None
    blocks = [] if parts.stream is None else [parts.stream.block_like]
    if devices is not None:
        mesh = jax.make_mesh(
            (number,), (_AXIS,), (jax.sharding.AxisType.Auto,), devices=devices
        )
        sharding = NamedSharding(mesh, P(_AXIS))
        shared = NamedSharding(mesh, P())
        arrays = jax.device_put(arrays, shared)
        # What users' loops carry need not say that it differs between devices.
        split = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        limits = _reports.Limits(P(), P(_AXIS), P(), P())
        start = split(start, in_specs=(P(), P(_AXIS)), out_specs=P(_AXIS))
        advance = split(
            advance,
            in_specs=(P(), P(_AXIS), limits, *(P() for _ in blocks)),
            out_specs=(P(_AXIS), P(None, _AXIS), P(_AXIS)),
        )
        finish = split(finish, in_specs=(P(), P(_AXIS)), out_specs=P(_AXIS))

    placed = functools.partial(_placed, sharding)
    many = functools.partial(_many, places)
    trials = placed(many(trial))
    members = placed(many(jax.eval_shape(_members.first, parts.state)))
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    active = placed(jax.ShapeDtypeStruct((places,), jnp.bool_))
    of_limits = _reports.Limits(scalar, active, scalar, scalar)
    of_arrays = jax.tree.map(_ways.like, arrays)
    compiler.add("start", jax.jit(start), of_arrays, trials)
    blocks = [_placed(shared, block) for block in blocks]
    run_many = jax.jit(advance, donate_argnums=1)
    compiler.add("advance", run_many, of_arrays, members, of_limits, *blocks)
    if parts.evaluate is not None:
        compiler.add("finish", jax.jit(finish), of_arrays, members.state)

    def run_start(trials: Any) -> _members.Members:
        few = len(jax.tree.leaves(trials)[0])
        indices = np.minimum(np.arange(places), few - 1)
        made = compiler["start"](arrays, jax.tree.map(lambda x: x[indices], trials))
        alive = jax.device_put(np.arange(places) < few, sharding)
        return made._replace(alive=alive)

    def ready(members: _members.Members) -> _members.Members:
        return _ways.on_device(_members.padded(members, places), sharding)

    def run_advance(
        members: _members.Members, limits: _reports.Limits, *blocks: _stream.Block
    ) -> tuple[_members.Members, _reports.Rows]:
        run = compiler["advance"]

        def piece(members: _members.Members, number: int, active: np.ndarray) -> Any:
            mine = limits._replace(number=np.int32(number), active=active)
            members, rows, broke = run(arrays, ready(members), mine, *blocks)
            return members, _reports.fetched(rows), np.asarray(broke)

        number = int(limits.number)
        members, found = _chunk.through(piece, members, number, limits.active)
        return members, _reports.joined(found)

    def run_finish(members: _members.Members) -> Any:
        if parts.evaluate is None:
            return _modes_in_turn.evaluated(parts.call_evaluate, members)
        return compiler["finish"](arrays, members.state)

    return _ways.Ways(
        places=places,
        room=room,
        at_once=1,
        start=run_start,
        ready=ready,
        advance=run_advance,
        finish=run_finish,
        compiled=compiler.compiled,
        sharding=shared,
    )


def _many(size: int, tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), tree)


def _placed(sharding: Any, tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
