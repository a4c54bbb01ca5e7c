"""Losses of single positions and compounds against MONAI's, PyTorch's and optax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.losses import _compiled

losses = _compiled.losses
# MONAI's arrays are channel-first, published with 4 to 6 digits.
FOCAL_LOGITS = [[[[1.0, 1.0], [0.5, 0.0]]] * 3]
FOCAL_LABELS = [[[0, 1], [2, 0]]]
HARD = [[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]
HUNDRED = [[[100.0, 100.0, 0.0], [0.0, 0.0, 1.0]], HARD[1]]
HARD_LABELS = [[0, 0, 1], [0, 1, 0]]
BINARY = [[[0.8, 0.6, 0.0]], [[0.0, 0.0, 0.9]]]
BINARY_TARGET = [[[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]]
LEVELS = [
    [[[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]],
    [[[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]],
    [[[[1.0], [0.0]], [[1.0], [0.0]]]],
]
LEVEL_LABELS = [[[1, 0, 1], [0, 1, 0]]]


def last(x):
    """Channels last."""
    return jnp.array(np.moveaxis(np.array(x), 1, -1))


class TestMonaiFocal:
    logits, labels = last(FOCAL_LOGITS), jnp.array(FOCAL_LABELS)

    @pytest.mark.parametrize(("alpha", "value"), [(None, 0.34959), (0.8, 0.08423)])
    def test_sigmoid(self, alpha, value):
        got = losses.binary_focal(self.logits, self.labels, alpha=alpha)
        np.testing.assert_allclose(jnp.mean(got), value, atol=5e-6)

    def test_sigmoid_without_background(self):
        got = losses.binary_focal(self.logits, self.labels)[..., 1:]
        np.testing.assert_allclose(jnp.mean(got), 0.36498, atol=5e-6)

    def test_every_entry(self):
        got = losses.binary_focal(self.logits, self.labels)
        expected = [
            [[0.02266, 0.70187], [0.37741, 0.17329]],
            [[0.70187, 0.02266], [0.37741, 0.17329]],
            [[0.70187, 0.70187], [0.06757, 0.17329]],
        ]
        np.testing.assert_allclose(got, last([expected]), atol=6e-6)

    def test_every_entry_with_class_weights(self):
        weights = jnp.array([0.5, 0.1, 0.2])
        got = losses.binary_focal(self.logits, self.labels, class_weights=weights)
        expected = [
            [[0.01133, 0.35093], [0.18871, 0.08664]],
            [[0.07019, 0.00227], [0.03774, 0.01733]],
            [[0.14037, 0.14037], [0.01352, 0.03466]],
        ]
        np.testing.assert_allclose(got, last([expected]), atol=6e-6)

    @pytest.mark.parametrize(("alpha", "value"), [(None, 0.16276), (0.8, 0.08138)])
    def test_softmax(self, alpha, value):
        got = losses.focal(self.logits, self.labels, alpha=alpha)
        # MONAI means over the three classes too, of which one has a value.
        np.testing.assert_allclose(jnp.mean(got) / 3, value, atol=5e-6)


class TestMonaiDiceCE:
    """There Dice gets the inputs as they are and cross entropy their softmax.

    That is a mixture here; `dice_ce` applies its activation for both.
    """

    def test_without_activation(self):
        preds, labels = last(HARD), jnp.array(HARD_LABELS)
        parts = {"dice": (hw.losses.dice, 1.0), "ce": (hw.losses.cross_entropy, 1.0)}
        got = jnp.mean(jax.jit(hw.losses.mix(parts))(preds, labels))
        np.testing.assert_allclose(got, np.log(1 + np.e) - 1, rtol=1e-6)
        np.testing.assert_allclose(got, 0.3133, atol=5e-5)  # as published

    @pytest.mark.parametrize(("ce_weight", "value"), [(1.0, 0.2088), (2.0, 0.4176)])
    def test_background_stays_in_the_cross_entropy(self, ce_weight, value):
        preds, labels = last(HUNDRED), jnp.array(HARD_LABELS)
        dice = functools.partial(
            hw.losses.dice, background=False, class_weights=jnp.ones(2)
        )
        ce = functools.partial(hw.losses.cross_entropy, class_weights=jnp.ones(2))
        parts = {"dice": (dice, 1.0), "ce": (ce, ce_weight)}
        got = jnp.mean(jax.jit(hw.losses.mix(parts))(preds, labels))
        # Published with four digits; the second is the first, doubled.
        np.testing.assert_allclose(got, value, atol=5e-5 * ce_weight)

    def test_class_weights_as_pytorch_means_them(self):
        """Its mean is Σ v ce / Σ v[labels] over the batch."""
        preds, labels = last(HUNDRED), jnp.array(HARD_LABELS)
        weights = jnp.array([0.0, 1.0])
        values = losses.cross_entropy(preds, labels, class_weights=weights)
        got = jnp.sum(values) / jnp.sum(2 * weights[labels])  # v = w / mean(w)
        np.testing.assert_allclose(got, 0.3133, atol=5e-5)

    def test_sigmoid(self):
        preds, targets = last(BINARY), last(BINARY_TARGET)
        # MONAI's weight of a lone channel is the weight of its positives only.
        dice = functools.partial(hw.losses.dice, activation=jax.nn.sigmoid)
        ce = functools.partial(hw.losses.binary_cross_entropy, positive_weight=0.5)
        got = hw.losses.mix({"dice": (dice, 1.0), "ce": (ce, 1.0)})(preds, targets)
        np.testing.assert_allclose(jnp.mean(got), 1.445239, atol=2e-6)

    def test_sigmoid_of_several_channels_gets_binary_cross_entropy(self):
        """In MONAI it still gets softmax cross entropy."""
        preds, labels = last(HARD), jnp.array(HARD_LABELS)
        got = losses.dice_ce(preds, labels, activation=jax.nn.sigmoid, dice_weight=0.0)
        hot = jax.nn.one_hot(labels, 2)
        expected = optax.losses.sigmoid_binary_cross_entropy(preds, hot).mean((1, 2))
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    def test_softmax_gets_the_softmax_focal_loss(self):
        """In MONAI's DiceFocalLoss it still gets the sigmoid one."""
        preds, labels = last(HARD), jnp.array(HARD_LABELS)
        got = losses.dice_focal(preds, labels, dice_weight=0.0)
        expected = losses.focal(preds, labels).mean(1)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


class TestMonaiDeepSupervision:
    labels = jnp.array(LEVEL_LABELS)

    def loss(self, *names):
        return hw.losses.mix({name: (getattr(hw.losses, name), 1.0) for name in names})

    @pytest.mark.parametrize(
        ("parts", "levels", "weights", "value"),
        [
            (("dice", "cross_entropy"), 1, None, 0.606557),
            (("dice", "cross_entropy"), 3, None, 1.78144),
            (("dice", "cross_entropy"), 3, [1.0, 1.0, 1.0], 3.5529),
            (("dice", "cross_entropy"), 3, [1.0, 0.5, 0.5], 2.07973),
            (("dice", "cross_entropy"), 3, [0.1, 0.2, 0.3], 0.76924),
            (("dice",), 1, None, 0.166666),
            (("dice",), 3, None, 0.666665),
            (("dice", "binary_focal"), 1, None, 0.32124),
            (("dice", "binary_focal"), 3, None, 1.06452),
        ],
    )
    def test_published(self, parts, levels, weights, value):
        preds = [last(x) for x in LEVELS[:levels]]
        deep = hw.losses.deep_supervision(self.loss(*parts), weights)
        np.testing.assert_allclose(
            jax.jit(deep)(preds, self.labels)[0], value, atol=2e-5
        )

    def test_masked_labels_stay_masked_at_every_level(self):
        ce = functools.partial(hw.losses.cross_entropy, ignore=255)
        deep = hw.losses.deep_supervision(ce)
        rng = np.random.default_rng(0)
        preds = [jnp.array(rng.normal(size=(2, n, n, 3))) for n in (8, 4, 2)]
        labels = rng.integers(0, 3, (2, 8, 8))
        labels[0, :4] = 255
        where = labels != 255
        masked = jax.jit(hw.losses.deep_supervision(hw.losses.cross_entropy))
        expected = masked(preds, jnp.where(where, labels, 0), where=jnp.array(where))
        np.testing.assert_allclose(
            jax.jit(deep)(preds, jnp.array(labels)), expected, rtol=1e-6
        )

    def test_misuse(self):
        deep = hw.losses.deep_supervision(hw.losses.dice, [1.0])
        with pytest.raises(TypeError, match=r"preds: expected a sequence"):
            deep(jnp.ones((1, 4, 2)), jnp.ones((1, 4), int))
        with pytest.raises(ValueError, match="weights: expected one for each of 2"):
            deep([jnp.ones((1, 4, 2)), jnp.ones((1, 2, 2))], jnp.ones((1, 4), int))
        deep = hw.losses.deep_supervision(hw.losses.dice)
        with pytest.raises(ValueError, match=r"preds\[1\]: expected 3 axes"):
            deep([jnp.ones((1, 4, 2)), jnp.ones((1, 2, 2, 2))], jnp.ones((1, 4), int))
        with pytest.raises(TypeError, match="loss: expected a callable, got str"):
            hw.losses.deep_supervision("dice")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.normal(size=(3, 4, 5)) * 3, jnp.float32)
    return logits, jnp.array(rng.integers(0, 5, (3, 4)))


# Both in float32.
DIGITS = dict(rtol=2e-6, atol=1e-6)


class TestOptax:
    def test_cross_entropy(self, data):
        np.testing.assert_allclose(
            losses.cross_entropy(*data),
            optax.losses.softmax_cross_entropy_with_integer_labels(*data),
            **DIGITS,
        )

    def test_label_smoothing(self, data):
        logits, labels = data
        soft = optax.losses.smooth_labels(jax.nn.one_hot(labels, 5), 0.2)
        np.testing.assert_allclose(
            losses.cross_entropy(logits, labels, label_smoothing=0.2),
            optax.losses.softmax_cross_entropy(logits, soft),
            **DIGITS,
        )

    @pytest.mark.parametrize("epsilon", [-1.0, 0.5, 2.0])
    def test_poly(self, data, epsilon):
        logits, labels = data
        hot = jax.nn.one_hot(labels, 5)
        np.testing.assert_allclose(
            hw.losses.poly(logits, labels, epsilon=epsilon),
            optax.losses.poly_loss_cross_entropy(logits, hot, epsilon=epsilon),
            **DIGITS,
        )

    @pytest.mark.parametrize("alpha", [None, 0.25])
    def test_binary_focal(self, data, alpha):
        logits, labels = data
        hot = jax.nn.one_hot(labels, 5)
        np.testing.assert_allclose(
            losses.binary_focal(logits, labels, gamma=2.0, alpha=alpha),
            optax.losses.sigmoid_focal_loss(logits, hot, alpha=alpha),
            **DIGITS,
        )


def test_class_of_logit_minus_infinity_may_have_target_0():
    logits = jnp.array([[0.0, 1.0, -jnp.inf]])
    hot = jnp.array([[1.0, 0.0, 0.0]])
    for loss in (hw.losses.cross_entropy, hw.losses.focal):
        for targets in (hot, jnp.array([0])):
            gradient = jax.value_and_grad(lambda z, t, f=loss: jnp.sum(f(z, t)))
            value, slope = jax.jit(gradient)(logits, targets)
            assert np.isfinite(value)
            assert np.all(np.isfinite(slope))
            assert slope[0, 2] == 0


def test_sure_and_right_keeps_its_small_loss():
    """1 - p is 4e-18, lost beside 1 even in float64 if it is computed from p."""
    logits, target = jnp.array([[40.0]]), jnp.array([[1.0]])
    got = losses.binary_focal(logits, target, gamma=1.0)
    # sigmoid(-40) * log(1 + exp(-40)), both exp(-40) to 17 digits.
    np.testing.assert_allclose(got, np.exp(-80.0), rtol=1e-5)


@pytest.mark.parametrize("loss", [hw.losses.focal, hw.losses.binary_focal])
def test_alpha_of_another_shape_is_named(loss):
    with pytest.raises(ValueError, match=r"alpha: .*\(3,\).*got \(2,\)"):
        loss(jnp.ones((2, 4, 3)), jnp.ones((2, 4), int), alpha=jnp.ones(2))


def test_unknown_activation_of_a_compound():
    for name in ("dice_ce", "dice_focal", "generalized_dice_focal"):
        with pytest.raises(ValueError, match=r"activation: .*softmax.*sigmoid.*got"):
            getattr(hw.losses, name)(
                jnp.ones((2, 4, 3)), jnp.ones((2, 4), int), activation=jnp.tanh
            )


def test_class_weights_of_any_scale_keep_the_loss_at_its_own(data):
    logits, labels = data
    w = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
    one, other = (
        losses.cross_entropy(logits, labels, class_weights=k * w) for k in (1, 100)
    )
    np.testing.assert_allclose(one, other, rtol=1e-6)
    equal = losses.cross_entropy(logits, labels, class_weights=jnp.full(5, 7.0))
    np.testing.assert_allclose(equal, losses.cross_entropy(logits, labels))
    nothing = losses.cross_entropy(logits, labels, class_weights=jnp.zeros(5))
    np.testing.assert_array_equal(nothing, 0.0)
