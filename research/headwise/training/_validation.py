"""What `validate` returned, as plain numbers."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from headwise import _hosts
from headwise import _means
from headwise import _scalars


def validation(validate: Callable[[Any, Any], Any], state: Any) -> dict[str, Any]:
    """`validate(params, rest)` as nested dicts of floats, None for what is not finite.

    Args:
        validate: returns {name: number}; a metric of `hw.metrics` stands for its
            `value`, one that is made of several for these by name, and a head of
            `hw.Means` that has no data for None.
        state: of the run.

    Raises:
        TypeError, ValueError: it returned something else (the metric is named).
    """
    got = validate(state.params, state.rest)
    if not isinstance(got, Mapping):
        raise TypeError(f"validate: expected {{name: scalar}}, got {_kind(got)}")
    got = _present(got)
    return _plain("", _in_order(got, _hosts.fetched(got)))


def _present(got: Any) -> Any:
    """The same with NaN for heads without data."""
    if not isinstance(got, Mapping):
        return got
    here = _means.tally_of(got).present
    absent = {name for name in here if here[name] == 0}
    return {n: math.nan if n in absent else _present(x) for n, x in got.items()}


def _in_order(like: Any, got: Any) -> Any:
    """Nested dicts in the order in which they were made: pytrees are sorted by name."""
    if not isinstance(like, Mapping):
        return got
    return {name: _in_order(x, got[name]) for name, x in like.items()}


def _plain(path: str, got: Any) -> Any:
    value = _scalars.scalars(got) if isinstance(got, tuple) else got
    if isinstance(value, Mapping):
        prefix = f"{path}/" if path else ""
        return {name: _plain(f"{prefix}{name}", x) for name, x in value.items()}
    is_number = hasattr(value, "dtype") or isinstance(value, bool | int | float)
    expected = f"validate: metric {path!r}: expected a scalar or a metric of one value"
    if not is_number or not _is_real(value):
        raise TypeError(f"{expected}, got {_kind(got)}")
    if np.shape(value) != ():
        raise ValueError(
            f"{expected}, got {_kind(got)} of shape {np.shape(value)}"
            + (f"; {_scalars.CLASSES}" if value is not got else "")
        )
    number = float(value)
    return number if math.isfinite(number) else None


def _is_real(value: Any) -> bool:
    dtype = value.dtype if hasattr(value, "dtype") else np.result_type(type(value))
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _kind(got: Any) -> str:
    return "None" if got is None else type(got).__name__
