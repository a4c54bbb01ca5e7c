"""Weights as numbers: which a float32 can hold, as which decimals they are kept."""

import contextlib
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks

Design = dict[str, np.ndarray]
SMALLEST, LARGEST = (float(x) for x in (np.finfo("f4").tiny, np.finfo("f4").max))


def columns(names: Sequence[str], points: Any) -> Design:
    """A design of points [K, H], the names in their order."""
    table = np.asarray(points, np.float32).reshape(-1, len(names))
    return {name: table[:, i] for i, name in enumerate(names)}


def short(points: Any) -> np.ndarray:
    """Numbers that were computed, at seven digits: what is drawn needs no more."""
    given = np.asarray(points, np.float64)
    return np.array([float(f"{x:.7g}") for x in given.flat]).reshape(given.shape)


def decimal(number: Any) -> float:
    """A number as a float of Python, at full precision.

    A float32 becomes the shortest decimal that is no other float32.

    Example:
        >>> import numpy as np
        >>> decimal(np.float32(0.1)), decimal(np.float32(1) / 3), decimal(0.1)
        (0.1, 0.33333334, 0.1)
    """
    if getattr(number, "dtype", None) == np.float32:
        return float(str(np.float32(number)))
    return float(number)


def ends(
    ranges: Mapping[str, tuple[float, float]], name: str = "ranges"
) -> dict[str, tuple[float, float]]:
    """The ranges as floats; ValueError unless both ends are positive weights."""
    found = {}
    for head, pair in ranges.items():
        argument = f"{name}[{head!r}]"
        if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
            raise ValueError(f"{argument}: expected (lowest, highest), got {pair!r}")
        for end, got in enumerate(pair):
            _checks.positive(f"{argument}[{end}]", got)
        lowest, highest = weights(argument, pair)
        found[head] = (lowest, highest)
    return found


def weights(argument: str, got: Any) -> list[float]:
    """Weights as floats; ValueError for one that a program would not take as it is."""
    no_list = isinstance(got, str | bytes | Mapping) or not hasattr(got, "__len__")
    if no_list or getattr(got, "ndim", 1) != 1:
        raise ValueError(f"{argument}: expected a sequence of weights, got {got!r}")
    listed = np.asarray(got) if hasattr(got, "dtype") else got
    return [weight(f"{argument}[{i}]", number) for i, number in enumerate(listed)]


def weight(argument: str, got: Any) -> float:
    """A weight as a float; ValueError for what a program would not take as it is."""
    number = math.nan
    no_number = str | bytes | bool | np.bool_ | None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if np.shape(got) == () and not isinstance(got, no_number):
            number = float(got)
    if number != 0 and not SMALLEST <= number <= LARGEST:
        expected = "0, or a number from 1.2e-38 to 3.4e38 (float32)"
        raise ValueError(f"{argument}: expected {expected}, got {got!r}")
    return decimal(got) + 0.0  # -0 is 0
