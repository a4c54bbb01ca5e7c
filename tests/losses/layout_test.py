"""Losses declare of what they return one value each; of others it is guessed."""

import functools
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise import _reduction
from tests.losses import _draws
from tests.losses._families import ENTRIES

every_loss = pytest.mark.parametrize("name", sorted(ENTRIES))
dice = hw.losses.dice


def foreign(loss):
    """The same as somebody's own function: nothing is known but its parameters."""

    def mine(preds, targets, *, where=None):
        return loss(preds, targets, where=where)

    return mine


@every_loss
def test_every_public_loss_declares(name):
    loss = ENTRIES[name].loss if name == "mix" else getattr(hw.losses, name)
    assert _reduction.layout_of(loss) in ("example", "class", "position", "entry")
    assert _reduction.takes_where(loss)


@functools.cache
def declared_and_guessed(name):
    """{kind of mask: (entries, entries of what declares nothing)}, as one program."""
    entry = ENTRIES[name]
    preds, targets = _draws.example(entry)
    masks = {
        kind: _draws.make_where(np.random.default_rng(3), preds.shape, kind)
        for kind in _draws.WHERE[1:]
    }

    def all_of(preds, targets, masks):
        return {
            kind: [
                _reduction.entries(name, loss, preds, targets, where)
                for loss in (entry.loss, foreign(entry.loss))
            ]
            for kind, where in masks.items()
        }

    return jax.device_get(jax.jit(all_of)(preds, targets, masks))


@every_loss
@pytest.mark.parametrize("kind", _draws.WHERE[1:])
def test_declaration_and_guess_agree(name, kind):
    got, expected = declared_and_guessed(name)[kind]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(dice, smooth=1.0),
        functools.partial(functools.partial(dice, smooth=1.0), squared=True),
        jax.jit(dice),
        hw.losses.checked(dice),
        pickle.loads(pickle.dumps(functools.partial(dice, squared=True))),
    ],
    ids=["partial", "partial of partial", "jit", "checked", "pickled"],
)
def test_declaration_goes_through(loss):
    assert _reduction.layout_of(loss) == "class"


def test_losses_of_losses_return_examples():
    mixed = hw.losses.mix({"dice": (dice, 1.0)})
    for loss in (mixed, hw.losses.deep_supervision(dice)):
        assert _reduction.layout_of(loss) == "example"


def test_the_function_is_what_it_was():
    assert dice.__name__ == "dice"
    assert dice.__doc__.startswith("Soft Dice loss")
    assert list(inspect.signature(dice).parameters)[:3] == ["preds", "targets", "where"]
    assert pickle.loads(pickle.dumps(dice)) is dice


@pytest.mark.parametrize(
    "loss", [optax.losses.squared_error, foreign(dice), lambda p, t: p - t]
)
def test_foreign_callables_declare_nothing(loss):
    assert _reduction.layout_of(loss) is None


@pytest.mark.parametrize("background", [True, False])
def test_over_the_batch_a_class_counts_if_any_of_its_positions_does(background):
    """As many examples as classes: by shapes alone [C] looks like [B]."""
    rng = np.random.default_rng(0)
    preds = jnp.array(rng.uniform(size=(3, 5, 3)), jnp.float32)
    targets = jnp.array(rng.integers(0, 3, (3, 5)))
    where = jnp.array([True, False, True])
    loss = functools.partial(dice, over_batch=True, background=background)
    objective = hw.Objective({"a": loss})

    @jax.jit
    def both(preds, targets):
        got = objective.values({"a": preds}, {"a": targets}, where=where)["a"]
        return got, jnp.mean(loss(preds[::2], targets[::2]))

    got, expected = both(preds, targets)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_one_that_wraps_and_reduces_is_guessed():
    """`functools.wraps` copies the declaration, which is then no longer true."""

    @functools.wraps(dice)
    def of_examples(preds, targets, *, where=None):
        return jnp.mean(dice(preds, targets, where=where), -1)

    preds, targets = jnp.full((2, 4, 3), 0.5), jnp.ones((2, 4, 3))
    where = jnp.array([True, False])
    values, valid = _reduction.entries("a", of_examples, preds, targets, where)
    assert values.shape == (2,)
    np.testing.assert_array_equal(valid, where)
