"""Boundary and Hausdorff loss: published values, conventions, edges.

What they share with all other losses is in contract_test.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from headwise.losses import _boundary
from tests.losses import _boundary_reference as reference
from tests.losses import _compiled

boundary = _compiled.whole(_boundary.boundary)
hausdorff = _compiled.whole(_boundary.hausdorff)
LOSSES = {"boundary": boundary, "hausdorff": hausdorff}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def blobs(seed, shape, share=0.4):
    """A mask [*shape] with connected parts."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in range(len(shape)):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > np.quantile(noise, 1 - share)


def batch(seed=0, shape=(7, 6), channels=2, examples=2):
    """Probabilities and one-hot targets [B, *S, C], all masks with a boundary."""
    masks = [
        [blobs(seed + 10 * b + c, shape) for c in range(channels)]
        for b in range(examples)
    ]
    targets = np.moveaxis(np.array(masks), 1, -1).astype(np.float32)
    noise = np.random.default_rng(seed).uniform(size=targets.shape)
    return (0.6 * noise + 0.4 * targets).astype(np.float32), targets


SQUARE = [[1.0, -1.0], [-1.0, 1.0]]
SQUARE_0 = [[1.0, 0.0], [-1.0, 1.0]]
ONE_OUT = [[1.0, 0.0], [1.0, 1.0]]
DIAGONAL = [[1.0, 0.0], [0.0, 1.0]]
LEFT = [[1.0, 0.0], [1.0, 0.0]]
ALL = [[1.0, 1.0], [1.0, 1.0]]
CUBE = [[[1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [-1.0, 1.0]]]
CUBE_TARGET = [[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]
LINES = [[[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]], [[0.0] * 3, [0.0] * 3]]
LINE_TARGETS = [[[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]]

# MONAI, tests/losses/test_hausdorff_loss.py: predictions and targets [B, C, *S],
# activation, background, how the values are reduced, expected. Rows that differ there
# in the device, in a trailing axis of length 1 or in `batch` alone stand here once.
PUBLISHED = {
    "2-D": ([[SQUARE]], [[ONE_OUT]], "sigmoid", True, "mean", 0.509329),
    "3-D with one slice": (
        [[[SQUARE]]],
        [[[ONE_OUT]]],
        "sigmoid",
        True,
        "mean",
        0.509329,
    ),
    "3-D": ([[CUBE]], [[CUBE_TARGET]], "sigmoid", True, "mean", 0.375718),
    "two classes": (
        [[SQUARE, SQUARE]],
        [[ONE_OUT, DIAGONAL]],
        "sigmoid",
        True,
        "mean",
        0.326994,
    ),
    "a full target": (
        [[SQUARE], [SQUARE]],
        [[ALL], [LEFT]],
        "sigmoid",
        True,
        "mean",
        0.455082,
    ),
    "no background": (
        [[SQUARE, SQUARE]],
        [[ONE_OUT, DIAGONAL]],
        "sigmoid",
        False,
        "mean",
        0.144659,
    ),
    "not reduced": (
        LINES,
        LINE_TARGETS,
        "sigmoid",
        True,
        "none",
        [[0.407765, 0.407765], [0.5, 0.5]],
    ),
    "softmax": (LINES, LINE_TARGETS, "softmax", True, "mean", 0.357016),
    "softmax, sum": (LINES, LINE_TARGETS, "softmax", True, "sum", 1.428062),
    "tanh": ([[SQUARE], [SQUARE]], [[ALL], [LEFT]], "tanh", True, "mean", 1.870039),
    "log-softmax": (LINES, LINE_TARGETS, "log_softmax", True, "mean", 4.366613),
    "tanh with a 0": (
        [[SQUARE_0], [SQUARE]],
        [[ALL], [LEFT]],
        "tanh",
        True,
        "mean",
        1.607137,
    ),
}
ACTIVATIONS = dict(
    sigmoid=jax.nn.sigmoid,
    softmax=jax.nn.softmax,
    log_softmax=jax.nn.log_softmax,
    tanh=jnp.tanh,
)
REDUCE = dict(mean=jnp.mean, sum=jnp.sum, none=lambda x: x)


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_hausdorff_values(case):
    preds, targets, activation, background, reduction, expected = PUBLISHED[case]
    values = hausdorff(
        np.moveaxis(np.float32(preds), 1, -1),
        np.moveaxis(np.float32(targets), 1, -1),
        activation=ACTIVATIONS[activation],
        background=background,
    )
    # Six decimals are printed; MONAI's own tolerance.
    np.testing.assert_allclose(REDUCE[reduction](values), expected, rtol=1e-5)


@pytest.mark.parametrize("case", ["2-D", "3-D", "no background", "not reduced"])
def test_published_logarithms(case):
    """Where one value is one example and class, MONAI's log is ours."""
    preds, targets, activation, background, _, expected = PUBLISHED[case]
    values = hausdorff(
        np.moveaxis(np.float32(preds), 1, -1),
        np.moveaxis(np.float32(targets), 1, -1),
        activation=ACTIVATIONS[activation],
        background=background,
        log=True,
    )
    expected = np.broadcast_to(np.log(np.array(expected) + 1), values.shape)
    np.testing.assert_allclose(values, expected, rtol=1e-5)  # as above


def test_gradient_of_boundary_is_the_signed_distance():
    mask = jnp.array(
        [
            [0, 0, 0, 0, 0],
            [0, 1, 1, 1, 0],
            [0, 1, 1, 1, 0],
            [0, 1, 1, 1, 0],
        ]
    )
    r = np.sqrt(2.0)
    phi = [
        [r, 1.0, 1.0, 1.0, r],
        [1.0, 0.0, 0.0, 0.0, 1.0],
        [1.0, 0.0, -1.0, 0.0, 1.0],
        # The lower edge of the image is no boundary.
        [1.0, 0.0, -1.0, 0.0, 1.0],
    ]
    targets = mask[None, ..., None].astype(jnp.float32)
    grads = jax.grad(lambda p: boundary(p, targets)[0, 0])(0.3 * targets)
    grads = np.asarray(grads)
    # One rounding of the root and one of the mean over 20 positions.
    np.testing.assert_allclose(grads[0, ..., 0], np.array(phi) / 20, rtol=3e-7)


def test_gradient_of_hausdorff_takes_distances_as_constants():
    preds, targets = batch(3)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(_boundary.hausdorff(p, targets))))(preds)
    grads = np.asarray(grads)
    for b, c in np.ndindex(2, 2):
        p, t = preds[b, ..., c], targets[b, ..., c]
        everywhere = np.ones(p.shape, bool)
        squares = sum(
            sum(reference.two_sides(mask, everywhere)) ** 2 for mask in (p > 0.5, t > 0)
        )
        # Rounding of float32, a few operations.
        np.testing.assert_allclose(
            grads[b, ..., c], 2 * (p - t) * squares / p.size, rtol=1e-5, atol=1e-7
        )


def test_boundary_is_least_for_the_target_and_its_inner_rim():
    """phi < 0 at the depth of the target, 0 at its rim, > 0 outside."""
    _, targets = batch(1, (12, 12))
    boundary = _compiled.whole(_boundary.boundary)
    least = boundary(targets, targets)
    assert np.all(least < 0)
    for seed in range(5):
        preds = np.random.default_rng(seed).uniform(size=targets.shape)
        values = boundary(preds.astype(np.float32), targets)
        assert np.all(values > least)
    more = np.maximum(targets, np.roll(targets, 1, 1))
    assert np.all(boundary(more, targets) > least)


def test_a_far_error_costs_more_than_a_near_one():
    targets = np.zeros((2, 9, 1), np.float32)
    targets[:, 1] = 1.0
    preds = targets.copy()
    preds[0, 3], preds[1, 8] = 1.0, 1.0
    for loss in LOSSES.values():
        near, far = loss(preds, targets)[:, 0]
        assert near < far


@every_loss
@pytest.mark.parametrize("shape", [(9,), (6, 5), (4, 3, 5)], ids=["1-D", "2-D", "3-D"])
def test_equals_reference_with_spacing(loss, shape):
    preds, targets = batch(5, shape)
    spacing = (0.7, 2.0, 1.3)[: len(shape)]
    where = np.random.default_rng(0).random((2, *shape)) < 0.8
    options = dict(spacing=spacing, where=where)
    expected = getattr(reference, loss.__name__)(preds, targets, **options)
    # float32 against float64, sums of up to 60 terms of both signs.
    np.testing.assert_allclose(
        _compiled.whole(loss)(preds, targets, **options),
        expected,
        rtol=1e-5,
        atol=1e-6,
    )


@every_loss
def test_masked_padding_changes_nothing(loss):
    preds, targets = batch(2)
    where = np.random.default_rng(1).random((2, 7, 6)) < 0.8
    width = ((0, 0), (1, 2), (3, 0))
    padded = [np.pad(x, (*width, (0, 0)), constant_values=1) for x in (preds, targets)]
    got = loss(*padded, where=np.pad(where, width))
    # The same sums with zeros around them.
    np.testing.assert_allclose(got, loss(preds, targets, where=where), rtol=1e-5)


@every_loss
def test_scale_of_the_spacing(loss):
    preds, targets = batch(4)
    power = dict(boundary=1.0, hausdorff=1.5)[loss.__name__]
    options = dict(alpha=1.5) if loss is hausdorff else {}
    ones = loss(preds, targets, spacing=(1.0, 1.0), **options)
    np.testing.assert_array_equal(ones, loss(preds, targets, **options))
    for scale in (0.1, 3.0):
        got = loss(preds, targets, spacing=(scale, scale), **options)
        # Squares and roots of scaled float32 numbers; terms of both signs.
        np.testing.assert_allclose(got, ones * scale**power, rtol=1e-5, atol=1e-6)


@every_loss
@pytest.mark.parametrize("value", [0.0, 1.0], ids=["empty", "full"])
def test_target_without_a_boundary(loss, value):
    preds, targets = batch(6)
    targets[0, ..., 0] = value
    got = loss(preds, targets)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(loss(p, targets))))(preds)
    assert np.all(np.isfinite(gradient))
    if loss is boundary:
        assert got[0, 0] == 0
        assert not np.any(gradient[0, ..., 0])
    else:  # the distances of the prediction are left
        assert got[0, 0] > 0
        assert np.any(gradient[0, ..., 0])
    constant = np.full_like(preds, value)
    np.testing.assert_array_equal(loss(constant, constant), 0.0)
    assert np.all(loss(np.full_like(preds, 0.3), targets)[0, 0] == 0)


def test_gradient_of_alpha_is_finite_without_a_boundary():
    preds, targets = batch(6)
    targets[0] = 0.0

    def total(alpha, preds):
        return jnp.sum(_boundary.hausdorff(preds, targets, alpha=alpha))

    assert np.isfinite(jax.grad(total)(2.0, preds))
    assert jax.grad(total)(2.0, np.zeros_like(preds)) > 0  # targets[1] has a boundary


@every_loss
def test_no_gradient_to_spacing(loss):
    preds, targets = batch(7)
    gradient = jax.grad(lambda s: jnp.sum(loss(preds, targets, spacing=s)))
    np.testing.assert_array_equal(gradient(jnp.array([1.0, 2.0])), 0.0)


def test_soft_targets_are_cut_at_one_half():
    preds, targets = batch(8)
    soft = np.where(targets > 0, np.float32(0.51), np.float32(0.5))
    np.testing.assert_array_equal(
        _boundary.boundary(preds, soft), _boundary.boundary(preds, targets)
    )


@every_loss
def test_ignored_label_equals_mask(loss):
    preds, _ = batch(9, channels=3)
    labels = np.random.default_rng(0).integers(0, 3, preds.shape[:-1])
    labels[0, 2:4] = 255
    np.testing.assert_array_equal(
        loss(preds, labels, ignore=255), loss(preds, labels, where=labels != 255)
    )
    assert np.any(loss(preds, labels, ignore=255) != loss(preds, labels))


def test_mask_of_one_class_leaves_the_distances_of_others_alone():
    preds, targets = batch(10)
    where = np.ones(preds.shape, bool)
    where[:, 2:5, :, 0] = False
    # Operation by operation: equal to the bit.
    for loss in (_boundary.boundary, _boundary.hausdorff):
        got, whole = loss(preds, targets, where=where), loss(preds, targets)
        np.testing.assert_array_equal(got[:, 1], whole[:, 1])
        assert np.all(got[:, 0] != whole[:, 0])


@every_loss
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_batch_split_over_devices(loss, kind):
    axis_type = dict(
        auto=jax.sharding.AxisType.Auto, explicit=jax.sharding.AxisType.Explicit
    )
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(axis_type[kind],))
    preds, targets = batch(11, examples=4)
    where = np.random.default_rng(0).random((4, 7, 6)) < 0.8
    split = functools.partial(jax.device_put, device=NamedSharding(mesh, Spec("batch")))
    gradient = jax.jit(
        jax.grad(lambda p, t, w: jnp.sum(loss(p, t, where=w)), argnums=0)
    )
    with jax.set_mesh(mesh):
        got = gradient(split(preds), split(targets), split(where))
        assert len(got.sharding.device_set) == 4
    # The same operations in other programs.
    np.testing.assert_allclose(
        got, gradient(preds, targets, where), rtol=1e-6, atol=1e-7
    )


@every_loss
def test_errors_name_the_argument(loss):
    preds, targets = batch()
    with pytest.raises(ValueError, match=r"preds.*spatial axis.*\(2, 3\)"):
        loss(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"spacing.*\(2,\), got \(3,\)"):
        loss(preds, targets, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"spacing.*\(2,\), got \(\)"):
        loss(preds, targets, spacing=1.0)
