"""Which rows of a summary no other beats: the same in tables and pictures."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import pareto


def of_means(
    rows: Sequence[Mapping[str, Any]], higher: Mapping[str, bool]
) -> np.ndarray:
    """[rows] bool: the front of the means; a row that lacks a metric is not on it."""
    return pareto.front(means(rows, list(higher)), list(higher.values()))


def means(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    """[rows, metrics], NaN where a row has no value."""
    return np.array([[row["mean"].get(n, np.nan) for n in names] for row in rows])
