"""How the numbers of a metric are written, and which rows are best as written."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

_FEWEST, _MOST = 3, 6
"""Digits after the point; where more are needed, powers of ten are written."""
_LARGEST = 1e7


def writer(rows: Sequence[Mapping[str, Any]], name: str) -> Callable[[float], str]:
    """Writes means and deviations of a metric, all with as many digits.

    Three after the point; more where a mean would show fewer than two that count (1e-5
    and 2e-5), or less than one of its deviation if that is larger; and where the
    deviation over the seeds, in the median over the rows, would not show.
    """
    known = [row for row in rows if name in row["mean"]]
    means = [abs(row["mean"][name]) for row in known]
    spreads = [float(np.nan_to_num(row["std"][name])) for row in known]
    largest = max([*means, *spreads], default=0.0)
    needed = [
        1 - _exponent(mean, 2) if mean > spread else -_exponent(spread, 1)
        for mean, spread in zip(means, spreads, strict=True)
        if mean or spread
    ]
    spreads = [spread for spread in spreads if spread]
    if spreads:
        # Not more than five digits that count: rounding of float32 is no spread.
        spread = float(np.median(spreads))
        needed.append(min(-_exponent(spread, 1), 4 - _exponent(largest, 2)))
    digits = max([_FEWEST, *needed])
    kind = "f"
    if digits > _MOST or largest >= _LARGEST:
        digits, kind = 2, "e"
    return lambda number: f"{number:.{digits}{kind}}"


def best(rows: Sequence[Mapping[str, Any]], name: str, more: bool) -> set[int]:
    """Which rows have the best mean of a metric: all whose means are written alike."""
    means = {i: row["mean"][name] for i, row in enumerate(rows) if name in row["mean"]}
    if not means:
        return set()
    write = writer(rows, name)
    top = write((max if more else min)(means.values()))
    return {i for i, mean in means.items() if write(mean) == top}


def _exponent(number: float, digits: int) -> int:
    """Of the power of ten before a positive number, rounded to digits that count."""
    return int(f"{number:.{digits - 1}e}".partition("e")[2])
