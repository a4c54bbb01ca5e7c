"""The battery: static misuse, and options out of range."""

import inspect
import re
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses import _draws
from tests.losses import _entry

MISUSE = {
    "preds without channels": (
        dict(preds=jnp.ones(4)),
        ValueError,
        r"\[B, \*S, C\].*\(4,\)",
    ),
    "integer preds": (dict(preds=jnp.ones((2, 5, 3), int)), TypeError, "floating.*int"),
    "floating labels": (
        dict(targets=jnp.zeros((2, 5))),
        ValueError,
        r"\(2, 5, 3\).*integer labels \(2, 5\).*float32 \(2, 5\)",
    ),
    "class weights of another length": (
        dict(class_weights=jnp.ones(2)),
        ValueError,
        r"class_weights.*\(3,\).*\(2,\)",
    ),
    "activation by name": (
        dict(activation="softmax"),
        (TypeError, ValueError),
        "activation.*'softmax'",
    ),
    "no class left": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.ones((2, 5, 1)), background=False),
        ValueError,
        "background=False drops channel 0 of 1",
    ),
    "labels for one channel": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.zeros((2, 5), int)),
        ValueError,
        r"two or more channels.*\(2, 5, 1\)",
    ),
    "three smooths": (dict(smooth=(1.0, 1.0, 1.0)), ValueError, "smooth.*3 entries"),
    "ignore without labels": (
        dict(ignore=1, targets=jnp.ones((2, 5, 3))),
        ValueError,
        r"ignore.*integer labels \(2, 5\).*float32 \(2, 5, 3\)",
    ),
}


class Misuse:
    """Errors name the argument, what was expected and what came."""

    entries: ClassVar[Mapping[str, _entry.Entry]]

    def test_mismatched_shapes_are_both_named(self, name):
        entry = self.entries[name]
        one, other = (2, 15, 15, 3), (2, 14, 15, 3)
        with pytest.raises(ValueError, match=_draws.both(str(one), str(other))):
            entry.loss(jnp.ones(one), jnp.ones(other))

    @pytest.mark.parametrize("shape", [(0, 15, 15, 3), (2, 0, 15, 3)])
    def test_nothing_to_average_is_an_error(self, name, shape):
        entry = self.entries[name]
        with pytest.raises(ValueError, match=re.escape(str(shape))):
            entry.loss(jnp.ones(shape), jnp.ones(shape))

    def test_mask_that_does_not_fit_is_named(self, name):
        entry = self.entries[name]
        preds, targets = _draws.example(entry)
        odd = (2, preds.shape[1] - 1)
        with pytest.raises(ValueError, match=re.escape(str(odd))):
            entry.loss(preds, targets, where=np.ones(odd, bool))
        with pytest.raises(TypeError, match=r"where.*bool.*float"):
            entry.loss(preds, targets, where=jnp.ones(preds.shape[:2]))

    @_draws.concerns(_draws.takes_labels)
    @pytest.mark.parametrize("case", MISUSE)
    def test_misuse_is_a_clear_error(self, name, case):
        entry = self.entries[name]
        arguments, error, text = MISUSE[case]
        options = set(arguments) - {"preds", "targets"}
        if not options <= set(inspect.signature(entry.loss).parameters):
            pytest.skip("has no such option")
        rng = np.random.default_rng(0)
        preds = jnp.array(entry.preds(rng, (2, 5, 3)))
        targets = jnp.array(entry.make_targets(rng, (2, 5, 3), entry.targets[0]))
        with pytest.raises(error, match=text):
            entry.loss(**dict(preds=preds, targets=targets) | arguments)
