"""Deciding: what a balancer is shown, and the gradient made from its answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.training import _decide
from headwise.training import _head_gradients

# Leaves: shared, private to head 0, private to head 1.
REACHED = [[True, True, False], [True, False, True]]
ROWS = [
    [jnp.array([1.0, 2.0]), jnp.array(3.0), jnp.array(0.0)],
    [jnp.array([-4.0, 0.5]), jnp.array(0.0), jnp.array(6.0)],
]
KEPT = _head_gradients.Kept(ROWS, REACHED)
PRIVATE = [False, True, True]
SIGNALS = hw.Signals(values=jnp.array([1.0, 2.0]), step=3)


def model(p):
    """Linear, with the gradients above."""
    shared = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([-4.0, 0.5])}
    return {
        "a": p[0] @ shared["a"] + 3.0 * p[1],
        "b": p[0] @ shared["b"] + 6.0 * p[2],
    }


def one_more_pass():
    params = [jnp.zeros(2), jnp.zeros(()), jnp.zeros(())]
    plain = hw.gradients.with_aux(model, False)
    return _head_gradients.OneMorePass(hw.gradients.linearize(plain, params)[2])


def balancer(needs, seen, weights=(0.5, 2.0), direction=None):
    def update(signals, state):
        seen.append(signals)
        return hw.balancers.Decision(jnp.array(weights), direction), state + 1

    return hw.balancers.Balancer(lambda names, params=None: 0, update, needs)


def assert_rows(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: KEPT, one_more_pass], ids=["kept", "pass"])
class TestTotal:
    def test_weighted(self, make):
        decision = hw.balancers.Decision(jnp.array([0.5, 2.0]))
        assert_rows(make().total(decision, None), [[-7.5, 2.0], 1.5, 12.0])

    def test_own(self, make):
        decision = hw.balancers.Decision(jnp.array([0.5, 2.0]))
        own = _head_gradients.Own(jnp.array([1.0, 0.0]), PRIVATE)
        assert_rows(make().total(decision, own), [[-7.5, 2.0], 3.0, 0.0])


def test_a_direction_takes_the_place_of_the_weighted_sum():
    direction = [jnp.array([9.0, 9.0]), jnp.array(8.0), jnp.array(7.0)]
    decision = hw.balancers.Decision(jnp.ones(2), direction)
    assert_rows(KEPT.total(decision, None), direction)
    own = _head_gradients.Own(jnp.ones(2), PRIVATE)
    assert_rows(KEPT.total(decision, own), [[9.0, 9.0], 3.0, 6.0])


def test_a_head_of_weight_zero_leaves_no_trace():
    broken = [[jnp.full_like(g, jnp.nan) for g in ROWS[0]], ROWS[1]]
    kept = _head_gradients.Kept(broken, REACHED)
    decision = hw.balancers.Decision(jnp.array([0.0, 2.0]))
    assert_rows(kept.total(decision, None), [[-8.0, 1.0], 0.0, 12.0])


def test_gramian_over_leaves_and_of_two_batches():
    np.testing.assert_allclose(
        KEPT.gramian([True, False, False]), [[5, -3], [-3, 16.25]]
    )
    np.testing.assert_allclose(KEPT.gramian([True] * 3), [[14, -3], [-3, 52.25]])
    others = [[2.0 * g for g in ROWS[0]], ROWS[1]]
    crossed = _head_gradients.crossed(ROWS, others, [True, False, False])
    np.testing.assert_allclose(crossed, [[10, -3], [-6, 16.25]])


def test_trees_by_name():
    params = {"x": jnp.zeros(2), "y": 0.0, "z": 0.0}
    trees = KEPT.trees(["a", "b"], params)
    assert trees["b"]["z"] == 6.0
    assert one_more_pass().trees(["a", "b"], params) is None


GRAM = jnp.array([[5.0, -3.0], [-3.0, 16.25]])
GRADS = {"a": ROWS[0], "b": ROWS[1]}


class TestSignals:
    def test_by_values(self):
        seen = []
        outcome = _decide.by_values(balancer("values", seen), SIGNALS, 0, KEPT)
        assert seen == [SIGNALS]
        assert_rows(outcome.total, [[-7.5, 2.0], 1.5, 12.0])
        assert (outcome.state, outcome.gramian, outcome.conflicts) == (1, None, None)
        np.testing.assert_array_equal(outcome.present, [True, True])

    @pytest.mark.parametrize("needs", ["values", "gramian", "grads"])
    def test_by_gradients_shows_what_is_needed(self, needs):
        seen = []
        outcome = _decide.by_gradients(
            balancer(needs, seen), SIGNALS, 0, GRAM, KEPT, GRADS
        )
        (shown,) = seen
        assert (shown.gram is None) == (needs == "values")
        assert (shown.grads is None) == (needs != "grads")
        assert outcome.gramian is GRAM
        assert outcome.conflicts == 1
        assert outcome.grads is GRADS

    def test_absent_and_broken_heads_have_no_own_gradient(self):
        signals = SIGNALS._replace(present=jnp.array([True, False]))
        outcome = _decide.by_values(balancer("values", []), signals, 0, KEPT, PRIVATE)
        # The weight 2 of an absent head is none, though this balancer forgot to ask.
        assert_rows(outcome.total, [[0.5, 1.0], 3.0, 0.0])
        gram = GRAM.at[0, 0].set(jnp.nan)
        seen = []
        outcome = _decide.by_gradients(
            balancer("gramian", seen), SIGNALS, 0, gram, KEPT, None, PRIVATE
        )
        np.testing.assert_array_equal(outcome.present, [False, True])
        np.testing.assert_array_equal(seen[0].present, [False, True])
        assert_rows(outcome.total, [[-8.0, 1.0], 0.0, 6.0])
        np.testing.assert_array_equal(outcome.weights, [0.0, 2.0])
        np.testing.assert_array_equal(outcome.broken, [True, False])

    def test_absent_heads_are_shown_as_0(self):
        seen, nan = [], jnp.nan
        signals = SIGNALS._replace(
            values=jnp.array([1.0, nan]), present=jnp.array([True, False])
        )
        gram = GRAM.at[1].set(nan).at[:, 1].set(nan)
        grads = {"a": ROWS[0], "b": [g * nan for g in ROWS[1]]}
        outcome = _decide.by_gradients(
            balancer("grads", seen), signals, 0, gram, KEPT, grads
        )
        (shown,) = seen
        np.testing.assert_array_equal(shown.values, [1.0, 0.0])
        np.testing.assert_array_equal(shown.gram, [[5.0, 0.0], [0.0, 0.0]])
        assert_rows(shown.grads["b"], [[0.0, 0.0], 0.0, 0.0])
        assert shown.grads["a"] is not None
        np.testing.assert_array_equal(outcome.gramian, shown.gram)
        # It has no data, so nothing of it is broken.
        np.testing.assert_array_equal(outcome.broken, [False, False])

    def test_a_value_that_is_not_finite_is_broken_unless_weights_are_static(self):
        signals = SIGNALS._replace(values=jnp.array([1.0, jnp.nan]))
        left_out = balancer("values", [], weights=(0.5, 0.0))
        outcome = _decide.by_values(left_out, signals, 0, KEPT)
        np.testing.assert_array_equal(outcome.broken, [False, True])
        np.testing.assert_array_equal(outcome.present, [True, False])
        outcome = _decide.by_values(left_out._replace(static=True), signals, 0, KEPT)
        assert outcome.broken is None
        np.testing.assert_array_equal(outcome.present, [True, True])

    def test_present_by_name_or_as_it_is(self):
        flags = _decide.present_flags(["a", "b"], {"b": True, "a": False})
        np.testing.assert_array_equal(flags, [False, True])
        assert _decide.present_flags(["a", "b"], None) is None
        array = jnp.array([True, False])
        assert _decide.present_flags(["a", "b"], array) is array
        with pytest.raises(ValueError, match=r"present: .*missing \['b'\]"):
            _decide.present_flags(["a", "b"], {"a": True})


def test_when_due_traces_each_branch_once():
    calls = []

    def outcome(kind, gram):
        calls.append(kind)
        total = [jnp.array([1.0, 2.0])]
        grads = None if gram is None else {"a": total}
        pairs = None if gram is None else _decide.conflicts(gram)
        weights = jnp.full(2, 1.0 + len(kind))
        here = jnp.ones(2, bool)
        return _decide.Outcome(total, weights, 0.0, here, gram, pairs, grads)

    @jax.jit
    def run(due):
        return _decide.when_due(
            due,
            lambda: outcome("refresh", jnp.array([[1.0, -1.0], [-1.0, 1.0]])),
            lambda: outcome("keep", None),
        )

    fresh, kept = run(True), run(False)
    assert sorted(calls) == ["keep", "refresh"]
    assert (fresh.weights[0], kept.weights[0]) == (8.0, 5.0)
    assert fresh.conflicts == 1
    assert np.isnan(kept.gramian).all()
    assert np.isnan(kept.conflicts)
    assert fresh.grads is None
