"""One battery for every balancer: state, compilation, one head, vmap, bfloat16."""

import functools

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
    decision, new = update(_battery.problem(), state)
    assert _battery.shapes(new) == _battery.shapes(state)
    assert _battery.shapes(
        _battery.start(name, balancer, reversed(_cases.NAMES))
    ) == _battery.shapes(state)
    assert decision.weights.shape == (3,)
    assert decision.weights.dtype == jnp.float32
    assert (decision.direction is not None) == (balancer.needs == "grads")
    assert balancer.needs in ("values", "gramian", "grads")


@_battery.every_balancer
def test_init_under_eval_shape(name):
    balancer = _cases.make(name)
    shape = jax.eval_shape(lambda: _battery.start(name, balancer, _cases.NAMES))
    *_, state = _battery.prepare(name)
    assert _battery.shapes(shape) == _battery.shapes(state)
    params = {
        "w": jax.ShapeDtypeStruct((2, 3), jnp.float32),
        "b": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    assert _battery.shapes(balancer.init(_cases.NAMES, params)) == _battery.shapes(
        shape
    )


@_battery.every_balancer
def test_second_call_does_not_recompile(name):
    _, update, state = _battery.prepare(name)
    _, state = update(_battery.problem(), state)
    before = _battery.TRACES[name]
    assert before > 0
    update(_battery.problem(1)._replace(step=jnp.int32(4)), state)
    assert _battery.TRACES[name] == before


@_battery.every_balancer
def test_no_host_callback_and_full_precision(name):
    _, update, state = _battery.prepare(name)
    text = str(update.trace(_battery.problem(), state).jaxpr)
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


def stack(*trees):
    return jax.tree.map(
        lambda *a: (np if isinstance(a[0], np.ndarray) else jnp).stack(a), *trees
    )


@functools.cache
def three_problems():
    problems = [_battery.problem(k) for k in range(3)]
    return problems, stack(*problems)


@_battery.every_balancer
def test_vmap_and_scan_with_a_branch_are_a_loop(name):
    """Three problems side by side, four updates each and a step that keeps them."""
    _, update, state = _battery.prepare(name)
    problems, signals = three_problems()
    firsts = [jax.tree.map(np.asarray, update(p, state)) for p in problems]
    states = [state for _, state in firsts]  # three different ones
    nothing, batched = stack(*firsts)
    nothing = jax.tree.map(np.zeros_like, nothing)

    @jax.jit
    @jax.vmap
    def loop(signals, state, nothing):
        def refresh(step, state, _):
            decision, state = update(signals._replace(step=step), state)
            return (state, decision), (state, decision)

        def keep(step, state, decision):
            return (state, decision), (state, decision)

        def body(carry, step):
            return jax.lax.cond(step < 4, refresh, keep, step, *carry)

        return jax.lax.scan(body, (state, nothing), jnp.arange(5))[1]

    after, decisions = jax.tree.map(np.asarray, loop(signals, batched, nothing))
    for k, (signals, one) in enumerate(zip(problems, states, strict=True)):
        for step in range(5):
            if step < 4:
                decision, one = update(signals._replace(step=jnp.int32(step)), one)
            got = jax.tree.map(lambda x, k=k, t=step: x[k, t], (decisions, after))
            # float32, fused or not: batched products may add in another order.
            _battery.assert_same(got, (decision, one), 1e-5)
            assert _battery.shapes(got) == _battery.shapes((decision, one))


@_battery.every_balancer
def test_bfloat16_signals(name):
    _, update, state = _battery.prepare(name)
    signals = _battery.problem(dtype=jnp.bfloat16)
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
