"""Wrappers that change whose turn it is, by hand over several steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.balancers import _inner


class TestWarmUp:
    def test_observed_or_not(self):
        steps = [_inner.signals()] * 4
        got, state = _inner.run(hw.balancers.warm_up(_inner.counting(), 2), steps)
        np.testing.assert_array_equal(got[:, 1], [1, 1, 2, 3])
        assert state.inner == 4
        got, state = _inner.run(
            hw.balancers.warm_up(_inner.counting(), 2, observe=False), steps
        )
        np.testing.assert_array_equal(got[:, 1], [1, 1, 0, 1])
        assert state.inner == 2
        got, _ = _inner.run(hw.balancers.warm_up(_inner.counting(), 0), steps)
        np.testing.assert_array_equal(got[:, 1], [0, 1, 2, 3])

    @pytest.mark.parametrize(("observe", "expected"), [(True, 30.0), (False, 10.0)])
    def test_after_belongs_to_the_update_before(self, observe, expected):
        balancer = hw.balancers.warm_up(_inner.counting(), 2, observe)
        state = balancer.init(_inner.NAMES)
        for _ in range(3):
            _, state = balancer.update(_inner.signals(), state)
            state = balancer.after(jnp.array([1.0, 0.0]), state)
        assert state.inner == expected + (3 if observe else 1)

    def test_no_gramian_meanwhile(self):
        balancer = hw.balancers.warm_up(hw.balancers.mgda(), 2, observe=False)
        f = jax.jit(hw.balanced_grad(_inner.values_fn, balancer))
        state = balancer.init(_inner.NAMES)
        for t in range(4):
            assert bool(balancer.due(state)) == (t >= 2)
            _, info, state = f(_inner.make_params(), state, _inner.X[t])
            weights = np.array(list(info.weights.values()))
            assert np.isnan(info.gramian).all() == (t < 2)
            assert np.array_equal(weights, [1.0, 1.0]) == (t < 2)
        assert hw.balancers.warm_up(hw.balancers.mgda(), 2).due is None

    def test_around_every(self):
        inner = hw.balancers.every(2, hw.balancers.mgda())
        balancer = hw.balancers.warm_up(inner, 1, observe=False)
        state, due, weights = balancer.init(_inner.NAMES), [], []
        for t in range(4):
            due.append(bool(balancer.due(state)))
            shown = _inner.signals((1.0, 1.0 + t))
            shown = shown if due[-1] else shown._replace(gram=None)
            decision, state = balancer.update(shown, state)
            weights.append(float(decision.weights[0]))
        assert due == [False, True, False, True]
        np.testing.assert_allclose(weights, [1.0, 2 / 3, 2 / 3, 0.8], rtol=1e-5)

    def test_direction_is_the_plain_sum_first(self):
        balancer = hw.balancers.warm_up(_inner.directed(), 1)
        state = balancer.init(_inner.NAMES)
        nan = {**_inner.GRADS, "b": {"w": jnp.array([jnp.nan, 0.0])}}
        decision, _ = balancer.update(
            _inner.signals(grads=nan)._replace(gram=None), state
        )
        np.testing.assert_array_equal(decision.direction["w"], [1.0, 2.0])
        np.testing.assert_array_equal(decision.weights, [1.0, 0.0])
        decision, state = balancer.update(_inner.signals(grads=_inner.GRADS), state)
        np.testing.assert_array_equal(decision.direction["w"], [11.0, 22.0])
        decision, state = balancer.update(_inner.signals(grads=_inner.GRADS), state)
        np.testing.assert_array_equal(decision.direction["w"], [2.0, 4.0])


class TestFallback:
    def test_broken_steps_leave_no_trace(self):
        balancer = hw.balancers.fallback(_inner.counting())
        got, state = _inner.run(
            balancer,
            [
                _inner.signals(),
                _inner.signals(present=(True, False)),
                _inner.signals(values=(jnp.nan, 1.0)),
                _inner.signals((1.0, jnp.inf)),
                _inner.signals(present=(False, False)),
                _inner.signals(),
            ],
        )
        expected = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 0], [1, 1]]
        np.testing.assert_array_equal(got, expected)
        assert state.inner == 2

    def test_the_other_one_has_its_own_state(self):
        other = hw.balancers.smoothed(hw.balancers.mgda(), 0.5)
        balancer = hw.balancers.fallback(_inner.counting(), other)
        assert balancer.needs == "gramian"
        got, state = _inner.run(
            balancer,
            [_inner.signals(), _inner.signals(present=(False, True)), _inner.signals()],
        )
        np.testing.assert_array_equal(got, [[1, 0], [0, 1], [1, 1]])
        np.testing.assert_array_equal(state.otherwise.seen, [False, True])

    def test_after_goes_to_the_one_that_decided(self):
        balancer = hw.balancers.fallback(_inner.counting(), _inner.counting())
        state = balancer.init(_inner.NAMES)
        for present in ((True, True), (True, False)):
            _, state = balancer.update(_inner.signals(present=present), state)
            state = balancer.after(jnp.array([1.0, 0.0]), state)
        assert (state.inner, state.otherwise) == (11.0, 11.0)

    def test_one_with_a_direction_and_one_without(self):
        balancer = hw.balancers.fallback(_inner.directed())
        state = balancer.init(_inner.NAMES)
        update = jax.jit(balancer.update)
        shown = _inner.signals(grads=_inner.GRADS)._replace(gram=None)
        decision, state = update(shown, state)
        np.testing.assert_array_equal(decision.direction["w"], [2.0, 4.0])
        nan = {**_inner.GRADS, "a": {"w": jnp.array([jnp.nan, 0.0])}}
        decision, state = update(shown._replace(grads=nan), state)
        np.testing.assert_array_equal(decision.direction["w"], [10.0, 20.0])
        np.testing.assert_array_equal(decision.weights, [0.0, 1.0])
        assert state.inner == 1

    def test_due_is_passed_on(self):
        inner = hw.balancers.every(2, hw.balancers.mgda())
        balancer = hw.balancers.fallback(inner)
        _, state = _inner.run(balancer, [_inner.signals()])
        assert not balancer.due(state)
        assert hw.balancers.fallback(hw.balancers.mgda(), inner).due is None
        assert hw.balancers.fallback(hw.balancers.mgda()).due is None

    def test_different_batches_are_named(self):
        two = hw.balancers.mgda()._replace(batches=2)
        assert hw.balancers.fallback(two).batches == 2
        with pytest.raises(ValueError, match=r"otherwise: expected .* batches=2, got"):
            hw.balancers.fallback(two, hw.balancers.mgda())
