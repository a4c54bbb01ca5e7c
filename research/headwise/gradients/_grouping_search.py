"""The search for the best grouping: every group, then every partition of the heads.

A set of heads is an index into arrays [2^H] (`_head_sets`). Two heads, with
Z[0, 1] = 2, Z[1, 0] = -1 and 0 for a head alone::

    group        {0}   {1}   {0, 1}
    onto 0        0     -     -1
    onto 1        -     0      2

    served       {0}      {1}          {0, 1}
    best group   {0}: 0   {0, 1}: 2    {0, 1}: 1

With one network the score is 1; with two, head 0 is served alone and head 1 by the
network of both: 0 + 2.

Example:
    >>> from headwise.gradients import _grouping_search as search
    >>> onto = search.affinity_onto(np.array([[0.0, 2.0], [-1.0, 0.0]]), alone=0.0)
    >>> group_of, value = search.best_groups(onto)
    >>> print(group_of[1:], value[1:])
    [1 3 3] [0. 2. 1.]
    >>> search.best_partitions(value, budget=2)
    [[3], [1, 2]]
"""

import numpy as np

from headwise.gradients import _head_sets

TIE = 1e-12
"""Scores that differ by less, relative to their terms, count as equal."""


def affinity_onto(matrix: np.ndarray, alone: float) -> np.ndarray:
    """[2^H, H] the affinity onto each head in each group (of its members only)."""
    number = len(matrix)
    groups = np.arange(1 << number)[:, None] >> np.arange(number)[None, :] & 1
    others = np.sum(groups, axis=1, keepdims=True) - 1
    mean = (groups @ matrix) / np.maximum(others, 1)
    return np.where(others > 0, mean, alone)


def best_groups(onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each set of served heads the best group that holds it, and their score.

    Groups are tried in order of their size, each for all of its subsets at once, and
    win only by more than `TIE`, so that smaller groups stay where scores are equal.

    Args:
        onto: [2^H, H], of `affinity_onto`.

    Returns:
        [2^H] groups and [2^H] scores, both indexed by the set of served heads.
    """
    size = len(onto)
    group_of = np.zeros(size, np.int64)
    value = np.full(size, -np.inf)
    for group in sorted(range(1, size), key=lambda group: (group.bit_count(), group)):
        sets = _head_sets.subsets(group)
        scores = terms = np.zeros(1)
        for j in _head_sets.members(group):
            scores = np.concatenate([scores, scores + onto[group, j]])
            terms = np.concatenate([terms, terms + abs(onto[group, j])])
        better = scores > value[sets] + TIE * terms
        value[sets[better]] = scores[better]
        group_of[sets[better]] = group
    return group_of, value


def best_partitions(value: np.ndarray, budget: int) -> list[list[int]]:
    """The best partition of all heads into at most 1, 2, ..., budget sets.

    By dynamic programming: the block of a set's lowest head is one of its subsets, and
    what is left of the set is a smaller set, served by one block fewer.

    Args:
        value: [2^H], the score of each set of heads as one block.
        budget: the largest number of blocks.
    """
    size = len(value)
    # [b, set]: the best score of a set that b blocks serve, and the first block of it.
    best = np.full((budget + 1, size), -np.inf)
    first = np.zeros((budget + 1, size), np.int64)
    best[:, 0] = 0.0
    for whole in range(1, size):
        lowest = whole & -whole
        blocks = _head_sets.subsets(whole ^ lowest) | lowest
        scores = value[blocks] + best[:-1, whole ^ blocks]
        which = np.argmax(scores, axis=1)
        best[1:, whole] = scores[np.arange(budget), which]
        first[1:, whole] = blocks[which]
    return [_read_back(first, count) for count in range(1, budget + 1)]


def _read_back(first: np.ndarray, count: int) -> list[int]:
    """The blocks of the best partition into at most `count` sets."""
    partition, left = [], first.shape[1] - 1
    for b in range(count, 0, -1):
        if left:
            partition.append(int(first[b, left]))
            left ^= partition[-1]
    return partition
