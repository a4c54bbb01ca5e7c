"""Errors for static misuse: they name the argument, what was expected and what came.

Values are never inspected here, only names, shapes, dtypes and structure, so every
check costs nothing inside `jax.jit`.
"""

import math
import numbers
import operator
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def listing(names: Iterable[Any]) -> str:
    """The names, sorted and quoted, for an error text."""
    return "[" + ", ".join(repr(name) for name in sorted(names, key=str)) + "]"


def same_names(argument: str, expected: Iterable[str], got: Iterable[str]) -> None:
    """Raises ValueError unless both hold the same names; says which differ."""
    expected, got = set(expected), set(got)
    if expected == got:
        return
    parts = [f"{argument}: expected the names {listing(expected)}, got {listing(got)}"]
    if expected - got:
        parts.append(f"missing {listing(expected - got)}")
    if got - expected:
        parts.append(f"unknown {listing(got - expected)}")
    raise ValueError("; ".join(parts))


def known_names(argument: str, known: Iterable[str], got: Iterable[str]) -> None:
    """Raises ValueError if `got` holds a name that is not in `known`."""
    unknown = set(got) - set(known)
    if unknown:
        raise ValueError(
            f"{argument}: unknown names {listing(unknown)}; expected some of "
            f"{listing(known)}"
        )


def head_names(argument: str, names: Iterable[Any]) -> tuple[str, ...]:
    """The names, sorted; raises unless they are distinct non-empty strings."""
    if isinstance(names, str):
        raise TypeError(
            f"{argument}: expected a sequence of names of heads, got the str {names!r}"
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


def mapping(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` is a mapping from names of heads."""
    if not hasattr(got, "keys"):
        hint = ""
        one_each = isinstance(got, Sequence) and not isinstance(got, str)
        if one_each and not any(isinstance(x, dict | tuple) for x in got):
            hint = "; nothing goes by position: hw.named(names, sequence) names it"
        raise TypeError(
            f"{argument}: expected a dict by name of head, got "
            f"{type(got).__name__}{hint}"
        )


def scalar(argument: str, got: Any) -> jax.Array:
    """`got` as a floating scalar array; raises with its shape or dtype otherwise."""
    try:
        array = jnp.asarray(got)
    except (TypeError, ValueError) as error:
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
    if got not in options:
        raise ValueError(f"{argument}: expected one of {list(options)}, got {got!r}")


def positive_int(argument: str, got: Any) -> int:
    """`got` as an int; raises ValueError unless it is one of at least 1."""
    return _least_int(argument, got, 1, "a positive int")


def nonnegative_int(argument: str, got: Any) -> int:
    """`got` as an int; raises ValueError unless it is one of at least 0."""
    return _least_int(argument, got, 0, "an int >= 0")


def integer(argument: str, got: Any) -> int:
    """`got` as an int; raises ValueError unless it is one."""
    return _least_int(argument, got, -math.inf, "an int")


def distinct_ints(argument: str, got: Iterable[Any]) -> list[int]:
    """`got` as ints; raises ValueError unless it is one or more, all different."""
    ints = [integer(f"{argument}[{i}]", number) for i, number in enumerate(got)]
    if not ints or len(set(ints)) != len(ints):
        raise ValueError(f"{argument}: expected one or more distinct ints, got {ints}")
    return ints


def positive(argument: str, got: Any) -> None:
    """Raises ValueError for a number that is not > 0 and finite; see `is_static`."""
    in_range(argument, got, "a positive number", lambda x: 0 < x < math.inf)


def nonnegative(argument: str, got: Any) -> None:
    """Raises ValueError for a number below 0, inf or NaN; see `is_static`."""
    in_range(argument, got, "a number >= 0", lambda x: 0 <= x < math.inf)


def between(argument: str, low: float, high: float, got: Any) -> None:
    """Raises ValueError for a number outside [low, high] or NaN; see `is_static`."""
    expected = f"a number in [{low}, {high}]"
    in_range(argument, got, expected, lambda x: low <= x <= high)


def fraction(argument: str, got: Any) -> None:
    """Raises ValueError for a number that is not in [0, 1]; see `is_static`."""
    between(argument, 0, 1, got)


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


def function(argument: str, got: Any) -> None:
    """Raises TypeError unless `got` can be called."""
    if not callable(got):
        raise TypeError(f"{argument}: expected a callable, got {type(got).__name__}")


def is_static(got: Any) -> bool:
    """Whether a number is one of Python or NumPy: arrays of JAX may be traced."""
    return isinstance(got, numbers.Real | np.number | np.bool_)


def in_range(
    argument: str, got: Any, expected: str, inside: Callable[[Any], bool]
) -> None:
    """Raises ValueError for a static number outside a range that has no check here."""
    if isinstance(got, str | bool | np.bool_) or got is None:
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")
    if is_static(got) and not inside(got):
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")


def _least_int(argument: str, got: Any, least: float, expected: str) -> int:
    try:
        number = operator.index(got)
    except TypeError:
        number = None
    if number is None or number < least or isinstance(got, bool | np.bool_):
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")
    return number
