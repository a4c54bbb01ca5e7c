"""One member after the other, by a program that knows one; or several, in threads.

A member that has stopped costs nothing, and one program is enough for all sizes.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise import _xla
from headwise.sweeps._cohort import _chunk
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports
from headwise.sweeps._cohort import _ways
from headwise.typing import Array


class _Carry(NamedTuple):
    i: Array
    way: _chunk.Way
    rows: _reports.Rows


def ways(
    parts: _program.Parts, trial: Any, size: int, mode: str, threads: int | None
) -> _ways.Ways:
    """For so many trials of one type, in mode scan, loop or threads."""
    threads = min(size, threads or cores()) if mode == "threads" else 1
    looped = mode == "loop" or (
        mode == "threads" and _xla.slow_in_loops(parts.step.program)
    )
    of_one = "loop" if looped else "scan"
    if of_one not in parts.programs:
        parts.programs[of_one] = _programs(parts, trial, of_one)
    compiler, room = parts.programs[of_one]
    in_turn = functools.partial(_in_turn, threads)

    def start(trials: Any) -> _members.Members:
        begin, few = compiler["start"], len(jax.tree.leaves(trials)[0])
        box = _Box(None)

        def one(k: int) -> None:
            made = begin(parts.arrays, jax.tree.map(lambda x: x[k], trials))
            box.put(k, made, size)

        in_turn(one, range(few))
        return box.members

    def advance(
        members: _members.Members, limits: _reports.Limits
    ) -> tuple[_members.Members, _reports.Rows]:
        run, box = compiler["advance"], _Box(members)
        none = _reports.joined(parts.report, [], ())
        found = [none] * size

        def piece(member: _members.Members, number: int, active: Any) -> Any:
            mine = limits._replace(number=np.int32(number), active=active)
            mine = jax.device_put(mine)
            if looped:
                carry = compiler["begin"](member)
                for _ in range(number):
                    carry = run(parts.arrays, carry, mine)
                member, rows, broke = compiler["end"](member, carry, mine)
            else:
                member, rows, broke = run(parts.arrays, member, mine)
            return member, _reports.fetched(rows), np.asarray(broke)

        def one(k: int) -> None:
            number, active = int(limits.number), np.asarray(limits.active[k])
            member, pieces = _chunk.through(piece, box.take(k), number, active)
            box.put(k, member, size)
            found[k] = _reports.joined(parts.report, pieces, ())

        in_turn(one, np.flatnonzero(limits.active))
        return box.members, _reports.side_by_side(found)

    def finish(members: _members.Members) -> Any:
        if parts.evaluate is None:
            return evaluated(parts.call_evaluate, members)
        one = functools.partial(compiler["finish"], parts.arrays)
        return evaluated(one, members, threads)

    return _ways.Ways(
        places=size,
        room=room,
        at_once=threads,
        start=start,
        ready=lambda members: _ways.on_device(_members.padded(members, size)),
        advance=advance,
        finish=finish,
        compiled=compiler.compiled,
    )


def _programs(
    parts: _program.Parts, trial: Any, mode: str
) -> tuple[_ways.Compiler, int]:
    """The programs of one member, for cohorts of all sizes."""
    room = _reports.room(parts.report, 1)
    compiler = _ways.Compiler(mode, 1)

    def start(arrays: dict, trial: Any) -> _members.Members:
        return _members.first(_program.called(parts.init, arrays["init"], trial))

    def begin(member: _members.Members) -> _Carry:
        rows = _reports.empty(parts.report, room, ())
        return _Carry(jnp.int32(0), _chunk.begun(parts, member), rows)

    def step(arrays: dict, carry: _Carry, limits: _reports.Limits) -> _Carry:
        i, way, rows = carry
        after, packed = _chunk.stepped(parts, arrays, way, i)
        rows = _reports.written(rows, i, limits, way.t, packed)
        return _Carry(i + 1, after, rows)

    def end(
        member: _members.Members, carry: _Carry, limits: _reports.Limits
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        member, whole, broke = _chunk.ended(member, carry.way, limits)
        return member, _reports.of_whole(carry.rows, whole), broke

    def advance(
        arrays: dict, member: _members.Members, limits: _reports.Limits
    ) -> tuple[_members.Members, _reports.Rows, Array]:
        def goes_on(carry: _Carry) -> Array:
            more = carry.i < limits.number
            return more & _chunk.goes_on(member, carry.way, limits)

        carry = lax.while_loop(
            goes_on, lambda carry: step(arrays, carry, limits), begin(member)
        )
        return end(member, carry, limits)

    def finish(arrays: dict, state: Any) -> Any:
        assert parts.evaluate is not None
        return _program.called(parts.evaluate, arrays["evaluate"], state)

    member = jax.eval_shape(_members.first, parts.state)
    types = jnp.int32, jnp.bool_, jnp.int32, jnp.int32
    limits = _reports.Limits(*(jax.ShapeDtypeStruct((), kind) for kind in types))
    arrays = jax.tree.map(_ways.like, parts.arrays)
    compiler.add("start", jax.jit(start), arrays, trial)
    if mode == "loop":
        carry = jax.eval_shape(begin, member)
        # Steps are given the carry for good, and the member stays beside it.
        begin_apart = jax.jit(lambda member: jax.tree.map(jnp.copy, begin(member)))
        compiler.add("begin", begin_apart, member)
        compiler.add("advance", jax.jit(step, donate_argnums=1), arrays, carry, limits)
        compiler.add("end", jax.jit(end, donate_argnums=0), member, carry, limits)
    else:
        run = jax.jit(advance, donate_argnums=1)
        compiler.add("advance", run, arrays, member, limits)
    if parts.evaluate is not None:
        compiler.add("finish", jax.jit(finish), arrays, member.state)
    return compiler, room


class _Box:
    """Members that several threads take from and put back to, each its own."""

    def __init__(self, members: Any):
        self.members: Any = members  # None: none yet
        self._lock = threading.Lock()

    def take(self, k: int) -> _members.Members:
        with self._lock:
            return _members.take(self.members, k)

    def put(self, k: int, member: _members.Members, size: int) -> None:
        with self._lock:
            if self.members is None:
                self.members = _members.spread(member, size)
            self.members = _members.put(self.members, k, member)


def evaluated(
    evaluate: Callable[[Any], Any], members: _members.Members, threads: int = 1
) -> Any:
    """The metrics of all members, {name: [K]}, by a function of one state."""
    size = len(members.t)
    found: list[Any] = [None] * size

    def one(k: int) -> None:
        found[k] = jax.device_get(evaluate(_members.take(members, k).state))

    _in_turn(threads, one, range(size))
    return jax.tree.map(lambda *values: np.stack(values), *found)


def _in_turn(threads: int, one: Callable[[int], None], which: Any) -> None:
    if threads == 1:
        for k in which:
            one(int(k))
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, map(int, which)):
            pass  # an error of one is raised here


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
