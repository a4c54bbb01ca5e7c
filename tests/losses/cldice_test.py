"""Centreline Dice: published values, skeletons, borders, misuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise.losses import _cldice
from headwise.losses import _region
from headwise.losses import _skeleton
from tests.losses import _compiled
from tests.losses.shape_test import P
from tests.losses.shape_test import T

cldice = _compiled.whole(_cldice.cldice)
dice_cldice = _compiled.whole(_cldice.dice_cldice)


def hard_masks(shape, seed=0, share=0.6):
    return (np.random.default_rng(seed).random(shape) < share).astype(np.float32)


def soft(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.95, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(7, 11, 10, 3), (2, 13, 14, 5, 3)])
def test_ones_have_loss_0_as_monai_publishes(shape):
    ones = np.ones(shape, np.float32)
    for loss in (cldice, dice_cldice):
        np.testing.assert_array_equal(loss(ones, ones), 0.0)


# (iterations, cldice, dice_cldice with alpha = 0.3): what MONAI 1.6.1 gives in float64
# with its smooth of 1e-4 set to 1e-12. One channel, where both sum over the same.
MONAI = [
    (0, 0.1361502347, 0.1901784038),
    (1, 0.1411094706, 0.1916661745),
    (3, 0.1473975798, 0.1935526073),
]


@pytest.mark.parametrize(("iterations", "alone", "mixed"), MONAI)
def test_equals_monai(iterations, alone, mixed):
    got = cldice(P, T, iterations=iterations)
    np.testing.assert_allclose(got, [[alone]], rtol=2e-6)  # float32, 16 positions
    got = dice_cldice(P, T, iterations=iterations, alpha=0.3)
    np.testing.assert_allclose(got, [[mixed]], rtol=2e-6)


def test_equals_monai_in_3_d():
    places = np.arange(27).reshape(1, 3, 3, 3, 1)
    p = ((places * 7) % 27 / 27).astype(np.float32)
    t = (places % 5 < 3).astype(np.float32)
    got = cldice(p, t, iterations=1)
    np.testing.assert_allclose(got, [[0.4305148795]], rtol=2e-6)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(2, 30, 3), (2, 9, 8, 3), (2, 5, 6, 4, 3)])
def test_equal_hard_masks_have_loss_0(shape, smooth):
    t = hard_masks(shape)
    # A skeleton lies in its mask: twice the same sums, in two orders.
    np.testing.assert_allclose(cldice(t, t, smooth=smooth), 0.0, atol=3e-7)


def test_the_skeleton_of_a_bar_is_its_centreline():
    bar = np.zeros((1, 7, 11, 1), np.float32)
    bar[0, 2:5, 2:9] = 1
    skeleton = np.array(_skeleton.soft_skeleton(jnp.array(bar), None, 3))[0, ..., 0]
    expected = np.zeros((7, 11), np.float32)
    expected[3, 3:8] = 1  # what one erosion by a cross leaves; it has no inside
    np.testing.assert_array_equal(skeleton, expected)


def test_iterations_are_for_wide_structures():
    bar = np.zeros((1, 13, 21, 1), np.float32)
    bar[0, 2:11, 2:19] = 1
    sizes = [
        float(jnp.sum(_skeleton.soft_skeleton(jnp.array(bar), None, n)))
        for n in range(6)
    ]
    # Half-width 4: the skeleton appears at the fourth erosion and then stays.
    assert sizes[3] < sizes[4] == sizes[5] > 0


def test_each_example_and_class_has_a_value_of_its_own():
    p, t = soft((3, 6, 7, 2)), hard_masks((3, 6, 7, 2))
    got = cldice(p, t)
    assert len(np.unique(got)) == 6
    for b in range(3):
        for c in range(2):
            alone = p[b : b + 1, ..., c : c + 1], t[b : b + 1, ..., c : c + 1]
            np.testing.assert_allclose(got[b, c], cldice(*alone)[0, 0], rtol=1e-6)


def test_a_masked_margin_is_cut_off():
    p, t = soft((2, 8, 9, 3)), hard_masks((2, 8, 9, 3))
    where = np.zeros((2, 8, 9), bool)
    where[:, 1:6, 2:9] = True
    gradient = jax.jit(
        jax.value_and_grad(lambda p, t, where=None: jnp.sum(cldice(p, t, where=where)))
    )
    value, grads = gradient(p, t, where)
    inner = (slice(None), slice(1, 6), slice(2, 9))
    expected_value, expected_grads = gradient(p[inner], t[inner])
    # The same sums with zeros between them.
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(grads[inner], expected_grads, rtol=1e-5, atol=1e-7)


def test_short_axes():
    for shape in ((1, 1, 1), (1, 2, 1), (1, 1, 2, 1), (1, 2, 1, 5, 1)):
        t = np.ones(shape, np.float32)
        t[0, 0] = 0
        np.testing.assert_array_equal(cldice(t, t), 0.0)
        grads = jax.jit(jax.grad(lambda p, t=t: cldice(p, t)[0, 0]))(0.5 * t)
        assert np.all(np.isfinite(grads))


def test_alpha_mixes_dice_and_cldice():
    p, t = soft((2, 6, 7, 2)), hard_masks((2, 6, 7, 2))
    got = [dice_cldice(p, t, alpha=a) for a in (0.0, 1.0)]
    np.testing.assert_allclose(got[0], _region.dice(p, t, smooth=1.0), rtol=1e-6)
    np.testing.assert_allclose(got[1], cldice(p, t), rtol=1e-6)


def test_a_gap_costs_more_than_as_much_width():
    t = np.zeros((1, 9, 21, 1), np.float32)
    t[0, 3:6] = 1
    gap, thin = t.copy(), t.copy()
    gap[0, :, 9:12] = 0  # 9 positions, through the line
    thin[0, 3, 2:11] = 0  # 9 positions, off its side
    loss = cldice
    assert loss(gap, t)[0, 0] > 2 * loss(thin, t)[0, 0]


def test_misuse():
    p = jnp.ones((2, 5, 3))
    for loss in (_cldice.cldice, _cldice.dice_cldice):
        with pytest.raises(ValueError, match=r"iterations.*int.*3\.0"):
            loss(p, p, iterations=3.0)
        with pytest.raises(ValueError, match=r"iterations.*-1"):
            loss(p, p, iterations=-1)
        with pytest.raises(ValueError, match=r"spatial axis.*\(2, 3\)"):
            loss(p[:, 0], p[:, 0])
