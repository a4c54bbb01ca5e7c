"""Designs: sets of weightings, {name of head: [K] array}, one entry a weighting."""

import itertools
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from headwise import _checks
from headwise.sweeps._design import _weightings


def grid(levels: Mapping[str, Sequence[float]]) -> _weightings.Design:
    """Every combination of the given weights; the last name varies fastest.

    Args:
        levels: {name of head: weights to try}.

    Returns:
        {name: [K] float32} in sorted order of the names, K the product of the counts.

    Raises:
        ValueError: a head has no levels, or one that is no weight: 0, or a positive
            number that float32 can hold.

    Example:
        >>> hw.sweeps.rows(hw.sweeps.grid({"a": [1], "b": [0.5, 2]}))
        [{'a': 1.0, 'b': 0.5}, {'a': 1.0, 'b': 2.0}]
    """
    _checks.mapping("levels", levels)
    names = _checks.head_names("levels", levels)
    for name in names:
        if not _weightings.weights(f"levels[{name!r}]", levels[name]):
            raise ValueError(
                f"levels[{name!r}]: expected one or more weights, got none"
            )
    return _weightings.columns(
        names, list(itertools.product(*(levels[name] for name in names)))
    )


def log_grid(
    ranges: Mapping[str, tuple[float, float]], points: int
) -> _weightings.Design:
    """`grid` of weights that are spaced evenly in their logarithm.

    Args:
        ranges: {name of head: (lowest, highest)}, positive; equal ends fix a weight.
        points: weights a head, 2 or more.

    Returns:
        {name: [K] float32}.

    Raises:
        ValueError: an end is not positive and finite; `points` is no int of at least
            two.

    Example:
        >>> hw.sweeps.log_grid({"a": (1, 1), "b": (0.01, 1)}, points=3)["b"].round(4)
        array([0.01, 0.1 , 1.  ], dtype=float32)
    """
    _checks.mapping("ranges", ranges)
    if _checks.positive_int("points", points) < 2:
        raise ValueError(f"points: expected 2 or more, got {points}")
    levels = {}
    for name, (lowest, highest) in _weightings.ends(ranges).items():
        count = 1 if lowest == highest else points
        levels[name] = _weightings.short(np.geomspace(lowest, highest, count)).tolist()
    return grid(levels)


def simplex(
    names: Sequence[str], levels: int, interior: bool = False
) -> _weightings.Design:
    """Lattice of weightings that sum to 1 (Das and Dennis).

    All w_h = i_h / levels with integers i_h >= 0 (>= 1 with `interior`) that sum to
    `levels`.

    Args:
        names: of the heads, in any order.
        levels: number of steps from 0 to 1.
        interior: leave out weightings that drop a head.

    Returns:
        {name: [K] float32}, K = C(levels + H - 1, H - 1), or C(levels - 1, H - 1).

    Raises:
        ValueError: duplicate names; `levels` is no positive int, or smaller than the
            number of heads if `interior`.

    Example:
        >>> hw.sweeps.rows(hw.sweeps.simplex(["a", "b"], 2))
        [{'a': 0.0, 'b': 1.0}, {'a': 0.5, 'b': 0.5}, {'a': 1.0, 'b': 0.0}]

    References:
        Das and Dennis, "Normal-boundary intersection", SIAM J. Optim. 1998.
    """
    ordered = _checks.head_names("names", names)
    _checks.positive_int("levels", levels)
    _checks.boolean("interior", interior)
    least = 1 if interior else 0
    if levels < least * len(ordered):
        raise ValueError(
            f"levels: expected {len(ordered)} or more for {len(ordered)} heads, got "
            f"{levels}"
        )
    spare = levels - least * len(ordered)
    points = []
    # Stars and bars: where the bars stand among the stars fixes the weighting.
    for bars in itertools.combinations(
        range(spare + len(ordered) - 1), len(ordered) - 1
    ):
        edges = (-1, *bars, spare + len(ordered) - 1)
        points.append(
            [(b - a - 1 + least) / levels for a, b in itertools.pairwise(edges)]
        )
    return _weightings.columns(ordered, _weightings.short(points))


def rows(design: Mapping[str, Sequence[float] | np.ndarray]) -> list[dict[str, float]]:
    """The weightings of a design as dicts.

    Args:
        design: {name: [K]}.

    Returns:
        K dicts {name: float}, at full precision: a float32 is the shortest decimal that
        is no other float32 (0.1, not 0.10000000149).

    Raises:
        ValueError: the heads have different numbers of weights, or one is no weight:
            0, or a positive number that float32 can hold.

    Example:
        >>> hw.sweeps.rows({"a": [1, 2], "b": [0, 0.5]})
        [{'a': 1.0, 'b': 0.0}, {'a': 2.0, 'b': 0.5}]
    """
    _checks.mapping("design", design)
    names = _checks.head_names("design", design)
    columns = {
        name: _weightings.weights(f"design[{name!r}]", design[name]) for name in names
    }
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"design: expected as many weights a head, got {counts}")
    return [{name: columns[name][k] for name in names} for k in range(counts[names[0]])]
