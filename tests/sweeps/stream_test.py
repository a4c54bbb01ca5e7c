"""Batches of the host: the same bits as of data on the device, in any mode."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _stream
from headwise.sweeps._work import _running
from tests.sweeps import _studies
from tests.sweeps import _two_heads as two

STEPS = 11
X = np.random.default_rng(0).normal(size=STEPS).astype(np.float32)
ON_DEVICE = jnp.asarray(X)
RANDOM = np.random.default_rng(0)


def init(trial):
    return {"x": jnp.float32(0.5), "trial": trial}


def moved(state, batch):
    """Drawn to the batch by a, to 0 by b; with a = 3 it breaks in step 5."""
    weights = state["trial"]["weights"]
    pull = weights["a"] * (batch["x"] - state["x"]) - weights["b"] * state["x"]
    bad = jnp.where((weights["a"] == 3.0) & (batch["n"] == 5), jnp.nan, 1.0)
    x = (state["x"] + 0.1 * pull) * bad
    return state | {"x": x}, {"values": {"a": x, "b": batch["x"]}}


def evaluate(state):
    return {"x": state["x"]}


def batches(t):
    return {"x": X[t], "n": t}


RESIDENT = hw.sweeps.Program(
    init, lambda state, t: moved(state, {"x": ON_DEVICE[t], "n": t}), evaluate
)


def streamed(batches=batches):
    """A program that was not traced before."""
    return hw.sweeps.Program(
        init, lambda state, t, batch: moved(state, batch), evaluate, batches
    )


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Of four steps."""
    monkeypatch.setattr(_stream, "ROWS", 4)


def whole(program, mode, numbers=(STEPS,)):
    made = _modes.cohort(program, mode, two.FIVE, every=1, steps=STEPS)
    members, found = made.start(two.FIVE), []
    for number in numbers:
        members, reports = made.advance(members, number)
        found.append(reports)
    return members, found, made.finish(members)


def values(reports, k):
    """{step: what member k told in it}."""
    return {
        int(t): {n: x[row, k] for n, x in part.report["values"].items()}
        for part in reports
        for row, t in enumerate(part.t[:, k])
        if t >= 0
    }


@pytest.mark.parametrize("mode", _modes.MODES)
def test_the_same_bits_as_of_data_on_the_device(mode):
    members, reports, metrics = whole(RESIDENT, mode)
    program = streamed()
    for numbers in ((STEPS,), (3, 1, 7)):
        here, own, found = whole(program, mode, numbers)
        jax.tree.map(np.testing.assert_array_equal, here, members)
        np.testing.assert_array_equal(found["x"], metrics["x"])
        for k in range(5):
            assert values(own, k) == values(reports, k)
    assert here.stopped[:5].tolist() == [-1, -1, -1, 5, -1]


@pytest.mark.parametrize("mode", ["scan", "vmap"])
def test_members_at_different_steps_have_each_their_own_batches(mode):
    program = streamed()
    made = _modes.cohort(program, mode, two.FIVE, every=1, steps=STEPS)
    members, _ = made.advance(made.start(two.FIVE), 6, np.array([6, 0, 3, 4, 1]))
    assert members.t.tolist() == [6, 0, 3, 4, 1]
    members, _ = made.advance(members, 3)
    assert members.t.tolist() == [9, 3, 6, 5, 4]
    members, _ = made.advance(members, STEPS)
    expected, *_ = whole(program, mode)
    jax.tree.map(np.testing.assert_array_equal, members, expected)


def test_each_step_is_read_once_for_all_members():
    asked = []

    def counted(t):
        asked.append(t)
        return batches(t)

    whole(streamed(counted), "scan", (2, 2, 7))
    assert asked == [0, *range(STEPS)]  # the first twice, to see that it is the same


def run(program, **options):
    design = {"a": [0.5, 1.0, 2.0, 4.0], "b": [1.0, 0.5, 1.0, 0.5]}
    options = {"steps": STEPS, "mode": "scan", "progress": False} | options
    return hw.sweeps.run(program, design, **options)


def test_a_study_that_was_killed_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    calls, program = [], streamed()

    def settle(self, settled=_running.Course.settle):
        calls.append(1)
        if len(calls) == 4:
            raise _studies.Killed
        settled(self)

    options = {"folder": tmp_path, "checkpoint_every": 0}
    with monkeypatch.context() as patch:
        patch.setattr(_running.Course, "settle", settle)
        with pytest.raises(_studies.Killed):
            run(program, **options)
    assert hw.sweeps.read(tmp_path) == []
    records, expected = run(program, **options), run(streamed())
    for record, other in zip(records, expected, strict=True):
        assert record["metrics"] == other["metrics"]
        assert record["digests"] == other["digests"]
    assert hw.sweeps.verify(program, tmp_path, records[2]).same_bits


def test_other_data_are_another_program(tmp_path):
    run(streamed(), folder=tmp_path, cohorts=1, size=2)
    other = streamed(batches)._replace(batches=lambda t: {"x": X[t] + 1, "n": t})
    with pytest.raises(hw.sweeps.StudyError, match="program"):
        run(other, folder=tmp_path)


def test_halving_fills_places_with_trials_at_their_first_step():
    plan = hw.sweeps.halving("x", False, (2, 4), keep=0.5)
    pairs = [run(p, size=2, halving=plan, mode="vmap") for p in (streamed(), RESIDENT)]
    for here, there in zip(*pairs, strict=True):
        assert (here["metrics"], here["stopped"]) == (
            there["metrics"],
            there["stopped"],
        )


def test_slopes_are_those_of_data_on_the_device():
    trials = hw.sweeps.trials({"a": [0.5, 1.0], "b": [1.0, 0.5]})
    one, other = (hw.sweeps.slopes(p, trials, STEPS) for p in (streamed(), RESIDENT))
    np.testing.assert_array_equal(one.slopes, other.slopes)


def values_fn(params, batch):
    return {"a": jnp.mean((params["w"] - batch) ** 2), "b": params["w"] ** 2}


def training(**data):
    return hw.training.program(
        values_fn,
        optax.sgd(0.1),
        init=lambda key: {"w": jnp.float32(0.0)},
        evaluate=lambda params, rest: {"w": params["w"]},
        **data,
    )


class Anew:
    """An iterable that is no sequence."""

    def __iter__(self):
        return iter(X.reshape(-1, 1))


def test_a_training_of_batches_of_the_host():
    w, weights = 0.0, {"a": 1.0, "b": 0.5}
    for x in X.astype(np.float64):
        w -= 0.1 * (2 * (w - x) + 0.5 * 2 * w)
    kinds = (lambda t: X[t : t + 1], list(X.reshape(-1, 1)), Anew())
    for given in kinds:
        program = training(batches=given)
        design = {name: [x, x] for name, x in weights.items()}
        for _ in range(2):  # the second goes through them anew
            record, _ = hw.sweeps.run(
                program, design, (0, 1), steps=STEPS, mode="scan", progress=False
            )[:2]
            np.testing.assert_allclose(record["metrics"]["w"], w, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, TypeError, "expected either batch or batches, got neither"),
        ({"batch": lambda k: k, "batches": []}, TypeError, "batches, got both"),
        ({"batches": iter([1.0])}, ValueError, "begins anew.*which can be read once"),
        ({"batches": 3}, TypeError, "batches: expected a function of the step"),
        ({"batches": {"x": X}}, TypeError, "batches: expected a function of the step"),
    ],
)
def test_batches_that_cannot_be_gone_through_again(given, error, words):
    with pytest.raises(error, match=words):
        training(**given)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (lambda t: {"x": "three", "n": t}, TypeError, "arrays of numbers, got str"),
        (lambda t: {"x": RANDOM.normal(), "n": t}, ValueError, "whenever step 0 is"),
        (lambda t: {"x": X[: 1 + t], "n": t}, ValueError, "of step 1 what step 0 has"),
        (lambda t: next(iter([X][t:])), ValueError, "for step 1, but an iterator"),
        (3, TypeError, "program.batches: expected a callable, got int"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(given, error, words):
    program = hw.sweeps.Program(
        init,
        lambda state, t, batch: (state, {"values": {"a": state["x"]}}),
        evaluate,
        given,
    )
    with pytest.raises(error, match=words):
        run(program)


def test_an_iterable_that_ends_too_early_says_at_which_step():
    with pytest.raises(ValueError, match=r"batches: expected .* step 11"):
        hw.sweeps.run(
            training(batches=list(X.reshape(-1, 1))),
            {"a": [1.0], "b": [1.0]},
            steps=STEPS + 1,
            mode="scan",
            progress=False,
        )
