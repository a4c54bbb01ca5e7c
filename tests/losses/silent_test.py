"""Nothing is silent: NaN in what counts is NaN in the value; no example is value 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.losses import _draws
from tests.losses._families import ENTRIES

# A depth that is not known is NaN there, as it is 0 or negative.
MISSING = {"scale_invariant_log"}


def spoilt(array, at):
    """A copy with NaN there."""
    array = np.array(array)
    array[at] = np.nan
    return array


@pytest.mark.parametrize("name", ENTRIES)
def test_nan_where_something_counts(name):
    entry = ENTRIES[name]
    preds, targets = _draws.example(entry)
    at = (0,) * (preds.ndim - 1) + (-1,)
    loss = jax.jit(entry.loss)
    values = [loss(spoilt(preds, at), targets)]
    if jnp.issubdtype(targets.dtype, jnp.floating) and name not in MISSING:
        values.append(loss(preds, spoilt(targets, at)))
    for value in values:
        assert np.any(np.isnan(value))


def test_a_batch_of_no_examples():
    """Ours, those of optax and one's own agree, and the head is absent."""
    losses = {name: entry.loss for name, entry in ENTRIES.items()}
    losses |= {"optax": optax.losses.squared_error, "own": lambda p, t: (p - t) ** 2}
    objective = hw.Objective(losses)
    nothing = dict.fromkeys(losses, jnp.zeros((0, 15, 15, 3)))
    total, values = objective(nothing, nothing)
    assert total == 0
    assert dict(values) == dict.fromkeys(losses, 0)
    assert not any(values.present.values())
