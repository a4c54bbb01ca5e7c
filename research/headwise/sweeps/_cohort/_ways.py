"""What a mode of execution offers, and how its programs are compiled: once, counted."""

import threading
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax

from headwise import _xla
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _reports

COMPILED = "/headwise/sweeps/compiled"
"""The event, with a duration, that `jax.monitoring` tells its listeners of for each
program that is compiled: with `program`, `mode` and `size`."""


class Ways(NamedTuple):
    """How a cohort is run."""

    places: int
    room: int
    """Rows of reports a call of `advance` has room for."""
    at_once: int
    start: Callable[[Any], _members.Members]
    ready: Callable[[_members.Members], _members.Members]
    """Members as they come (of a checkpoint, too few) where the programs want them."""
    advance: Callable[..., tuple[_members.Members, _reports.Rows]]
    """`advance(members, limits)`, with the block of a stream -> (members, rows): of who
    is active, each all of the steps, or up to the one that breaks it; the rows are on
    the host."""
    finish: Callable[[_members.Members], Any]
    compiled: Callable[..., dict[str, jax.stages.Compiled]]
    sharding: Any = None
    """Where what all members share is to lie; None: on the first device."""


class Compiler:
    """Compiles each program once, when it is wanted: also by several threads."""

    def __init__(self, mode: str, size: int):
        self._tags: dict[str, Any] = {"mode": mode, "size": size}
        self._jitted: dict[str, Any] = {}
        self._types: dict[str, tuple[Any, ...]] = {}
        self._done: dict[str, jax.stages.Compiled] = {}
        self._split: dict[str, bool] = {}
        self._lock = threading.Lock()

    def add(self, name: str, function: Any, *types: Any) -> None:
        """A jitted function, for arguments of these types."""
        self._jitted[name], self._types[name] = function, types

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """The program, to be called.

        Where `init` lays a state over several devices, a compiled program, which was
        made for one, will not take it: a jitted function goes by what it gets.
        """
        done, jitted = self.one(name), self._jitted[name]

        def run(*args: Any) -> Any:
            if name not in self._split:
                here = self._tags["mode"] != "shard" and _on_several(args)
                self._split[name] = here
            return (jitted if self._split[name] else done)(*args)

        return run

    def one(self, name: str) -> jax.stages.Compiled:
        """A program, compiled if it was not."""
        with self._lock:
            if name not in self._done:
                options = _xla.once_options() if name == "start" else None
                start = time.perf_counter()
                lowered = self._jitted[name].lower(*self._types[name])
                self._done[name] = lowered.compile(options)
                seconds = time.perf_counter() - start
                jax.monitoring.record_event_duration_secs(
                    COMPILED, seconds, program=name, **self._tags
                )
            return self._done[name]

    def compiled(self, *names: str) -> dict[str, jax.stages.Compiled]:
        """Programs by name; every one if none is named."""
        return {name: self.one(name) for name in names or self._jitted}


def _on_several(args: Any) -> bool:
    """Whether an array is split over devices, or lies on each of them."""
    return any(
        len(x.sharding.device_set) > 1
        for x in jax.tree.leaves(args)
        if isinstance(x, jax.Array)
    )


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
    """The type of an array that lies where it is to stay."""
    sharding = x.sharding if len(x.sharding.device_set) > 1 else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def on_device(members: _members.Members, sharding: Any = None) -> _members.Members:
    """Members whose arrays may be given for good: those of the host are copied."""
    if all(isinstance(x, jax.Array) for x in jax.tree.leaves(members)):
        return members if sharding is None else jax.device_put(members, sharding)
    return jax.device_put(members, sharding, may_alias=False)
