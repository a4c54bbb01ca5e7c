"""A program traced: three functions as data, and what is said of one that is wrong."""

import logging
import weakref
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from headwise import _checks
from headwise import _program
from headwise import _records
from headwise import _scalars
from headwise import _traced
from headwise.sweeps._cohort import _staying
from headwise.sweeps._cohort import _stream
from headwise.sweeps._cohort import _told
from headwise.typing import Array

_LOG = logging.getLogger("headwise")

CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What JAX raises where a traced number is made one of Python or NumPy."""


class Parts(NamedTuple):
    """What runs a program: the same for all modes and sizes, each traced once."""

    init: _traced.Traced
    step: _traced.Traced
    """Of (state, t), and the batch of a stream, to (state, `_told.Told`)."""
    evaluate: _traced.Traced | None
    """None: it cannot be traced, and is called as it stands."""
    call_evaluate: Callable[[Any], Mapping[str, Any]]
    state: Any
    """The types of a state."""
    report: Any
    """The types of a report."""
    heads: tuple[str, ...]
    """Those that a report has values of, in the order of `_told.Told.bad`."""
    leaves: tuple[str, ...]
    """The paths of the state's arrays."""
    passing: tuple[int, ...]
    """Numbers of those in which what a step breaks may be finite again after another,
    so that each step is looked at (`_staying`)."""
    arrays: dict[str, list[Array]]
    """What each function closes over: given to its programs, not written into them."""
    programs: dict[Any, Any]
    """Made of it, by mode and size."""
    stream: _stream.Stream | None = None
    """Of the batches that steps are given; None: they make their own."""

    def cause(self, index: int) -> str | None:
        """What broke first, in words, of a member's `cause`; None: not known."""
        if index >= 0:
            return f"the value of head {self.heads[index]!r}"
        return None if index == -1 else f"the state's {self.leaves[-2 - index]}"


_PARTS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def parts(program: _program.Program, like: Any) -> Parts:
    """The program for trials of such types, checked.

    Args:
        program: three pure functions.
        like: one trial, of arrays or types; only shapes and dtypes are looked at.

    Raises:
        TypeError, ValueError: which of the functions is wrong, and in what.
    """
    check(program)
    types = jax.tree.map(_type, like)
    try:
        made = _PARTS.setdefault(program.step, {})
    except TypeError:  # cannot be looked up
        return _parts(program, types)
    leaves, structure = jax.tree.flatten(types)
    key = (
        *(program.init, program.evaluate, program.batches),
        structure,
        *((x.shape, x.dtype) for x in leaves),
    )
    if key not in made:
        made[key] = _parts(program, types)
    return made[key]


def check(program: Any) -> None:
    """Raises TypeError unless it is a `Program` of three functions."""
    if not isinstance(program, _program.Program):
        raise TypeError(
            "program: expected hw.sweeps.Program(init, step, evaluate), got "
            f"{_checks.kind(program)}"
        )
    for name, function in program._asdict().items():
        if name == "batches" and function is None:
            continue
        _checks.function(f"program.{name}", function)


def _parts(program: _program.Program, trial: Any) -> Parts:
    init = _trace(
        "init", lambda trial: jax.tree.map(_told.array, program.init(trial)), trial
    )
    state, t = init.shape, jax.ShapeDtypeStruct((), jnp.int32)
    stream = None if program.batches is None else _stream.Stream(program.batches)
    batch = () if stream is None else (stream.like,)
    report: list[Any] = []

    def step(state: Any, t: Array, *batch: Any) -> tuple[Any, _told.Told]:
        result = program.step(state, t, *batch)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(
                "program.step: expected the pair (state, report), got "
                f"{_checks.kind(result)}"
            )
        new, told = jax.tree.map(_told.array, tuple(result))
        _same("program.step", state, new)
        report[:] = [jax.tree.map(_type, _told.numbers(told))]
        return new, _told.told(told)

    measure = program.evaluate  # not the program: `_PARTS` would keep its step alive

    def evaluate(state: Any) -> Any:
        return metrics(measure(state))

    stepped = _trace("step", step, state, t, *batch)
    try:
        evaluated = _traced.traced(evaluate, state)
    except TypeError as error:
        ours = str(error).startswith("program.evaluate: ")  # which may name a tracer
        if ours or not concrete(error):
            raise
        evaluated = None
        _LOG.warning(
            "program.evaluate cannot be traced (it makes a number of Python or NumPy "
            "of an array): it is called for one trial after the other"
        )
    functions = {"init": init, "step": stepped, "evaluate": evaluated}
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    stays = _staying.staying(stepped.program, len(paths))
    return Parts(
        init=init,
        step=stepped,
        evaluate=evaluated,
        call_evaluate=evaluate,
        state=state,
        report=report[0],
        heads=_told.heads(report[0]),
        leaves=tuple(jax.tree_util.keystr(path) or "array" for path, _ in paths),
        passing=tuple(n for n, for_good in enumerate(stays) if not for_good),
        arrays={n: _constants(f) for n, f in functions.items() if f is not None},
        programs={},
        stream=stream,
    )


def called(function: _traced.Traced, arrays: Sequence[Array], *args: Any) -> Any:
    """The result of a function that is given what it closes over."""
    program = core.ClosedJaxpr(function.program.jaxpr, list(arrays))
    return _traced.Traced(program, function.shape)(*args)


def metrics(found: Any) -> Any:
    """Metrics as arrays; NaN for None. Raises unless they are scalars by name."""
    found = _scalars.scalars(found)
    try:
        _records.check_metrics(found)
    except (TypeError, ValueError) as error:
        raise type(error)(f"program.evaluate: {error}") from None
    none = jnp.float32(jnp.nan)
    return jax.tree.map(
        lambda x: none if x is None else _told.array(x),
        found,
        is_leaf=lambda x: x is None,
    )


def concrete(error: BaseException) -> bool:
    """Whether it says that a traced number was made one of Python or NumPy."""
    # NumPy's own words name the tracer that it was given.
    return isinstance(error, CONCRETE) or "Tracer" in str(error)


def _trace(name: str, function: Callable[..., Any], *types: Any) -> _traced.Traced:
    try:
        return _traced.traced(function, *types)
    except TypeError as error:
        if not concrete(error):
            raise
        raise TypeError(
            f"program.{name}: expected a function that can be traced; this one makes a "
            "number of Python or NumPy of an array (float(w), if w > 0, "
            "np.random.default_rng(seed)): keep them arrays (jnp, jnp.where, "
            "jax.random.key(seed)), or give a train(weights, seed) in its place"
        ) from error


def _same(where: str, state: Any, new: Any) -> None:
    """Raises unless a step gives back the type of state that it takes."""
    before, after = (
        {jax.tree_util.keystr(path): x for path, x in leaves}
        for leaves in (
            jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (state, new)
        )
    )
    told = [f"{n or 'it'} is missing" for n in before if n not in after]
    told += [f"{n or 'it'} is new" for n in after if n not in before]
    for name in before.keys() & after.keys():
        was, now = (f"{x.dtype}{list(x.shape)}" for x in (before[name], after[name]))
        if was != now:
            told.append(f"{name or 'it'} was {was}, is {now}")
    trees: list[Any] = [jax.tree.structure(tree) for tree in (state, new)]
    if not told and trees[0] != trees[1]:
        told = [f"{trees[0]} became {trees[1]}"]
    if told:
        raise TypeError(
            f"{where}: expected the same type of state as it was given (as "
            f"program.init made it): {'; '.join(sorted(told)[:5])}"
        )


def _type(x: Any) -> jax.ShapeDtypeStruct:
    aval = jax.typeof(x) if not isinstance(x, jax.ShapeDtypeStruct) else x
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _constants(function: _traced.Traced) -> list[Array]:
    return [jnp.asarray(x) for x in function.program.consts]
