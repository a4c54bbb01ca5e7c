"""Designs: sets of weightings, {name of head: [K] array}, one entry a weighting."""

import contextlib
import itertools
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks

Design = dict[str, np.ndarray]
_SMALLEST, _LARGEST = (float(x) for x in (np.finfo("f4").tiny, np.finfo("f4").max))


def _columns(names: Sequence[str], points: Any) -> Design:
    table = np.asarray(points, np.float32).reshape(-1, len(names))
    return {name: table[:, i] for i, name in enumerate(names)}


def grid(levels: Mapping[str, Sequence[float]]) -> Design:
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
        if not _weights(f"levels[{name!r}]", levels[name]):
            raise ValueError(
                f"levels[{name!r}]: expected one or more weights, got none"
            )
    return _columns(names, list(itertools.product(*(levels[name] for name in names))))


def log_grid(ranges: Mapping[str, tuple[float, float]], points: int) -> Design:
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
    for name, (lowest, highest) in _ends(ranges).items():
        count = 1 if lowest == highest else points
        levels[name] = np.geomspace(lowest, highest, count).tolist()
    return grid(levels)


def simplex(names: Sequence[str], levels: int, interior: bool = False) -> Design:
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
    return _columns(ordered, points)


def dirichlet(
    names: Sequence[str], count: int, seed: int = 0, concentration: float = 1.0
) -> Design:
    """Random weightings that sum to 1, from a Dirichlet distribution.

    Args:
        names: of the heads, in any order.
        count: K weightings.
        seed: the same seed gives the same design.
        concentration: > 0; 1 is uniform on the simplex, less favours its corners,
            more its middle.

    Returns:
        {name: [K] float32}, each weighting sums to 1.

    Raises:
        ValueError: duplicate names; `count` is no positive int; `concentration` is not
            positive.

    Example:
        >>> design = hw.sweeps.dirichlet(["a", "b", "c"], count=5)
        >>> sum(design.values()).round(5)
        array([1., 1., 1., 1., 1.], dtype=float32)
    """
    ordered = _checks.head_names("names", names)
    _checks.positive_int("count", count)
    _checks.nonnegative_int("seed", seed, 2**63 - 1)
    _checks.positive("concentration", concentration)
    draw = np.random.default_rng(seed).dirichlet
    points = draw([concentration] * len(ordered), size=count)
    if not np.isfinite(points).all():
        raise ValueError(
            f"concentration: expected one that can be drawn from, got {concentration}"
        )
    # What float32 can only hold as a number that programs take for 0 is 0.
    return _columns(ordered, np.where(points < _SMALLEST, 0, points))


def sobol(
    ranges: Mapping[str, tuple[float, float]], count: int, seed: int = 0
) -> Design:
    """Weights that fill a box evenly in their logarithms: a scrambled Sobol sequence.

    Args:
        ranges: {name of head: (lowest, highest)}, positive; equal ends fix a weight.
        count: K weightings; powers of 2 are spread most evenly.
        seed: of the scrambling.

    Returns:
        {name: [K] float32}.

    Raises:
        ValueError: an end is not positive and finite; `count` is no positive int.

    Example:
        >>> design = hw.sweeps.sobol({"a": (1, 1), "b": (0.01, 1)}, count=4)
        >>> print(design["a"], np.sort(design["b"]) > [0.01, 0.03, 0.1, 0.3])
        [1. 1. 1. 1.] [ True  True  True  True]

    References:
        Sobol, "On the distribution of points in a cube", 1967; scipy's `qmc.Sobol`.
    """
    _checks.mapping("ranges", ranges)
    names = _checks.head_names("ranges", ranges)
    checked = _ends(ranges)
    _checks.positive_int("count", count)
    _checks.nonnegative_int("seed", seed, 2**63 - 1)
    # Imported here: it costs every `import headwise` 0.8 s otherwise.
    from scipy.stats import qmc

    ends = np.log([checked[name] for name in names])
    sequence = qmc.Sobol(len(names), rng=np.random.default_rng(seed))
    # The next power of 2, of which the first are taken: scipy warns otherwise.
    unit = sequence.random_base2(math.ceil(math.log2(count)))[:count]
    return _columns(names, np.exp(ends[:, 0] + unit * (ends[:, 1] - ends[:, 0])))


def _ends(
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, tuple[float, float]]:
    """The ranges as floats; ValueError unless both ends are positive weights."""
    ends = {}
    for name, pair in ranges.items():
        argument = f"ranges[{name!r}]"
        if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
            raise ValueError(f"{argument}: expected (lowest, highest), got {pair!r}")
        for end, got in enumerate(pair):
            _checks.positive(f"{argument}[{end}]", got)
        lowest, highest = _weights(argument, pair)
        ends[name] = (lowest, highest)
    return ends


def _weights(argument: str, got: Any) -> list[float]:
    """Weights as floats; ValueError for one that a program would not take as it is."""
    expected = "0, or a number from 1.2e-38 to 3.4e38 (float32)"
    no_list = isinstance(got, str | bytes | Mapping) or not hasattr(got, "__len__")
    if no_list or getattr(got, "ndim", 1) != 1:
        raise ValueError(f"{argument}: expected a sequence of weights, got {got!r}")
    no_number = str | bytes | bool | np.bool_ | None
    numbers = []
    for i, weight in enumerate(np.asarray(got) if hasattr(got, "dtype") else got):
        number = math.nan
        if np.shape(weight) == () and not isinstance(weight, no_number):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                number = float(weight) + 0.0  # -0 is 0
        if number != 0 and not _SMALLEST <= number <= _LARGEST:
            raise ValueError(f"{argument}[{i}]: expected {expected}, got {weight!r}")
        numbers.append(number)
    return numbers


def rows(design: Mapping[str, Sequence[float] | np.ndarray]) -> list[dict[str, float]]:
    """The weightings of a design as dicts.

    Args:
        design: {name: [K]}.

    Returns:
        K dicts {name: float}.

    Raises:
        ValueError: the heads have different numbers of weights, or one is no weight:
            0, or a positive number that float32 can hold.

    Example:
        >>> hw.sweeps.rows({"a": [1, 2], "b": [0, 0.5]})
        [{'a': 1.0, 'b': 0.0}, {'a': 2.0, 'b': 0.5}]
    """
    _checks.mapping("design", design)
    names = _checks.head_names("design", design)
    columns = {name: _weights(f"design[{name!r}]", design[name]) for name in names}
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"design: expected as many weights a head, got {counts}")
    # Rounded: a float32 0.1 should print, store and compare as 0.1.
    return [
        {name: float(f"{columns[name][k]:.7g}") for name in names}
        for k in range(counts[names[0]])
    ]
