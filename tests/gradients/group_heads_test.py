"""Groups of heads against brute force over all choices of groups."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw


def onto(table, group, j, alone):
    others = [table[i, j] for i in group if i != j]
    return float(np.mean(others)) if others else alone


def brute_force(table, budget, alone):
    """The best score of all choices of at most `budget` groups that reach all heads."""
    heads = range(len(table))
    groups = [g for n in heads for g in itertools.combinations(heads, n + 1)]
    scores = [{j: onto(table, g, j, alone) for j in g} for g in groups]
    best = -np.inf
    for number in range(1, min(budget, len(groups)) + 1):
        for chosen in itertools.combinations(scores, number):
            served = {}
            for each in chosen:
                for j, score in each.items():
                    served[j] = max(score, served.get(j, -np.inf))
            if len(served) == len(table):
                best = max(best, sum(served.values()))
    return best


def assert_consistent(found, table, names, budget, alone):
    """The parts of the result fit each other, and the score is that of its groups."""
    index = {name: i for i, name in enumerate(sorted(names))}
    assert 1 <= len(found.groups) <= budget
    assert set(found.serves) == set(names)
    assert set(found.serves.values()) == set(range(len(found.groups)))
    assert len(set(found.groups)) == len(found.groups)
    total = 0.0
    for name, g in found.serves.items():
        assert name in found.groups[g]
        group = [index[n] for n in found.groups[g]]
        total += onto(np.asarray(table), group, index[name], alone)
    np.testing.assert_allclose(found.score, total, rtol=1e-12, atol=1e-14)


BUDGETS = [(h, b) for h in range(1, 5) for b in range(1, h + 2)] + [
    (5, b) for b in (1, 2, 3)
]


@pytest.mark.parametrize("alone", [1e-6, -1e6, 0.5])
@pytest.mark.parametrize(("heads", "budget"), BUDGETS)
def test_groups_are_those_of_brute_force(heads, budget, alone):
    names = [f"h{i}" for i in range(heads)]
    for seed in range(4):
        rng = np.random.default_rng(100 * heads + seed)
        table = rng.normal(size=(heads, heads)) - 0.5 * (seed % 2)
        found = hw.group_heads(table, names, budget, alone)
        assert_consistent(found, table, names, budget, alone)
        best = brute_force(table, budget, alone)
        np.testing.assert_allclose(found.score, best, rtol=1e-12, atol=1e-12)


# Rounded from the table of the paper's code (google-research/tag/network_selection),
# which has the head that is changed in the rows.
TASKONOMY = {
    "depth": {"edge": 0.0740, "key": 0.0135, "normal": 0.2914, "semantic": 0.4136},
    "edge": {"depth": 0.0367, "key": 0.3037, "normal": 0.0360, "semantic": 0.0567},
    "key": {"depth": 0.0134, "edge": 0.6897, "normal": 0.0107, "semantic": 0.0211},
    "normal": {"depth": 0.2210, "edge": 0.0765, "key": 0.0105, "semantic": 0.1398},
    "semantic": {"depth": 0.1154, "edge": 0.0088, "key": 0.0045, "normal": 0.0489},
}


def taskonomy():
    names = sorted(TASKONOMY)
    rows = [[TASKONOMY[k].get(h, np.nan) for k in names] for h in names]
    return np.array(rows), names  # NaN on the diagonal is not read


def test_groups_of_a_published_table():
    table, names = taskonomy()
    found = hw.group_heads(table, names, 2)
    pair, scenes = ("edge", "key"), ("depth", "normal", "semantic")
    assert found.groups == (scenes, pair)
    assert found.serves == {n: int(n in pair) for n in names}
    # Means of two in the first group, one other in the second.
    first = (0.2914 + 0.4136 + 0.2210 + 0.1398 + 0.1154 + 0.0489) / 2
    np.testing.assert_allclose(found.score, first + 0.6897 + 0.3037, rtol=1e-12)
    for budget in (1, 2, 3):
        got = hw.group_heads(table, names, budget)
        assert_consistent(got, table, names, budget, 1e-6)
        best = brute_force(np.where(np.isnan(table), 0.0, table), budget, 1e-6)
        np.testing.assert_allclose(got.score, best, rtol=1e-12)


def test_names_are_sorted_and_renaming_permutes():
    rng = np.random.default_rng(3)
    table = rng.normal(size=(5, 5))
    names = ["a", "b", "c", "d", "e"]
    found = hw.group_heads(table, names, 2)
    assert hw.group_heads(table, reversed(names), 2) == found
    assert hw.group_heads(jnp.asarray(table), dict.fromkeys(names), 2)[:2] == found[:2]
    order = [3, 0, 4, 1, 2]
    renamed = {names[old]: names[new] for new, old in enumerate(order)}
    other = hw.group_heads(table[np.ix_(order, order)], names, 2)
    assert set(other.groups) == {
        tuple(sorted(renamed[n] for n in group)) for group in found.groups
    }
    np.testing.assert_allclose(other.score, found.score, rtol=1e-12)


def test_more_networks_are_never_worse_and_a_shift_of_columns_changes_nothing():
    rng = np.random.default_rng(4)
    table, names = rng.normal(size=(7, 7)), [f"h{i}" for i in range(7)]
    scores = [hw.group_heads(table, names, budget).score for budget in range(1, 9)]
    assert scores == sorted(scores)
    assert scores[-1] == scores[-2]
    shift = 50.0 * rng.normal(size=7)
    for budget in (1, 2, 3):
        plain = hw.group_heads(table, names, budget, alone=-1e6)
        moved = hw.group_heads(table + shift[None, :], names, budget, alone=-1e6)
        assert moved.groups == plain.groups
        assert moved.serves == plain.serves
        np.testing.assert_allclose(moved.score, plain.score + shift.sum(), rtol=1e-9)


def test_ties_go_to_fewer_and_smaller_groups():
    names = ["a", "b", "c", "d"]
    # These are no binary fractions: means of two and three differ in the last bit.
    for number, entry in [(4, 0.7), (4, -0.1), (5, 0.1), (7, 0.1), (8, 0.1)]:
        many = [f"h{i}" for i in range(number)]
        found = hw.group_heads(np.full((number, number), entry), many, 4, alone=-1e6)
        assert found.groups == (tuple(many),)
        assert found.serves == dict.fromkeys(many, 0)
    # c would help a and b as much as they help each other, and is not needed there.
    table = np.full((4, 4), 0.1)
    table[:2, 2:] = -1.0
    assert hw.group_heads(table, names, 2).groups == (("a", "b"), ("c", "d"))
    table = np.full((4, 4), -1.0)
    table[0, 1] = table[1, 0] = table[2, 3] = table[3, 2] = 0.1
    assert hw.group_heads(table, names, 4).groups == (("a", "b"), ("c", "d"))
    assert hw.group_heads([[0.0]], ["a"], 3) == ((("a",),), {"a": 0}, 1e-6)


def test_alone_says_when_a_head_stays_alone():
    table = np.array([[9.0, 0.25], [-0.5, 9.0]])
    # b harms a, a helps b; what a head does for itself (9) does not count.
    names = ["a", "b"]
    found = hw.group_heads(table, names, 2)
    assert found == ((("a",), ("a", "b")), {"a": 0, "b": 1}, 0.25 + 1e-6)
    assert hw.group_heads(table, names, 2, alone=-1e6).groups == (("a", "b"),)
    assert hw.group_heads(table, names, 2, alone=1.0).groups == (("a",), ("b",))


@pytest.mark.parametrize("budget", [1, 3, 12])
def test_twelve_heads_with_planted_groups(budget):
    names = [f"h{i:02}" for i in range(12)]
    of = np.arange(12) % 3
    table = np.where(of[:, None] == of[None, :], 1.0, -1.0)
    found = hw.group_heads(table, names, budget)
    assert_consistent(found, table, names, budget, 1e-6)
    if budget == 1:
        assert found.groups == (tuple(names),)
    else:
        # Any group inside one of the three has affinity 1 onto each of its heads.
        assert len(found.groups) == 3
        np.testing.assert_allclose(found.score, 12.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"affinity": np.ones((2, 3))}, ValueError, ["affinity", "[2, 2]", "(2, 3)"]),
        ({"affinity": np.ones(2)}, ValueError, ["affinity", "'a', 'b'", "(2,)"]),
        (
            {"affinity": [[0.0, np.nan], [0.0, 0.0]]},
            ValueError,
            ["affinity", "finite", "nan", "step of 'a' on 'b'"],
        ),
        (
            {"affinity": [[0.0, 1.0], [np.inf, 0.0]]},
            ValueError,
            ["affinity", "inf", "step of 'b' on 'a'"],
        ),
        ({"names": ["a", "a"]}, ValueError, ["names", "duplicate", "'a'"]),
        ({"names": []}, ValueError, ["names", "at least one"]),
        ({"names": [0, 1]}, TypeError, ["names", "str", "int"]),
        ({"budget": 0}, ValueError, ["budget", "positive int", "0"]),
        ({"budget": 1.5}, ValueError, ["budget", "positive int", "1.5"]),
        ({"budget": True}, ValueError, ["budget", "positive int", "True"]),
        ({"alone": np.nan}, ValueError, ["alone", "finite", "nan"]),
        (
            {"names": [f"h{i}" for i in range(17)], "affinity": np.ones((17, 17))},
            ValueError,
            ["at most 16", "exact", "17"],
        ),
    ],
)
def test_misuse_of_group_heads_is_named(changes, error, words):
    call = {"affinity": np.zeros((2, 2)), "names": ["a", "b"], "budget": 2} | changes
    with pytest.raises(error) as raised:
        hw.group_heads(**call)
    for word in words:
        assert word in str(raised.value)
