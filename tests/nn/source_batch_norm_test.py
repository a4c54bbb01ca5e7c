"""`SourceBatchNorm`: its formula in float64 NumPy, and `nnx.BatchNorm`."""

import functools

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import numpy as jnp

import headwise as hw
from headwise.nn import functional
from headwise.nn import SourceBatchNorm

NAMES = ("art", "photo", "sketch")
rng = np.random.default_rng(0)
X = rng.normal(size=(7, 4, 2)) * [1.0, 3.0] + 5 * rng.normal(size=(7, 1, 1))
IDS = np.array([2, 0, 0, 2, 0, 2, 0])  # nothing of "photo"
WHERE = rng.random((7, 4)) < 0.7
SCALE, BIAS = rng.normal(size=(2, 3, 2))


def reference(x, ids, where, scale, bias, momentum=0.9, epsilon=1e-3):
    """One source after the other: (y where it counts, means, variances)."""
    y, means, variances = np.zeros_like(x), np.zeros((3, 2)), np.ones((3, 2))
    for s in range(3):
        mine = where & (ids == s)[:, None]
        if not mine.any():
            continue
        mean, var = x[mine].mean(0), x[mine].var(0)
        y[mine] = (x[mine] - mean) / np.sqrt(var + epsilon) * scale[s] + bias[s]
        means[s] = momentum * means[s] + (1 - momentum) * mean
        variances[s] = momentum * variances[s] + (1 - momentum) * var
    return y, means, variances


def norm(**options):
    options = dict(momentum=0.9, epsilon=1e-3) | options
    return SourceBatchNorm(2, NAMES, rngs=nnx.Rngs(0), **options)


@pytest.mark.parametrize("own_affine", [False, True])
def test_equals_its_formula(own_affine):
    """With masks, NaN under them, and a source that is not there."""
    scale = SCALE if own_affine else np.broadcast_to(SCALE[0], (3, 2))
    bias = BIAS if own_affine else np.broadcast_to(BIAS[0], (3, 2))
    apply, params, rest = functional(norm(own_affine=own_affine))
    chex.assert_shape(params["scale"], (3, 2) if own_affine else (2,))
    rows = slice(None) if own_affine else 0
    params = {"scale": jnp.asarray(SCALE[rows]), "bias": jnp.asarray(BIAS[rows])}
    x = np.where(WHERE[..., None], X, np.nan).astype(np.float32)
    y, moved = jax.jit(lambda p, x: apply(p, rest, x, IDS, where=WHERE))(params, x)
    right, means, variances = reference(X, IDS, WHERE, scale, bias)
    np.testing.assert_allclose(y[WHERE], right[WHERE], rtol=2e-4, atol=2e-5)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(moved["mean"], means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved["var"], variances, rtol=1e-5)
    np.testing.assert_array_equal(moved["mean"][1], rest["mean"][1])
    np.testing.assert_array_equal(moved["var"][1], rest["var"][1])

    def total(x):
        y, _ = apply(params, rest, x, IDS, where=WHERE)
        return jnp.sum(jnp.where(WHERE[..., None], jnp.sin(y), 0))

    grads = jax.jit(jax.grad(total))(x)
    assert np.isfinite(grads).all()
    assert not grads[~WHERE].any()
    # In evaluation: the running ones, and nothing moves.
    in_use = jax.jit(lambda rest, x: apply(params, rest, x, IDS, train=False))
    y, still = in_use(moved, X.astype(np.float32))
    inverse = 1 / np.sqrt(variances + 1e-3)
    right = (X - means[IDS][:, None]) * inverse[IDS][:, None]
    right = right * scale[IDS][:, None] + bias[IDS][:, None]
    np.testing.assert_allclose(y, right, rtol=2e-4, atol=2e-5)
    chex.assert_trees_all_equal(still, moved)


def test_one_source_is_batch_norm():
    """By its name; gradients too, which go through mean and variance."""
    x = jnp.asarray(X[..., :2], jnp.float32)
    one = functional(SourceBatchNorm(2, ["all"], rngs=nnx.Rngs(0)))
    theirs = functional(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))

    def run(model, *source):
        def total(x):
            y, rest = model.apply(model.params, model.rest, x, *source)
            return jnp.sum(jnp.sin(y)), (y, rest)

        return jax.jit(jax.value_and_grad(total, has_aux=True))(x)

    (_, (y, rest)), grads = run(one, "all")
    (_, (right, expected)), expected_grads = run(theirs)
    np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grads, expected_grads, rtol=1e-3, atol=1e-5)
    for field in ("mean", "var"):
        np.testing.assert_allclose(rest[field][0], expected[field], rtol=1e-5)


def test_parts_of_a_batch_on_devices():
    """Sums and counts add up, uneven as they are: the numbers of the whole batch."""
    x, ids, where = (a[:6] for a in (np.float32(X), IDS, WHERE))
    apply, params, rest = functional(norm(axis_name="devices"))
    parts = jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), (x, ids, where))

    @jax.jit
    @functools.partial(jax.vmap, axis_name="devices")
    def of_parts(x, ids, where):
        return apply(params, rest, x, ids, where=where)

    y, moved = of_parts(*parts)
    apply_whole, params, rest = functional(norm())
    whole, expected = jax.jit(apply_whole)(params, rest, x, ids, where=where)
    np.testing.assert_allclose(y.reshape(whole.shape), whole, rtol=1e-4, atol=1e-5)
    for part in range(2):
        here = jax.tree.map(lambda a, i=part: np.asarray(a)[i], moved)
        chex.assert_trees_all_close(here, expected, rtol=1e-5, atol=1e-6)


def test_half_precision():
    apply, params, rest = functional(norm(dtype=jnp.bfloat16))
    y, moved = jax.jit(apply)(params, rest, X.astype(jnp.bfloat16), IDS)
    chex.assert_type([y, moved["mean"], moved["var"]], [jnp.bfloat16, "f4", "f4"])
    right, means, _ = reference(
        X, IDS, np.ones_like(WHERE), np.ones((3, 2)), np.zeros((3, 2))
    )
    np.testing.assert_allclose(y.astype(np.float32), right, atol=0.05)
    np.testing.assert_allclose(moved["mean"], means, atol=0.01)


def test_a_head_a_source_in_a_step():
    """One source a batch: statistics of the others stand still, those of it move."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense, self.norm = nnx.Linear(3, 2, rngs=rngs), norm()
            self.heads = nnx.data({n: nnx.Linear(2, 1, rngs=rngs) for n in NAMES})

        def __call__(self, batch):
            return {
                name: self.heads[name](nnx.relu(self.norm(self.dense(x), name)))
                for name, (x, _) in batch.items()
            }

    apply, params, rest = functional(Net(nnx.Rngs(0)))
    objective = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))

    def values_fn(params, rest, batch, key):
        outputs, rest = apply(params, rest, batch)
        targets = {name: y for name, (_, y) in batch.items()}
        return objective.values(outputs, targets, partial=True), rest

    sgd = optax.sgd(0.1)
    step = jax.jit(hw.training.make_step(values_fn, sgd, stateful=True))
    state = hw.training.init_state(NAMES, params, sgd, rest=rest)
    x = jnp.asarray(X[:, 0, :].repeat(2, 1)[:, :3], jnp.float32)
    new, info = step(state, {"photo": (x, x[:, :1])})
    assert {n: bool(h) for n, h in info.present.items()} == {
        "art": False, "photo": True, "sketch": False,
    }  # fmt: skip
    h = np.asarray(x, np.float64) @ np.asarray(params["dense"]["kernel"], np.float64)
    expected = np.array([np.zeros(2), 0.1 * h.mean(0), np.zeros(2)])
    np.testing.assert_allclose(new.rest["norm"]["mean"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(new.rest["norm"]["var"][::2], 1.0)


@pytest.mark.parametrize(
    ("x", "source", "options", "message"),
    [
        (np.ones((2, 3)), "art", {}, r"x: expected shape \[B, ..., 2\], got \(2, 3\)"),
        (np.ones((2, 2)), "arts", {}, r"source: unknown names \['arts'\], did you"),
        (np.ones((2, 2)), np.zeros(3, int), {}, r"source: .*ints of shape \(2,\), got"),
        (np.ones((2, 2)), np.zeros(2), {}, r"source: .*got float32"),
        (np.ones((2, 2)), "art", dict(where=np.ones(3)), r"where: .*\(2,\), got .*3"),
    ],
)
def test_bad_calls(x, source, options, message):
    with pytest.raises(ValueError, match=message):
        norm()(x, source, **options)
    with pytest.raises(ValueError, match="momentum"):
        norm(momentum=2.0)
