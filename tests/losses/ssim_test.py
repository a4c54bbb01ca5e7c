"""SSIM: published values, the default window, limits, masks, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise.losses import _ssim
from tests import _derivatives
from tests.losses import _compiled
from tests.losses import _dense_reference as reference

ssim = _compiled.whole(_ssim.ssim)

# A variance is off by some 1e-8 in float32 (squares up to 1/4), beside c_2 = 9e-4.
CLOSE = dict(rtol=0, atol=2e-5)


def images(shape, seed=0):
    """Smooth images in [0, 1] and a noisy copy."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(size=shape)
    for axis in range(1, len(shape) - 1):
        t = (t + np.roll(t, 1, axis) + np.roll(t, 2, axis)) / 3
    p = np.clip(t + rng.normal(0, 0.05, shape), 0, 1)
    return p.astype(np.float32), t.astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 15, 2), {}),
        ((2, 13, 14, 2), {}),
        ((1, 12, 11, 13, 1), {}),
        ((2, 8, 9, 2), dict(window="uniform", size=7)),
        ((2, 6, 5, 4, 2), dict(window="gaussian", size=4, sigma=0.8)),
        ((2, 8, 9, 1), dict(size=5, data_range=2.0, k1=0.05, k2=0.1)),
        ((2, 8, 9, 1), dict(size=1)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_reference(shape, options, masked):
    p, t = images(shape)
    where = None
    if masked:
        where = np.ones(shape, bool)
        where[0, 0] = where[-1, ..., -1:, 0] = False
    got = ssim(p, t, where=where, **options)
    expected = reference.ssim(p, t, where=where, **options)
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_equals_the_reference_in_float64():
    with jax.enable_x64(True):
        p, t = (jnp.asarray(x, jnp.float64) for x in images((1, 13, 14, 2)))
        got = ssim(p, t)
        assert got.dtype == jnp.float64
        expected = reference.ssim(np.array(p), np.array(t))
        # E[x²] - m² loses 1e-16 / 9e-4 of float64.
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_large_mean_keeps_its_digits(offset):
    p, t = (x + np.float32(offset) for x in images((1, 16, 16, 1)))
    got = ssim(p, t)
    expected = reference.ssim(p, t)
    # The inputs are exact; squares around the mean are at most 1, not 10,000.
    np.testing.assert_allclose(got, expected, **CLOSE)


# Made with `SSIMLoss(..., reduction="none")` of MONAI 1.6.1 on `waves` below, one
# channel at a time, since it averages over channels.
MONAI = [
    ((2, 16, 15, 2), {}, [[0.100793, 0.102087], [0.101197, 0.102474]]),
    ((1, 12, 13, 14, 1), {}, [[0.091377]]),
    (
        (2, 16, 15, 2),
        dict(window="uniform", size=7),
        [[0.090854, 0.090852], [0.090853, 0.090852]],
    ),
    (
        (2, 16, 15, 2),
        dict(size=5, sigma=0.8, data_range=2.0, k1=0.05, k2=0.1),
        [[0.126038, 0.125509], [0.125943, 0.125246]],
    ),
]


def waves(shape):
    """Two images of sines and cosines in [0, 1], channel-last, without a generator."""
    grid = np.indices(shape).astype(np.float64)
    phase = sum((0.3 + 0.2 * a) * x for a, x in enumerate(grid))
    t = 0.5 + 0.5 * np.sin(phase)
    p = 0.5 + 0.4 * np.sin(phase + 0.3) + 0.1 * np.cos(3 * phase)
    return p.astype(np.float32), t.astype(np.float32)


@pytest.mark.parametrize(("shape", "options", "expected"), MONAI)
def test_values_of_monai(shape, options, expected):
    # MONAI computes in float32 as well, around 0.
    np.testing.assert_allclose(ssim(*waves(shape), **options), expected, atol=2e-5)


def test_equal_images_have_loss_0_and_no_gradient():
    _, t = images((2, 12, 12, 3))
    value, grads = jax.value_and_grad(lambda p: jnp.sum(ssim(p, t)))(t)
    assert value == 0
    # The maximum of SSIM: what is left is rounding, amplified by 1 / c_2.
    np.testing.assert_allclose(grads, 0.0, atol=1e-5)


def test_symmetric():
    p, t = images((2, 12, 12, 3))
    np.testing.assert_allclose(ssim(p, t), ssim(t, p), **CLOSE)


def test_more_noise_is_more_loss():
    _, t = images((1, 16, 16, 1))
    noise = np.random.default_rng(1).normal(size=t.shape).astype(np.float32)
    losses = [float(ssim(t + s * noise, t)[0, 0]) for s in [0.0, 0.02, 0.1, 0.5]]
    assert losses == sorted(losses)
    assert losses[-1] > 0.5


def test_a_negative_has_loss_above_1():
    _, t = images((1, 16, 16, 1))
    assert 1 < float(ssim(1 - t, t)[0, 0]) < 2


def test_channels_stand_alone():
    p, t = images((2, 12, 12, 3))
    alone = [ssim(p[..., c : c + 1], t[..., c : c + 1]) for c in range(3)]
    # The same sums; a matrix product may order them otherwise.
    np.testing.assert_allclose(ssim(p, t), np.concatenate(alone, -1), **CLOSE)


def test_data_range_scales_with_the_data():
    p, t = images((2, 12, 12, 1))
    got = ssim(255 * p, 255 * t, data_range=255.0)
    np.testing.assert_allclose(got, ssim(p, t), **CLOSE)
    assert jnp.all(jnp.abs(ssim(255 * p, 255 * t) - got) > 1e-3)


def test_a_window_with_one_masked_position_does_not_count():
    p, t = images((1, 5, 3, 1))
    where = np.ones((1, 5, 3), bool)
    where[0, 0, 0] = False
    got = ssim(p, t, where=where, size=3)
    # Three windows along the first axis; the first holds the masked position.
    np.testing.assert_allclose(got, ssim(p[:, 1:], t[:, 1:], size=3), **CLOSE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_values_leak_nowhere(bad):
    p, t = images((1, 6, 6, 2))
    where = np.ones((1, 6, 6), bool)
    where[0, 0, :2] = False

    @jax.jit
    def gradient(p, t):
        return jax.value_and_grad(lambda p: jnp.sum(ssim(p, t, where=where, size=3)))(p)

    spoilt = [np.where(where[..., None], x, np.float32(bad)) for x in (p, t)]
    value, grads = gradient(*spoilt)
    expected, expected_grads = gradient(p, t)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grads, expected_grads)
    assert not np.any(grads[~where])


def test_no_whole_window_is_0_with_zero_gradient():
    p, t = images((1, 5, 5, 1))
    where = np.ones((1, 5, 5), bool)
    where[0, 2, 2] = False
    value, grads = jax.value_and_grad(
        lambda p: jnp.sum(ssim(p, t, where=where, size=3))
    )(p)
    assert value == 0
    np.testing.assert_array_equal(grads, 0.0)


def test_derivatives_of_order_1_and_2():
    with jax.enable_x64(True):
        p, t = (jnp.asarray(x, jnp.float64) for x in images((1, 5, 4, 2)))
        where = np.ones((1, 5, 4), bool)
        where[0, 0, 0] = False

        def loss(p):
            return ssim(p, t, where=where, size=3)

        _derivatives.check(loss, (p,), 2, ["rev"])


def test_flat_images_have_finite_gradients():
    for value in [0.0, 1.0]:
        t = jnp.full((1, 12, 12, 1), value)
        for p in [t, 1 - t]:
            assert np.all(np.isfinite(jax.grad(lambda p, t=t: jnp.sum(ssim(p, t)))(p)))


def test_jit_vmap_and_shards_give_the_same():
    p, t = images((4, 12, 12, 1))
    expected = _ssim.ssim(p, t)
    np.testing.assert_allclose(jax.jit(ssim)(p, t), expected, **CLOSE)
    many = jax.vmap(ssim)(p[:, None], t[:, None])[:, 0]
    np.testing.assert_allclose(many, expected, **CLOSE)
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    split = [jax.device_put(x, spec) for x in (p, t)]
    np.testing.assert_allclose(jax.jit(ssim)(*split), expected, **CLOSE)


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ((1, 12, 10, 1), {}, r"size.*1 to 10.*\(12, 10\).*11"),
        ((1, 12, 12, 1), dict(size=0), r"size: expected a positive int, got 0"),
        ((1, 12, 12, 1), dict(window="hann"), r"window.*gaussian.*'hann'"),
        ((2, 3), {}, r"spatial axis.*\(2, 3\)"),
    ],
)
def test_misuse_is_a_clear_error(shape, options, text):
    with pytest.raises(ValueError, match=text):
        ssim(jnp.ones(shape), jnp.ones(shape), **options)
