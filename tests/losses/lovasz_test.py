"""Lovasz losses: exact on hard predictions, convex, precise, absent classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from headwise.losses import _boundary
from headwise.losses import _lovasz
from tests.losses import _compiled

lovasz_softmax = _compiled.whole(_lovasz.lovasz_softmax)
lovasz_hinge = _compiled.whole(_lovasz.lovasz_hinge)
boundary = _compiled.whole(_boundary.boundary)


def hard_masks(shape, seed=0, share=0.4):
    return (np.random.default_rng(seed).random(shape) < share).astype(np.float32)


def jaccard_loss(p, t):
    both = np.sum(p * t, 1)
    return 1 - both / (np.sum(p, 1) + np.sum(t, 1) - both)


@pytest.mark.parametrize("seed", range(5))
def test_hard_predictions_have_the_jaccard_loss(seed):
    p, t = hard_masks((3, 50, 2), seed), hard_masks((3, 50, 2), seed + 10)
    # 50 steps that add up to a ratio of counts: a few float32 roundings.
    got = lovasz_softmax(p, t)
    np.testing.assert_allclose(got, jaccard_loss(p, t), rtol=1e-6)
    # A logit of the wrong sign has the hinge error 2.
    got = lovasz_hinge(2 * p - 1, t)
    np.testing.assert_allclose(got, 2 * jaccard_loss(p, t), rtol=1e-6)


def test_hinge_is_0_beyond_the_margin():
    t = hard_masks((2, 30, 3))
    np.testing.assert_array_equal(lovasz_hinge(4 * t - 2, t), 0.0)
    np.testing.assert_array_equal(lovasz_hinge(2 * t - 1, t), 0.0)


def test_convex_in_the_predictions():
    rng = np.random.default_rng(0)
    t = hard_masks((20, 30, 1))
    for loss, scale in ((lovasz_softmax, 1.0), (lovasz_hinge, 4.0)):
        one, other = scale * rng.uniform(size=(2, *t.shape)).astype(np.float32)
        middle = loss((one + other) / 2, t)
        # The slack is far above rounding (1e-7), and not always 0.
        slack = (loss(one, t) + loss(other, t)) / 2 - middle
        assert np.all(slack > -1e-6)
        assert np.any(slack > 1e-3)


@pytest.mark.parametrize("over_batch", [False, True])
def test_absent_class(over_batch):
    p = np.random.default_rng(0).uniform(size=(2, 9, 1)).astype(np.float32)
    t = np.zeros((2, 9, 1), np.float32)
    axes = (0, 1) if over_batch else 1

    def loss(p, absent):
        return lovasz_softmax(p, t, absent=absent, over_batch=over_batch)

    np.testing.assert_array_equal(loss(p, "count"), np.max(p, axes))
    np.testing.assert_array_equal(loss(p, "zero"), 0.0)
    grads = jax.grad(lambda p: jnp.sum(loss(p, "count")))(p)
    np.testing.assert_array_equal(grads, p == np.max(p, axes, keepdims=True))
    grads = jax.grad(lambda p: jnp.sum(loss(p, "zero")))(p)
    np.testing.assert_array_equal(grads, 0.0)


def test_absent_zero_leaves_present_classes_alone():
    p = np.random.default_rng(0).uniform(size=(1, 9, 2)).astype(np.float32)
    t = hard_masks((1, 9, 2))
    t[..., 1] = 0
    got = lovasz_softmax(p, t, absent="zero")
    expected = lovasz_softmax(p, t, absent="count")
    np.testing.assert_array_equal(got[0, 0], expected[0, 0])
    assert expected[0, 0] > 0.1


def test_over_batch_is_one_long_example():
    p = np.random.default_rng(0).uniform(size=(2, 3, 4, 3)).astype(np.float32)
    t = hard_masks(p.shape)
    got = lovasz_softmax(p, t, over_batch=True)
    long = lovasz_softmax(p.reshape(1, 24, 3), t.reshape(1, 24, 3))
    np.testing.assert_array_equal(got, long[0])


def test_soft_targets_are_rounded():
    p = np.random.default_rng(0).uniform(size=(2, 9, 3)).astype(np.float32)
    t = np.random.default_rng(1).uniform(size=(2, 9, 3)).astype(np.float32)
    for loss in (lovasz_softmax, lovasz_hinge):
        np.testing.assert_array_equal(loss(p, t), loss(p, (t > 0.5) * 1.0))


def test_gradient_keeps_digits_in_a_large_image():
    # A step is some 1e-6. As a difference of losses near 1, with a float32 spacing of
    # 6e-8, it would have one digit.
    n = 2**18
    rng = np.random.default_rng(0)
    errors = (rng.permutation(n) + 1.0) / (n + 1)  # exact in float32, no ties
    hard = rng.random(n) < 0.3
    p = np.where(hard, 1 - errors, errors).astype(np.float32)
    grads = jax.grad(
        lambda p: lovasz_softmax(
            p[None, :, None], hard.astype(np.float32)[None, :, None]
        )[0, 0]
    )(p)
    order = np.argsort(-errors)
    volume = hard.sum()
    both = volume - np.cumsum(hard[order])
    union = volume + np.cumsum(~hard[order])
    steps = np.diff(1 - both / union, prepend=0.0)
    expected = np.where(hard, -1, 1)[order] * steps
    # float64 differences of the reference keep 9 digits; the gradient is two roundings.
    np.testing.assert_allclose(np.array(grads)[order], expected, rtol=1e-5)


@pytest.mark.parametrize("over_batch", [False, True])
def test_explicitly_sharded_batch(over_batch):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
    p = np.random.default_rng(0).uniform(size=(2, 9, 3)).astype(np.float32)
    t = hard_masks(p.shape)

    def loss(p, t):
        return jnp.sum(lovasz_softmax(p, t, over_batch=over_batch))

    gradient = jax.jit(jax.value_and_grad(loss))
    expected = gradient(p, t)
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("data"))
        got = gradient(*jax.device_put((p, t), split))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)  # sums of two devices
    np.testing.assert_array_equal(got[1], expected[1])


def test_unknown_rule_for_absent_classes():
    p = jnp.ones((2, 5, 3))
    for loss in (lovasz_softmax, lovasz_hinge):
        with pytest.raises(ValueError, match=r"absent.*'count'.*'present'"):
            loss(p, p, absent="present")


@pytest.mark.parametrize("loss", [lovasz_softmax, lovasz_hinge, boundary])
def test_a_target_that_is_nan_is_not_hidden_by_the_cut_at_one_half(loss):
    p, t = np.full((1, 4, 2), 0.25, np.float32), np.zeros((1, 4, 2), np.float32)
    t[0, 1, 0], t[0, 2, 1] = np.nan, 1.0
    values = np.asarray(loss(p, t))
    assert np.isnan(values[0, 0])
    assert np.isfinite(values[0, 1])
    masked = loss(p, t, where=np.arange(4)[None] != 1)
    assert np.all(np.isfinite(masked))
