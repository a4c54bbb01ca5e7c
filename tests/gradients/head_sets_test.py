"""Sets of heads: one, one for each entry of an array, all there are."""

import itertools

import numpy as np
import pytest

from headwise.gradients import _head_sets


def as_sets(array, shape):
    """Python's sets of heads, entry by entry, of an array that broadcasts."""
    entries = np.broadcast_to(np.asarray(array, object), shape)
    return [{h for h in range(80) if int(s) >> h & 1} for s in entries.ravel()]


def draw(rng, shape, heads=3):
    return rng.integers(0, 2**heads, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("heads", [set(), {0}, {0, 2}, {1, 63}, {64, 79}])
def test_members_are_those_joined(heads):
    joined = _head_sets.union(_head_sets.single(h) for h in heads)
    assert _head_sets.members(joined) == sorted(heads)
    assert joined.bit_count() == len(heads)


@pytest.mark.parametrize("heads", [0, 0b1, 0b1010, 0b10111])
def test_subsets(heads):
    members = _head_sets.members(heads)
    expected = [
        set(some)
        for size in range(len(members) + 1)
        for some in itertools.combinations(members, size)
    ]
    subsets = [set(_head_sets.members(s)) for s in _head_sets.subsets(heads)]
    assert subsets[0] == set()
    assert sorted(map(sorted, subsets)) == sorted(map(sorted, expected))


def test_union_of_sets_and_arrays():
    array = np.array([[0b001, 0b010]], np.uint8)
    assert _head_sets.union([]) == 0
    assert _head_sets.union([array]) == 0b011
    assert _head_sets.union([array, 1 << 70]) == 0b011 | 1 << 70


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(2, 1), (1, 3)], [(4,), (1,)]])
def test_join_is_the_union_of_each_entry(shapes):
    rng = np.random.default_rng(0)
    arrays = [draw(rng, shape) for shape in shapes]
    shape = np.broadcast_shapes(*shapes)
    joined = _head_sets.join([*arrays, 0b1000])
    parts = [as_sets(array, shape) for array in arrays]
    expected = [set().union(*entry) | {3} for entry in zip(*parts, strict=True)]
    assert as_sets(joined, shape) == expected


def test_join_of_more_heads_than_bits_of_an_integer():
    joined = _head_sets.join([np.array([1, 2], np.uint8), 1 << 70])
    assert as_sets(joined, (2,)) == [{0, 70}, {1, 70}]


def test_one_array_alone_is_not_copied():
    array = np.array([1, 2], np.uint8)
    assert _head_sets.join([array, 0, array]) is array
    assert _head_sets.join([1, 2]) == 3


def test_simplest():
    assert _head_sets.simplest(np.full((3, 4), 5)) == 5
    assert _head_sets.simplest(np.zeros((0, 4), int)) == 0
    rows = _head_sets.simplest(np.array([[1, 1, 1], [2, 2, 2]]))
    np.testing.assert_array_equal(rows, [[1], [2]])


def test_what_is_too_large_is_joined_along_its_longest_axis():
    rng = np.random.default_rng(0)
    long, short = draw(rng, (8, 1)), draw(rng, (1, 2))
    exact = _head_sets.join_arrays(long, short)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_head_sets, "LARGEST", 8)
        coarse = _head_sets.join_arrays(long, short)
        whole = _head_sets.put(long, 0, np.arange(8), 12)
    assert coarse.shape == (1, 2)
    assert not np.any(exact & ~coarse), "too much, never too little"
    assert whole.item() == _head_sets.union([long])


def test_axes_move_into_a_result():
    rng = np.random.default_rng(0)
    array = draw(rng, (2, 3, 4))
    moved = _head_sets.move_axes(array, [(2, 0), (0, 3)], 4)
    expected = np.bitwise_or.reduce(array, 1).T[:, None, None, :]
    np.testing.assert_array_equal(moved, expected)
    whole = _head_sets.move_axes(array, [], 2)
    assert whole.shape == (1, 1)
    assert whole.item() == _head_sets.union([array])


def test_entries_are_taken_and_put():
    array = np.array([[1, 2, 4]])
    np.testing.assert_array_equal(_head_sets.take(array, 1, np.array([2, 0])), [[4, 1]])
    same = _head_sets.take(array, 0, np.array([5, 6]))
    assert same is array, "one entry stands for all"
    put = _head_sets.put(array, 1, np.array([-1, 1, 3]), 4)
    np.testing.assert_array_equal(put, [[0, 2, 0, 4]])
