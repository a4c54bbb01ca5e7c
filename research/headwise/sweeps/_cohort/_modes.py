"""How the members of a cohort run: one interface, five modes.

=========  =====================================================================
vmap       all members in one program, a step of all at a time
scan       one compiled loop of steps, for one member after the other
loop       one compiled step, called from Python, for one member after the other
threads    scans (loops, where a step is slow in compiled loops) side by side
shard      the members split over devices, those of a device as by vmap
=========  =====================================================================

How many steps a chunk has, who goes them and when they report are arguments of the
compiled program: they change no bit and compile nothing anew. In
scan, loop and threads the program knows one member, so that company changes no bit
either; in vmap and shard it changes roundings, as another size of cohort does.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _program as _given
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _modes_in_turn
from headwise.sweeps._cohort import _modes_together
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports

MODES = ("vmap", "scan", "loop", "threads", "shard")
_NEVER = 2**31 - 1


class Cohort(NamedTuple):
    """Trials that run as one program."""

    mode: str
    places: int
    """K: members; more than were asked for where devices must have equally many."""
    at_once: int
    """How many of `compiled()["advance"]` run side by side."""
    parts: _program.Parts
    start: Callable[[Any], _members.Members]
    """`start(stacked trials)` -> members; copies that are not alive where trials are
    fewer than places."""
    advance: Callable[..., tuple[_members.Members, _reports.Reports]]
    """`advance(members, number, until=None)` -> (members, reports): so many steps at
    most of each member that is alive and at a step before `until` (an int, or one a
    member; None: the last). The arrays of the members are given for good."""
    finish: Callable[[_members.Members], Mapping[str, Any]]
    """`finish(members)` -> {metric: [K]}, on the host."""
    mark: Callable[[_members.Members, Any], _members.Members]
    """`mark(members, which)` -> members, with a link more in the digests of `which`."""
    compiled: Callable[..., dict[str, jax.stages.Compiled]]
    """`compiled(*names)` -> programs by name, compiled if they were not (every one, if
    none is named): `start`, `advance`, `finish`; of one member in scan, loop and
    threads, in loops also `begin` and `end`, and `advance` is
    one step."""


def cohort(
    program: _given.Program,
    mode: str,
    like_trials: Any,
    *,
    every: int | None = None,
    steps: int | None = None,
    threads: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Cohort:
    """Runs trials of such types, so many, in a mode.

    Args:
        program: three pure functions.
        mode: of `MODES`.
        like_trials: {"weights": {head: [K]}, "seed": [K], NAME: [K]}; only types are
            looked at.
        every: the last of so many steps reports; None: none but the very last.
        steps: of a trial: the last reports, and no member does more. None: no end.
        threads: at most; None: one a core.
        devices: of mode shard; None: all.

    Returns:
        A `Cohort`. What it compiles it shares with all others of this program, mode and
        size, whatever `every` and `steps` are.

    Raises:
        TypeError, ValueError: the program is none, or the mode unknown.
    """
    _checks.choice("mode", MODES, mode)
    size = _size(like_trials)
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like_trials
    )
    parts = _program.parts(program, one)
    on = None
    if mode == "shard":
        on = tuple(jax.devices() if devices is None else devices)
    key = mode, size, threads, on
    if key not in parts.programs:
        if mode in ("vmap", "shard"):
            ways = _modes_together.ways(parts, one, size, on)
        else:
            ways = _modes_in_turn.ways(parts, one, size, mode, threads)
        parts.programs[key] = ways
    ways = parts.programs[key]
    often, last = (
        _NEVER if number is None else _checks.positive_int(name, number)
        for name, number in (("every", every), ("steps", steps))
    )
    most = ways.room * often

    def start(trials: Any) -> _members.Members:
        return ways.start(jax.tree.map(np.asarray, trials))

    def advance(
        members: _members.Members, number: int, until: Any = None
    ) -> tuple[_members.Members, _reports.Reports]:
        members = ways.ready(members)
        ends = np.broadcast_to(np.asarray(last if until is None else until), (size,))
        ends = np.concatenate([np.minimum(ends, last), np.zeros(ways.places - size)])
        ends = np.minimum(ends, np.asarray(members.t) + number)
        pieces, blocks = [_reports.none(parts.report, (ways.places,))], []
        while True:
            alive, t = jax.device_get((members.alive, members.t))
            left = np.where(alive, ends - t, 0)
            active, part = left > 0, most
            if not active.any():
                break
            if parts.stream is not None:  # who shares a batch is at one step
                at = int(t[active].min())
                active &= t == at
                part = min(most, parts.stream.room - at % parts.stream.room)
                blocks = [parts.stream.block(at, last, ways.sharding)]
            # All that go steps go equally many, so that none waits beside the others.
            part = int(min(part, left[active].min()))
            limits = _reports.Limits(
                np.int32(part), active, np.int32(often), np.int32(last - 1)
            )
            members, rows = ways.advance(members, limits, *blocks)
            pieces.append(rows)
        return members, _reports.told(parts.report, _reports.joined(pieces), size)

    def finish(members: _members.Members) -> Mapping[str, Any]:
        found = ways.finish(ways.ready(members))
        return jax.tree.map(lambda x: np.asarray(x)[:size], found)

    def mark(members: _members.Members, which: Any) -> _members.Members:
        chosen = np.zeros(ways.places, bool)
        chosen[:size] = which
        return _members.digested(ways.ready(members), jnp.asarray(chosen))

    return Cohort(
        mode=mode,
        places=ways.places,
        at_once=ways.at_once,
        parts=parts,
        start=start,
        advance=advance,
        finish=finish,
        mark=mark,
        compiled=ways.compiled,
    )


def _size(trials: Any) -> int:
    sizes = {x.shape[0] if x.shape else 0 for x in jax.tree.leaves(trials)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "trials: expected arrays with one leading axis of at least one trial, got "
            f"{jax.tree.map(lambda x: x.shape, trials)}"
        )
    return sizes.pop()
