"""A program traced: what is refused, in which words, and what is taken as it comes."""

import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _program
from tests.sweeps import _two_heads as two

TRIAL = jax.tree.map(lambda x: x[0], two.FIVE)


def program(**functions):
    return two.PROGRAM._replace(**functions)


def keeps(change):
    """A step that changes a state of two arrays so."""
    return hw.sweeps.Program(
        lambda trial: {"w": jnp.ones(2), "n": jnp.int32(0)},
        lambda state, t: (change(state), {"values": {"a": state["w"][0]}}),
        lambda state: {"w": state["w"][0]},
    )


WRONG = {
    "no program": (
        two.step,
        TypeError,
        "program: expected hw.sweeps.Program(init, step, evaluate), got the function",
    ),
    "no function": (
        program(init=3),
        TypeError,
        "program.init: expected a callable, got int",
    ),
    "no pair": (
        program(step=lambda state, t: state),
        TypeError,
        "program.step: expected the pair (state, report), got dict",
    ),
    "another shape": (
        keeps(lambda state: state | {"w": jnp.ones(3)}),
        TypeError,
        "program.step: expected the same type of state as it was given (as "
        "program.init made it): ['w'] was float32[2], is float32[3]",
    ),
    "another dtype": (
        keeps(lambda state: state | {"n": state["n"] + 0.5}),
        TypeError,
        "['n'] was int32[], is float32[]",
    ),
    "one more": (
        keeps(lambda state: state | {"m": state["w"]}),
        TypeError,
        "['m'] is new",
    ),
    "one less": (
        keeps(lambda state: {"w": state["w"]}),
        TypeError,
        "['n'] is missing",
    ),
    "a list for a tuple": (
        hw.sweeps.Program(
            lambda trial: (jnp.ones(2),),
            lambda state, t: ([*state], {}),
            lambda state: {},
        ),
        TypeError,
        "program.step: expected the same type of state as it was given",
    ),
    "numbers of NumPy": (
        program(init=lambda trial: np.random.default_rng(trial["seed"]).normal(3)),
        TypeError,
        "program.init: expected a function that can be traced; this one makes a number",
    ),
    "an if": (
        program(step=lambda state, t: (state, {}) if state["x"][0] > 0 else None),
        TypeError,
        "program.step: expected a function that can be traced; this one makes a number",
    ),
    "metrics by place": (
        program(evaluate=lambda state: state["x"]),
        TypeError,
        "program.evaluate: metrics: expected a dict {name: scalar}",
    ),
    "a long metric": (
        program(evaluate=lambda state: {"x": state["x"]}),
        ValueError,
        "program.evaluate: metrics['x']: expected a scalar, got shape (3,)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    given, error, words = WRONG[case]
    with pytest.raises(error, match=re.escape(words)):
        _program.parts(given, TRIAL)


def test_an_error_of_the_users_own_comes_through():
    def step(state, t):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        _program.parts(program(step=step), TRIAL)


def test_what_it_knows_of_a_program():
    parts = _program.parts(two.PROGRAM, TRIAL)
    assert parts.heads == ("a", "b")
    assert parts.cause(1) == "the value of head 'b'"
    assert parts.cause(-1) is None
    assert parts.cause(-2 - parts.leaves.index("['x']")) == "the state's ['x']"
    assert [x.shape for x in parts.arrays["step"]] == [(2,)]  # OFFSETS, closed over
    assert parts.state["best"].dtype == jnp.float32  # a number of Python, in init


def test_types_of_trials_share_what_is_traced_and_all_goes_with_the_step():
    traced = []

    def step(state, t):
        traced.append(t)
        return two.step(state, t)

    mine = program(step=step)
    made = _modes.cohort(mode="scan", program=mine, like_trials=two.FIVE)
    assert _modes.cohort(mine, "vmap", two.one(two.FIVE, 0)).parts is made.parts
    other = TRIAL | {"rate": np.float32(1)}
    assert _program.parts(mine, other) is not made.parts
    assert len(traced) == 2
    made.compiled("start")
    alive = weakref.ref(step)
    del mine, made, step
    gc.collect()
    assert alive() is None


def test_metrics_of_all_kinds():
    class Known(dict):
        """What a user's own evaluation may give."""

    found = {
        "ratio": hw.metrics.Ratio(jnp.float32(1), jnp.float32(4)),
        "n": 3,
        "no": None,
    }
    made = _modes.cohort(program(evaluate=lambda state: Known(found)), "vmap", two.FIVE)
    metrics = made.finish(made.start(two.FIVE))
    np.testing.assert_array_equal(metrics["ratio"], np.full(5, 0.25, np.float32))
    np.testing.assert_array_equal(metrics["n"], [3] * 5)
    assert np.isnan(metrics["no"]).all()


@pytest.mark.parametrize("mode", ["vmap", "scan", "loop"])
def test_a_report_of_nothing_and_a_state_without_numbers(mode):
    nothing = hw.sweeps.Program(
        lambda trial: {"n": jnp.int32(0), "none": None},
        lambda state, t: (state | {"n": state["n"] + 1}, {}),
        lambda state: {"n": state["n"]},
    )
    made = _modes.cohort(nothing, mode, two.FIVE, every=2)
    members, reports = made.advance(made.start(two.FIVE), 4)
    np.testing.assert_array_equal(reports.t[:, 0], [1, 3])
    assert reports.report == {}
    assert made.finish(members)["n"].tolist() == [4] * 5


@pytest.mark.parametrize("mode", ["vmap", "scan"])
def test_no_types_are_promoted_and_doubles_work(mode):
    def step(state, t):
        return state * 0.5, {"values": {"a": state}, "t": t}

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        doubles = hw.sweeps.Program(
            lambda trial: trial["weights"]["a"].astype(jnp.float64),
            step,
            lambda state: {"x": state},
        )
        made = _modes.cohort(doubles, mode, two.FIVE, every=1)
        members, _ = made.advance(made.start(two.FIVE), 30)
        members = made.mark(members, np.ones(5, bool))
        found = made.finish(members)["x"]
    assert found.dtype == np.float64
    assert members.digest.dtype == jnp.uint32
    np.testing.assert_array_equal(found, two.FIVE["weights"]["a"] * 2.0**-30)


def test_an_optimiser_and_a_sum_to_hand():
    """Momentum by optax, of a slope of 1: after n steps rate * Σ (2 - 0.5^i)."""
    optimizer = optax.sgd(0.1, momentum=0.5)

    def step(state, t):
        x, memory = state
        updates, memory = optimizer.update(jnp.ones(()), memory)
        return (optax.apply_updates(x, updates), memory), {"values": {"a": x}}

    def init(trial):
        return trial["weights"]["a"], optimizer.init(trial["weights"]["a"])

    given = hw.sweeps.Program(init, step, lambda state: {"x": state[0]})
    made = _modes.cohort(given, "vmap", two.FIVE)
    members, _ = made.advance(made.start(two.FIVE), 3)
    wanted = two.FIVE["weights"]["a"] - 0.1 * (1 + 1.5 + 1.75)
    np.testing.assert_allclose(made.finish(members)["x"], wanted, rtol=1e-6)
