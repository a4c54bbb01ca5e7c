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
    np.testing.assert_allclose(value, loss(preds, targets), rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "preds", "targets", "text"),
    [
        (hw.losses.dice, LOGITS, LABELS, r"preds: expected probabilities.*-1.0 to 2.0"),
        (softmax_dice, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.focal, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.dice_ce, PROBABILITIES, LABELS, "preds: expected logits"),
        (hw.losses.cross_entropy, LOGITS.at[0, 0, 0].set(jnp.nan), LABELS, "finite"),
        (hw.losses.cross_entropy, LOGITS, LABELS + 1, r"labels in 0..1, got 0 to 2"),
        (ignoring, LOGITS, LABELS - 1, r"labels in 0..1, got -1 to 0"),
        (hw.losses.dice, PROBABILITIES, HOT * 2, r"values in \[0, 1\], got 0.0 to 2.0"),
    ],
)
def test_bad_values_are_found(loss, preds, targets, text):
    message, _ = finding(loss, preds, targets)
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(message)


def test_masked_values_are_not_looked_at():
    where = jnp.array([[False, True]])
    preds = PROBABILITIES.at[0, 0].set(jnp.nan)
    message, _ = finding(hw.losses.dice, preds, jnp.array([[77, 1]]), where=where)
    assert message is None


def test_under_grad_and_vmap():
    def total(preds):
        return jnp.sum(hw.losses.checked(hw.losses.dice)(preds, LABELS))

    error, _ = checkify.checkify(jax.grad(total))(LOGITS)
    assert "expected probabilities" in error.get()
    error, slopes = checkify.checkify(jax.vmap(jax.grad(total)))(PROBABILITIES[None])
    assert error.get() is None
    assert slopes.shape == (1, *LOGITS.shape)


def test_no_callable():
    with pytest.raises(TypeError, match="loss: expected a callable, got str"):
        hw.losses.checked("dice")
