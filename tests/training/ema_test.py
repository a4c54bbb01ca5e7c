"""Averages of parameters: their closed form, and wherever an optimiser keeps them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import headwise as hw

pytestmark = pytest.mark.optimized

T = hw.training
DECAY = 0.8
PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def values_fn(p, x):
    return {"a": jnp.sum((p["a"] - x) ** 2), "b": (p["b"] * x) ** 2}


def batch(t):
    return jnp.float32([0.5, -1.0, 2.0, 0.1, 1.5, -0.3][t])


def run(optimizer, steps=6, params=PARAMS, **options):
    """All parameters that were there, and the last state."""
    balancer = hw.balancers.equal()
    step = jax.jit(
        T.make_step(values_fn, optimizer, balancer, **options), donate_argnums=0
    )
    state = T.init_state(["a", "b"], params, optimizer, balancer)
    seen = [jax.tree.map(np.asarray, state.params)]
    for t in range(steps):
        state, _ = step(state, batch(t))
        seen.append(jax.tree.map(np.asarray, state.params))
    return seen, state


def average(seen, name, debias=True):
    """The sum over the moves, in float64."""
    moved = [np.asarray(p[name], np.float64) for p in seen]
    if not debias:
        at = moved[0]
        for p in moved[1:]:
            at = DECAY * at + (1 - DECAY) * p
        return at
    weights = DECAY ** np.arange(len(moved) - 1)[::-1]
    return np.tensordot(weights / weights.sum(), np.stack(moved[1:]), 1)


SGD = optax.sgd(0.05)
LABELS = {"a": "slow", "b": "fast"}


@pytest.mark.parametrize(
    "make",
    [
        lambda ema: ema(SGD),
        lambda ema: optax.chain(optax.clip_by_global_norm(1.0), ema(SGD)),
        lambda ema: T.hold_absent(ema(optax.adam(0.05))),
        lambda ema: ema(T.hold_absent(optax.adam(0.05))),
        lambda ema: ema(optax.inject_hyperparams(optax.sgd)(learning_rate=0.05)),
        lambda ema: ema(optax.chain(SGD, contrib.reduce_on_plateau(patience=1))),
    ],
    ids=["sgd", "chain", "held", "holds", "injected", "plateau"],
)
def test_closed_form(make):
    seen, state = run(make(lambda inner: T.ema(inner, DECAY)))
    found = T.averaged_params(state)
    for name in PARAMS:
        want = average(seen, name)
        np.testing.assert_allclose(found[name], want, rtol=2e-6, atol=1e-7)
        assert not np.array_equal(found[name], seen[-1][name])


def test_with_the_first_parameters():
    seen, state = run(T.ema(SGD, DECAY, debias=False))
    for name, found in T.averaged_params(state).items():
        np.testing.assert_allclose(found, average(seen, name, False), rtol=2e-6)
    _, state = run(T.ema(SGD, DECAY), 0)
    jax.tree.map(np.testing.assert_array_equal, T.averaged_params(state), PARAMS)


def test_it_changes_nothing_of_the_training():
    plain, held = run(optax.adam(0.05))[0], run(T.ema(optax.adam(0.05), DECAY))[0]
    jax.tree.map(np.testing.assert_array_equal, plain, held)


@pytest.mark.parametrize("inside", [True, False])
def test_it_moves_when_the_parameters_do(inside):
    """Six steps of `MultiSteps` are two moves: the average is of those two."""
    if inside:
        optimizer = optax.MultiSteps(T.ema(SGD, DECAY), 3)
    else:
        optimizer = T.ema(optax.MultiSteps(SGD, 3), DECAY)
    seen, state = run(optimizer)
    moved = seen[::3]
    assert np.array_equal(seen[3]["a"], seen[5]["a"])
    for name in PARAMS:
        found = T.averaged_params(state)[name]
        np.testing.assert_allclose(found, average(moved, name), rtol=2e-6)


@pytest.mark.parametrize("waits", [False, True])
def test_a_part_of_the_parameters(waits):
    """The other part is as it is; one that waits does not stop it."""
    slow = optax.MultiSteps(SGD, 3).gradient_transformation() if waits else SGD
    parts = {"slow": slow, "fast": T.ema(SGD, DECAY)}
    seen, state = run(optax.multi_transform(parts, LABELS))
    found = T.averaged_params(state)
    np.testing.assert_array_equal(found["a"], seen[-1]["a"])
    np.testing.assert_allclose(found["b"], average(seen, "b"), rtol=2e-6)


def test_half_precision_is_averaged_in_float32():
    """The mean of 256 and 258 is no bfloat16."""
    optimizer = T.ema(optax.sgd(1.0), 0.5, debias=False)
    params = {"w": jnp.full(2, 256.0, jnp.bfloat16)}
    state = optimizer.init(params)
    assert state.average["w"].dtype == jnp.float32
    grads = {"w": jnp.full(2, -2.0, jnp.bfloat16)}
    _, state = jax.jit(optimizer.update)(grads, state, params)
    np.testing.assert_array_equal(state.average["w"], [257.0, 257.0])
    seen, state = run(
        T.ema(SGD, DECAY), 2, jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    )
    found = T.averaged_params(state)
    assert found["a"].dtype == jnp.bfloat16
    want = average(seen, "a")
    np.testing.assert_allclose(found["a"].astype(jnp.float32), want, rtol=4e-3)


def test_it_lies_where_the_parameters_lie():
    mesh = jax.make_mesh((2,), ("model",), devices=jax.devices()[:2])
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    params = PARAMS | {"a": jax.device_put(PARAMS["a"], split)}
    seen, state = run(T.ema(SGD, DECAY), 3, params)
    assert state.optimizer.average["a"].sharding.is_equivalent_to(split, 1)
    found = T.averaged_params(state)["a"]
    np.testing.assert_allclose(found, average(seen, "a"), rtol=2e-6)


def test_schedule_free_is_known_too():
    """By its paper: the average x of z, of which y = 0.1 z + 0.9 x is trained."""
    optimizer = contrib.schedule_free_sgd(0.05, b1=0.9)
    seen, state = run(optax.chain(optax.clip_by_global_norm(1e3), optimizer))
    z = optax.tree.get(state.optimizer, "z")
    for name in PARAMS:
        want = (seen[-1][name] - 0.1 * np.asarray(z[name])) / 0.9
        got = T.averaged_params(state)[name]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    part = optax.multi_transform({"slow": optimizer, "fast": SGD}, LABELS)
    seen, state = run(part)
    found = T.averaged_params(state)
    np.testing.assert_array_equal(found["b"], seen[-1]["b"])
    assert not np.array_equal(found["a"], seen[-1]["a"])


def test_where_there_is_none():
    with pytest.raises(ValueError, match=r"state: expected .*hw.training.ema\(opt"):
        T.averaged_params(run(SGD, 0)[1])
    with pytest.raises(TypeError, match="state: expected that of init_state"):
        T.averaged_params(PARAMS)
    optimizer = T.ema(SGD, DECAY)
    state = optimizer.init(PARAMS)
    with pytest.raises(ValueError, match="ema: expected params in update"):
        optimizer.update(PARAMS, state)
    with pytest.raises(ValueError, match="decay: expected a number in"):
        T.ema(SGD, 1.0)
