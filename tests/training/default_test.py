"""A step without a balancer minimises its Objective's total, whatever is in between."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

SGD = optax.sgd(0.1)
RAMP = optax.linear_schedule(0.0, 1.0, 4)
WEIGHTS = {
    "static": {"a": 0.5, "b": 0.01},
    "zero": {"a": 0.0, "b": jnp.float32(2.0)},
    "schedule": {"a": 2.0, "b": RAMP},
    "none": None,
}
WAYS = {
    "plain": lambda f: f,
    "jitted": jax.jit,
    "masked": lambda f: lambda w, x, **_: f(w, x, where=jnp.ones(2, bool)),
    "copied": lambda f: lambda w, x: f(w, x).copy(),
}


def values_fn(weights):
    """a = (w - 1)^2 x, b = (w + 1)^2 x: slopes 2 (w -+ 1) x."""
    loss = lambda y, x: y**2 * x  # noqa: E731
    objective = hw.Objective({"a": loss, "b": loss}, weights)

    def values(w, x, where=None):
        outputs = {"a": (w - 1.0) * jnp.ones(2), "b": (w + 1.0) * jnp.ones(2)}
        return objective.values(outputs, dict.fromkeys("ab", x), where=where)

    return objective, values


def by_hand(weights, steps, others=0.0):
    """w after so many steps, in float64; others: slope of what else is minimised."""
    w = 0.25
    for t in range(steps):
        now = {n: 1.0 if weights is None else weights[n] for n in "ab"}
        a, b = (min(t / 4, 1.0) if callable(now[n]) else float(now[n]) for n in "ab")
        w -= 0.1 * (2 * a * (w - 1) * (1 + t) + 2 * b * (w + 1) * (1 + t) + others)
    return w


def train(step, state, steps=3):
    for t in range(steps):
        state, info = step(state, jnp.full(2, 1.0 + t))
    return float(state.params), info


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_it_minimises_the_total(kind, way):
    objective, values = values_fn(WEIGHTS[kind])
    step = hw.training.make_step(WAYS[way](values), SGD)
    step = step if way == "plain" else jax.jit(step)
    right = by_hand(WEIGHTS[kind], 3)
    for balancer in (None, hw.balancers.equal()):
        state = hw.training.init_state(objective.names, 0.25, SGD, balancer)
        w, info = train(step, state)
        assert w == pytest.approx(right, rel=1e-5)
        total = float(objective.total(info.values, step=2))
        used = float(objective.total(info.values, info.weights))
        assert used == pytest.approx(total, rel=1e-6)
        # What a step tells is no other type than without weights.
        assert type(info.values) is (hw.Means if way == "masked" else dict)


def test_microbatches_devices_and_own_gradients():
    objective, values = values_fn(WEIGHTS["static"])
    right = by_hand(WEIGHTS["static"], 1)
    state = hw.training.init_state(objective.names, 0.25, SGD)
    step = hw.training.make_step(values_fn(WEIGHTS["static"])[1], SGD)
    f = jax.jit(hw.balanced_grad(values))
    grads, *_ = f(0.25, hw.balancers.equal().init(objective.names), jnp.ones(2))
    assert 0.25 - 0.1 * grads == pytest.approx(right, rel=1e-6)

    def of_devices(w, x):
        return hw.objective.pmean(values(w, x), "devices")

    def one(x):
        return hw.training.make_step(of_devices, SGD)(state, x)[0].params

    moved = jax.jit(jax.vmap(one, axis_name="devices"))(jnp.ones((2, 2)))
    np.testing.assert_allclose(moved, right, rtol=1e-6)

    def of_batch(w, x):
        outputs = {"a": (w - 1.0) * jnp.ones_like(x), "b": (w + 1.0) * x}
        return objective.values(outputs, dict.fromkeys("ab", x))

    step = hw.training.make_step(of_batch, SGD, microbatches=2)
    w, _ = train(jax.jit(step), state, 1)
    assert w == pytest.approx(right, rel=1e-6)


def test_other_heads_have_weight_1():
    _, values = values_fn(WEIGHTS["static"])
    step = hw.training.make_step(lambda w, x: values(w, x) | {"l2": 3.0 * w}, SGD)
    state = hw.training.init_state(["a", "b", "l2"], 0.25, SGD)
    w, info = train(step, state)
    assert w == pytest.approx(by_hand(WEIGHTS["static"], 3, 3.0), rel=1e-5)
    assert info.weights["l2"] == 1.0
    back = hw.training.make_step(lambda w, x: {"l2": 3.0 * w} | values(w, x), SGD)
    assert train(back, state)[0] == w
    # A value that was put in the place of another is no longer the Objective's.
    own = hw.training.make_step(lambda w, x: values(w, x) | {"b": w**2}, SGD)
    info = train(own, hw.training.init_state(["a", "b"], 0.25, SGD))[1]
    assert {n: float(w) for n, w in info.weights.items()} == {"a": 0.5, "b": 1.0}


def test_what_was_given_on_purpose_acts():
    objective, values = values_fn(WEIGHTS["static"])
    given = {"a": 3.0, "b": 4.0}
    constant, equal = hw.balancers.constant(given), hw.balancers.equal()
    for balancers, right in (
        ((None, constant), given),
        ((hw.balancers.constant(), constant), given),
        ((equal, constant), given),
        ((equal, equal), {"a": 1.0, "b": 1.0}),
    ):
        step = hw.training.make_step(values, SGD, balancers[0])
        state = hw.training.init_state(objective.names, 0.25, SGD, balancers[1])
        assert step(state, jnp.ones(2))[1].weights == right
    step = hw.training.make_step(values, SGD)
    for other in (hw.balancers.scheduled(given), hw.balancers.uncertainty()):
        state = hw.training.init_state(objective.names, 0.25, SGD, other)
        with pytest.raises(
            TypeError, match="expected the state of its own init, got t"
        ):
            step(state, jnp.ones(2))
    with pytest.raises(TypeError, match=r"go to hw\.balancers\.scheduled"):
        hw.balancers.constant(values_fn(WEIGHTS["schedule"])[0].weights)


def test_a_compiled_step_serves_equal_objectives():
    """Values are of one type if names, numbers and schedules are the same."""

    def structure(weights):
        _, values = values_fn(weights)
        return jax.tree.structure(values(0.25, jnp.ones(2)))

    for kind, weights in WEIGHTS.items():
        assert structure(weights) == structure(weights), kind
    assert structure({"a": 0.5, "b": 0.02}) != structure(WEIGHTS["static"])
    assert structure({"a": 1.0, "b": 1}) == structure(None)


def test_weights_may_be_traced():
    def train_at(weight):
        objective, values = values_fn({"a": weight, "b": 0.01})
        state = hw.training.init_state(objective.names, 0.25, SGD)
        return hw.training.make_step(values, SGD)(state, jnp.ones(2))[0].params

    weights = np.float32([0.5, 0.0])
    right = [by_hand({"a": float(w), "b": 0.01}, 1) for w in weights]
    for transformed in (
        lambda f: jax.jit(jax.vmap(f)),
        lambda f: lambda ws: np.stack([*map(jax.jit(f), ws)]),
    ):
        np.testing.assert_allclose(transformed(train_at)(weights), right, rtol=1e-6)


def run(step_weights, state_weights, caplog):
    def values(w, x):
        return {"a": (w - x) ** 2, "b": (w + x) ** 2}

    step = hw.training.make_step(values, SGD, hw.balancers.constant(step_weights))
    balancer = hw.balancers.constant(state_weights)
    state = hw.training.init_state(["a", "b"], 0.25, SGD, balancer)
    caplog.clear()
    options = {"log_every": 2, "progress": False}
    hw.training.fit(step, state, lambda t: 1.0, 6, **options)
    return caplog.messages


def test_weights_that_do_not_act_are_told(caplog):
    half = {"a": 0.5, "b": 1.0}
    assert run(half, half, caplog) == []
    assert run(None, half, caplog) == []  # one step for all weightings
    assert run(half, {"a": 0.5, "b": 0.25}, caplog) == [
        "weights of the step -> of the state, which act: 'b': 1 -> 0.25"
    ]
    with pytest.raises(ValueError, match=r"weights: .* missing \['b'\]"):
        run({"a": 1.0}, half, caplog)
    zero = {"a": 0.0, "b": 0.0}
    assert run(zero, zero, caplog) == [
        "step 2: nothing is trained, all weights and gradients are 0"
    ]
