"""The battery: what is masked, ignored or of no class."""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses import _draws
from tests.losses import _entry


class Masks:
    """What does not count reaches nothing."""

    entries: ClassVar[Mapping[str, _entry.Entry]]

    @_draws.concerns(lambda entry: not entry.spatial)
    def test_where_equals_slicing_out(self, name):
        entry = self.entries[name]
        preds, targets = map(np.asarray, _draws.example(entry, (2, 6, 3)))
        keep = np.array([True, False, True, True, False, True])

        @jax.jit
        def both(whole, where, sliced):
            return entry.loss(*whole, where=where), entry.loss(*sliced)

        sliced = preds[:, keep], targets[:, keep]
        got, kept = map(np.asarray, both((preds, targets), keep[None], sliced))
        if got.shape[1:2] == (6,):  # one value a position
            assert not np.any(got[:, ~keep])
            got = got[:, keep]
        # The same sums with zeros in between.
        np.testing.assert_allclose(got, kept, rtol=2e-6, atol=1e-7)

    @_draws.concerns(lambda entry: not entry.spatial)
    def test_order_of_positions_is_irrelevant(self, name):
        entry = self.entries[name]
        preds, targets = map(np.asarray, _draws.example(entry, (2, 3, 4, 3)))
        where = np.random.default_rng(0).random((2, 3, 4)) < 0.7
        order = np.random.default_rng(1).permutation(12)

        def shuffled(x):
            return x.reshape(2, 12, *x.shape[3:])[:, order]

        loss = jax.jit(entry.loss)
        expected = np.asarray(loss(preds, targets, where=where))
        if expected.shape[1:3] == (3, 4):  # one value a position
            expected = shuffled(expected)
        got = loss(shuffled(preds), shuffled(targets), where=shuffled(where))
        np.testing.assert_allclose(got, expected, **_draws.SAME)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_masked_values_leak_nowhere(self, name, bad):
        entry = self.entries[name]
        preds, targets = map(np.asarray, _draws.example(entry))
        where = np.ones(preds.shape[:-1], bool)
        where[0].flat[1] = False
        where[1].flat[3:] = False
        hidden = ~where[..., None]
        gradient = _draws.gradient(entry)
        bad_targets = targets
        if jnp.issubdtype(targets.dtype, jnp.floating):
            bad_targets = np.where(hidden, np.float32(bad), targets)
        bad_preds = np.where(hidden, np.float32(bad), preds)
        values, grads = gradient(bad_preds, bad_targets, where)
        expected_values, expected_grads = gradient(preds, targets, where)
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(grads, expected_grads)
        assert not np.any(grads[~where])
        if not entry.spatial:
            assert np.any(grads[where])

    @_draws.concerns(
        lambda entry: _draws.takes("activation")(entry) or _draws.takes_labels(entry)
    )
    def test_masked_nan_passes_no_activation(self, name):
        entry = self.entries[name]
        gradient = _draws.gradient(
            entry, "softmax" if "activation" in entry.options else None
        )
        for kind in ("one-hot", "labels"):
            if kind not in entry.targets:
                continue
            preds, targets = map(np.asarray, _draws.example(entry, kind=kind))
            where = np.ones(preds.shape[:-1], bool)
            where[0].flat[1] = False
            bad_preds = np.where(where[..., None], preds, np.float32(np.nan))
            values, grads = gradient(bad_preds, targets, where)
            assert np.all(np.isfinite(values))
            assert np.all(np.isfinite(grads))
            assert not np.any(grads[~where])

    @_draws.concerns(
        lambda entry: _draws.takes("activation")(entry) and not entry.spatial
    )
    def test_mask_of_one_channel_leaves_the_softmax_alone(self, name):
        entry = self.entries[name]
        if entry.preds is not _entry.probabilities:
            pytest.skip("takes logits alone")
        logits, targets = _draws.example(entry)
        where = np.ones(logits.shape, bool)
        where[..., 2] = False

        # The second loss reads probabilities that were rounded once.
        @jax.jit
        def both(logits, targets, where):
            one = entry.loss(logits, targets, where=where, activation=jax.nn.softmax)
            return one, entry.loss(jax.nn.softmax(logits), targets, where=where)

        np.testing.assert_allclose(*both(logits, targets, where), rtol=1e-6)

    def test_all_masked_is_0_with_zero_gradient(self, name):
        entry = self.entries[name]
        preds, targets = _draws.example(entry)
        where = np.zeros(preds.shape[:-1], bool)
        values, grads = _draws.gradient(entry)(preds, targets, where)
        np.testing.assert_array_equal(values, 0.0)
        np.testing.assert_array_equal(grads, 0.0)

    @_draws.concerns(_draws.takes_labels)
    def test_labels_out_of_range_are_no_class(self, name):
        entry = self.entries[name]
        shape = _draws.smallest(entry)
        preds, labels = _draws.example(entry, kind="labels")
        labels = np.maximum(np.asarray(labels), 0)
        loss, expected = jax.jit(entry.loss), None
        for odd in (-1, -2, -100, shape[-1], 255):
            moved = labels.copy()
            moved[0].flat[0] = odd
            got = loss(preds, moved)
            assert np.all(np.isfinite(got))
            expected = got if expected is None else expected
            np.testing.assert_array_equal(got, expected)
        if "one-hot" in entry.targets:
            one_hot = np.stack([moved == c for c in range(shape[-1])], -1)
            hot = loss(preds, one_hot.astype(np.float32))
            np.testing.assert_allclose(got, hot, **_draws.SAME)

    @_draws.concerns(_draws.ignores)
    def test_ignore_equals_where(self, name):
        entry = self.entries[name]
        preds, labels = _draws.example(entry, kind="labels")
        labels = np.maximum(np.asarray(labels), 0)
        labels[0].flat[:2] = 255
        where = np.ones(labels.shape, bool)
        where[1].flat[1] = False
        activations = entry.options.get("activation", [None])

        @jax.jit
        def both(preds, labels, where, kept):
            pairs = []
            for activation in activations:
                options = dict(activation=activation) if activation else {}
                loss = _draws.bind(entry, options)
                got = loss(preds, labels, ignore=255, where=where)
                pairs.append((got, loss(preds, labels, where=kept)))
            return pairs

        kept = where & (labels != 255)
        pairs = both(preds, labels, where, kept)
        for activation, pair in zip(activations, pairs, strict=True):
            np.testing.assert_array_equal(*pair, err_msg=str(activation))
