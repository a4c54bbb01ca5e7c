"""What `validate` returned, as plain numbers."""

import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def validation(validate: Callable[[Any, Any], Any], state: Any) -> dict[str, Any]:
    """`validate(params, rest)` as nested dicts of floats, None for what is not finite.

    Args:
        validate: returns {name: number}; a metric of `hw.metrics` stands for its
            `value`.
        state: of the run.

    Raises:
        TypeError, ValueError: it returned something else (the metric is named).
    """
    got = validate(state.params, state.rest)
    if not isinstance(got, Mapping):
        raise TypeError(f"validate: expected {{name: scalar}}, got {_kind(got)}")
    return _plain("", jax.device_get(dict(got)))


def _plain(path: str, got: Any) -> Any:
    if isinstance(got, Mapping):
        prefix = f"{path}/" if path else ""
        return {name: _plain(f"{prefix}{name}", x) for name, x in got.items()}
    value = got.value if isinstance(got, tuple) and hasattr(got, "value") else got
    is_number = hasattr(value, "dtype") or isinstance(value, bool | int | float)
    expected = f"validate: metric {path!r}: expected a scalar or a metric of one value"
    if not is_number or not _is_real(value):
        raise TypeError(f"{expected}, got {_kind(got)}")
    if np.shape(value) != ():
        hint = "; of a metric with one value a class: its .mean"
        raise ValueError(
            f"{expected}, got {_kind(got)} of shape {np.shape(value)}"
            + (hint if value is not got else "")
        )
    number = float(value)
    return number if math.isfinite(number) else None


def _is_real(value: Any) -> bool:
    dtype = value.dtype if hasattr(value, "dtype") else np.result_type(type(value))
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def _kind(got: Any) -> str:
    return "None" if got is None else type(got).__name__
