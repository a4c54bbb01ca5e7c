"""Balancers around other balancers, by hand over several steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ["a", "b"]
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 3)), jnp.float32)


def signals(diagonal=(1.0, 1.0), values=(1.0, 1.0), present=None, grads=None):
    """Two orthogonal heads: MGDA's weights are inverse to the diagonal."""
    gram = jnp.diag(jnp.array(diagonal, jnp.float32))
    if present is not None:
        present = jnp.array(present)
    return hw.Signals(jnp.array(values), gram, grads, 0, jax.random.key(0), present)


def run(balancer, steps):
    """Weights [T, H] of one update after the other, and the last state."""
    state, seen = balancer.init(NAMES), []
    update = jax.jit(balancer.update)
    for step in steps:
        decision, state = update(step, state)
        seen.append(np.asarray(decision.weights))
    return np.stack(seen), state


def counting():
    """Weights (1, t) at update t; counts its updates."""

    def init(names, params=None):
        del names, params
        return jnp.zeros(())

    def update(signals, state):
        return hw.balancers.Decision(jnp.stack([jnp.ones(()), state])), state + 1

    def after(values, state):
        return state + 10 * jnp.sum(values)

    return hw.balancers.Balancer(init, update, after=after)


def directed():
    """Twice the first head's gradient, whatever comes."""

    def init(names, params=None):
        del names, params
        return jnp.zeros(())

    def update(signals, state):
        direction = jax.tree.map(lambda g: 2 * g, signals.grads["a"])
        decision = hw.balancers.Decision(jnp.array([2.0, 0.0]), direction)
        return decision, state + 1

    return hw.balancers.Balancer(init, update, "grads")


GRADS = {"a": {"w": jnp.array([1.0, 2.0])}, "b": {"w": jnp.array([10.0, 20.0])}}


def values_fn(p, x):
    h = jnp.tanh(x @ p["trunk"])
    return {
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
    }


def make_params():
    rng = np.random.default_rng(0)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


class TestWithPreferences:
    def test_weights_are_those_of_scaled_heads(self):
        """MGDA of 2 g_a and 3 g_b, then each times its preference."""
        balancer = hw.balancers.with_preferences(
            hw.balancers.mgda(), {"a": 2.0, "b": 3.0}
        )
        got, _ = run(balancer, [signals((1.0, 1.0)), signals((9.0, 4.0))])
        first = np.array([9.0, 4.0]) / 13  # inverse to the squares 4 and 9
        second = np.array([0.5, 0.5])  # 36 and 36
        np.testing.assert_allclose(
            got, np.stack([first, second]) * [2.0, 3.0], rtol=1e-5
        )

    def test_gradients_and_values_are_scaled_and_a_direction_passes(self):
        seen = {}

        def update(shown, state):
            seen.update(values=shown.values, grads=shown.grads)
            return directed().update(shown, state)

        inner = directed()._replace(update=update)
        balancer = hw.balancers.with_preferences(inner, {"a": 3.0, "b": 0.5})
        grads = jax.tree.map(lambda g: g.astype(jnp.bfloat16), GRADS)
        shown = signals(values=(1.0, 4.0), grads=grads)
        decision, state = balancer.update(shown, balancer.init(NAMES))
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
        state = balancer.init(NAMES)
        many = jnp.array([[1.0, 1.0], [2.0, 3.0]])
        states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        states = states._replace(preferences=many)
        weights = jax.vmap(lambda s: balancer.update(signals(), s)[0].weights)(states)
        np.testing.assert_allclose(weights, [[0.5, 0.5], [18 / 13, 12 / 13]], rtol=1e-5)

    def test_after_sees_preferred_values(self):
        balancer = hw.balancers.with_preferences(counting(), {"a": 2.0, "b": 3.0})
        state = balancer.after(jnp.array([1.0, 10.0]), balancer.init(NAMES))
        assert state.inner == 320.0


class TestSmoothed:
    @pytest.mark.parametrize("make", [hw.balancers.smoothed, hw.balancers.cr_mogm])
    def test_average_by_hand(self, make):
        got, _ = run(
            make(hw.balancers.mgda(), 0.8),
            [signals((1.0, 1.0)), signals((1.0, 3.0)), signals((3.0, 1.0))],
        )
        a = [0.5, 0.8 * 0.5 + 0.2 * 0.75]
        a.append(0.8 * a[1] + 0.2 * 0.25)
        np.testing.assert_allclose(got[:, 0], a, rtol=1e-5)
        np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-5)

    def test_decay_of_zero_changes_nothing(self):
        steps = [signals((1.0, d)) for d in (1.0, 3.0, 5.0)]
        got, _ = run(hw.balancers.smoothed(hw.balancers.mgda(), 0.0), steps)
        want, _ = run(hw.balancers.mgda(), steps)
        np.testing.assert_allclose(got, want, rtol=1e-6)

    def test_absent_head_keeps_its_average(self):
        got, _ = run(
            hw.balancers.smoothed(hw.balancers.mgda(), 0.5),
            [
                signals((1.0, 1.0), present=(True, False)),
                signals((1.0, 3.0)),  # the first of head b
                signals((jnp.nan, 1.0)),
                signals((1.0, 1.0)),
            ],
        )
        # a: 1, then (1 + 0.75) / 2, kept, then with 0.5.
        np.testing.assert_allclose(got[:, 0], [1.0, 0.875, 0.0, 0.6875], rtol=1e-5)
        b = [0.0, 0.25, 0.625, 0.5625]
        np.testing.assert_allclose(got[:, 1], b, rtol=1e-5)

    def test_within_and_around_every(self):
        steps = [signals((1.0, d)) for d in (1.0, 3.0, 7.0)]
        inside = hw.balancers.every(2, hw.balancers.smoothed(hw.balancers.mgda(), 0.5))
        got, _ = run(inside, steps)
        # Asked at updates 0 and 2: 1/2, then the mean of 1/2 and 7/8.
        np.testing.assert_allclose(got[:, 0], [0.5, 0.5, 0.6875], rtol=1e-5)
        around = hw.balancers.smoothed(hw.balancers.every(2, hw.balancers.mgda()), 0.5)
        got, state = run(around, steps)
        np.testing.assert_allclose(got[:, 0], [0.5, 0.5, 0.6875], rtol=1e-5)
        assert not around.due(state)
        # Between two refreshes there is no gramian.
        decision, _ = around.update(steps[0]._replace(gram=None), state)
        np.testing.assert_allclose(decision.weights[0], 0.78125, rtol=1e-5)


class TestClipped:
    def test_bounds(self):
        got, _ = run(
            hw.balancers.clipped(hw.balancers.mgda(), 0.2, 0.6),
            [
                signals((1.0, 1.0)),
                signals((1.0, 9.0)),
                signals((1.0, 9.0), present=(True, False)),
            ],
        )
        np.testing.assert_allclose(got, [[0.5, 0.5], [0.6, 0.2], [0.6, 0.0]], rtol=1e-5)

    def test_defaults_remove_negative_weights(self):
        balancer = hw.balancers.clipped(
            hw.balancers.constant({"a": -1.0, "b": 1e30}),
        )
        np.testing.assert_allclose(run(balancer, [signals()])[0], [[0.0, 1e30]])


class TestRescaled:
    @pytest.mark.parametrize(("total", "sums"), [("heads", [2.0, 1.0]), (5.0, [5, 5])])
    def test_sums(self, total, sums):
        steps = [signals((1.0, 3.0)), signals((1.0, 3.0), present=(True, False))]
        got, _ = run(hw.balancers.rescaled(hw.balancers.mgda(), total), steps)
        np.testing.assert_allclose(got.sum(axis=1), sums, rtol=1e-5)
        np.testing.assert_allclose(got[0] / got[0].sum(), [0.75, 0.25], rtol=1e-5)
        assert got[1, 1] == 0

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 7e37])
    def test_no_sum_leaves_float32(self, scale):
        inner = hw.balancers.constant({"a": scale, "b": scale})
        got, _ = run(hw.balancers.rescaled(inner), [signals()])
        np.testing.assert_allclose(got, [[1.0, 1.0]], rtol=1e-6)

    def test_what_has_no_positive_sum_stays(self):
        for weights in ({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": -3.0}):
            balancer = hw.balancers.rescaled(hw.balancers.constant(weights))
            got, _ = run(balancer, [signals()])
            np.testing.assert_array_equal(got, [list(weights.values())])

    def test_direction_by_the_same_factor(self):
        balancer = hw.balancers.rescaled(directed(), 3.0)
        decision, _ = balancer.update(signals(grads=GRADS), balancer.init(NAMES))
        np.testing.assert_allclose(decision.weights, [3.0, 0.0])
        np.testing.assert_allclose(decision.direction["w"], [3.0, 6.0])


class TestWarmUp:
    def test_observed_or_not(self):
        steps = [signals()] * 4
        got, state = run(hw.balancers.warm_up(counting(), 2), steps)
        np.testing.assert_array_equal(got[:, 1], [1, 1, 2, 3])
        assert state.inner == 4
        got, state = run(hw.balancers.warm_up(counting(), 2, observe=False), steps)
        np.testing.assert_array_equal(got[:, 1], [1, 1, 0, 1])
        assert state.inner == 2
        got, _ = run(hw.balancers.warm_up(counting(), 0), steps)
        np.testing.assert_array_equal(got[:, 1], [0, 1, 2, 3])

    @pytest.mark.parametrize(("observe", "expected"), [(True, 30.0), (False, 10.0)])
    def test_after_belongs_to_the_update_before(self, observe, expected):
        balancer = hw.balancers.warm_up(counting(), 2, observe)
        state = balancer.init(NAMES)
        for _ in range(3):
            _, state = balancer.update(signals(), state)
            state = balancer.after(jnp.array([1.0, 0.0]), state)
        assert state.inner == expected + (3 if observe else 1)

    def test_no_gramian_meanwhile(self):
        balancer = hw.balancers.warm_up(hw.balancers.mgda(), 2, observe=False)
        f = jax.jit(hw.balanced_grad(values_fn, balancer))
        state = balancer.init(NAMES)
        for t in range(4):
            assert bool(balancer.due(state)) == (t >= 2)
            _, info, state = f(make_params(), state, X[t])
            weights = np.array(list(info.weights.values()))
            assert np.isnan(info.gramian).all() == (t < 2)
            assert np.array_equal(weights, [1.0, 1.0]) == (t < 2)
        assert hw.balancers.warm_up(hw.balancers.mgda(), 2).due is None

    def test_around_every(self):
        inner = hw.balancers.every(2, hw.balancers.mgda())
        balancer = hw.balancers.warm_up(inner, 1, observe=False)
        state, due, weights = balancer.init(NAMES), [], []
        for t in range(4):
            due.append(bool(balancer.due(state)))
            shown = signals((1.0, 1.0 + t))
            shown = shown if due[-1] else shown._replace(gram=None)
            decision, state = balancer.update(shown, state)
            weights.append(float(decision.weights[0]))
        assert due == [False, True, False, True]
        np.testing.assert_allclose(weights, [1.0, 2 / 3, 2 / 3, 0.8], rtol=1e-5)

    def test_direction_is_the_plain_sum_first(self):
        balancer = hw.balancers.warm_up(directed(), 1)
        state = balancer.init(NAMES)
        nan = {**GRADS, "b": {"w": jnp.array([jnp.nan, 0.0])}}
        decision, _ = balancer.update(signals(grads=nan)._replace(gram=None), state)
        np.testing.assert_array_equal(decision.direction["w"], [1.0, 2.0])
        np.testing.assert_array_equal(decision.weights, [1.0, 0.0])
        decision, state = balancer.update(signals(grads=GRADS), state)
        np.testing.assert_array_equal(decision.direction["w"], [11.0, 22.0])
        decision, state = balancer.update(signals(grads=GRADS), state)
        np.testing.assert_array_equal(decision.direction["w"], [2.0, 4.0])


class TestFallback:
    def test_broken_steps_leave_no_trace(self):
        balancer = hw.balancers.fallback(counting())
        got, state = run(
            balancer,
            [
                signals(),
                signals(present=(True, False)),
                signals(values=(jnp.nan, 1.0)),
                signals((1.0, jnp.inf)),
                signals(present=(False, False)),
                signals(),
            ],
        )
        expected = [[1, 0], [1, 0], [0, 1], [1, 0], [0, 0], [1, 1]]
        np.testing.assert_array_equal(got, expected)
        assert state.inner == 2

    def test_the_other_one_has_its_own_state(self):
        other = hw.balancers.smoothed(hw.balancers.mgda(), 0.5)
        balancer = hw.balancers.fallback(counting(), other)
        assert balancer.needs == "gramian"
        got, state = run(
            balancer,
            [signals(), signals(present=(False, True)), signals()],
        )
        np.testing.assert_array_equal(got, [[1, 0], [0, 1], [1, 1]])
        np.testing.assert_array_equal(state.otherwise.seen, [False, True])

    def test_after_goes_to_the_one_that_decided(self):
        balancer = hw.balancers.fallback(counting(), counting())
        state = balancer.init(NAMES)
        for present in ((True, True), (True, False)):
            _, state = balancer.update(signals(present=present), state)
            state = balancer.after(jnp.array([1.0, 0.0]), state)
        assert (state.inner, state.otherwise) == (11.0, 11.0)

    def test_one_with_a_direction_and_one_without(self):
        balancer = hw.balancers.fallback(directed())
        state = balancer.init(NAMES)
        update = jax.jit(balancer.update)
        shown = signals(grads=GRADS)._replace(gram=None)
        decision, state = update(shown, state)
        np.testing.assert_array_equal(decision.direction["w"], [2.0, 4.0])
        nan = {**GRADS, "a": {"w": jnp.array([jnp.nan, 0.0])}}
        decision, state = update(shown._replace(grads=nan), state)
        np.testing.assert_array_equal(decision.direction["w"], [10.0, 20.0])
        np.testing.assert_array_equal(decision.weights, [0.0, 1.0])
        assert state.inner == 1

    def test_due_is_passed_on(self):
        inner = hw.balancers.every(2, hw.balancers.mgda())
        balancer = hw.balancers.fallback(inner)
        _, state = run(balancer, [signals()])
        assert not balancer.due(state)
        assert hw.balancers.fallback(hw.balancers.mgda(), inner).due is None
        assert hw.balancers.fallback(hw.balancers.mgda()).due is None

    def test_different_batches_are_named(self):
        two = hw.balancers.mgda()._replace(batches=2)
        assert hw.balancers.fallback(two).batches == 2
        with pytest.raises(ValueError, match=r"otherwise: expected .* batches=2, got"):
            hw.balancers.fallback(two, hw.balancers.mgda())


WRAPPERS = {
    "with_preferences": lambda b: hw.balancers.with_preferences(
        b, {"a": 2.0, "b": 0.5}
    ),
    "smoothed": lambda b: hw.balancers.smoothed(b, 0.5),
    "clipped": lambda b: hw.balancers.clipped(b, 0.1, 0.8),
    "rescaled": hw.balancers.rescaled,
    "warm_up": lambda b: hw.balancers.warm_up(b, 2),
    "idle warm_up": lambda b: hw.balancers.warm_up(b, 2, observe=False),
    "fallback": hw.balancers.fallback,
    "all": lambda b: hw.balancers.every(
        2,
        hw.balancers.smoothed(
            hw.balancers.rescaled(
                hw.balancers.clipped(hw.balancers.warm_up(hw.balancers.fallback(b), 1))
            )
        ),
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_training_lowers_the_values(name):
    balancer = WRAPPERS[name](hw.balancers.mgda())
    optimizer = optax.sgd(0.03)
    xs = jnp.broadcast_to(X[:1], (12, *X[0].shape))
    step = hw.training.make_step(values_fn, optimizer, balancer)
    state = hw.training.init_state(NAMES, make_params(), optimizer, balancer)
    loop, infos = state, []
    compiled = jax.jit(step)
    for x in xs:
        loop, info = compiled(loop, x)
        infos.append(info)
    scanned, stacked = jax.jit(lambda s: jax.lax.scan(step, s, xs))(state)
    for a, b in zip(
        jax.tree.leaves((loop.params, loop.balancer)),
        jax.tree.leaves((scanned.params, scanned.balancer)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    first, last = infos[0].values, infos[-1].values
    assert sum(last.values()) < sum(first.values())
    assert np.isfinite(stacked.weights["a"]).all()


@pytest.mark.parametrize("name", ["with_preferences", "rescaled", "warm_up"])
def test_a_direction_goes_through(name):
    balancer = WRAPPERS[name](hw.balancers.graddrop())
    f = jax.jit(hw.balanced_grad(values_fn, balancer))
    state = balancer.init(NAMES)
    for t in range(3):
        grads, info, state = f(make_params(), state, X[t], key=jax.random.key(t))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((grads, info.weights)))


def test_misuse_is_named():
    mgda, graddrop = hw.balancers.mgda(), hw.balancers.graddrop()
    with pytest.raises(ValueError, match=r"preferences\['a'\]: expected a positive"):
        hw.balancers.with_preferences(mgda, {"a": 0.0})
    with pytest.raises(TypeError, match="preferences: expected a dict"):
        hw.balancers.with_preferences(mgda, [1.0])
    with pytest.raises(ValueError, match=r"preferences: .*missing \['b'\]"):
        hw.balancers.with_preferences(mgda, {"a": 1.0}).init(NAMES)
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\)"):
        hw.balancers.smoothed(mgda, 1.0)
    with pytest.raises(ValueError, match="smoothing: expected a number"):
        hw.balancers.cr_mogm(mgda, -0.1)
    with pytest.raises(ValueError, match=r"upper: expected a number >= lower, 1.0"):
        hw.balancers.clipped(mgda, 1.0, 0.5)
    with pytest.raises(ValueError, match="lower: expected a number, not NaN"):
        hw.balancers.clipped(mgda, float("nan"))
    for total in ("batch", 0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="total: expected 'heads' or a positive"):
            hw.balancers.rescaled(mgda, total)
    for steps in (-1, 1.5):
        with pytest.raises(ValueError, match="steps: expected an int >= 0"):
            hw.balancers.warm_up(mgda, steps)
    for name in ("smoothed", "cr_mogm", "clipped"):
        balancer = getattr(hw.balancers, name)(graddrop)
        f = hw.balanced_grad(values_fn, balancer)
        with pytest.raises(ValueError, match=f"{name}: expected .* with weights, got"):
            f(make_params(), balancer.init(NAMES), X[0], key=jax.random.key(0))
