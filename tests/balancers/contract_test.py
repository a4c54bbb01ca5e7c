"""One battery for every balancer: state, compilation, one head, vmap, bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.balancers import _battery
from tests.balancers import _cases


@_battery.every_balancer
def test_state_is_a_named_tuple_and_stays_as_it_is(name):
    balancer, update, state = _battery.prepare(name)
    assert hasattr(state, "_fields")
    signals = _battery.make_signals(_battery.make_grads())
    decision, new = update(signals, state)
    assert _battery.shapes(new) == _battery.shapes(state)
    assert _battery.shapes(
        _battery.start(name, balancer, reversed(_cases.NAMES))
    ) == _battery.shapes(state)
    assert decision.weights.shape == (3,)
    assert decision.weights.dtype == jnp.float32
    assert (decision.direction is not None) == (balancer.needs == "grads")
    assert balancer.needs in ("values", "gramian", "grads")

    @jax.jit
    def loop(state):
        def refresh(step, state, _):
            decision, state = balancer.update(signals._replace(step=step), state)
            return state, decision.weights

        def keep(step, state, weights):
            return state, weights

        def body(carry, step):
            carry = jax.lax.cond(step < 4, refresh, keep, step, *carry)
            return carry, carry[1]

        (state, _), weights = jax.lax.scan(body, (state, jnp.zeros(3)), jnp.arange(5))
        return state, weights

    after, weights = loop(state)
    assert _battery.shapes(after) == _battery.shapes(state)
    for step in range(4):
        decision, state = update(signals._replace(step=jnp.int32(step)), state)
        _battery.assert_same(
            weights[step], decision.weights, 1e-5
        )  # float32, fused or not
    np.testing.assert_array_equal(weights[4], weights[3])


@_battery.every_balancer
def test_init_under_eval_shape(name):
    balancer = _cases.make(name)
    shape = jax.eval_shape(lambda: _battery.start(name, balancer, _cases.NAMES))
    assert _battery.shapes(shape) == _battery.shapes(
        _battery.start(name, balancer, _cases.NAMES)
    )
    params = {
        "w": jax.ShapeDtypeStruct((2, 3), jnp.float32),
        "b": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    assert _battery.shapes(balancer.init(_cases.NAMES, params)) == _battery.shapes(
        shape
    )


@_battery.every_balancer
def test_second_call_does_not_recompile(name):
    balancer, _, state = _battery.prepare(name)
    traces = []

    @jax.jit
    def update(signals, state):
        traces.append(name)
        return balancer.update(signals, state)

    _, state = update(_battery.make_signals(_battery.make_grads()), state)
    other = _battery.make_signals(_battery.make_grads(seed=1), seed=1)._replace(
        step=jnp.int32(4)
    )
    update(other, state)
    assert len(traces) == 1


@_battery.every_balancer
def test_no_host_callback_and_full_precision(name):
    balancer, _, state = _battery.prepare(name)
    text = str(
        jax.make_jaxpr(balancer.update)(
            _battery.make_signals(_battery.make_grads()), state
        )
    )
    assert "callback" not in text
    # Accelerators round the factors of a product at any lower precision.
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST")


@_battery.every_balancer
def test_one_head(name):
    _, update, state = _battery.prepare(name, ("a",))
    grads = _battery.make_grads(("a",))
    decision, _ = update(_battery.make_signals(grads), state)
    assert decision.weights.shape == (1,)
    assert decision.weights[0] > 0
    if _cases.CASES[
        name
    ].params:  # an average that starts at 0: shorter, of one direction
        norms = [optax.tree.norm(g) for g in (decision.direction, grads["a"])]
        unit = jax.tree.map(lambda g: g * norms[1] / norms[0], decision.direction)
        _battery.assert_same(unit, grads["a"])
    elif decision.direction is not None:
        _battery.assert_same(decision.direction, grads["a"])
    for leaf in jax.tree.leaves((decision, state)):
        assert np.isfinite(leaf).all()


@_battery.every_balancer
def test_vmap_over_problems_is_a_loop(name):
    balancer, update, state = _battery.prepare(name)
    problems = [
        _battery.make_signals(_battery.make_grads(seed=k), seed=k) for k in range(3)
    ]
    states = [update(p, state)[1] for p in problems]  # three different ones

    def stack(*trees):
        return jax.tree.map(lambda *a: jnp.stack(a), *trees)

    got = jax.jit(jax.vmap(balancer.update))(stack(*problems), stack(*states))
    want = stack(*(update(p, s) for p, s in zip(problems, states, strict=True)))
    _battery.assert_same(
        got, want, 1e-5
    )  # float32: batched products may add in another order


@_battery.every_balancer
def test_bfloat16_signals(name):
    _, update, state = _battery.prepare(name)
    signals = _battery.make_signals(_battery.make_grads(), dtype=jnp.bfloat16)
    decision, new = update(signals, state)
    assert _battery.shapes(new) == _battery.shapes(state)
    assert decision.weights.dtype == jnp.float32
    # The same numbers in float32: what is computed with them is as precise.
    wide = jax.tree.map(
        lambda a: a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a, signals
    )
    expected, _ = update(wide, state)
    if decision.direction is None:
        _battery.assert_same(decision.weights, expected.weights)
    else:
        # Other numbers are drawn nowhere (draws are float32), but sums are rounded
        # to bfloat16: 2^-8.
        _battery.assert_same(decision.weights, expected.weights, 2**-6)
        for leaf in jax.tree.leaves(decision.direction):
            assert leaf.dtype == jnp.bfloat16
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                np.float32(a), b, rtol=2**-6, atol=2**-6
            ),
            decision.direction,
            expected.direction,
        )
