"""Errors for static misuse: they name the argument, what was expected and what came.

Values are never inspected here, only names, shapes, dtypes and structure, so every
check costs nothing inside `jax.jit`.
"""

import difflib
import inspect
import math
import numbers
import operator
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

_LARGEST = float(np.finfo(np.float32).max)
_INT32 = 2**31 - 1


def listing(names: Iterable[Any]) -> str:
    """The names, sorted and quoted, for an error text."""
    return "[" + ", ".join(repr(name) for name in sorted(names, key=str)) + "]"


def kind(got: Any) -> str:
    """What something is, in the words of an error text: for what may be anything."""
    if isinstance(got, jax.Array | np.ndarray | np.generic):
        return f"an array of shape {got.shape}" if got.shape else "a scalar"
    if isinstance(got, bool | int | float | complex | str) or got is None:
        return repr(got)
    if isinstance(got, type):
        return f"the class {got.__name__}"
    if isinstance(got, types.FunctionType):
        return f"the function {got.__name__}"
    return type(got).__name__


def _set(argument: str, names: Any) -> set[Any]:
    try:
        return set(names)
    except TypeError as error:
        raise TypeError(
            f"{argument}: expected names of heads, got {kind(names)}"
        ) from error


def same_names(argument: str, expected: Iterable[str], got: Iterable[str]) -> None:
    """Raises ValueError unless both hold the same names; says which differ."""
    expected, got = set(expected), _set(argument, got)
    if expected == got:
        return
    parts = [f"{argument}: expected the names {listing(expected)}, got {listing(got)}"]
    if expected - got:
        parts.append(f"missing {listing(expected - got)}")
    if got - expected:
        parts.append(f"unknown {listing(got - expected)}")
    raise ValueError("; ".join(parts))


def known_names(argument: str, known: Iterable[str], got: Iterable[str]) -> None:
    """Raises ValueError if a name of `got` is not in `known`; says what is near."""
    known = [*known]
    unknown = _set(argument, got) - set(known)
    if unknown:
        texts = [str(name) for name in known]
        near = {n for u in unknown for n in difflib.get_close_matches(str(u), texts, 1)}
        meant = f", did you mean {listing(near)}" if near else ""
        raise ValueError(
            f"{argument}: unknown names {listing(unknown)}{meant}; expected some of "
            f"{listing(known)}"
        )


def head_names(argument: str, names: Iterable[Any]) -> tuple[str, ...]:
    """The names, sorted; raises unless they are distinct non-empty strings."""
    if isinstance(names, str):
        raise TypeError(
            f"{argument}: expected a sequence of names of heads, got the str {names!r}"
        )
    if not isinstance(names, Iterable) or getattr(names, "shape", None) == ():
        raise TypeError(
            f"{argument}: expected a sequence of names of heads, got {kind(names)}"
        )
    names = list(names)
    for name in names:
        if not isinstance(name, str) or not name:
            raise TypeError(
                f"{argument}: expected names of heads (non-empty str), got {name!r} "
                f"of type {type(name).__name__}"
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{argument}: expected names of heads that a file can hold (UTF-8), "
                f"got {name!r}"
            ) from error
    duplicates = {name for name in names if names.count(name) > 1}
    if duplicates:
        raise ValueError(f"{argument}: duplicate names {listing(duplicates)}")
    if not names:
        raise ValueError(f"{argument}: expected at least one head, got none")
    return tuple(sorted(names))


def mapping(argument: str, got: Any, hint: str = "") -> None:
    """Raises TypeError unless `got` is a mapping from names of heads."""
    if not hasattr(got, "keys"):
        one_each = isinstance(got, Sequence) and not isinstance(got, str)
        if not hint and one_each and not any(isinstance(x, dict | tuple) for x in got):
            hint = "; nothing goes by position: hw.named(names, sequence) names it"
        raise TypeError(
            f"{argument}: expected a dict by name of head, got {kind(got)}{hint}"
        )


def array(argument: str, got: Any) -> jax.Array:
    """`got` as an array of real numbers or bools; raises TypeError if it is none."""
    try:
        found = jnp.asarray(got)
    except (OverflowError, TypeError, ValueError) as error:
        raise TypeError(f"{argument}: expected an array, got {kind(got)}") from error
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise TypeError(f"{argument}: expected real numbers, got {found.dtype}")
    return found


def broadcastable(argument: str, got: Any, shape: Sequence[int]) -> None:
    """Raises ValueError unless a number or array can meet an array of this shape."""
    try:
        np.broadcast_shapes(np.shape(got), tuple(shape))
    except ValueError as error:
        raise ValueError(
            f"{argument}: expected a scalar, or an array for values of shape "
            f"{tuple(shape)}, got shape {np.shape(got)}"
        ) from error


def doubles(argument: str, got: Any) -> np.ndarray:
    """`got` as float64 on the host; raises TypeError if it is no array of numbers."""
    try:
        return np.array(got, np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise TypeError(
            f"{argument}: expected an array of numbers, got {kind(got)}"
        ) from error


def key(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` is a key of `jax.random`, of either kind."""
    dtype = getattr(got, "dtype", None)
    if dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32
    ):
        return
    raise TypeError(
        f"{argument}: expected a key, such as jax.random.key(0), got {kind(got)}"
    )


def scalar(argument: str, got: Any) -> jax.Array:
    """`got` as a floating scalar array; raises with its shape or dtype otherwise."""
    try:
        array = jnp.asarray(got)
    except (OverflowError, TypeError, ValueError) as error:
        hint = "; hw.balancers.scheduled takes schedules" if callable(got) else ""
        raise TypeError(
            f"{argument}: expected a scalar, got {type(got).__name__}{hint}"
        ) from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{argument}: expected a real scalar, got {array.dtype}")
    if array.shape != ():
        raise ValueError(f"{argument}: expected a scalar, got shape {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    return array


def choice(argument: str, options: Sequence[Any], got: Any) -> None:
    """Raises ValueError unless `got` is one of the options."""
    if isinstance(got, jax.Array | np.ndarray) or got not in options:
        raise ValueError(f"{argument}: expected one of {list(options)}, got {got!r}")


def positive_int(argument: str, got: Any) -> int:
    """`got` as an int; raises ValueError unless it is one of at least 1."""
    return _least_int(argument, got, 1, "a positive int")


def nonnegative_int(argument: str, got: Any, most: int = _INT32) -> int:
    """`got` as an int; raises ValueError unless it is one of at least 0."""
    return _least_int(argument, got, 0, "an int >= 0", most)


def integer(argument: str, got: Any) -> int:
    """`got` as an int; raises ValueError unless it is one."""
    return _least_int(argument, got, -math.inf, "an int")


def positive_ints(argument: str, got: Iterable[Any]) -> tuple[int, ...]:
    """`got` as ints of at least 1; raises unless it is a sequence of such."""
    listed = isinstance(got, Sequence) or (isinstance(got, np.ndarray) and got.ndim)
    if not listed or isinstance(got, str | bytes):
        raise TypeError(f"{argument}: expected a sequence of ints, got {kind(got)}")
    return tuple(positive_int(argument, number) for number in np.asarray(got, object))


def label(argument: str, got: Any) -> None:
    """Raises unless `got` is an int, or an array of one, which may be traced."""
    if not isinstance(got, jax.Array):
        integer(argument, got)
    elif got.shape != () or not jnp.issubdtype(got.dtype, jnp.integer):
        raise ValueError(f"{argument}: expected an int, got {got.dtype} {got.shape}")


def distinct_ints(argument: str, got: Iterable[Any]) -> list[int]:
    """`got` as ints; raises ValueError unless it is one or more, all different."""
    ints = [integer(f"{argument}[{i}]", number) for i, number in enumerate(got)]
    if not ints or len(set(ints)) != len(ints):
        raise ValueError(f"{argument}: expected one or more distinct ints, got {ints}")
    return ints


def positive(argument: str, got: Any, axes: bool = False) -> None:
    """Raises ValueError for a number that is not > 0 and finite; see `is_static`."""
    in_range(argument, got, "a positive number", lambda x: 0 < x < math.inf, axes)


def nonnegative(argument: str, got: Any, axes: bool = False) -> None:
    """Raises ValueError for a number below 0, inf or NaN; see `is_static`."""
    in_range(argument, got, "a number >= 0", lambda x: 0 <= x < math.inf, axes)


def between(
    argument: str, low: float, high: float, got: Any, axes: bool = False
) -> None:
    """Raises ValueError for a number outside [low, high] or NaN; see `is_static`."""
    expected = f"a number in [{low}, {high}]"
    in_range(argument, got, expected, lambda x: low <= x <= high, axes)


def fraction(argument: str, got: Any, axes: bool = False) -> None:
    """Raises ValueError for a number that is not in [0, 1]; see `is_static`."""
    between(argument, 0, 1, got, axes)


def number(argument: str, got: Any) -> None:
    """Raises ValueError for a number that is not finite; see `is_static`."""
    in_range(argument, got, "a finite number", math.isfinite)


def below_one(argument: str, got: Any) -> None:
    """Raises ValueError for a number that is not in [0, 1); see `is_static`."""
    in_range(argument, got, "a number in [0, 1)", lambda x: 0 <= x < 1)


def boolean(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` is True or False."""
    if not isinstance(got, bool | np.bool_):
        raise TypeError(f"{argument}: expected True or False, got {got!r}")


def text(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` is a str."""
    if not isinstance(got, str):
        raise TypeError(f"{argument}: expected a str, got {kind(got)}")


def function(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` can be called."""
    if not callable(got):
        raise TypeError(f"{argument}: expected a callable, got {type(got).__name__}")


def takes(argument: str, got: Any, *names: str) -> None:
    """Raises TypeError unless `got` is a function that takes such arguments."""
    function(argument, got)
    try:
        signature = inspect.signature(got)
    except (TypeError, ValueError):  # it does not tell
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        name = getattr(got, "__name__", type(got).__name__)
        raise TypeError(
            f"{argument}: expected a function of ({', '.join(names)}), got "
            f"{name}{signature}"
        ) from error


def returned(argument: str, got: Any) -> None:
    """Raises TypeError unless what a function of the caller returned is an array."""
    if not hasattr(got, "shape"):
        raise TypeError(f"{argument}: expected it to return an array, got {kind(got)}")


def call_it(got: Any) -> str:
    """What is said of a factory in place of what it makes; nothing of all else."""
    if isinstance(got, types.FunctionType):
        return f"; call it: {got.__name__}(...)"
    return ""


def balancer(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` is a balancer; a factory must be called."""
    if all(hasattr(got, field) for field in ("init", "update", "needs")):
        return
    hint = call_it(got)
    if isinstance(got, str):
        hint = "; call its factory, such as hw.balancers.mgda()"
    elif _is_optimizer(got):
        hint = ", which is an optimizer"
    raise TypeError(
        f"{argument}: expected a Balancer (of hw.balancers), got {kind(got)}{hint}"
    )


def optimizer(argument: str, got: Any, *, optional: bool = False) -> None:
    """Raises TypeError unless `got` is an optimiser of optax; None may be one too."""
    if _is_optimizer(got) or (optional and got is None):
        return
    hint = call_it(got)
    if hasattr(got, "tx"):
        hint = "; give the one that it was made of, its `tx`"
    elif hasattr(got, "needs"):
        hint = " (the optimizer comes before the balancer)"
    expected = "an optax.GradientTransformation" + (" or None" if optional else "")
    raise TypeError(f"{argument}: expected {expected}, got {kind(got)}{hint}")


def _is_optimizer(got: Any) -> bool:
    """Of optax, or a class of its own like `optax.MultiSteps`: no tuple of ours."""
    if isinstance(got, tuple):
        return isinstance(got, optax.GradientTransformation)
    functions = (getattr(got, field, None) for field in ("init", "update"))
    return not isinstance(got, type) and all(map(callable, functions))


def is_static(got: Any) -> bool:
    """Whether a number is one of Python or NumPy: arrays of JAX may be traced."""
    return isinstance(got, numbers.Real | np.number | np.bool_)


def in_range(
    argument: str,
    got: Any,
    expected: str,
    inside: Callable[[Any], bool],
    axes: bool = False,
) -> None:
    """Raises ValueError for a static number outside a range that has no check here.

    An array must be a scalar of real numbers, or any with `axes`.
    """
    if isinstance(got, np.ndarray) and got.shape == ():
        got = got[()]
    if isinstance(got, jax.Array | np.ndarray):
        kinds = (jnp.floating, jnp.integer)
        fits = any(jnp.issubdtype(got.dtype, numbers) for numbers in kinds)
        fits = fits and (axes or got.shape == ())
    else:
        fits = is_static(got) and not isinstance(got, bool | np.bool_)
        fits = fits and inside(_in_float32(got))
    if not fits:
        raise ValueError(f"{argument}: expected {expected}, got {_short(got)}")


def _in_float32(number: Any) -> float:
    """As a float, with inf where float32 has none so large; NaN for an int of int64."""
    if isinstance(number, numbers.Integral) and abs(int(number)) > _INT32:
        return math.nan
    found = float(number)
    return math.copysign(math.inf, found) if abs(found) > _LARGEST else found


def _short(got: Any) -> str:
    text = kind(got) if isinstance(got, jax.Array | np.ndarray) else repr(got)
    return text if len(text) < 80 else f"{text[:30]} ... of {len(text)} digits"


def _least_int(
    argument: str, got: Any, least: float, expected: str, most: int = _INT32
) -> int:
    try:
        number = operator.index(got)
    except TypeError:
        number = None
    if number is None or number < least or isinstance(got, bool | np.bool_):
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")
    if abs(number) > most:
        raise ValueError(f"{argument}: expected {expected} up to {most}, got {got!r}")
    return number
