"""A batch among devices, in parts or on its own device each, equals the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import headwise as hw

DEVICES = 4
rng = np.random.default_rng(0)
SHAPES = {"A": (3, 4), "B": (4, 2), "C": (4, 2)}
PARAMS = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
# 16 examples: labels of `b` lie unevenly, and the last device has padding alone.
THERE = np.arange(16) < 12
X = np.float32(rng.normal(size=(16, 3))) * THERE[:, None]
LABELLED = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], bool)


def mesh(kind):
    axis_types = (getattr(AxisType, kind),)
    return jax.make_mesh((DEVICES,), ("d",), axis_types=axis_types)


def masked_mean(errors, where):
    count = jnp.sum(where, dtype=jnp.float32)
    return jnp.sum(jnp.where(where, errors, 0.0)) / jnp.maximum(count, 1.0), count


def values_fn(params, batch):
    """Means by hand, over what is there and what is labelled."""
    x, there, labelled = batch
    h = jnp.tanh(x @ params["A"])
    a, count_a = masked_mean(jnp.sum((h @ params["B"] - 1) ** 2, 1), there)
    b, count_b = masked_mean(jnp.sum(jnp.abs(h @ params["C"]), 1), there & labelled)
    return hw.Means({"a": a, "b": b}, {"a": count_a, "b": count_b})


def assert_same(got, want):
    # float32 sums in another order
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want
    )


@pytest.mark.parametrize("nobody", [False, True], ids=["uneven", "nobody"])
def test_values_and_head_gradients_of_local_batches(nobody):
    labelled = LABELLED & (not nobody)

    def local(params, batch):
        return hw.objective.pmean(values_fn(params, batch), "d")

    f = jax.shard_map(
        hw.head_grads(local), mesh=mesh("Auto"), in_specs=(P(), P("d")), out_specs=P()
    )
    values, grads = jax.jit(f)(PARAMS, (X, THERE, labelled))
    whole = jax.jit(hw.head_grads(values_fn))
    want, want_grads = whole(PARAMS, (X, THERE, labelled))
    assert_same((dict(values), values.counts), (dict(want), want.counts))
    assert_same(grads, want_grads)
    assert bool(values.present["b"]) != nobody


def test_of_an_objective_by_name_of_axis():
    """One vmapped member a device: counts add up, plain heads are averaged."""
    objective = hw.Objective({"y": lambda p, t: (p - t) ** 2, "z": lambda p, t: p})

    def local(preds, where):
        targets = {"y": jnp.zeros(4), "z": None}
        outputs = {"y": preds, "z": preds}
        told = objective.values(outputs, targets, where={"y": where})
        return hw.objective.pmean(told, "d")

    preds, where = X[:, 0].reshape(4, 4), LABELLED.reshape(4, 4)
    got = jax.jit(jax.vmap(local, axis_name="d"))(preds, where)
    want = np.mean(np.square(X[:, 0], dtype=np.float64)[LABELLED])
    np.testing.assert_allclose(got["y"], np.full(4, want), rtol=1e-6)
    np.testing.assert_allclose(got["z"], np.full(4, np.mean(preds)), rtol=1e-5)
    np.testing.assert_array_equal(got.counts["y"], np.full(4, 7.0))

    def whole(preds):
        return jax.vmap(local, axis_name="d")(preds, where)["y"][0]

    slopes = np.where(LABELLED, 2 * X[:, 0] / 7, 0.0).reshape(4, 4)
    got = jax.jit(jax.grad(whole))(preds)
    np.testing.assert_allclose(got, slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize(
    "balancer", [hw.balancers.imtl_g(), hw.balancers.modo(batches=2)]
)
@pytest.mark.optimized
def test_parts_of_a_split_batch_are_not_gathered(kind, balancer):
    parts = 2 if balancer.batches == 1 else 1
    f = hw.balanced_grad(values_fn, balancer, microbatches=parts)
    state = balancer.init(["a", "b"])

    def run(params, batch):
        grads, info, _ = f(params, state, batch)
        return grads, dict(info.values), info.gramian

    batch = (X, THERE, LABELLED)
    want = jax.jit(run)(PARAMS, batch)
    with jax.set_mesh(mesh(kind)) as _:
        split = jax.device_put(batch, NamedSharding(mesh(kind), P("d")))
        params = jax.device_put(PARAMS, NamedSharding(mesh(kind), P()))
        compiled = jax.jit(run).lower(params, split).compile()
        got = compiled(params, split)
    assert_same(got, want)
    text = compiled.as_text()
    assert " all-gather(" not in text
    # Two examples of every part on each device, not eight.
    assert "f32[2,4]" in text
    assert "f32[8,4]" not in text
