"""Halving: survivors against brute force, whole studies against the textbook."""

import itertools
import json
import math

import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._search import _halving


def brute(scores, now, keep):
    """Who goes on, by counting for each trial how many are better than it."""
    came = [i for i, s in enumerate(scores) if not math.isnan(s)]
    count = next(n for n in range(len(came) + 1) if n >= keep * len(came) - 1e-9)
    found = []
    for i in range(len(scores)):
        better = [j for j in came if (-scores[j], j) < (-scores[i], i)]
        found.append(bool(now[i]) and len(better) < count)
    return found


@pytest.mark.parametrize("keep", [1 / 3, 0.5, 0.07, 0.99])
def test_survivors_are_those_of_brute_force(keep):
    rng = np.random.default_rng(0)
    plan = hw.sweeps.halving("m", True, (10,), keep=keep)
    for size in [1, 2, 3, 7, 27, 100]:
        for _ in range(10):
            # Few levels: many ties; some broken, some not there yet.
            levels = np.array([-math.inf, 0.0, 1.0, 2.0, math.nan])
            scores = rng.choice(levels, size)
            now = (rng.random(size) < 0.7) & ~np.isnan(scores)
            before = scores.copy(), now.copy()
            got = plan.survivors(scores, now)
            assert got.tolist() == brute(scores, now, keep)
            np.testing.assert_array_equal(scores, before[0])
            np.testing.assert_array_equal(now, before[1])


@pytest.mark.parametrize("count", [1, 9, 27, 100])
def test_all_at_once_is_the_textbook(count):
    """Jamieson and Talwalkar, algorithm 1: the best third, of these, of these."""
    losses = np.random.default_rng(count).permutation(count) / count
    plan = hw.sweeps.halving("loss", False, (1,), factor=3)
    alive = np.ones(count, bool)
    for rung in plan.below(28):
        scores = np.where(alive, [plan.score({"loss": x}) for x in losses], np.nan)
        best = math.ceil(alive.sum() / 3)
        alive = plan.survivors(scores, alive)
        assert sorted(losses[alive]) == sorted(losses)[:best], rung
    assert alive[np.argmin(losses)]


def test_seven_of_a_hundred_are_seven():
    plan = hw.sweeps.halving("m", True, (1,), keep=0.07)  # 7.000000000000001
    assert plan.survivors(np.arange(100.0), np.ones(100, bool)).sum() == 7
    third = hw.sweeps.halving("m", True, (1,))
    for n in range(1, 100):
        assert third.survivors(np.zeros(n), np.ones(n, bool)).sum() == -(-n // 3)


def study(plan, values, size, steps):
    """A study as a worker plays it; `values` [rung, trial]. Who ends at which step."""
    rungs = plan.below(steps)
    scores = np.full((len(rungs), values.shape[1]), np.nan)
    waiting = list(range(values.shape[1]))
    taken, size = _halving.places([], waiting, size)
    waiting = waiting[len(taken) :]
    t, ended, sizes = dict.fromkeys(taken, 0), {}, [size]
    while taken:
        due = min(min(r for r in (*rungs, steps) if r > t[i]) - t[i] for i in taken)
        for i in taken:
            t[i] += due
        stop = {i for i in taken if t[i] == steps}
        for k, rung in enumerate(rungs):
            now = np.array(
                [t.get(i) == rung and i in taken for i in range(len(scores.T))]
            )
            scores[k, now] = [plan.score({"m": x}) for x in values[k, now]]
            stop |= set(np.flatnonzero(now & ~plan.survivors(scores[k], now)))
        ended |= {int(i): t[i] for i in stop}
        running = [i for i in taken if i not in stop]
        taken, size = _halving.places(running, waiting, size)
        new = taken[len(running) :]
        waiting = waiting[len(new) :]
        t |= dict.fromkeys(new, 0)
        sizes.append(size)
        assert len(taken) <= size
        assert not (waiting and len(taken) < size), "a place is free and somebody waits"
    return ended, sizes


@pytest.mark.parametrize("size", [1, 4, 9, 27])
def test_every_trial_ends_once_and_places_are_filled_again(size):
    values = np.random.default_rng(1).random((3, 27))
    values[:, 5] = np.nan
    plan = hw.sweeps.halving("m", True, (2, 6, 18))
    ended, sizes = study(plan, values, size, 30)
    assert sorted(ended) == list(range(27))
    assert set(ended.values()) <= {2, 6, 18, 30}
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) <= math.log2(size) + 2
    again, _ = study(plan, values, size, 30)
    assert again == ended
    if size == 27:
        assert sizes[0] == 27
        assert list(ended.values()).count(30) == 1
        assert ended[5] == 2


def test_places_give_nothing_away():
    for running, waiting, size in itertools.product(range(6), range(4), [1, 2, 5, 8]):
        if running <= size:
            names = list(range(running + waiting))
            taken, smaller = _halving.places(names[:running], names[running:], size)
            assert taken == names[:size]
            assert len(taken) <= smaller <= size
            assert smaller == size or len(names) <= smaller, "who waits finds no place"
            assert smaller == 1 or len(taken) > -(-smaller // 2)


def test_the_plan_is_plain_json():
    plan = hw.sweeps.halving("left/dice", True, [100, 300], keep=0.5)
    text = json.loads(json.dumps(plan._asdict()))
    assert hw.sweeps.halving(**text) == plan
    assert plan.score({"left": {"dice": np.float32(0.5)}, "right": 1}) == 0.5
    assert plan.score({"left": {"dice": None}}) == -math.inf
    assert plan._replace(more_is_better=False).score({"left": {"dice": 2}}) == -2
    assert plan.below(1000) == (100, 300)
    assert plan.below(300) == (100,)
    assert hw.sweeps.halving("m", True, (10, 20), factor=2).below(81) == (
        10,
        20,
        40,
        80,
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda h: h("", True, (1,)), "metric: expected the name of a metric, got ''"),
        (lambda h: h("m", "max", (1,)), "more_is_better: expected True or False"),
        (lambda h: h("m", True, ()), "rungs: expected steps that rise, got"),
        (lambda h: h("m", True, (3, 2)), r"rungs: .* rise, got \[3, 2\]"),
        (lambda h: h("m", True, (0, 2)), "rungs: expected a positive int, got 0"),
        (lambda h: h("m", True, (2,), factor=1), "factor: expected 2 or more, got 1"),
        (lambda h: h("m", True, (2,), keep=1.0), r"keep: expected .*\(0, 1\), got 1.0"),
        (lambda h: h("m", True, (50,)).below(50), "expected a rung below 50 steps"),
        (
            lambda h: h("m", True, (5,)).score({"n": {"m": 1}}),
            r"halving: metric: expected one of \['n/m'\], got 'm'",
        ),
        (
            lambda h: h("m", True, (5,)).survivors([1.0, math.nan], [True, True]),
            r"now: expected scores of all that come, \[1\] have none",
        ),
        (
            lambda h: h("m", True, (5,)).survivors([1.0], [True, True]),
            r"scores, now: expected \[N\] both",
        ),
    ],
)
def test_what_is_no_plan_is_one_line(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(hw.sweeps.halving)
