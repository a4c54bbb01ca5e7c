"""Errors of depth against float64 NumPy; streams, missing depth, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.metrics import _stream


def data(shape, seed=0):
    """Depths with some missing (0), and a mask."""
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0.5, 10.0, shape)
    preds = targets * np.exp(rng.normal(0, 0.4, shape))
    targets = np.where(rng.random(shape) < 0.8, targets, 0.0)
    return (
        preds.astype(np.float32),
        targets.astype(np.float32),
        rng.random(shape) < 0.7,
    )


def reference(preds, targets, where):
    kept = where & (targets > 0)
    p, t = preds[kept].astype(np.float64), targets[kept].astype(np.float64)
    factor = np.maximum(p / t, t / p)
    return dict(
        absolute=np.abs(p - t).mean(),
        relative=(np.abs(p - t) / t).mean(),
        squared=((p - t) ** 2).mean(),
        within_1=(factor < 1.25).mean(),
        within_2=(factor < 1.25**2).mean(),
        within_3=(factor < 1.25**3).mean(),
    )


@pytest.mark.parametrize("shape", [(3, 50), (3, 8, 9), (3, 8, 9, 1), (2, 5, 6, 4)])
def test_equals_float64(shape):
    preds, targets, where = data(shape)
    for mask in [None, where]:
        got = jax.jit(hw.metrics.depth_errors)(preds, targets, where=mask)
        full = np.ones(shape, bool) if mask is None else mask
        expected = reference(preds, targets, full)
        assert set(expected) == set(got._fields)
        for name, value in expected.items():
            # float32 sums of some hundred terms.
            np.testing.assert_allclose(getattr(got, name).value, value, rtol=1e-5)
            assert getattr(got, name).count == np.sum(full & (targets > 0))
        np.testing.assert_allclose(got.rmse, np.sqrt(expected["squared"]), rtol=1e-5)


def test_streams_and_devices_equal_one_pass():
    _stream.assert_adds_up(
        lambda p, t, w: hw.metrics.depth_errors(p, t, where=w),
        *data((7, 8, 9)),
        rtol=1e-5,  # float32 sums in another order
    )


def test_rmse_of_a_stream_is_of_all_positions():
    one = hw.metrics.depth_errors(jnp.array([[4.0]]), jnp.array([[1.0]]))
    three = hw.metrics.depth_errors(jnp.ones((1, 3)), jnp.array([[2.0, 1.0, 3.0]]))
    joined = hw.metrics.add(one, three)
    np.testing.assert_allclose(joined.rmse, np.sqrt((9 + 1 + 0 + 4) / 4), rtol=1e-6)


def test_boundaries_of_the_shares():
    p = jnp.array([[1.25, 1.2, 0.8, 0.81, 2.0, -1.0, 0.0]])
    got = hw.metrics.depth_errors(p, jnp.ones((1, 7)))
    # A factor of exactly 1.25 is outside (1.25 and 0.8 · 1.25 are exact in float32),
    # and depths of 0 and less are within none.
    assert got.within_1.total == 2
    assert got.within_2.total == 4
    assert got.within_3.total == 4


def test_missing_and_masked_depth_does_not_count():
    preds, targets, where = data((3, 8, 9))
    kept = where & (targets > 0)
    expected = hw.metrics.depth_errors(preds, targets, where=where)
    for bad in [np.nan, np.inf, -1.0]:
        spoilt = np.where(kept, preds, np.float32(bad))
        holes = np.where(where, targets, np.float32(bad))
        _stream.assert_same(
            hw.metrics.depth_errors(spoilt, holes, where=where), expected
        )


def test_nan_predictions_show():
    got = hw.metrics.depth_errors(jnp.array([[np.nan, 1.0]]), jnp.ones((1, 2)))
    assert np.isnan(got.absolute.value)
    assert got.within_3.value == 0.5


def test_nothing_is_nan():
    got = hw.metrics.depth_errors(jnp.ones((1, 2)), jnp.zeros((1, 2)))
    assert got.absolute.count == 0
    assert np.isnan(got.absolute.value)
    assert np.isnan(got.rmse)


def test_half_precision_is_summed_in_float32():
    preds, targets, _ = data((2, 4000))
    half = [jnp.asarray(x, jnp.bfloat16) for x in (preds, targets)]
    whole = [x.astype(jnp.float32) for x in half]
    got = hw.metrics.depth_errors(*half)
    assert got.absolute.total.dtype == jnp.float32
    _stream.assert_same(got, hw.metrics.depth_errors(*whole))


def test_misuse_is_a_clear_error():
    ones = jnp.ones((2, 5))
    with pytest.raises(ValueError, match=r"targets.*\(2, 5\).*\(2, 4\)"):
        hw.metrics.depth_errors(ones, jnp.ones((2, 4)))
    with pytest.raises(TypeError, match=r"preds.*floating.*int32"):
        hw.metrics.depth_errors(ones.astype(int), ones)
    with pytest.raises(TypeError, match=r"where.*bool.*float"):
        hw.metrics.depth_errors(ones, ones, where=ones)
