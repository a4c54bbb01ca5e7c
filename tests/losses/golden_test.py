"""Published values and formulas of others, with the conversion where one is needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.losses import _compiled

# MONAI's arrays are channel-first; here the channel is last.
ONE = [[[[1.0, -1.0], [-1.0, 1.0]]]]
ONE_TARGET = [[[[1.0, 0.0], [1.0, 1.0]]]]
TWO = [[[[1.0, -1.0], [-1.0, 1.0]]], [[[1.0, -1.0], [-1.0, 1.0]]]]
TWO_FLAT = [[[[1.0, 0.0], [-1.0, 1.0]]], [[[1.0, -1.0], [-1.0, 1.0]]]]
TWO_TARGET = [[[[1.0, 1.0], [1.0, 1.0]]], [[[1.0, 0.0], [1.0, 0.0]]]]
SOFT = [[[[0.3, 0.4], [0.7, 0.9]]], [[[1.0, 0.1], [0.5, 0.3]]]]
CLASSES = [[[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]], [[0.0] * 3, [0.0] * 3]]
LABELS = [[1, 0, 0], [1, 1, 0]]
SHARP = [[[0.0, 10.0, 10.0, 10.0], [10.0, 0.0, 0.0, 0.0]]]
HARD = [[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]

sigmoid, softmax = jax.nn.sigmoid, jax.nn.softmax
MONAI = [
    # loss, channel-first preds, targets, options, published mean over B and C
    ("dice", ONE, ONE_TARGET, dict(activation=sigmoid, smooth=1e-6), 0.307576),
    ("dice", TWO, TWO_TARGET, dict(activation=sigmoid, smooth=1e-4), 0.416657),
    ("dice", SOFT, SOFT, dict(smooth=1e-4), 0.307773),
    ("dice", CLASSES, LABELS, dict(activation=sigmoid, smooth=1e-4), 0.435050),
    ("dice", CLASSES, LABELS, dict(activation=softmax, smooth=1e-4), 0.383713),
    ("dice", ONE, ONE_TARGET, dict(activation=sigmoid, squared=True), 0.178337),
    ("dice", TWO, TWO_TARGET, dict(activation=jnp.tanh, smooth=1e-4), 0.999963),
    (
        "dice",
        TWO_FLAT,
        TWO_TARGET,
        dict(activation=jnp.tanh, smooth=1e-4, over_batch=True),
        0.774718,
    ),
    (
        "dice",
        TWO_FLAT,
        TWO_TARGET,
        dict(activation=jnp.tanh, smooth=(0.0, 1e-4), over_batch=True),
        0.774733,
    ),
    (
        "dice",
        TWO_FLAT,
        TWO_TARGET,
        dict(activation=jnp.tanh, smooth=(0.0, 1e-4)),
        0.840058,
    ),
    (
        "dice",
        CLASSES,
        LABELS,
        dict(
            activation=jax.nn.log_softmax, smooth=1e-4, class_weights=np.array([0, 1])
        ),
        -8.268515,
    ),
    # MONAI's `jaccard` doubles the ratio before it adds its smooth of 1e-5.
    ("iou", ONE, ONE_TARGET, dict(activation=sigmoid, smooth=5e-6), 0.470451),
    ("tversky", ONE, ONE_TARGET, dict(activation=sigmoid, smooth=1e-6), 0.307576),
    (
        "tversky",
        ONE,
        ONE_TARGET,
        dict(activation=sigmoid, smooth=1e-6, alpha=0.3, beta=0.7),
        0.358867,  # published as 0.3589
    ),
    (
        "tversky",
        ONE,
        ONE_TARGET,
        dict(activation=sigmoid, smooth=1e-6, alpha=0.7, beta=0.3),
        0.247366,
    ),
    ("tversky", CLASSES, LABELS, dict(activation=sigmoid, over_batch=True), 0.422979),
    (
        "tversky",
        HARD,
        [[0, 0, 1], [0, 1, 0]],
        dict(background=False, smooth=(0.0, 1e-3)),
        0.000999,
    ),
    (
        "generalized_dice",
        TWO,
        TWO_TARGET,
        dict(activation=sigmoid, smooth=1e-4),
        0.416597,
    ),
    (
        "generalized_dice",
        CLASSES,
        LABELS,
        dict(activation=sigmoid, smooth=1e-4),
        0.469964,
    ),
    (
        "generalized_dice",
        CLASSES,
        LABELS,
        dict(activation=softmax, smooth=1e-4),
        0.414507,
    ),
    (
        "generalized_dice",
        SHARP,
        [[1, 1, 0, 0]],
        dict(activation=softmax, smooth=0.0, weighting="simple"),
        0.250023,
    ),
    (
        "generalized_dice",
        SOFT,
        SOFT,
        dict(smooth=1e-4),
        0.307748,
    ),
    # Soft targets that are met: 0.
    ("dice", SOFT, SOFT, dict(smooth=1e-4, soft_targets=True), 0.0),
    ("generalized_dice", SOFT, SOFT, dict(smooth=1e-4, soft_targets=True), 0.0),
    ("iou", SOFT, SOFT, dict(smooth=1e-4, soft_targets=True), 0.0),
    (
        "generalized_dice",
        TWO,
        TWO_TARGET,
        dict(activation=jnp.tanh, smooth=1e-4),
        0.99970,
    ),
    (
        "generalized_dice",
        CLASSES,
        LABELS,
        dict(activation=jax.nn.log_softmax, smooth=1e-4),
        -0.097833,
    ),
    # No class is there: 0.
    (
        "generalized_dice",
        HARD,
        [[0, 0, 0], [0, 0, 0]],
        dict(background=False, smooth=1e-8),
        0.0,
    ),
]


def rarest(preds, targets):
    """[B] volume of the rarest class of an example that is there; 1 if none is."""
    if targets.shape != preds.shape:
        targets = np.stack([targets == c for c in range(preds.shape[-1])], -1)
    volumes = np.asarray(targets, float).reshape(len(preds), -1, preds.shape[-1]).sum(1)
    return np.array([min(v[v > 0], default=1.0) for v in volumes])


@pytest.mark.parametrize(("name", "preds", "targets", "options", "value"), MONAI)
def test_monai(name, preds, targets, options, value):
    preds, targets = np.moveaxis(np.float32(preds), 1, -1), np.array(targets)
    if np.issubdtype(targets.dtype, np.floating):
        targets = np.moveaxis(np.float32(targets), 1, -1)
    if name == "generalized_dice" and options.get("weighting") != "simple":
        # MONAI adds its smooth to sums that are divided by V²; here V is relative to
        # the rarest class of the example.
        options = options | dict(smooth=options["smooth"] * rarest(preds, targets) ** 2)
    loss = _compiled.whole(getattr(hw.losses, name))
    got = np.mean(loss(preds, targets, **options))
    # Published with 6 decimals.
    np.testing.assert_allclose(got, value, rtol=1e-5, atol=3e-6)


EPSILON = 1e-7  # Keras adds it below the ratio only
BINARY = (
    [[0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 0, 1, 1]],
    [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
)
NO_PROBABILITIES = ([[4, 1], [6, 1]], [[1, 2], [1, 2]])
VOLUMES = (
    [[[[0.0], [1.0]], [[0.0], [1.0]]], [[[0.4], [0.0]], [[0.0], [0.9]]]],
    [[[[1.0], [1.0]], [[0.0], [0.0]]], [[[1.0], [1.0]], [[0.0], [0.0]]]],
)
KERAS = [
    # loss, arrays, ratio per example (Keras' axis=(1, 2, 3)) or over all, options
    ("dice", BINARY, False, {}, 0.77777773),
    ("dice", NO_PROBABILITIES, False, {}, -0.55555546),
    ("dice", VOLUMES, True, {}, [0.5, 0.75757575]),
    ("tversky", BINARY, False, {}, 0.77777773),
    ("tversky", NO_PROBABILITIES, False, {}, -0.55555546),
    # Keras' alpha (0.2) weighs what is missed and its beta (0.8) false alarms, though
    # its documentation says the reverse: they change places.
    ("tversky", NO_PROBABILITIES, False, dict(alpha=0.8, beta=0.2), -0.29629636),
    ("tversky", BINARY, False, dict(alpha=0.8, beta=0.2), 0.7916667),
    ("tversky", VOLUMES, True, dict(alpha=0.8, beta=0.2), [0.5, 0.7222222]),
]


@pytest.mark.parametrize(("name", "arrays", "per_example", "options", "value"), KERAS)
def test_keras(name, arrays, per_example, options, value):
    """Keras' one ratio over everything is one example with one channel here."""
    preds, targets = (np.array(x, np.float32) for x in arrays)
    shape = (len(preds), -1, 1) if per_example else (1, -1, 1)
    got = _compiled.whole(getattr(hw.losses, name))(
        preds.reshape(shape), targets.reshape(shape), smooth=(0.0, EPSILON), **options
    )
    # Published with 8 digits of float32 arithmetic; eps alone is worth 1e-7.
    np.testing.assert_allclose(got.ravel(), np.ravel(value), rtol=5e-7)


class Copied:
    """The four losses that are often copied for Keras, for volumes [B, x, y, z, C]."""

    space = (1, 2, 3)

    def dice(self, t, p, smooth):
        both = (t * p).sum(self.space)
        total = t.sum(self.space) + p.sum(self.space)
        # The copies print `1-1-dice`, which is -dice.
        return 1 - ((2 * both + smooth) / (total + smooth)).mean(0).mean()

    def generalized_dice(self, t, p):
        axes = (0, *self.space)
        w = 1 / (t.sum(axes) ** 2 + 0.00001)
        above, below = (w * (t * p).sum(axes)).sum(), (w * (t + p).sum(axes)).sum()
        return 1 - 2 * above / below

    def tversky(self, t, p, alpha, beta):
        hit = (p * t).sum(self.space)
        false = alpha * (p * (1 - t)).sum(self.space)
        missed = beta * ((1 - p) * t).sum(self.space)
        return 1 - (hit / (hit + false + missed)).mean(0).mean()

    def iou(self, t, p, eps=1e-6):
        both = (t * p).sum(self.space)
        union = t.sum(self.space) + p.sum(self.space) - both
        return 1 - ((both + eps) / (union + eps)).mean(0).mean()


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    preds = rng.dirichlet(np.ones(3), (2, 3, 4, 2))
    targets = np.eye(3)[rng.integers(0, 3, (2, 3, 4, 2))]
    return targets, preds


# Float32 against float64, over 24 positions.
DIGITS = dict(rtol=2e-6)


@pytest.mark.parametrize("smooth", [0, 1])
def test_copied_dice(volumes, smooth):
    t, p = volumes
    got = jnp.mean(hw.losses.dice(jnp.array(p), jnp.array(t), smooth=smooth))
    np.testing.assert_allclose(got, Copied().dice(t, p, smooth), **DIGITS)


def test_copied_tversky(volumes):
    t, p = volumes
    got = hw.losses.tversky(jnp.array(p), jnp.array(t), alpha=0.3, beta=0.7, smooth=0.0)
    np.testing.assert_allclose(
        jnp.mean(got), Copied().tversky(t, p, 0.3, 0.7), **DIGITS
    )


def test_copied_iou(volumes):
    t, p = volumes
    got = jnp.mean(hw.losses.iou(jnp.array(p), jnp.array(t), smooth=1e-6))
    np.testing.assert_allclose(got, Copied().iou(t, p), **DIGITS)


def test_copied_generalized_dice(volumes):
    t, p = volumes
    got = hw.losses.generalized_dice(
        jnp.array(p), jnp.array(t), smooth=0.0, over_batch=True
    )
    # Its 1e-5 beside the squared volumes (100 and more) is worth 1e-7.
    np.testing.assert_allclose(got, Copied().generalized_dice(t, p), **DIGITS)


def test_copied_generalized_dice_lets_an_absent_class_outweigh_the_others(volumes):
    """The one difference: there its weight is 1e5, here the largest of all."""
    t, p = volumes
    t = t[..., [0, 1, 1]] * np.array([1, 1, 0])
    t[..., 1] = 1 - t[..., 0]
    loss = hw.losses.generalized_dice
    copied = Copied().generalized_dice(t, p)
    assert copied > 0.99
    got = loss(jnp.array(p), jnp.array(t), smooth=0.0, over_batch=True)
    volume = t.sum((0, 1, 2, 3))
    w = np.array([*1 / volume[:2] ** 2, 1 / min(volume[:2]) ** 2])
    both, total = (t * p).sum((0, 1, 2, 3)), (t + p).sum((0, 1, 2, 3))
    np.testing.assert_allclose(got, 1 - 2 * (w @ both) / (w @ total), **DIGITS)
    # The same with their weights is their value.
    theirs = loss(
        jnp.array(p),
        jnp.array(t),
        smooth=0.0,
        over_batch=True,
        weighting="uniform",
        class_weights=jnp.array(1 / (volume**2 + 1e-5)),
    )
    np.testing.assert_allclose(theirs, copied, **DIGITS)
