"""What every function here is given: points, which way is better, a reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks

Higher = Sequence[bool] | bool


def table(argument: str, points: Any) -> np.ndarray:
    """Points as [N, M] float64; raises where they are not."""
    rows = _checks.doubles(argument, points)
    if rows.ndim != 2:
        raise ValueError(f"{argument}: expected [N, M], got shape {rows.shape}")
    return rows


def signs(higher: Higher, objectives: int) -> np.ndarray:
    """[M]: 1 where less is better, -1 where more is: points times these are costs."""
    for flag in np.ravel(np.asarray(higher, object)):
        _checks.boolean("higher", flag)
    flags = np.asarray(higher, bool)
    if flags.shape not in ((), (objectives,)):
        raise ValueError(
            f"higher: expected {objectives} flags, got shape {flags.shape}"
        )
    return np.where(np.broadcast_to(flags, (objectives,)), -1.0, 1.0)


def costs(points: Any, higher: Higher, argument: str = "points") -> np.ndarray:
    """Points as [N, M], less is better in all."""
    rows = table(argument, points)
    return rows * signs(higher, rows.shape[1])


def reference(given: Any, objectives: int) -> np.ndarray:
    """A reference point as [M]; raises unless it is finite."""
    at = _checks.doubles("reference", given)
    if at.shape != (objectives,):
        raise ValueError(
            f"reference: expected {objectives} entries, got shape {at.shape}"
        )
    if not np.isfinite(at).all():
        raise ValueError(f"reference: expected finite numbers, got {at.tolist()}")
    return at


def whole(rows: np.ndarray, argument: str = "points") -> np.ndarray:
    """The rows without NaN; raises where there are none."""
    found = rows[~np.isnan(rows).any(axis=1)]
    if not found.size:
        raise ValueError(
            f"{argument}: expected one or more without NaN, got {len(rows)} with it"
            if len(rows) and rows.shape[1]
            else f"{argument}: expected one or more, got shape {rows.shape}"
        )
    return found


def moocore(what: str) -> Any:
    """The library that computes the rest, or an error that says how to get it."""
    try:
        import moocore as library
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{what} needs moocore: pip install "headwise[pareto]"'
        ) from error
    return library
