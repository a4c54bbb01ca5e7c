"""Cohorts and their places: how trials are cut, halving, too little memory."""

import functools
import math

import pytest

import headwise as hw
from headwise.sweeps._work import _compose
from headwise.sweeps._work import _running
from tests.sweeps import _studies


@pytest.mark.parametrize("halving", [False, True])
def test_a_cohort_that_is_out_of_memory_is_cut(halving, monkeypatch, caplog):
    sizes, real = [], _running.carry_out

    def carry_out(program, job, store, claim, text, show):
        sizes.append(text["size"])
        if text["size"] > 2:
            raise MemoryError
        real(program, job, store, claim, text, show)

    monkeypatch.setattr(_running, "carry_out", carry_out)
    plan = hw.sweeps.halving("x", True, (3,), keep=0.5) if halving else None
    records = hw.sweeps.run(
        _studies.breaks(-1),
        {"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]},
        steps=6,
        mode="vmap",
        halving=plan,
        progress=False,
    )
    assert sizes == ([6, 3, 2] if halving else [6, 3, 2, 2, 2])
    assert "6 trials as one program are out of memory: on with 3" in caplog.text
    if not halving:
        assert [r["metrics"]["x"] for r in records] == [6.0 * a for a in range(1, 7)]


def expected_of_halving(weights, steps, rungs, keep, size):
    """Who is stopped where, as a simulation of places in plain Python."""
    waiting, came = list(range(len(weights))), {rung: [] for rung in rungs}
    stopped, places = {}, {}
    while waiting or places:
        while waiting and len(places) < size:
            places[waiting.pop(0)] = 0
        jump = min(
            min(due for due in (*rungs, steps) if due > t) - t for t in places.values()
        )
        places = {n: t + jump for n, t in places.items()}
        for rung in rungs:
            here = [n for n, t in places.items() if t == rung]
            came[rung] += here
            best = sorted(came[rung], key=lambda n: (-weights[n], n))
            best = best[: math.ceil(len(best) * keep)]
            for n in here:
                if n not in best:
                    stopped[n] = rung
                    del places[n]
        places = {n: t for n, t in places.items() if t < steps}
    return [stopped.get(n) for n in range(len(weights))]


@pytest.mark.parametrize("size", [8, 3])
def test_halving_stops_the_worst_and_goes_on_to_the_bit(size, tmp_path, monkeypatch):
    weights = [3.0, 1.0, 7.0, 2.0, 8.0, 5.0, 6.0, 4.0]
    go = functools.partial(
        hw.sweeps.run,
        _studies.breaks(-1),
        {"a": weights},
        steps=8,
        mode="vmap",
        size=size,
        halving=hw.sweeps.halving("x", True, (2, 4), keep=0.5),
        report_every=1,
        progress=False,
    )
    records = go()
    expected = expected_of_halving(weights, 8, (2, 4), 0.5, size)
    assert [r["stopped"] for r in records] == expected
    for weight, record in zip(weights, records, strict=True):
        assert record["metrics"]["x"] == weight * (record["stopped"] or 8)
        assert record["finite"] == (record["stopped"] is None)
        assert record["error"] is None
    for at in (2, 5):
        calls, folder = [], tmp_path / str(at)

        def settle(self, settled=_running.Course.settle, calls=calls, at=at):
            calls.append(1)
            if len(calls) == at:
                raise _studies.Killed
            settled(self)

        with monkeypatch.context() as patch:
            patch.setattr(_running.Course, "settle", settle)
            with pytest.raises(_studies.Killed):
                go(folder=folder, checkpoint_every=0)
        assert _studies.results(
            go(folder=folder, checkpoint_every=0)
        ) == _studies.results(records)
        for record in records:
            t = hw.sweeps.curves(folder, record)["t"].tolist()
            assert t == list(range(record["stopped"] or 8))


def test_trials_are_composed_in_equal_cohorts():
    sizes, free, like = [], 33, []
    while free:
        size = _compose.size(free, like, 32, 1)
        like.append({"size": size})
        sizes.append(min(size, free))
        free -= sizes[-1]
    assert sizes == [17, 16]
    assert _compose.size(10, [], 32, 4) == 3
    assert _compose.size(1, [{"size": 16}], 32) == 1
    assert _compose.size(5, [{"size": 16}], 32) == 8


def test_a_cohort_that_was_replaced_frees_its_trials():
    cohorts = [
        {"trials": ["a", "b", "c"]},
        {"trials": ["d"]},
        {"trials": ["a"], "instead_of": 0},
    ]
    found = _compose.standing(["a", "b", "c", "d"], cohorts)
    assert found == _compose.Standing(["b", "c"], [1, 2])
