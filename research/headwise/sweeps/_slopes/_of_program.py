"""The slopes of trials that are one program: forward, or by neighbours."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise._program import Program
from headwise.sweeps._cohort import _stream
from headwise.sweeps._design import _trials
from headwise.sweeps._slopes import _at_end
from headwise.sweeps._slopes import _neighbours
from headwise.sweeps._slopes import _tangents
from headwise.sweeps._slopes import _turns
from headwise.typing import PyTree

_FAR = 100.0
"""A tangent so many times as long as the state: 1 % of a weight moves all of it."""
_DEARER = 1.5
"""Tangents may take so many times the operations of neighbours: they are exact."""
_STEP = jax.ShapeDtypeStruct((), jnp.int32)


class Way(NamedTuple):
    """How the slopes of trials of one program are found; it compiles once for all."""

    program: Program
    carrying: Program | None
    """With tangents; None: it has no forward mode, or none is wanted."""
    heads: tuple[str, ...]
    metrics: dict[str, bool]
    """By name, whether nothing moves it smoothly."""
    steps: int
    method: str
    change: float
    mode: str


def way(
    program: Program,
    rows: _trials.Arrays,
    steps: int,
    method: str,
    change: float,
    mode: str,
) -> Way:
    """That of trials like some, stacked."""
    heads = tuple(sorted(rows["weights"]))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), rows)
    state = jax.eval_shape(program.init, like)
    metrics = _tangents.without_derivative(program, state)
    carrying = _tangents.carrying(program, heads)
    forward = method != "differences" and _goes_forward(program, carrying, like, method)
    along = carrying if forward else None
    return Way(program, along, heads, metrics, steps, method, change, mode)


def of(way: Way, trials: list[_trials.Trial], rows: _trials.Arrays) -> _turns.Slopes:
    """The slopes of trials that are one program."""
    program, carrying, heads, metrics, steps, method, change, mode = way
    names, flat = tuple(metrics), tuple(metrics.values())
    shape = (len(trials), len(names))
    forward = np.zeros(shape, bool)
    values, found = np.full(shape, np.nan), np.full((*shape, len(heads)), np.nan)
    reach, notes = np.full((len(trials), len(heads)), np.nan), []
    if carrying is not None:
        ends = _at_end.of(carrying, rows, steps, mode)
        values = _columns(ends.metrics["values"], names)
        slopes = [_columns(ends.metrics["slopes"][head], names) for head in heads]
        found, reach = np.stack(slopes, axis=2), _columns(ends.metrics["reach"], heads)
        over = np.array([_tangents.is_of_them(cause) for cause in ends.broke])
        diverged = np.array([cause is not None for cause in ends.broke]) & ~over
        values[over | diverged] = found[over | diverged] = np.nan
        reach[over], reach[diverged] = np.inf, np.nan
        far = ~(reach.max(axis=1) <= _FAR) & ~diverged
        forward = np.full(shape, True)
        if method == "auto":
            forward = diverged[:, None] | (~far[:, None] & ~np.array(flat))
        notes = _turns.notes(names, flat, trials, reach, far, method)
    again = np.flatnonzero(~forward.all(axis=1))
    if len(again):
        near, who = _neighbours.of(
            jax.tree.map(lambda x: x[again], rows), heads, change
        )
        ends = _at_end.of(program, near, steps, mode)
        near_values = _columns(_tangents.flat(ends.metrics), names)
        near_values[[cause is not None for cause in ends.broke]] = np.nan
        wanted = ~forward[again]
        values[again] = np.where(wanted, near_values[: len(again)], values[again])
        by_change = _neighbours.slopes(near, heads, who, near_values)
        found[again] = np.where(wanted[:, :, None], by_change, found[again])
    found[~np.isfinite(found) | ~np.isfinite(values)[:, :, None]] = np.nan
    return _turns.Slopes(
        tuple(trials), names, heads, values, found, reach, forward, tuple(notes)
    )


def _columns(by_name: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """[K, names], a copy in float64."""
    return np.stack([np.asarray(by_name[n], np.float64) for n in names], axis=1)


def _goes_forward(
    program: Program, carrying: Program, like: PyTree, method: str
) -> bool:
    """Whether there is a forward mode, and unless it is asked for, a cheap one."""
    try:
        carried = jax.eval_shape(carrying.init, like)
        # Lowered, since a trace alone does not say all.
        batch = _stream.typed(program.batches)
        operations = _operations(carrying.step, carried, *batch)
        jax.jit(carrying.init).lower(like)
        jax.jit(carrying.evaluate).lower(carried)
    except (TypeError, NotImplementedError):
        if method == "forward":
            raise
        return False
    neighbours = 1 + 2 * len(like["weights"])
    dear = _DEARER * neighbours * _operations(program.step, carried.state, *batch)
    return method == "forward" or operations <= dear


def _operations(step: Callable, state: PyTree, *batch: PyTree) -> float:
    """Of one step, counted before it is compiled; 0 where nobody counts."""
    lowered = jax.jit(step).lower(state, _STEP, *batch)
    return (lowered.cost_analysis() or {}).get("flops", 0.0)
