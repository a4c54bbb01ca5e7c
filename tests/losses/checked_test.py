"""The debugging wrapper finds what shapes cannot tell, and changes nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import headwise as hw

softmax_dice = functools.partial(hw.losses.dice, activation=jax.nn.softmax)
ignoring = functools.partial(hw.losses.cross_entropy, ignore=255)
LOGITS = jnp.array([[[2.0, -1.0], [0.5, 0.0]]])
PROBABILITIES = jax.nn.softmax(LOGITS)
LABELS = jnp.array([[0, 1]])
HOT = jax.nn.one_hot(LABELS, 2)


def finding(loss, preds, targets, **options):
    run = jax.jit(checkify.checkify(hw.losses.checked(loss)))
    error, value = run(preds, targets, **options)
    return error.get(), value


@pytest.mark.parametrize(
    ("loss", "preds", "targets"),
    [
        (hw.losses.dice, PROBABILITIES, LABELS),
        (hw.losses.dice, PROBABILITIES, HOT),
        (softmax_dice, LOGITS, LABELS),
        (hw.losses.cross_entropy, LOGITS, LABELS),
        (hw.losses.dice_ce, LOGITS, HOT),
        (ignoring, LOGITS, jnp.array([[255, 1]])),
    ],
)
def test_good_values_pass_unchanged(loss, preds, targets):
    message, value = finding(loss, preds, targets)
    assert message is None
    np.testing.assert_allclose(value, jax.jit(loss)(preds, targets), rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "preds", "targets", "text"),
    [
        (hw.losses.dice, LOGITS, LABELS, r"preds: expected probabilities.*-1.0 to 2.0"),
        (softmax_dice, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.focal, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.dice_ce, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.cross_entropy, LOGITS.at[0, 0, 0].set(jnp.nan), LABELS, "finite"),
        (hw.losses.cross_entropy, LOGITS, LABELS + 1, r"labels in 0..1, got 1 to 2"),
        (ignoring, LOGITS, LABELS - 1, r"labels in 0..1, got -1 to 0"),
        (hw.losses.dice, PROBABILITIES, HOT * 2, r"values in \[0, 1\], got 0.0 to 2.0"),
        (hw.losses.dice, 0 * LOGITS + 3, LABELS, r"\[0, 1\], got 3.0 to 3.0"),
        (hw.losses.dice, PROBABILITIES, 0 * HOT + 2, r"\[0, 1\], got 2.0 to 2.0"),
        (hw.losses.dice, PROBABILITIES, LABELS - 3, r"labels in 0..1, got -3 to -2"),
        (hw.losses.cross_entropy, LOGITS, 0 * HOT + 1, "got sums 2.0 to 2.0"),
    ],
)
def test_bad_values_are_found(loss, preds, targets, text):
    message, _ = finding(loss, preds, targets)
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(message)


PICTURE = jax.nn.one_hot(jnp.array([[[0, 1, 0, 2], [0, 0, 1, 1]]] * 2), 3)
FIRST = jnp.moveaxis(PICTURE, -1, 1)  # [B, C, H, W]


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (hw.losses.cross_entropy, "sums 0.0 to 2.0; are the channels last"),
        (softmax_dice, "of sum 1 over the last axis"),
        (hw.losses.dice, "one-hot along axis 1"),
        (hw.losses.mix({"ce": (hw.losses.cross_entropy, 1.0)}), "channels last"),
    ],
)
def test_channels_first_are_found(loss, text):
    preds = 0.1 + 0.5 * FIRST
    message, _ = finding(loss, preds, FIRST)
    assert text in message
    message, _ = finding(loss, 0.1 + 0.5 * PICTURE, PICTURE)
    assert message is None


def test_several_classes_at_once_are_right_for_channels_on_their_own():
    both = jnp.ones((1, 2, 2))
    assert finding(hw.losses.dice, PROBABILITIES, both)[0] is None
    assert finding(hw.losses.binary_cross_entropy, LOGITS, both)[0] is None


@pytest.mark.parametrize("loss", [ignoring, hw.losses.mix({"ce": (ignoring, 1.0)})])
def test_what_a_loss_declares_goes_through(loss):
    void = jnp.array([[0, 1], [255, 255]])
    logits = jnp.concatenate([LOGITS, LOGITS])
    objective = hw.Objective({"y": hw.losses.checked(loss)})

    @jax.jit
    @checkify.checkify
    def run(z):
        return jax.value_and_grad(lambda z: objective({"y": z}, {"y": void})[0])(z)

    error, (got, _) = run(logits)
    assert error.get() is None
    expected = jnp.mean(hw.losses.cross_entropy(LOGITS, LABELS))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [hw.losses.absolute_error, lambda p, t: (p - t) ** 2])
def test_of_other_losses_only_what_is_not_finite_is_found(loss):
    assert finding(loss, 9 * LOGITS, LOGITS)[0] is None
    assert "finite" in finding(loss, LOGITS.at[0, 0, 0].set(jnp.inf), LOGITS)[0]


def test_masked_values_are_not_looked_at():
    where = jnp.array([[False, True]])
    preds = PROBABILITIES.at[0, 0].set(jnp.nan)
    message, _ = finding(hw.losses.dice, preds, jnp.array([[77, 1]]), where=where)
    assert message is None


def test_under_grad_and_vmap():
    def total(preds):
        return jnp.sum(hw.losses.checked(hw.losses.dice)(preds, LABELS))

    error, _ = jax.jit(checkify.checkify(jax.grad(total)))(LOGITS)
    assert "expected probabilities" in error.get()
    slopes_of = jax.jit(checkify.checkify(jax.vmap(jax.grad(total))))
    error, slopes = slopes_of(PROBABILITIES[None])
    assert error.get() is None
    assert slopes.shape == (1, *LOGITS.shape)


def test_no_callable():
    with pytest.raises(TypeError, match="loss: expected a callable, got str"):
        hw.losses.checked("dice")
