"""Fewer rows of a curve, with its extremes."""

import itertools

import numpy as np


def rows(values: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most about `most` rows: first, last, and all extremes of stretches.

    The rows are cut into equal stretches; of each the rows stay in which a series has
    its least and greatest value there, so that no peak is lost.

    Args:
        values: [rows, series].
        most: rows that stay, at least 2.

    Example:
        >>> import numpy as np
        >>> values = np.zeros((100, 1)); values[42] = 9.0
        >>> rows(values, 6)
        array([ 0, 33, 42, 66, 99])
    """
    count, series = values.shape
    if count <= most:
        return np.arange(count)
    stretches = max(most // (2 * max(series, 1)), 1)
    edges = np.linspace(0, count, stretches + 1).astype(int)
    kept = {0, count - 1}
    for first, last in itertools.pairwise(edges):
        part = values[first:last]
        low = np.where(np.isnan(part), np.inf, part).argmin(axis=0)
        high = np.where(np.isnan(part), -np.inf, part).argmax(axis=0)
        kept |= {first + int(i) for i in (*low, *high)}
    return np.array(sorted(kept))
