"""Layout: shared, private and the leaves of a gramian, from what the heads reach."""

import pytest

from headwise.training import _layout

PARAMS = {"A": 2.0, "B": 3.0, "C": 5.0, "D": -7.0}
# A to all, B to two of three, C to one, D to none.
REACHED = [
    [True, True, False, False],
    [True, True, False, False],
    [True, False, True, False],
]


def test_shared_and_private():
    layout = _layout.make_layout(REACHED, None, PARAMS)
    assert layout.shared == [True, True, False, False]
    assert layout.private == [False, False, True, True]
    assert layout.over == layout.shared


def test_all_where_nothing_is_shared():
    apart = [[True, False, False, False], [False, True, False, False]]
    layout = _layout.make_layout(apart, None, PARAMS)
    assert not any(layout.shared)
    assert layout.over == [True] * 4


def test_of_a_head_that_shares_nothing_its_own():
    """B and C are the third's alone; D is nobody's, A is shared."""
    reached = [[True, False, False, False]] * 2 + [[False, True, True, False]]
    layout = _layout.make_layout(reached, None, PARAMS)
    assert layout.shared == [True, False, False, False]
    assert layout.over == [True, True, True, False]


def test_what_the_user_says_goes():
    flags = [False, False, True, False]
    for wrt in (lambda path: path == "C", {n: n == "C" for n in PARAMS}):
        assert _layout.make_layout(REACHED, wrt, PARAMS).over == flags
    assert _layout.make_layout(REACHED, "features", PARAMS).over == "features"
    with pytest.raises(ValueError, match="wrt: selects no parameter"):
        _layout.make_layout(REACHED, lambda path: False, PARAMS)


def test_trees():
    trees = _layout.make_layout(REACHED, None, PARAMS).trees(["a", "b", "c"], PARAMS)
    assert trees["c"] == {"A": True, "B": False, "C": True, "D": False}
    assert list(trees) == ["a", "b", "c"]
