"""A label that a loss ignores does not count in means either."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

rng = np.random.default_rng(0)
LOGITS = jnp.array(rng.normal(size=(3, 6, 4)), jnp.float32)
LABELS = rng.integers(0, 4, (3, 6))
LABELS[0, :4] = 255
LABELS[2] = 255
LABELS = jnp.array(LABELS)


def value(loss, **options):
    """As one program, not one for each operation."""
    values = jax.jit(hw.Objective({"y": loss}).values)
    return values({"y": LOGITS}, {"y": LABELS}, **options)["y"]


def ignoring(loss, **options):
    return functools.partial(loss, ignore=255, **options)


def test_mean_is_over_the_other_positions():
    got = value(ignoring(hw.losses.cross_entropy))
    values = np.asarray(hw.losses.cross_entropy(LOGITS, LABELS))
    np.testing.assert_allclose(got, values[LABELS != 255].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        hw.losses.cross_entropy,
        hw.losses.focal,
        hw.losses.binary_cross_entropy,
        hw.losses.dice_ce,
        functools.partial(hw.losses.dice, activation=jnp.tanh),
        hw.losses.lovasz_hinge,
    ],
)
def test_equals_the_mask(loss):
    got = value(ignoring(loss))
    expected = value(loss, where={"y": LABELS != 255})
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_goes_together_with_a_mask():
    seen = jnp.array(rng.random((3, 6)) < 0.7)
    for where in (seen, seen[:, 0], seen[..., None]):
        got = value(ignoring(hw.losses.cross_entropy), where={"y": where})
        both = jnp.broadcast_to(
            where.reshape(where.shape + (1,) * (3 - where.ndim)), (3, 6, 1)
        )
        expected = value(
            hw.losses.cross_entropy,
            where={"y": both[..., 0] & (LABELS != 255)},
        )
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_in_a_mixture_of_which_one_part_ignores():
    mixed = hw.losses.mix(
        {
            "ce": (ignoring(hw.losses.cross_entropy), 1.0),
            "focal": (hw.losses.focal, 0.5),
        }
    )
    per_example = mixed(LOGITS, LABELS)
    ce = np.asarray(hw.losses.cross_entropy(LOGITS, LABELS))
    known = np.asarray(LABELS != 255)
    means = [row[keep].mean() if keep.any() else 0 for row, keep in zip(ce, known)]
    focal = np.asarray(hw.losses.focal(LOGITS, LABELS)).mean(1)
    np.testing.assert_allclose(per_example, means + 0.5 * focal, rtol=1e-5)


def test_the_default_of_an_own_loss_counts_as_bound():
    def own(preds, targets, *, where=None, ignore=255):
        return hw.losses.cross_entropy(preds, targets, where=where, ignore=ignore)

    np.testing.assert_allclose(
        value(own), value(ignoring(hw.losses.cross_entropy)), rtol=1e-6
    )


def test_nothing_but_ignored_is_0():
    labels = jnp.full((3, 6), 255)
    values = jax.jit(hw.Objective({"y": ignoring(hw.losses.cross_entropy)}).values)
    got = values({"y": LOGITS}, {"y": labels})
    assert got["y"] == 0
