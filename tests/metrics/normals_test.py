"""Angles against float64 NumPy: mean, median and shares; streams and edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.metrics import _stream

BIN = 0.05
normal_angles = jax.jit(hw.metrics.normal_angles)


def data(shape, seed=0, spread=0.3):
    """Normals, predictions of any length near them, and a mask; some are unknown."""
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=shape)
    targets /= np.linalg.norm(targets, axis=-1, keepdims=True)
    preds = (targets + rng.normal(0, spread, shape)) * rng.uniform(0.5, 5)
    targets = np.where(rng.random((*shape[:-1], 1)) < 0.8, targets, 0)
    where = rng.random(shape[:-1]) < 0.7
    return preds.astype(np.float32), targets.astype(np.float32), where


def angles(preds, targets, where):
    """Degrees of what counts, in float64, by the arc cosine."""
    kept = where & np.any(targets != 0, -1)
    p, t = preds[kept].astype(np.float64), targets[kept].astype(np.float64)
    lengths = np.linalg.norm(p, axis=-1) * np.linalg.norm(t, axis=-1)
    return np.rad2deg(np.arccos(np.clip(np.sum(p * t, -1) / lengths, -1, 1)))


@pytest.mark.parametrize("shape", [(3, 50, 3), (3, 20, 30, 3), (2, 5, 6, 4, 2)])
@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_equals_float64(shape, spread):
    preds, targets, where = data(shape, spread=spread)
    for mask in [None, where]:
        got = normal_angles(preds, targets, where=mask)
        full = np.ones(shape[:-1], bool) if mask is None else mask
        expected = angles(preds, targets, full)
        assert got.degrees.count == jnp.sum(got.bins) == len(expected)
        np.testing.assert_allclose(got.mean, expected.mean(), rtol=1e-5)  # float32
        assert abs(got.median - np.median(expected)) < BIN
        for degrees in [11.25, 22.5, 30.0]:
            share = np.mean(expected < degrees)
            # Edges of bins: exact, but for one rounding of the division.
            np.testing.assert_allclose(got.within(degrees), share, rtol=1e-6)


def test_streams_and_devices_equal_one_pass():
    _stream.assert_adds_up(
        lambda p, t, w: hw.metrics.normal_angles(p, t, where=w),
        *data((7, 8, 9, 3)),
        rtol=1e-5,  # float32 sums in another order
    )


def turned(degrees):
    """Predictions and targets at these angles: [1, N, 3] each."""
    radians = np.deg2rad(np.asarray(degrees, np.float64))
    preds = np.stack([np.sin(radians), 0 * radians, np.cos(radians)], -1)
    targets = np.broadcast_to(np.array([0.0, 0.0, 1.0]), preds.shape)
    return preds[None].astype(np.float32), targets[None].astype(np.float32)


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.012, 30.01, 89.99, 179.99, 180.0])
def test_one_angle_keeps_its_digits(degrees):
    got = normal_angles(*turned([degrees]))
    # float32 of sine and cosine: 6e-8 radians are 4e-6 degrees; 180 has 5 digits.
    np.testing.assert_allclose(got.mean, degrees, rtol=1e-5, atol=1e-5)
    assert abs(got.median - degrees) < BIN
    assert jnp.sum(got.bins) == 1


@pytest.mark.parametrize(
    "several",
    [[10.0, 20.0], [10.0, 10.01, 10.02, 80.0], [0.0, 0.0, 0.0, 90.0, 170.0], [5.0] * 6],
)
def test_median_of_few(several):
    got = normal_angles(*turned(several))
    assert abs(got.median - np.median(several)) < BIN


def test_within_interpolates_and_ends():
    got = normal_angles(*turned([10.01, 10.02, 50.0, 120.0]))
    np.testing.assert_allclose(
        got.within(jnp.array([0.0, 10.0, 10.025, 10.05, 180.0])),
        [0.0, 0.0, 0.25, 0.5, 1.0],
        rtol=1e-4,  # 10.025 in float32, in bins of 0.05
    )


def test_zero_vectors():
    targets = jnp.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    got = normal_angles(jnp.zeros((1, 2, 3)), targets)
    assert got.degrees.count == 1
    np.testing.assert_allclose(got.mean, 90.0, rtol=1e-6)


def test_unknown_and_masked_normals_do_not_count():
    preds, targets, where = data((3, 8, 9, 3))
    expected = normal_angles(preds, targets, where=where)
    kept = (where & np.any(targets != 0, -1))[..., None]
    for bad in [np.nan, np.inf]:
        spoilt = np.where(kept, preds, np.float32(bad))
        holes = np.where(where[..., None], targets, np.float32(bad))
        got = normal_angles(spoilt, holes, where=where)
        _stream.assert_same(got, expected)


def test_nan_predictions_show():
    preds, targets = turned([0.0, 0.0])
    preds[0, 1] = np.nan
    got = normal_angles(preds, targets)
    assert np.isnan(got.mean)
    assert got.within(179.0) == 0.5


def test_nothing_is_nan():
    got = normal_angles(jnp.ones((1, 2, 3)), jnp.zeros((1, 2, 3)))
    for value in [got.mean, got.median, got.within(30.0)]:
        assert np.isnan(value)


def test_counts_of_a_bin_do_not_stop_at_2_to_the_24():
    # One bin; a float32 sum of ones stays at 16,777,216.
    preds = jnp.broadcast_to(jnp.array([0.0, 1.0]), (1, 4097, 4096, 2))
    got = normal_angles(preds, preds)
    assert got.bins[0] == 4097 * 4096
    assert got.median < BIN


def test_misuse_is_a_clear_error():
    ones = jnp.ones((2, 5, 3))
    with pytest.raises(ValueError, match=r"targets.*\(2, 5, 3\).*\(2, 4, 3\)"):
        hw.metrics.normal_angles(ones, jnp.ones((2, 4, 3)))
    with pytest.raises(TypeError, match=r"preds.*floating.*int32"):
        hw.metrics.normal_angles(ones.astype(int), ones)
    with pytest.raises(ValueError, match=r"where.*\(2, 5\).*\(2, 4\)"):
        hw.metrics.normal_angles(ones, ones, where=jnp.ones((2, 4), bool))
