"""Which heads to train together, from the affinities of all pairs."""

import math
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise.gradients import _grouping_search
from headwise.gradients import _head_sets

_MOST_HEADS = 16
"""Heads that `group_heads` takes: some seconds; with each more the work triples."""


class Grouping(NamedTuple):
    """Which heads to train together, as `hw.group_heads` finds it.

    Example:
        >>> Z = [[0.0, 0.5], [-0.25, 0.0]]
        >>> hw.group_heads(Z, ["a", "b"], budget=2, alone=0.0)
        Grouping(groups=(('a',), ('a', 'b')), serves={'a': 0, 'b': 1}, score=0.5)
    """

    groups: tuple[tuple[str, ...], ...]
    """The heads that each network trains on, sorted; a head may be in several."""
    serves: dict[str, int]
    """{head: index of the group whose network is used for it}."""
    score: float
    """Σ of the affinities onto all heads, each in the group that serves it."""


def group_heads(
    affinity: Any, names: Iterable[str], budget: int, alone: float = 1e-6
) -> Grouping:
    """Which heads to train together, given their affinities and a number of networks.

    Every network trains on a group of heads, and every head is served by one network
    that trains on it; a head may be in more groups, to help others there. With Z the
    affinities (row: the head that steps), the affinity onto head j in group G is::

        a(G, j) = mean of Z[i, j] over the other heads i in G;   alone if there are none

    Of all choices of at most `budget` groups, the one with the largest Σ_j a(G_j, j),
    where G_j is the group that serves j. The search is exact. It goes over sets of
    served heads, of which each takes its best group, and so costs 3^H steps, not
    (2^H)^budget: 0.05 s for 10 heads, some seconds for 16. Where scores are equal up to
    rounding (1e-12 of their terms), fewer and smaller groups win.

    Conventions: the default of `alone`, 1e-6, leaves a head alone if every group would
    harm it and the budget allows it. For that 0 has to mean "no effect", which momentum
    makes untrue (see `hw.affinity`). TAG's released code has -1e6 there: no head is
    alone that could be with others, and a constant added to a column changes no choice;
    pass `alone=-1e6` for that. The diagonal of Z, what a head does for itself, is not
    read: it would nearly always win. Their table is the transpose of Z (row: the head
    that is changed), and their score the mean over the heads.

    Args:
        affinity: [H, H] array, of `hw.affinity`, best the mean over training. Rows and
            columns in sorted order of the names; finite beside the diagonal.
        names: of the H heads, in any order (`values`, `objective.names`); they are
            sorted.
        budget: 1 or more, the largest number of groups.
        alone: the affinity onto a head in a group of its own.

    Returns:
        `Grouping(groups, serves, score)`; NumPy on the host, not for use inside jit.

    Raises:
        ValueError: `affinity` is not [H, H] or not finite (the pair is named);
            duplicate names; `budget` is no positive int; `alone` is not finite; more
            than 16 heads.
        TypeError: names are not strings.

    Example:
        >>> names = ["a", "b", "c"]             # a and b help each other, both harm c
        >>> Z = [[0.0, 0.5, -0.25], [0.25, 0.0, -0.75], [0.125, -0.5, 0.0]]
        >>> grouping = hw.group_heads(Z, names, budget=2, alone=0.0)
        >>> print(grouping.groups, grouping.score)  # a 0.25, b 0.5, c 0
        (('a', 'b'), ('c',)) 0.75
        >>> grouping = hw.group_heads(Z, names, budget=2, alone=-1e6)
        >>> print(grouping.groups, grouping.score)  # a 0.25, b 0.5, c -0.25
        (('a', 'b'), ('a', 'c')) 0.5
        >>> grouping.serves
        {'a': 0, 'b': 0, 'c': 1}

    References:
        Fifty et al., "Efficiently identifying task groupings for multi-task learning",
        NeurIPS 2021 (arXiv 2109.04617), the section on network selection; code in
        google-research/tag/network_selection.
    """
    heads = _checks.head_names("names", names)
    matrix = _checked_affinity(affinity, heads)
    budget = _checks.positive_int("budget", budget)
    _checks.number("alone", alone)
    onto = _grouping_search.affinity_onto(matrix, float(alone))
    group_of, value = _grouping_search.best_groups(onto)
    best: tuple[float, dict[int, int]] | None = None
    for blocks in _grouping_search.best_partitions(value, min(budget, len(heads))):
        chosen = {j: int(group_of[b]) for b in blocks for j in _head_sets.members(b)}
        terms = [float(onto[group, j]) for j, group in sorted(chosen.items())]
        score = math.fsum(terms)
        tie = _grouping_search.TIE * math.fsum(map(abs, terms))
        if best is None or score > best[0] + tie:
            best = score, chosen
    assert best is not None
    score, chosen = best
    order = sorted(set(chosen.values()), key=_head_sets.members)
    return Grouping(
        groups=tuple(tuple(heads[j] for j in _head_sets.members(g)) for g in order),
        serves={heads[j]: order.index(group) for j, group in sorted(chosen.items())},
        score=score,
    )


def _checked_affinity(affinity: Any, heads: tuple[str, ...]) -> np.ndarray:
    """[H, H] float64 with a diagonal of zeros."""
    number = len(heads)
    if number > _MOST_HEADS:
        raise ValueError(
            f"names: expected at most {_MOST_HEADS} heads for the exact search, got "
            f"{number}; group the heads in parts, or drop some"
        )
    matrix = _checks.doubles("affinity", affinity)
    if matrix.shape != (number, number):
        raise ValueError(
            f"affinity: expected [{number}, {number}] for the heads "
            f"{_checks.listing(heads)}, got shape {matrix.shape}"
        )
    np.fill_diagonal(matrix, 0.0)
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"affinity: expected finite entries, got {matrix[row, column]} for a step "
            f"of {heads[row]!r} on {heads[column]!r}"
        )
    return matrix
