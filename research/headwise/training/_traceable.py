"""Batches made on the device: `batches(t)` traced, where it is a function of t alone.

Tracing runs the Python of a function once, so what it takes from elsewhere (a random
number of NumPy, the next of an iterator) would stand still. Such a function is found
out, and called for every step as it stands; what it has given meanwhile is not lost.
"""

import random
import weakref
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from headwise import _fingerprint
from headwise import _hosts
from headwise.training import _batch_programs
from headwise.training import _chunks
from headwise.training import _draws

_STEP = jax.ShapeDtypeStruct((), jnp.int32, weak_type=True)
"""The number of a step, as Python has it."""


class Called(NamedTuple):
    """A function that has to be called for every step."""

    why: str
    given: list[Any]
    """The batches of the first steps, which it was asked for while it was traced."""
    still: list[Any] | None = None
    """Leaves that are the same array in every step; None for others. None: unknown."""


class _Trace(NamedTuple):
    program: core.ClosedJaxpr | None
    structure: Any
    leaves: list[Any]
    """What does not depend on the step as it came, None for the rest."""
    text: str
    """Of the program, hashed."""

    def batch(self, t: int) -> Any:
        """What the call would have given without being traced."""
        made = iter(())
        if self.program is not None:
            made = iter(core.jaxpr_as_fun(self.program)(jnp.int32(t)))
        leaves = [next(made) if x is _MADE else x for x in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)

    def stands(self) -> bool:
        """Whether some leaf does not depend on the step."""
        if self.program is None or any(x is not _MADE for x in self.leaves):
            return True
        jaxpr = self.program.jaxpr
        moves = set(jaxpr.invars)
        for equation in jaxpr.eqns:
            if any(v in moves for v in equation.invars if isinstance(v, core.Var)):
                moves.update(equation.outvars)
        return not all(isinstance(v, core.Var) and v in moves for v in jaxpr.outvars)

    def still(self) -> list[Any]:
        """The leaves that are there without the call and nobody can write to."""
        return [
            x if isinstance(x, jax.Array | float | int) else None for x in self.leaves
        ]


_MADE = object()


def trace(
    batches: Callable[[int], Any], first: int, steps: int, most: int
) -> _batch_programs.Traced | Called:
    """A function of the step as a program from `first` to `steps`, if it can be one."""
    if _draws.draws(batches):
        return Called("it takes from an iterator or a random generator", [])
    drawn = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        one = _trace(batches)
    except Exception as error:
        np.random.set_state(drawn[0])  # noqa: NPY002
        random.setstate(drawn[1])
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Called(f"it cannot be traced ({reason[:100]})", [])
    known = _is_known(batches, one, steps)
    two = one if known else _trace(batches)
    if not known and not _same(one, two):
        given = [trace.batch(first + i) for i, trace in enumerate((one, two))]
        return Called("it gives something else in each call", given[: steps - first])
    if one.stands():
        why = "what it gives does not depend on the step alone"
        return Called(why, [], one.still())
    assert one.program is not None
    made = _batch_programs.made(one.program, one.text, one.structure, most)
    if isinstance(made, str):
        return Called(made, [])
    if not known:
        last = made.one(steps - 1)
        # In a program `shard_batch` takes the whole batch, outside of it a part.
        again = jax.jit(lambda: batches(steps - 1)) if _hosts.spans(last) else None
        if not _agree(last, batches(steps - 1) if again is None else again()):
            return Called("it gives other numbers when it is traced", [])
        _know(batches, one, steps)
    return made


class _Known(NamedTuple):
    """What a function was when a second trace and a call agreed with the first."""

    steps: int
    structure: Any
    text: str
    arrays: list[weakref.ref]
    """What its program holds."""


_KNOWN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""{function: what is known of it}: one that is used again is traced once."""


def _know(batches: Callable[[int], Any], one: _Trace, steps: int) -> None:
    try:
        arrays = [weakref.ref(x) for x in _batch_programs.constants(one.program)]
        _KNOWN[batches] = _Known(steps, one.structure, one.text, arrays)
    except TypeError:  # there is no such reference, which is asked for anew each time
        return


def _is_known(batches: Callable[[int], Any], one: _Trace, steps: int) -> bool:
    """Whether it was the same program of the same arrays, for as many steps."""
    try:
        known = _KNOWN.get(batches)
    except TypeError:
        return False
    if known is None or steps > known.steps or one.program is None:
        return False
    if _hosts.several():  # one that knows less would look alone
        return False
    arrays = _batch_programs.constants(one.program)
    return (
        (known.structure, known.text) == (one.structure, one.text)
        and len(arrays) == len(known.arrays)
        and all(ref() is x for ref, x in zip(known.arrays, arrays, strict=True))
    )


def _trace(batches: Callable[[int], Any]) -> _Trace:
    found: list[Any] = []

    def moving(t: Any) -> list[Any]:
        leaves, structure = jax.tree.flatten(batches(t))
        kept = [_MADE if isinstance(x, jax.core.Tracer) else x for x in leaves]
        found[:] = structure, kept
        return [x for x in leaves if isinstance(x, jax.core.Tracer)]

    program = jax.make_jaxpr(moving)(_STEP)
    structure, leaves = found
    made = program if program.jaxpr.outvars else None
    return _Trace(made, structure, leaves, _fingerprint.hashed(str(made)))


def _same(one: _Trace, two: _Trace) -> bool:
    """Whether two traces are the same program of the same arrays."""
    if one.structure != two.structure or len(one.leaves) != len(two.leaves):
        return False
    mine, others = (
        _batch_programs.constants(trace.program) + trace.leaves for trace in (one, two)
    )
    return (
        one.text == two.text
        and len(mine) == len(others)
        and all(a is b or _equal(a, b) for a, b in zip(mine, others, strict=True))
    )


def _equal(a: Any, b: Any) -> bool:
    if a is _MADE or b is _MADE:
        return False
    a, b = map(_numbers, (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _numbers(x: Any) -> np.ndarray:
    """Of an array that several processes hold, those of this one."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        parts = [np.ravel(shard.data) for shard in x.addressable_shards]
        return np.concatenate(parts)
    return np.asarray(x)


def _agree(made: Any, called: Any) -> bool:
    """Whether they are the same but for rounding: a few numbers may fall otherwise.

    Python's whole numbers have no end, those of a program are of 32 bits; and a
    function may ask whether its step is one of Python's.
    """
    one, other = _chunks.kind(made), _chunks.kind(called)
    if one != other:
        return False
    leaves = map(jax.tree.leaves, _hosts.fetched((made, called)))
    for a, b in zip(*leaves, strict=True):
        a, b = (np.asarray(x).astype(np.complex128) for x in (a, b))
        size = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        close = np.isclose(a, b, rtol=1e-3, atol=1e-3 * size, equal_nan=True)
        if close.size and np.mean(close) < 0.99:
            return False
    return True
