"""Hausdorff distance and surface Dice: MONAI's published values."""

import functools

import jax
import numpy as np
import pytest

from headwise.metrics import _surface
from tests.losses import _compiled

pytestmark = pytest.mark.optimized  # runs longer than it compiles

surface_dice = _compiled.whole(_surface.surface_dice)


def sphere(radius, centre, spacing=(1.0, 1.0, 1.0)):
    """[1, 99, 99, 99, 1]."""
    axes = np.ogrid[:99, :99, :99]
    squares = [(x * s - c) ** 2 for x, s, c in zip(axes, spacing, centre)]
    return (sum(squares) <= radius**2)[None, ..., None]


# MONAI, tests/metrics/test_hausdorff_distance.py, Euclidean and not directed: spheres
# (radius, centre) in 99³ positions, spacing, percentile, expected.
SPACED = (0.85, 1.2, 0.9)
SPHERES = {
    "same": ((20, (49, 49, 49)), (20, (49, 49, 49)), None, 100.0, 0.0),
    "moved": ((20, (20, 20, 20)), (20, (19, 19, 19)), None, 100.0, 1.7320508075688772),
    "moved along one axis": (
        (33, (19, 33, 22)),
        (33, (20, 33, 22)),
        None,
        100.0,
        1.0,
    ),
    "larger": ((20, (20, 33, 22)), (40, (20, 33, 22)), None, 100.0, 20.223748416156685),
    "larger, 95 %": (
        (20, (20, 33, 22)),
        (40, (20, 33, 22)),
        None,
        95.0,
        20.09975124224178,
    ),
    "moved, spaced": (
        (20, (20, 20, 20)),
        (20, (19, 19, 19)),
        SPACED,
        100.0,
        2.2671568,
    ),
    "larger, spaced": (
        (15, (20, 33, 22)),
        (30, (20, 33, 22)),
        SPACED,
        100.0,
        15.62594,
    ),
}


@pytest.fixture(scope="module")
def jitted_hausdorff():
    return jax.jit(functools.partial(_surface.hausdorff_distance, background=True))


@pytest.mark.parametrize("case", SPHERES)
def test_published_hausdorff_distances(case, jitted_hausdorff):
    preds, targets, spacing, percentile, expected = SPHERES[case]
    spacing = (1.0, 1.0, 1.0) if spacing is None else spacing
    got = jitted_hausdorff(
        sphere(*preds, spacing),
        sphere(*targets, spacing),
        spacing=np.array(spacing, np.float32),
        percentile=percentile,
    )
    assert got.count == 1
    # Seven digits are printed; float32 roots of float32 sums.
    np.testing.assert_allclose(got.value, [expected], rtol=1e-6)


def labels(shape, *box):
    image = np.zeros(shape, int)
    image[(0, *box)] = 1
    return image


EDGE = (36 * 2 + 8 + 4, 3 + 3)  # surface positions of background and class
# MONAI, tests/metrics/test_surface_dice.py, test_tolerance_all_distances: tolerances
# of both classes, expected.
THRESHOLDS = {
    (0.0, 0.0): (1 - (8 + 4) / EDGE[0], 0.0),
    (2.8, 5.5): (1 - 3 / EDGE[0], 1 - (2 + 2) / EDGE[1]),
    (3.0, 6.0): (1 - 1 / EDGE[0], 1 - 2 / EDGE[1]),
}


@pytest.mark.parametrize("tolerance", THRESHOLDS)
def test_published_surface_dice(tolerance):
    got = surface_dice(
        labels((1, 10, 10), slice(1, 4), 1),
        labels((1, 10, 10), slice(5, 8), 6),
        num_classes=2,
        tolerance=np.array(tolerance),
        background=True,
    )
    np.testing.assert_allclose(got.value, THRESHOLDS[tolerance], rtol=1e-6)  # float32


def test_published_surface_dice_of_large_images():
    """MONAI, test_tolerance_euclidean_distance: 480 x 640, shifted by ten columns."""
    everything = slice(None)
    got = surface_dice(
        labels((2, 480, 640), everything, slice(50, None)),
        labels((2, 480, 640), everything, slice(60, None)),
        num_classes=2,
        tolerance=0.0,
        background=True,
    )
    wrong = 478 + 480 + 9 * 2
    expected = [
        1 - wrong / (480 * 4 + 48 * 2 + 58 * 2) + 1,  # the second image is background
        1 - wrong / (480 * 4 + 588 * 2 + 578 * 2),
    ]
    np.testing.assert_allclose(got.total, expected, rtol=1e-6)  # float32
    np.testing.assert_array_equal(got.count, [2, 1])
