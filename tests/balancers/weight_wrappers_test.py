"""Wrappers that change weights or what is shown, by hand over several steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.balancers import _inner


class TestWithPreferences:
    def test_weights_are_those_of_scaled_heads(self):
        """MGDA of 2 g_a and 3 g_b, then each times its preference."""
        balancer = hw.balancers.with_preferences(
            hw.balancers.mgda(), {"a": 2.0, "b": 3.0}
        )
        got, _ = _inner.run(
            balancer, [_inner.signals((1.0, 1.0)), _inner.signals((9.0, 4.0))]
        )
        first = np.array([9.0, 4.0]) / 13  # inverse to the squares 4 and 9
        second = np.array([0.5, 0.5])  # 36 and 36
        np.testing.assert_allclose(
            got, np.stack([first, second]) * [2.0, 3.0], rtol=1e-5
        )

    def test_gradients_and_values_are_scaled_and_a_direction_passes(self):
        seen = {}

        def update(shown, state):
            seen.update(values=shown.values, grads=shown.grads)
            return _inner.directed().update(shown, state)

        inner = _inner.directed()._replace(update=update)
        balancer = hw.balancers.with_preferences(inner, {"a": 3.0, "b": 0.5})
        grads = jax.tree.map(lambda g: g.astype(jnp.bfloat16), _inner.GRADS)
        shown = _inner.signals(values=(1.0, 4.0), grads=grads)
        decision, state = balancer.update(shown, balancer.init(_inner.NAMES))
        np.testing.assert_allclose(seen["values"], [3.0, 2.0])
        assert seen["grads"]["b"]["w"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(seen["grads"]["b"]["w"], [5.0, 10.0])
        np.testing.assert_array_equal(decision.direction["w"], [6.0, 12.0])
        # Of head a's own gradient it holds 6.
        np.testing.assert_array_equal(decision.weights, [6.0, 0.0])
        assert state.inner == 1

    def test_preferences_are_data(self):
        balancer = hw.balancers.with_preferences(
            hw.balancers.mgda(), {"a": 1.0, "b": 1.0}
        )
        state = balancer.init(_inner.NAMES)
        many = jnp.array([[1.0, 1.0], [2.0, 3.0]])
        states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        states = states._replace(preferences=many)
        shown = _inner.signals()
        update = jax.jit(jax.vmap(balancer.update, (None, 0)))
        weights = update(shown, states)[0].weights
        np.testing.assert_allclose(weights, [[0.5, 0.5], [18 / 13, 12 / 13]], rtol=1e-5)

    def test_after_sees_preferred_values(self):
        balancer = hw.balancers.with_preferences(
            _inner.counting(), {"a": 2.0, "b": 3.0}
        )
        state = balancer.after(jnp.array([1.0, 10.0]), balancer.init(_inner.NAMES))
        assert state.inner == 320.0


class TestSmoothed:
    @pytest.mark.parametrize("make", [hw.balancers.smoothed, hw.balancers.cr_mogm])
    def test_average_by_hand(self, make):
        got, _ = _inner.run(
            make(hw.balancers.mgda(), 0.8),
            [
                _inner.signals((1.0, 1.0)),
                _inner.signals((1.0, 3.0)),
                _inner.signals((3.0, 1.0)),
            ],
        )
        a = [0.5, 0.8 * 0.5 + 0.2 * 0.75]
        a.append(0.8 * a[1] + 0.2 * 0.25)
        np.testing.assert_allclose(got[:, 0], a, rtol=1e-5)
        np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-5)

    def test_decay_of_zero_changes_nothing(self):
        steps = [_inner.signals((1.0, d)) for d in (1.0, 3.0, 5.0)]
        got, _ = _inner.run(hw.balancers.smoothed(hw.balancers.mgda(), 0.0), steps)
        want, _ = _inner.run(hw.balancers.mgda(), steps)
        np.testing.assert_allclose(got, want, rtol=1e-6)

    def test_absent_head_keeps_its_average(self):
        got, _ = _inner.run(
            hw.balancers.smoothed(hw.balancers.mgda(), 0.5),
            [
                _inner.signals((1.0, 1.0), present=(True, False)),
                _inner.signals((1.0, 3.0)),  # the first of head b
                _inner.signals((jnp.nan, 1.0)),
                _inner.signals((1.0, 1.0)),
            ],
        )
        # a: 1, then (1 + 0.75) / 2, kept, then with 0.5.
        np.testing.assert_allclose(got[:, 0], [1.0, 0.875, 0.0, 0.6875], rtol=1e-5)
        b = [0.0, 0.25, 0.625, 0.5625]
        np.testing.assert_allclose(got[:, 1], b, rtol=1e-5)

    def test_within_and_around_every(self):
        steps = [_inner.signals((1.0, d)) for d in (1.0, 3.0, 7.0)]
        inside = hw.balancers.every(2, hw.balancers.smoothed(hw.balancers.mgda(), 0.5))
        got, _ = _inner.run(inside, steps)
        # Asked at updates 0 and 2: 1/2, then the mean of 1/2 and 7/8.
        np.testing.assert_allclose(got[:, 0], [0.5, 0.5, 0.6875], rtol=1e-5)
        around = hw.balancers.smoothed(hw.balancers.every(2, hw.balancers.mgda()), 0.5)
        got, state = _inner.run(around, steps)
        np.testing.assert_allclose(got[:, 0], [0.5, 0.5, 0.6875], rtol=1e-5)
        assert not around.due(state)
        # Between two refreshes there is no gramian.
        decision, _ = around.update(steps[0]._replace(gram=None), state)
        np.testing.assert_allclose(decision.weights[0], 0.78125, rtol=1e-5)


class TestClipped:
    def test_bounds(self):
        got, _ = _inner.run(
            hw.balancers.clipped(hw.balancers.mgda(), 0.2, 0.6),
            [
                _inner.signals((1.0, 1.0)),
                _inner.signals((1.0, 9.0)),
                _inner.signals((1.0, 9.0), present=(True, False)),
            ],
        )
        np.testing.assert_allclose(got, [[0.5, 0.5], [0.6, 0.2], [0.6, 0.0]], rtol=1e-5)

    def test_defaults_remove_negative_weights(self):
        balancer = hw.balancers.clipped(
            hw.balancers.constant({"a": -1.0, "b": 1e30}),
        )
        np.testing.assert_allclose(
            _inner.run(balancer, [_inner.signals()])[0], [[0.0, 1e30]]
        )


class TestRescaled:
    @pytest.mark.parametrize(("total", "sums"), [("heads", [2.0, 1.0]), (5.0, [5, 5])])
    def test_sums(self, total, sums):
        steps = [
            _inner.signals((1.0, 3.0)),
            _inner.signals((1.0, 3.0), present=(True, False)),
        ]
        got, _ = _inner.run(hw.balancers.rescaled(hw.balancers.mgda(), total), steps)
        np.testing.assert_allclose(got.sum(axis=1), sums, rtol=1e-5)
        np.testing.assert_allclose(got[0] / got[0].sum(), [0.75, 0.25], rtol=1e-5)
        assert got[1, 1] == 0

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 7e37])
    def test_no_sum_leaves_float32(self, scale):
        inner = hw.balancers.constant({"a": scale, "b": scale})
        got, _ = _inner.run(hw.balancers.rescaled(inner), [_inner.signals()])
        np.testing.assert_allclose(got, [[1.0, 1.0]], rtol=1e-6)

    def test_what_has_no_positive_sum_stays(self):
        for weights in ({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": -3.0}):
            balancer = hw.balancers.rescaled(hw.balancers.constant(weights))
            got, _ = _inner.run(balancer, [_inner.signals()])
            np.testing.assert_array_equal(got, [list(weights.values())])

    def test_direction_by_the_same_factor(self):
        balancer = hw.balancers.rescaled(_inner.directed(), 3.0)
        decision, _ = balancer.update(
            _inner.signals(grads=_inner.GRADS), balancer.init(_inner.NAMES)
        )
        np.testing.assert_allclose(decision.weights, [3.0, 0.0])
        np.testing.assert_allclose(decision.direction["w"], [3.0, 6.0])


class TestClipHeads:
    def test_by_hand(self):
        """Norms 10 and 1 with 5: MGDA sees squares 25 and 1, weights 1/26 and 25/26."""
        balancer = hw.balancers.clip_heads(hw.balancers.mgda(), 5.0)
        got, state = _inner.run(balancer, [_inner.signals((100.0, 1.0))])
        np.testing.assert_allclose(got, [[0.5 / 26, 25 / 26]], rtol=1e-5)
        np.testing.assert_allclose(state.scales, [0.5, 1.0])

    @pytest.mark.optimized  # its tolerance is that of fused products
    def test_the_step_is_that_of_clipped_gradients(self):
        """In float64 NumPy, over all parameters: g of each head, clipped, then added.

        `c` shares nothing; the trunk and the private part of a head are one vector.
        """
        reach = {"a": ("t", "a"), "b": ("t", "b"), "c": ("c",)}
        rng = np.random.default_rng(3)
        sizes = {"a": 9.0, "b": 0.3, "c": 40.0}
        of = {n: {p: sizes[n] * rng.normal(size=3) for p in reach[n]} for n in reach}
        wide = {
            n: {p: jnp.asarray(g, jnp.float32) for p, g in of[n].items()} for n in of
        }
        params = {p: jnp.zeros(3) for p in "tabc"}

        def values_fn(params):
            return {n: sum(g[p] @ params[p] for p in g) for n, g in wide.items()}

        weights = {"a": 1.0, "b": 2.0, "c": 0.5}
        inner = hw.balancers.constant(weights)
        balancer = hw.balancers.clip_heads(inner, 2.0)
        # Over all parameters, and over those that a head shares (or all, if none).
        for wrt, over in ((lambda path: True, "tabc"), (None, "tc")):
            want = {p: np.zeros(3) for p in params}
            for name, g in of.items():
                norm = np.sqrt(sum(np.sum(g[p] ** 2) for p in g if p in over))
                for p in g:
                    want[p] += weights[name] * min(1.0, 2.0 / norm) * g[p]
            step = hw.balanced_grad(values_fn, balancer, wrt=wrt)
            got, info, _ = jax.jit(step)(params, balancer.init(list(of)))
            for p in params:
                np.testing.assert_allclose(got[p], want[p], rtol=1e-5)
        assert info.weights["b"] == 2.0

    def test_an_inner_balancer_of_gradients_is_shown_clipped_ones(self):
        """Signs agree, so GradDrop adds: (3, 4) and (0.6, 0.8) of norms 5 and 1."""
        balancer = hw.balancers.clip_heads(hw.balancers.graddrop(), 1.0)
        grads = {"a": {"w": jnp.array([3.0, 4.0])}, "b": {"w": jnp.array([0.6, 0.8])}}
        for gram in (None, jnp.array([[25.0, 5.0], [5.0, 1.0]])):
            signals = hw.Signals(jnp.ones(2), gram, grads, key=jax.random.key(0))
            start = balancer.init(["a", "b"])
            decision, _ = jax.jit(balancer.update)(signals, start)
            np.testing.assert_allclose(decision.direction["w"], [1.2, 1.6], rtol=1e-6)

    def test_between_two_refreshes_the_clipped_weights_are_kept(self):
        balancer = hw.balancers.every(
            2, hw.balancers.clip_heads(hw.balancers.equal(), 5.0)
        )
        got, _ = _inner.run(
            balancer, [_inner.signals((100.0, 1.0)), _inner.signals((1.0, 1.0))]
        )
        np.testing.assert_allclose(got, [[0.5, 1.0], [0.5, 1.0]])

    def test_every_step_is_looked_at(self):
        inner = hw.balancers.every(2, hw.balancers.constant({"a": 3.0, "b": 1.0}))
        balancer = hw.balancers.clip_heads(inner._replace(static=True), 5.0)
        assert (balancer.needs, balancer.due) == ("gramian", None)
        assert balancer.together
        assert not balancer.static
        got, _ = _inner.run(
            balancer, [_inner.signals((100.0, 1.0)), _inner.signals((1.0, 400.0))]
        )
        np.testing.assert_allclose(got, [[1.5, 1.0], [3.0, 0.25]])

    def test_one_of_several_batches_is_refused(self):
        with pytest.raises(
            ValueError, match="balancer: expected one of a single batch"
        ):
            hw.balancers.clip_heads(hw.balancers.modo(), 1.0)
