"""Matthews, Wasserstein and focal region losses: published values and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise.losses import _matthews
from headwise.losses import _region
from headwise.losses import _unified_focal
from headwise.losses import _wasserstein
from tests.losses import _compiled

gwd = _compiled.whole(_wasserstein.generalized_wasserstein_dice)
mcc = _compiled.whole(_matthews.mcc)
unified_focal = _compiled.whole(_unified_focal.unified_focal)

# What MONAI 1.6.1 gives for these arrays (float64; channel-first there).
P = np.array([[0.9, 0.2, 0.4, 0.1], [0.8, 0.7, 0.3, 0], [0.1, 0.6, 0.5, 0.2]])
P = np.concatenate([P, [[0, 0.3, 0.9, 1.0]]]).astype(np.float32)[None, ..., None]
T = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1.0]])
T = T.astype(np.float32)[None, ..., None]
LOGITS = [[[1, 0, 2], [0, -1, 1]], [[0, 2, -1], [1, 0, 0]], [[-1, 1, 0], [2, 1, -2]]]
LOGITS = np.moveaxis(np.array(LOGITS, np.float32), 0, -1)[None]
LABELS = np.array([[[0, 1, 0], [2, 1, 1]]])
NEAR = np.array([[0, 1, 1], [1, 0, 0.5], [1, 0.5, 0]])
BINARY = np.array([[0.0, 1.0], [1.0, 0.0]])

# All tables: float32 sums of up to 16 terms, compared to 6 digits.
SIX = dict(rtol=2e-6)


def hard_masks(shape, seed=0, share=0.4):
    return (np.random.default_rng(seed).random(shape) < share).astype(np.float32)


def soft(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.95, shape).astype(np.float32)


# Matthews


def test_mcc_equals_monai():
    # MONAI's 1e-5 below a product of counts near 4000 is the seventh digit.
    np.testing.assert_allclose(mcc(P, T, smooth=0.0), [[0.406349]], **SIX)
    pair = np.concatenate([P, P**2]), np.concatenate([T, 1 - T])
    got = mcc(*pair, over_batch=True, smooth=0.0)
    np.testing.assert_allclose(got, [1.0077726], **SIX)


def test_mcc_is_0_perfect_1_unrelated_2_inverted():
    t = hard_masks((2, 40, 3))
    # One rounding of a root and a ratio near 1.
    np.testing.assert_allclose(mcc(t, t), 0.0, atol=3e-7)
    np.testing.assert_allclose(mcc(0 * t + 0.3, t, smooth=0.0), 1.0, atol=3e-7)
    np.testing.assert_allclose(mcc(1 - t, t, smooth=0.0), 2.0, rtol=3e-7)


def test_mcc_is_that_of_the_correlation_of_hard_masks():
    p, t = hard_masks((1, 50, 1), 1), hard_masks((1, 50, 1), 2)
    expected = 1 - np.corrcoef(p.ravel(), t.ravel())[0, 1]
    np.testing.assert_allclose(mcc(p, t, smooth=0.0), expected, rtol=1e-6)


def test_mcc_keeps_digits_for_a_rare_class():
    # 3 of a million positions; one is found, one is wrong. 1 - T and 1 - P are 1 to
    # the last digits of float32, so counts must not be differences of sums.
    t = np.zeros((1, 2**20, 1), np.float32)
    p = t.copy()
    t[0, [5, 10, 15]] = 1
    p[0, [5, 6]] = 1
    tp, fp, fn, tn = 1, 1, 2, 2**20 - 4
    root = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    for one, other in ((p, t), (1 - p, 1 - t)):
        got = mcc(one, other, smooth=0.0)
        # Sums of a million zeros and ones: exact; a few roundings after them.
        np.testing.assert_allclose(got, 1 - (tp * tn - fp * fn) / root, rtol=1e-6)


def test_mcc_of_an_absent_class_is_1_unless_perfect():
    t = np.zeros((1, 6, 1), np.float32)
    np.testing.assert_array_equal(mcc(t, t), 0.0)
    np.testing.assert_array_equal(mcc(t + 0.2, t), 1.0)
    np.testing.assert_array_equal(mcc(t + 1, t + 1), 0.0)
    grads = jax.grad(lambda p: mcc(p, t)[0, 0])(t + 0.2)
    np.testing.assert_array_equal(grads, 0.0)


def test_mcc_has_a_bounded_gradient_where_nothing_is_predicted():
    t = hard_masks((1, 20, 1))
    grads = jax.grad(lambda p: mcc(p, t)[0, 0])(np.zeros_like(t))
    assert np.all(np.abs(grads) < 1e2)
    assert np.all(grads[t == 1] < 0)  # more of the class is better


@pytest.mark.parametrize("r", [0.0, 1.0])
def test_sensitivity_and_specificity_alone_are_mean_squared_errors(r):
    p, t = soft((1, 30, 1)), hard_masks((1, 30, 1))
    expected = np.mean((p - t)[t == r] ** 2)
    got = _matthews.sensitivity_specificity(p, t, sensitivity_weight=r)
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # sums of 30 terms


# Wasserstein

SQUARE = np.pad(np.ones((2, 2), int), 1)[None]
TARGETS = {
    "2-D": SQUARE,
    "3-D": np.stack([SQUARE[0]] * 3)[None],
    "empty": np.zeros((1, 4, 4), int),
}


@pytest.mark.parametrize("weighting", ["default", "simple"])
@pytest.mark.parametrize("case", TARGETS)
def test_wasserstein_of_good_and_poor_logits_as_monai_publishes(case, weighting):
    labels = TARGETS[case]
    options = dict(distances=BINARY, weighting=weighting, activation=jax.nn.softmax)
    for target, expected in ((labels, 0.0), (1 - labels, 1.0)):
        logits = 1000.0 * jax.nn.one_hot(target, 2)
        got = gwd(logits, labels, **options)
        np.testing.assert_allclose(got, expected, atol=5e-4)  # published to 3 places


@pytest.mark.parametrize(
    ("weighting", "expected"), [("default", 0.29785746), ("simple", 0.18900460)]
)
def test_wasserstein_equals_monai(weighting, expected):
    options = dict(distances=NEAR, weighting=weighting, activation=jax.nn.softmax)
    np.testing.assert_allclose(gwd(LOGITS, LABELS, **options), [expected], **SIX)
    # As in MONAI, the scale of the distances does not matter.
    options["distances"] = 7 * NEAR
    np.testing.assert_allclose(gwd(LOGITS, LABELS, **options), [expected], **SIX)


@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_wasserstein_of_two_classes_is_dice_of_the_foreground(smooth):
    t = hard_masks((3, 25, 1))
    t = np.concatenate([1 - t, t], -1)
    p = jax.nn.softmax(np.random.default_rng(0).normal(size=t.shape))
    got = gwd(p, t, distances=BINARY, smooth=smooth)
    expected = _region.dice(p, t, background=False, smooth=smooth)[:, 0]
    np.testing.assert_allclose(got, expected, rtol=3e-6)  # sums in another order


def test_wasserstein_forgives_near_classes():
    labels = jnp.array([[0, 1, 1, 2]])
    near, far = jnp.array([[0, 1, 2, 2]]), jnp.array([[0, 1, 0, 2]])
    values = [
        gwd(jax.nn.one_hot(p, 3), labels, distances=NEAR, smooth=0.0)[0]
        for p in (near, far)
    ]
    # 1 - 2 * 2.5 / (5 + 0.5) and 1 - 2 * 2 / (4 + 1)
    np.testing.assert_allclose(values, [1 / 11, 1 / 5], rtol=1e-6)


def test_wasserstein_misuse():
    p, t = jnp.ones((2, 5, 3)) / 3, jnp.zeros((2, 5), int)
    with pytest.raises(ValueError, match=r"weighting.*simple.*'square'"):
        gwd(p, t, distances=NEAR, weighting="square")
    with pytest.raises(ValueError, match=r"distances.*\(3, 3\).*\(2, 2\)"):
        gwd(p, t, distances=BINARY)


# Focal Tversky


def test_focal_tversky_is_a_power_of_tversky():
    p, t = soft((2, 30, 3)), hard_masks((2, 30, 3))
    options = dict(alpha=0.3, beta=0.7)
    base = np.array(_region.tversky(p, t, **options))
    for gamma in (1.0, 0.75, 2.0):
        got = _unified_focal.focal_tversky(p, t, gamma=gamma, **options)
        np.testing.assert_allclose(got, base**gamma, rtol=1e-6)  # one power


@pytest.mark.parametrize("gamma", [0.5, 0.75, 2.0])
def test_focal_tversky_of_0_passes_no_gradient(gamma):
    t = hard_masks((2, 30, 3))

    @jax.jit
    def gradients(p, g):
        def total(p, g):
            loss = _unified_focal.focal_tversky(p, t, gamma=g)
            return jnp.sum(loss), loss

        return jax.grad(total, (0, 1), has_aux=True)(p, g)

    (one, other), values = gradients(t, gamma)
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(one, 0.0)
    np.testing.assert_array_equal(other, 0.0)


# Unified focal


def parts(p, t, **options):
    """The cross entropy and the Tversky part."""
    return [unified_focal(p, t, weight=weight, **options) for weight in (1.0, 0.0)]


def test_unified_focal_of_a_perfect_mask_as_monai_publishes():
    t = np.broadcast_to(np.eye(2, dtype=np.float32)[None, ..., None], (2, 2, 2, 1))
    np.testing.assert_allclose(unified_focal(t, t), 0.0, atol=1e-4)


def test_unified_focal_equals_monai():
    # MONAI's cross entropy is a mean over the two classes, half of ours; its smooth is
    # 1e-7 and it clips p = 0 to that, five digits of the sums.
    cross_entropy, region = parts(P, T, smooth=1e-7)
    np.testing.assert_allclose(cross_entropy / 2, [0.0496472808], **SIX)
    np.testing.assert_allclose(region, [0.3279346271], **SIX)
    got = unified_focal(P, T)
    np.testing.assert_allclose(got, (cross_entropy + region) / 2, rtol=1e-5)


@pytest.mark.parametrize("asymmetric", [True, False])
def test_unified_focal_at_gamma_0_is_cross_entropy_and_tversky(asymmetric):
    p = jax.nn.softmax(np.random.default_rng(0).normal(size=(2, 30, 3)))
    labels = np.random.default_rng(1).integers(0, 3, (2, 30))
    options = dict(gamma=0.0, delta=0.7, asymmetric=asymmetric)
    cross_entropy, region = parts(p, labels, **options)
    of_label = np.take_along_axis(np.array(p), labels[..., None], -1)[..., 0]
    expected = -np.mean(np.where(labels == 0, 0.3, 0.7) * np.log(of_label), -1)
    np.testing.assert_allclose(cross_entropy, expected, rtol=1e-5)  # float32 logs
    tversky = _region.tversky(p, labels, alpha=0.3, beta=0.7)
    np.testing.assert_allclose(region, np.mean(tversky, -1), rtol=1e-6)


def test_symmetric_unified_focal_has_a_power_for_each_class():
    p = jax.nn.softmax(np.random.default_rng(0).normal(size=(2, 30, 3)))
    labels = np.random.default_rng(1).integers(0, 3, (2, 30))
    _, region = parts(p, labels, gamma=0.2, asymmetric=False)
    expected = _unified_focal.focal_tversky(p, labels, alpha=0.4, beta=0.6, gamma=0.8)
    np.testing.assert_allclose(region, np.mean(expected, -1), rtol=1e-6)


@pytest.mark.parametrize("activation", [None, jax.nn.sigmoid])
def test_unified_focal_of_one_channel_is_that_of_two(activation):
    x = np.random.default_rng(0).normal(size=(2, 6, 1)).astype(np.float32)
    t = hard_masks(x.shape)
    where = hard_masks((2, 6), 3).astype(bool)
    p = jax.nn.sigmoid(x)
    got = unified_focal(
        p if activation is None else x, t, where=where, activation=activation
    )
    two = np.concatenate([1 - p, p], -1), np.concatenate([1 - t, t], -1)
    expected = unified_focal(*two, where=where)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # two forms of a sigmoid


def test_unified_focal_of_confident_wrong_logits_has_a_gradient():
    x = jnp.array([[[60.0, -60.0], [-60.0, 60.0]]])  # p = 1e-52, far below the clip
    labels = jnp.array([[1, 0]])

    def loss(x):
        return unified_focal(x, labels, weight=1.0, activation=jax.nn.softmax)[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(x)
    # (0.6 * 120 + 0.4 * 120) / 2; the slope is that of the cross entropy.
    np.testing.assert_allclose(value, 60.0, rtol=1e-6)
    np.testing.assert_allclose(grads, [[[0.3, -0.3], [-0.2, 0.2]]], rtol=1e-5)


def test_unified_focal_has_finite_derivatives_at_certain_probabilities():
    t = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    for order in (jax.grad, lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x)))):
        for gamma in (0.0, 0.5):
            slope = order(lambda p, g=gamma: unified_focal(p, t, gamma=g)[0])
            grads = jax.jit(slope)(t)
            assert np.all(np.isfinite(grads))
