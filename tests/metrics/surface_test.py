"""Hausdorff distance and surface Dice: published values, a naive reference, edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec
from scipy import ndimage

from headwise.metrics import _ratio
from headwise.metrics import _surface

METRICS = {
    "hausdorff": _surface.hausdorff_distance,
    "surface_dice": functools.partial(_surface.surface_dice, tolerance=1.0),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def surface_points(mask, spacing):
    """[K, S]: where the positions lie that an erosion takes away."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    return points * (np.ones(mask.ndim) if spacing is None else np.array(spacing))


def directed(p, t, spacing=None):
    """Distances of both surfaces to each other, from all pairs of points."""
    a, b = surface_points(p, spacing), surface_points(t, spacing)
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return pairs.min(1), pairs.min(0)


def naive_hausdorff(p, t, percentile=95.0, spacing=None):
    """Of one example and class, in float64; None if it has no distance."""
    if not p.any() or not t.any():
        return None
    return max(np.percentile(d, percentile) for d in directed(p, t, spacing))


def naive_surface_dice(p, t, tolerance, spacing=None):
    if not p.any() and not t.any():
        return None
    if not p.any() or not t.any():
        return 0.0
    distances = np.concatenate(directed(p, t, spacing))
    return np.mean(distances <= tolerance * (1 + 1e-9))  # 3 * 0.7 is not 2.1


def naive(value, preds, targets, where=None, **options):
    """Sum over the examples and how many count, [C] each."""
    preds, targets = np.asarray(preds), np.asarray(targets)
    if where is not None:
        where = where.reshape(where.shape + (1,) * (preds.ndim - where.ndim))
        preds, targets = preds & where, targets & where
    total, count = np.zeros(preds.shape[-1]), np.zeros(preds.shape[-1])
    for b, c in np.ndindex(len(preds), preds.shape[-1]):
        got = value(preds[b, ..., c], targets[b, ..., c], **options)
        if got is not None:
            total[c] += got
            count[c] += 1
    return total, count


def blobs(seed, shape):
    """Masks [*shape] along the first axis, smooth along the others but the last."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in range(1, len(shape) - 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > 0.5 * noise.std()


def pair(shape=(3, 9, 8, 3), seed=0):
    """Predictions and targets; some examples and classes are empty in one or both."""
    preds, targets = blobs(seed, shape), blobs(seed + 1, shape)
    preds[0, ..., 1] = targets[0, ..., 1] = False
    preds[1, ..., 1] = False
    targets[2, ..., 2] = False
    return preds, targets


# Up to 40 surface positions: roots in float32, and linear interpolation.
CLOSE = dict(rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(3, 30, 3), (3, 9, 8, 3), (3, 5, 6, 7, 3)], ids=["1-D", "2-D", "3-D"]
)
@pytest.mark.parametrize("spaced", [False, True], ids=["unit", "spaced"])
class TestEqualsNaive:
    @pytest.mark.parametrize("percentile", [0.0, 50.0, 95.0, 100.0])
    def test_hausdorff_distance(self, shape, spaced, percentile):
        preds, targets = pair(shape)
        spacing = (0.7, 2.0, 1.3)[: len(shape) - 2] if spaced else None
        options = dict(percentile=percentile, spacing=spacing)
        got = _surface.hausdorff_distance(preds, targets, background=True, **options)
        total, count = naive(naive_hausdorff, preds, targets, **options)
        np.testing.assert_allclose(got.total, total, **CLOSE)
        np.testing.assert_array_equal(got.count, count)
        np.testing.assert_array_equal(count, [3, 1, 2])

    @pytest.mark.parametrize("tolerance", [0.0, 0.7, 1.4, 2.1, 3.0])
    def test_surface_dice(self, shape, spaced, tolerance):
        preds, targets = pair(shape)
        spacing = (0.7, 2.0, 1.3)[: len(shape) - 2] if spaced else None
        options = dict(tolerance=tolerance, spacing=spacing)
        got = _surface.surface_dice(preds, targets, background=True, **options)
        total, count = naive(naive_surface_dice, preds, targets, **options)
        np.testing.assert_allclose(got.total, total, **CLOSE)
        np.testing.assert_array_equal(got.count, count)
        np.testing.assert_array_equal(count, [3, 2, 3])


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
    found = np.zeros(shape, int)
    found[(0, *box)] = 1
    return found


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
    got = _surface.surface_dice(
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
    got = _surface.surface_dice(
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


def test_forms_of_preds_and_targets_agree():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    chosen, truth = scores.argmax(-1), rng.integers(-1, 3, (2, 6, 7))
    hot = [np.stack([x == c for c in range(3)], -1) for x in (chosen, truth)]
    for metric in METRICS.values():
        expected = metric(*hot)
        for got in (
            metric(scores, truth),
            metric(hot[0], truth),
            metric(chosen, truth, num_classes=3),
            metric(chosen.astype(np.uint8), truth, num_classes=3),
        ):
            jax.tree.map(np.testing.assert_array_equal, got, expected)


@every_metric
def test_background_false_drops_channel_0(metric):
    preds, targets = pair()
    whole = metric(preds, targets, background=True)
    jax.tree.map(
        lambda got, all_: np.testing.assert_array_equal(got, all_[1:]),
        metric(preds, targets),
        whole,
    )


@every_metric
def test_batches_add_up(metric):
    preds, targets = pair()
    whole = metric(preds, targets, background=True)
    parts = [
        metric(preds[i], targets[i], background=True)
        for i in (slice(0, 1), slice(1, 3))
    ]
    jax.tree.map(
        # Sums of three numbers in another order.
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        _ratio.add(*parts),
        whole,
    )


@pytest.mark.parametrize("kind", ["position", "example", "class of example"])
def test_masks_equal_naive(kind):
    preds, targets = pair(seed=5)
    shape = dict(zip(["position", "example"], [(3, 9, 8), (3,)])).get(
        kind, (3, 1, 1, 3)
    )
    where = np.random.default_rng(2).random(shape) < 0.8
    for metric, value, options in (
        (_surface.hausdorff_distance, naive_hausdorff, dict(percentile=90.0)),
        (_surface.surface_dice, naive_surface_dice, dict(tolerance=1.0)),
    ):
        got = metric(preds, targets, where=where, background=True, **options)
        total, count = naive(value, preds, targets, where, **options)
        np.testing.assert_allclose(got.total, total, **CLOSE)
        np.testing.assert_array_equal(got.count, count)


@every_metric
def test_masked_padding_changes_nothing(metric):
    preds, targets = pair()
    width = ((0, 0), (1, 2), (3, 0))
    where = np.pad(np.ones((3, 9, 8), bool), width)
    padded = [
        np.pad(x, (*width, (0, 0)), constant_values=True) for x in (preds, targets)
    ]
    jax.tree.map(
        np.testing.assert_array_equal,
        metric(*padded, where=where),
        metric(preds, targets),
    )


@every_metric
def test_ignored_label_equals_mask(metric):
    truth = np.random.default_rng(0).integers(0, 3, (2, 6, 7))
    chosen = np.roll(truth, 1, 1)
    truth[:, 2:4, 1:5] = 255
    got = metric(chosen, truth, num_classes=3, ignore=255)
    masked = metric(chosen, truth, num_classes=3, where=truth != 255)
    jax.tree.map(np.testing.assert_array_equal, got, masked)
    assert np.any(got.total != metric(chosen, truth, num_classes=3).total)


def test_empty_masks():
    full = np.ones((1, 4, 5, 1), bool)
    empty = ~full
    for preds, targets, count, total in (
        (empty, empty, 0, 0.0),
        (full, empty, 0, 0.0),
        (empty, full, 0, 0.0),
        (full, full, 1, 0.0),
    ):
        got = _surface.hausdorff_distance(preds, targets, background=True)
        assert (got.count, got.total) == (count, total)
        dice = _surface.surface_dice(preds, targets, tolerance=9.0, background=True)
        assert dice.count == bool(np.any(preds) or np.any(targets))
        assert dice.total == count  # 1 where both are full, 0 where one is missed


def test_tolerance_is_reached_in_spite_of_rounding():
    """Whether 3 * 0.7 <= 2.1 is not left to the last digit."""
    preds, targets = np.zeros((2, 1, 30, 1), bool)
    preds[0, 0] = True
    for steps in range(1, 30):
        for spacing in (0.1, 0.7, 0.85, 1.2):
            moved = targets.copy()
            moved[0, steps] = True
            got = [
                _surface.surface_dice(
                    preds,
                    moved,
                    tolerance=spacing * steps * factor,
                    spacing=(spacing,),
                    background=True,
                ).value
                for factor in (1.0, 0.9999)
            ]
            assert got == [1.0, 0.0]


@every_metric
def test_jit_and_vmap_equal_eager(metric):
    preds, targets = pair()
    stacks = np.stack([preds, targets]), np.stack([targets, targets])
    expected = [metric(p, t) for p, t in zip(*stacks)]
    got = jax.jit(jax.vmap(metric))(*stacks)
    for k in range(2):
        jax.tree.map(
            # The same operations, fused.
            functools.partial(np.testing.assert_allclose, rtol=1e-6),
            jax.tree.map(lambda x, k=k: x[k], got),
            expected[k],
        )


def test_one_trace_for_all_percentiles_and_tolerances():
    preds, targets = pair()
    traces = []

    @jax.jit
    def both(percentile, tolerance):
        traces.append(None)
        return (
            _surface.hausdorff_distance(preds, targets, percentile=percentile),
            _surface.surface_dice(preds, targets, tolerance=tolerance),
        )

    values = [both(q, t) for q, t in ((95.0, 1.0), (50.0, 3.0))]
    assert len(traces) == 1
    assert np.all(values[0][0].total > values[1][0].total)
    assert np.all(values[0][1].total < values[1][1].total)


@every_metric
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_batch_split_over_devices(metric, kind):
    axis_type = dict(
        auto=jax.sharding.AxisType.Auto, explicit=jax.sharding.AxisType.Explicit
    )
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(axis_type[kind],))
    preds, targets = pair((4, 9, 8, 3))
    with jax.set_mesh(mesh):
        split = jax.device_put((preds, targets), NamedSharding(mesh, Spec("batch")))
        got = jax.jit(metric)(*split)
    jax.tree.map(
        # Sums over examples in another order.
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        got,
        metric(preds, targets),
    )


def test_float64_stays():
    preds, targets = pair()
    with jax.enable_x64(True):
        got = _surface.hausdorff_distance(
            jnp.array(preds), jnp.array(targets), background=True
        )
    total, _ = naive(naive_hausdorff, preds, targets)
    assert got.total.dtype == jnp.float64
    np.testing.assert_allclose(got.total, total, rtol=1e-14)  # a few float64 digits


MASK = np.ones((2, 4, 5, 3), bool)
MISUSE = {
    "shapes": (
        dict(targets=MASK[:, 1:]),
        ValueError,
        r"\(2, 4, 5, 3\).*\(2, 3, 5, 3\)",
    ),
    "probabilities": (
        dict(preds=MASK * 0.5, targets=MASK * 0.5),
        ValueError,
        r"expected bool.*float",
    ),
    "labels without num_classes": (
        dict(preds=np.ones((2, 4, 5), int), targets=np.ones((2, 4, 5), int)),
        ValueError,
        r"num_classes.*int.* \(2, 4, 5\)",
    ),
    "num_classes with masks": (
        dict(num_classes=3),
        ValueError,
        r"num_classes.*integer labels.*bool \(2, 4, 5, 3\)",
    ),
    "no spatial axis": (
        dict(preds=MASK[:, 0, 0], targets=MASK[:, 0, 0]),
        ValueError,
        r"preds.*spatial axis.*\(2, 3\)",
    ),
    "no channel left": (
        dict(preds=MASK[..., :1], targets=MASK[..., :1]),
        ValueError,
        "background=False drops channel 0 of 1",
    ),
    "mask that does not fit": (
        dict(where=np.ones((2, 3), bool)),
        ValueError,
        r"where.*\(2, 4, 5, 3\).*\(2, 3\)",
    ),
    "mask that is not bool": (dict(where=np.ones(2)), TypeError, "where.*bool.*float"),
    "ignore without labels": (
        dict(ignore=1),
        ValueError,
        r"ignore.*integer labels.*bool",
    ),
    "spacing": (dict(spacing=(1.0,)), ValueError, r"spacing.*\(2,\), got \(1,\)"),
}


@every_metric
@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_a_clear_error(metric, case):
    arguments, error, text = MISUSE[case]
    with pytest.raises(error, match=text):
        metric(**dict(preds=MASK, targets=MASK) | arguments)


def test_tolerance_of_another_length():
    with pytest.raises(ValueError, match=r"tolerance.*\(3,\).*got \(2,\)"):
        _surface.surface_dice(MASK, MASK, tolerance=np.ones(2))
