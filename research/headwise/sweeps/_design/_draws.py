"""Designs that are drawn: from a simplex, or evenly from a box of logarithms."""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from headwise import _checks
from headwise.sweeps._design import _weightings


def dirichlet(
    names: Sequence[str], count: int, seed: int = 0, concentration: float = 1.0
) -> _weightings.Design:
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
    return _weightings.columns(
        ordered, _weightings.short(np.where(points < _weightings.SMALLEST, 0, points))
    )


def sobol(
    ranges: Mapping[str, tuple[float, float]], count: int, seed: int = 0
) -> _weightings.Design:
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
    names, low, high = _box(ranges, count, seed)
    # Imported here: it costs every `import headwise` 0.8 s otherwise.
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(names), rng=np.random.default_rng(seed))
    # The next power of 2, of which the first are taken: scipy warns otherwise.
    unit = sequence.random_base2(math.ceil(math.log2(count)))[:count]
    return _weightings.columns(names, _between(low, high, unit))


def latin(
    ranges: Mapping[str, tuple[float, float]], count: int, seed: int = 0
) -> _weightings.Design:
    """Weights of which each head has one in every part: a Latin hypercube of logs.

    The logarithms of each range are cut into `count` equal parts; each part of each
    head holds one weighting. Any count is spread as evenly as any other (`sobol` wants
    powers of 2), over each head alone rather than over pairs of them.

    Args:
        ranges: {name of head: (lowest, highest)}, positive; equal ends fix a weight.
        count: K weightings.
        seed: of the places inside the parts, and of how the heads' parts meet.

    Returns:
        {name: [K] float32}.

    Raises:
        ValueError: an end is not positive and finite; `count` is no positive int.

    Example:
        >>> design = hw.sweeps.latin({"a": (1, 1), "b": (0.01, 1)}, count=4)
        >>> parts = np.sqrt([0.001, 0.01, 0.1])  # 10 ** -1.5, 10 ** -1, 10 ** -0.5
        >>> print(design["a"], np.searchsorted(parts, np.sort(design["b"])))
        [1. 1. 1. 1.] [0 1 2 3]

    References:
        McKay, Beckman and Conover, "A comparison of three methods for selecting values
        of input variables", Technometrics 1979; scipy's `qmc.LatinHypercube`.
    """
    names, low, high = _box(ranges, count, seed)
    from scipy.stats import qmc  # slow to import, as above

    cube = qmc.LatinHypercube(len(names), rng=np.random.default_rng(seed))
    return _weightings.columns(names, _between(low, high, cube.random(count)))


def _box(
    ranges: Mapping[str, tuple[float, float]], count: int, seed: int
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The names, sorted, and the logarithms of both ends; raises for what is none."""
    _checks.mapping("ranges", ranges)
    names = _checks.head_names("ranges", ranges)
    checked = _weightings.ends(ranges)
    _checks.positive_int("count", count)
    _checks.nonnegative_int("seed", seed, 2**63 - 1)
    low, high = np.log([checked[name] for name in names]).T
    return names, low, high


def _between(low: np.ndarray, high: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return _weightings.short(np.exp(low + unit * (high - low)))
