"""make_step: a pure function that jits, vmaps and scans, and compiles once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw


def values_fn(params, batch):
    h = jnp.tanh(params["trunk"] * batch)
    return {
        "y1": jnp.mean((h * params["c"] - 1.0) ** 2),
        "y2": jnp.mean((h * params["d"] + 1.0) ** 2),
    }


PARAMS = {"trunk": jnp.array([0.5, -0.3]), "c": jnp.ones(2), "d": jnp.ones(2)}
NAMES = ("y1", "y2")
BATCH = jnp.array([1.0, 2.0])


@pytest.mark.parametrize("contributions", [False, True])
def test_step_is_optax_on_the_gradient_of_the_total(contributions):
    weights = {"y1": 0.5, "y2": 0.3}
    optimizer = optax.adam(0.1)
    balancer = hw.balancers.constant(weights)
    step = jax.jit(
        hw.training.make_step(
            values_fn, optimizer, balancer, contributions=contributions
        )
    )
    state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)

    def total(params):
        values = values_fn(params, BATCH)
        return 0.5 * values["y1"] + 0.3 * values["y2"]

    params, optimizer_state = PARAMS, optimizer.init(PARAMS)
    for _ in range(5):
        state, info = step(state, BATCH)
        grads = jax.grad(total)(params)
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        params = optax.apply_updates(params, updates)
    # float32, five steps of Adam: rounding of the first gradients is amplified
    chex.assert_trees_all_close(state.params, params, rtol=1e-5, atol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(info.grad_norm, norm, rtol=1e-4)
    assert (info.contributions is not None) == contributions


def test_one_program_serves_all_weights_and_vmap_equals_loop():
    optimizer = optax.adam(0.1)
    step = hw.training.make_step(values_fn, optimizer, hw.balancers.constant())

    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(weights, seed):
        state = hw.training.init_state(
            NAMES,
            PARAMS,
            optimizer,
            hw.balancers.constant(weights),
            key=jax.random.key(seed),
        )
        return jax.lax.scan(step, state, jnp.stack([BATCH] * 7))[0].params

    design = hw.sweeps.grid({"y1": [0.0, 0.5], "y2": [0.3, 2.0]})
    rows = [train(w, 0) for w in hw.sweeps.rows(design)]
    chex.clear_trace_counter()
    stacked = {name: jnp.asarray(column) for name, column in design.items()}
    cohort = jax.jit(jax.vmap(train.__wrapped__, (0, None)))(stacked, 0)
    for k, row in enumerate(rows):
        one = jax.tree.map(lambda x, k=k: x[k], cohort)
        chex.assert_trees_all_close(one, row, rtol=1e-5, atol=1e-6)
    # y1 has weight 0 in the first row: its private parameters stay.
    np.testing.assert_array_equal(rows[0]["c"], PARAMS["c"])
    assert not np.array_equal(rows[0]["d"], PARAMS["d"])


@pytest.mark.parametrize(
    "make",
    [hw.balancers.mgda, hw.balancers.graddrop, hw.balancers.uncertainty],
)
def test_every_kind_of_balancer_lowers_both_values(make):
    optimizer, balancer = optax.sgd(0.1), make()
    step = hw.training.make_step(values_fn, optimizer, balancer)
    state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)
    batches = jnp.stack([BATCH] * 400)
    state, infos = jax.jit(lambda s: jax.lax.scan(step, s, batches))(state)
    for name in NAMES:
        assert infos.values[name][-1] < 0.8 * infos.values[name][0]
    assert int(state.step) == 400


def test_report_shares_are_those_of_the_applied_update():
    optimizer = optax.adam(0.1)
    balancer = hw.balancers.constant({"y1": 2.0, "y2": 0.5})
    step = hw.training.make_step(values_fn, optimizer, balancer, contributions=True)
    state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)
    new, info = jax.jit(step)(state, BATCH)
    before, after = (np.asarray(s.params["trunk"]) for s in (state, new))
    update = np.float64(after - before)
    slopes = jax.jit(jax.jacrev(lambda p: values_fn(p, BATCH)))(PARAMS)
    grads = [np.asarray(slopes[n]["trunk"]) for n in NAMES]
    pulls = [w * g @ update for w, g in zip((2.0, 0.5), grads, strict=True)]
    row = info.contributions.modules.index("trunk")
    # the update is a float32 difference of parameters
    np.testing.assert_allclose(
        info.contributions.share[row], np.array(pulls) / sum(pulls), rtol=1e-4
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_norms_of_half_precision_are_finite(dtype):
    """A float16 is at most 65504: squares from 256 on are beyond it."""
    optimizer, balancer = optax.sgd(1e-6), hw.balancers.equal()
    step = hw.training.make_step(
        lambda p, x: {"a": jnp.sum(p["w"] * x)}, optimizer, balancer
    )
    params = {"w": jnp.ones(2, dtype)}
    state = hw.training.init_state(["a"], params, optimizer, balancer)
    _, info = step(state, jnp.array([3e4, 4e4], dtype))
    assert info.grad_norm.dtype == jnp.float32
    np.testing.assert_allclose(info.grad_norm, 5e4, rtol=4e-3)  # of the inputs
    assert info.present["a"]


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"private: expected .*'weighted'.*got 'mine'"):
        hw.training.make_step(values_fn, optax.sgd(0.1), private="mine")
