"""Hausdorff distance and surface Dice: a naive reference, masks, edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from headwise.metrics import _ratio
from headwise.metrics import _surface
from tests.losses import _compiled
from tests.metrics._surface_reference import naive
from tests.metrics._surface_reference import naive_hausdorff
from tests.metrics._surface_reference import naive_surface_dice
from tests.metrics._surface_reference import pair

hausdorff_distance = _compiled.whole(_surface.hausdorff_distance)
surface_dice = _compiled.whole(_surface.surface_dice)
EAGER = {
    "hausdorff": _surface.hausdorff_distance,
    "surface_dice": functools.partial(_surface.surface_dice, tolerance=1.0),
}
METRICS = {name: _compiled.whole(metric) for name, metric in EAGER.items()}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


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
        options = dict(percentile=np.array(percentile), spacing=spacing)
        got = hausdorff_distance(preds, targets, background=True, **options)
        total, count = naive(naive_hausdorff, preds, targets, **options)
        np.testing.assert_allclose(got.total, total, **CLOSE)
        np.testing.assert_array_equal(got.count, count)
        np.testing.assert_array_equal(count, [3, 1, 2])

    @pytest.mark.parametrize("tolerance", [0.0, 0.7, 1.4, 2.1, 3.0])
    def test_surface_dice(self, shape, spaced, tolerance):
        preds, targets = pair(shape)
        spacing = (0.7, 2.0, 1.3)[: len(shape) - 2] if spaced else None
        options = dict(tolerance=np.array(tolerance), spacing=spacing)
        got = surface_dice(preds, targets, background=True, **options)
        total, count = naive(naive_surface_dice, preds, targets, **options)
        np.testing.assert_allclose(got.total, total, **CLOSE)
        np.testing.assert_array_equal(got.count, count)
        np.testing.assert_array_equal(count, [3, 2, 3])


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
        (hausdorff_distance, naive_hausdorff, dict(percentile=90.0)),
        (surface_dice, naive_surface_dice, dict(tolerance=1.0)),
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
        got = hausdorff_distance(preds, targets, background=True)
        assert (got.count, got.total) == (count, total)
        dice = surface_dice(preds, targets, tolerance=9.0, background=True)
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


@pytest.mark.parametrize("metric", EAGER.values(), ids=EAGER)
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
        got = metric(*split)
    jax.tree.map(
        # Sums over examples in another order.
        functools.partial(np.testing.assert_allclose, rtol=1e-6),
        got,
        metric(preds, targets),
    )


def test_float64_stays():
    preds, targets = pair()
    with jax.enable_x64(True):
        got = hausdorff_distance(jnp.array(preds), jnp.array(targets), background=True)
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
    "spacing of 0": (dict(spacing=(1.0, 0.0)), ValueError, "spacing.*positive.*0"),
    "background that is no bool": (dict(background=1), TypeError, "background.*got 1"),
    "ignore that is no int": (
        dict(targets=np.ones((2, 4, 5), int), ignore=2.5),
        ValueError,
        r"ignore: expected an int, got 2\.5",
    ),
    "num_classes that is no int": (
        dict(num_classes=2.0),
        ValueError,
        r"num_classes: expected a positive int, got 2\.0",
    ),
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
    with pytest.raises(ValueError, match=r"tolerance: expected a number >= 0"):
        _surface.surface_dice(MASK, MASK, tolerance=-1.0)


@pytest.mark.parametrize("percentile", [-1, 101.0, "95", None, True])
def test_percentile_out_of_range(percentile):
    with pytest.raises(ValueError, match=r"percentile: expected a number in \[0, 100"):
        _surface.hausdorff_distance(MASK, MASK, percentile=percentile)
