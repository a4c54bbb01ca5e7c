"""One member after the other, by a program that knows one; or several, in threads.

A member that has stopped costs nothing, and one program is enough for all sizes.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from headwise import _xla
from headwise.sweeps._cohort import _chunk
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _one_by_one
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports
from headwise.sweeps._cohort import _stream
from headwise.sweeps._cohort import _ways


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
        parts.programs[of_one] = _one_by_one.programs(parts, trial, of_one)
    compiler, room, at_a_call = parts.programs[of_one]
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
        members: _members.Members, limits: _reports.Limits, *blocks: _stream.Block
    ) -> tuple[_members.Members, _reports.Rows]:
        run, box = compiler["advance"], _Box(members)
        found = []

        def piece(members: _members.Members, number: int, active: np.ndarray) -> Any:
            mine = limits._replace(number=np.int32(number), active=active)
            if looped:
                mine = jax.device_put(mine)
                carry = compiler["begin"](members)
                for _ in range(number):
                    carry = run(parts.arrays, carry, mine, *blocks)
                members, rows, broke = compiler["end"](members, carry, mine)
                rows = jax.tree.map(lambda x: x[:, None], jax.device_get(rows))
            else:
                members, rows, broke = run(parts.arrays, members, mine, *blocks)
            return members, _reports.fetched(rows), np.asarray(broke)

        def some(which: np.ndarray) -> None:
            active = np.arange(at_a_call) < len(which)
            places = np.full(at_a_call, size)  # where there is no member: it goes back
            places[: len(which)] = which
            if looped:
                places, active = places[0], active[0]
            taken = box.take(places)
            taken, rows = _chunk.through(piece, taken, int(limits.number), active)
            box.put(places, taken, size)
            found.append((which, _reports.joined(rows)))

        goes_on = np.flatnonzero(limits.active)
        calls = -(-len(goes_on) // at_a_call)
        calls = min(-(-calls // threads) * threads, len(goes_on))  # for each as many
        in_turn(some, np.array_split(goes_on, calls))
        none = _reports.none(parts.report, (size,))
        return box.members, _reports.side_by_side(none, found)

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


class _Box:
    """Members that several threads take from and put back to, each its own."""

    def __init__(self, members: Any):
        self.members: Any = members  # None: none yet
        self._lock = threading.Lock()

    def take(self, k: Any) -> _members.Members:
        with self._lock:
            return _members.take(self.members, k)

    def put(self, k: Any, member: _members.Members, size: int) -> None:
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


def _in_turn(threads: int, one: Callable[[Any], None], which: Any) -> None:
    if threads == 1:
        for k in which:
            one(k)
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, which):
            pass  # an error of one is raised here


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
