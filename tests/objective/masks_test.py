"""Per-example weights and masks: what is summed, counted and handed to a loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

l2 = optax.losses.squared_error


def value(loss, preds, targets, **options):
    """As one program, not one for each operation."""
    values = jax.jit(hw.Objective({"y": loss}).values)
    return values({"y": preds}, {"y": targets}, **options)["y"]


class TestSampleWeights:
    preds = np.float32([[1.0, 1.0], [2.0, 4.0]])  # means of squares: 1, 10
    targets = np.zeros((2, 2), np.float32)

    def test_divides_by_the_number_of_entries(self):
        got = value(l2, self.preds, self.targets, sample_weights=jnp.array([3.0, 0.5]))
        assert float(got) == (3 * 1 + 0.5 * 10) / 2

    def test_one_array_serves_all_heads_and_a_dict_some(self):
        objective = hw.Objective({"a": l2, "b": l2})
        preds = {"a": self.preds, "b": self.preds}
        targets = {"a": self.targets, "b": self.targets}
        weights = jnp.array([3.0, 0.5])
        values = jax.jit(objective.values)
        for given, b in [(weights, 4.0), ({"a": weights}, 5.5)]:
            got = values(preds, targets, sample_weights=given)
            assert (float(got["a"]), float(got["b"])) == (4.0, b)

    def test_one_a_position(self):
        weights = jnp.array([[1.0, 0.0], [0.0, 0.5]])
        got = value(l2, self.preds, self.targets, sample_weights=weights)
        assert float(got) == (1 + 0.5 * 16) / 4

    def test_integers(self):
        got = value(l2, self.preds, self.targets, sample_weights=np.array([3, 0]))
        assert float(got) == 1.5

    def test_reach_a_loss_of_classes(self):
        preds = jnp.array([[[1.0], [0.0]], [[1.0], [1.0]]])
        targets = jnp.array([[[0.0], [1.0]], [[1.0], [1.0]]])  # Dice loss 1 and 0
        weights = jnp.array([0.5, 8.0])
        got = value(
            functools.partial(hw.losses.dice, smooth=0.0),
            preds,
            targets,
            sample_weights=weights,
        )
        assert float(got) == 0.25

    def test_times_a_mask(self):
        where = jnp.array([[True, False], [False, True]])
        got = value(
            l2,
            self.preds,
            self.targets,
            sample_weights=jnp.array([3.0, 0.5]),
            where=where,
        )
        assert float(got) == (3 * 1 + 0.5 * 16) / 2

    def test_weight_0_leaks_no_nan(self):
        weights = np.float32([3.0, 0.0])
        gradient = jax.jit(
            jax.value_and_grad(lambda p, t: value(l2, p, t, sample_weights=weights))
        )
        for bad in (np.nan, np.inf):
            preds = np.stack([self.preds[0], np.full(2, bad, np.float32)])
            for targets in (self.targets, np.stack([self.targets[0], preds[1]])):
                got, grads = gradient(preds, targets)
                assert float(got) == 1.5
                np.testing.assert_array_equal(grads, [[1.5, 1.5], [0.0, 0.0]])

    def test_are_differentiated(self):
        gradient = jax.jit(
            jax.grad(lambda w: value(l2, self.preds, self.targets, sample_weights=w))
        )
        assert gradient(jnp.array([3.0, 0.5])).tolist() == [0.5, 5.0]

    def test_errors(self):
        with pytest.raises(ValueError, match=r"sample_weights.*\(2, 2\).*\(3,\)"):
            value(l2, self.preds, self.targets, sample_weights=jnp.ones(3))
        with pytest.raises(ValueError, match=r"'y'.*batch \(2\).*shape \(\)"):
            value(
                lambda p, t: jnp.mean(p - t),
                self.preds,
                self.targets,
                sample_weights=jnp.ones(2),
            )
        with pytest.raises(ValueError, match=r"sample_weights.*\['x'\].*\['y'\]"):
            value(l2, self.preds, self.targets, sample_weights={"x": jnp.ones(2)})


class TestWhere:
    preds = np.float32([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    targets = np.zeros((2, 3), np.float32)

    @pytest.mark.parametrize(
        ("where", "mean"),
        [
            ([[True, False, True], [False, False, True]], (1 + 9 + 36) / 3),
            ([True, False], (1 + 4 + 9) / 3),
            ([[True], [False]], (1 + 4 + 9) / 3),
            ([[True, False, False]], (1 + 16) / 2),
            ([[False, False, False], [False, False, False]], 0.0),
            (True, 91 / 6),
            (False, 0.0),
        ],
    )
    @pytest.mark.parametrize("masks_itself", [False, True])
    def test_counts_valid_entries(self, where, mean, masks_itself):
        def loss(preds, targets, *, where=None):
            # Not multiplied: 0 * NaN. Aligned at the batch, as any head's mask.
            if where is not None and where.ndim:
                where = where.reshape(where.shape + (1,) * (preds.ndim - where.ndim))
            return jnp.where(where, (preds - targets) ** 2, 0.0)

        loss = loss if masks_itself else l2
        got = value(loss, self.preds, self.targets, where=jnp.array(where))
        np.testing.assert_allclose(got, mean, rtol=1e-6)  # one division

    def test_by_head(self):
        objective = hw.Objective({"a": l2, "b": l2})
        x, t = (
            {"a": self.preds, "b": self.preds},
            {"a": self.targets, "b": self.targets},
        )
        values = jax.jit(objective.values)
        got = values(x, t, where={"b": np.array([True, False])})
        np.testing.assert_allclose(got["a"], 91 / 6, rtol=1e-6)
        np.testing.assert_allclose(got["b"], 14 / 3, rtol=1e-6)

    def test_masked_nan_leaks_nowhere(self):
        where = np.array([[True, False, True], [False, False, True]])
        for loss in (l2, optax.losses.huber_loss, optax.losses.log_cosh):
            gradient = jax.jit(
                jax.value_and_grad(lambda p, t, f=loss: value(f, p, t, where=where))
            )
            expected = jax.tree.map(np.asarray, gradient(self.preds, self.targets))
            bad = np.where(where, self.preds, np.float32(np.nan))
            hidden = np.where(where, self.targets, np.float32(np.nan))
            for targets in (self.targets, hidden):
                got = gradient(bad, targets)
                np.testing.assert_array_equal(got[0], expected[0])
                np.testing.assert_array_equal(got[1], expected[1])
            assert not np.any(expected[1][~where])

    def test_all_masked_is_0_with_zero_gradient(self):
        where = np.zeros((2, 3), bool)
        gradient = jax.jit(
            jax.value_and_grad(lambda p: value(l2, p, self.targets, where=where))
        )
        got, grads = gradient(np.full((2, 3), np.nan, np.float32))
        assert float(got) == 0.0
        assert not np.any(grads)

    def test_optax_where_means_classes_and_is_left_alone(self):
        logits = jnp.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
        labels = jnp.eye(3)[jnp.array([2, 0])]
        where = jnp.array([True, False])
        for loss in (
            optax.losses.softmax_cross_entropy,
            optax.losses.kl_divergence,
            optax.losses.cosine_distance,  # its `where` is keyword-only
            optax.losses.poly_loss_cross_entropy,  # likewise
        ):
            got = value(loss, logits, labels, where=where)
            np.testing.assert_allclose(got, loss(logits, labels)[0], rtol=1e-6)

    def test_cosine_of_a_masked_nan(self):
        where = jnp.array([True, False])
        preds = np.where([[True], [False]], self.preds, np.float32(np.nan))
        gradient = jax.value_and_grad(
            lambda p: value(
                optax.losses.cosine_distance, p, jnp.ones((2, 3)), where=where
            )
        )
        got, grads = jax.jit(gradient)(preds)
        assert np.isfinite(got)
        assert np.all(np.isfinite(grads))

    def test_reaches_dice(self):
        preds = np.arange(1, 31, dtype=np.float32).reshape(2, 5, 3) / 31
        targets = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0, 1], [1, 1, 0, 2, 2]]]
        where = jnp.array([[True, True, False, False, False], [False] * 5])
        got = value(hw.losses.dice, preds, targets, where=where)
        # The second example has no valid position: it is not counted.
        expected = np.mean(jax.jit(hw.losses.dice)(preds[:1, :2], targets[:1, :2]))
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    @pytest.mark.parametrize("background", [True, False])
    def test_reaches_dice_on_as_many_positions_as_classes(self, background):
        """[B, C] is not mistaken for [B, positions] when both have one shape."""
        size = 3 if background else 2
        preds = np.arange(1, 1 + 2 * size * 3, dtype=np.float32)
        preds = preds.reshape(2, size, 3) / 20
        targets = np.eye(3, dtype=np.float32)[[[0, 1, 2], [1, 1, 0]]][:, :size]
        where = np.arange(size) < np.array([[size - 1], [1]])
        dice = functools.partial(hw.losses.dice, background=background)
        got = value(dice, preds, targets, where=where)
        expected = np.mean(jax.jit(dice)(preds, targets, where=where))
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    @pytest.mark.parametrize("background", [True, False])
    def test_counts_labelled_classes(self, background):
        """A class that is not labelled in an example is no part of the mean."""
        preds = np.arange(1, 25, dtype=np.float32).reshape(2, 4, 3) / 25
        targets = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0], [1, 1, 0, 2]]]
        where = np.array([[[True, True, False]], [[True, False, True]]])
        dice = functools.partial(hw.losses.dice, background=background)
        got = value(dice, preds, targets, where=where)
        of_class = np.asarray(jax.jit(hw.losses.dice)(preds, targets))
        labelled = where[:, 0] & (np.arange(3) >= (0 if background else 1))
        np.testing.assert_allclose(got, np.mean(of_class[labelled]), rtol=1e-6)

    def test_reaches_every_part_of_a_mixture(self):
        preds = np.arange(1, 31, dtype=np.float32).reshape(2, 5, 3) / 31
        targets = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0, 1], [1, 1, 0, 2, 2]]]
        where = np.arange(5) < np.array([[3], [3]])
        mixed = hw.losses.mix(
            {
                "dice": (hw.losses.dice, 1.0),
                "ce": (optax.losses.softmax_cross_entropy, 1.0),
            }
        )
        got = value(mixed, preds, targets, where=where)
        expected = np.mean(jax.jit(mixed)(preds[:, :3], targets[:, :3]))
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    def test_pytree_outputs(self):
        def loss(outputs, targets):
            return (outputs["mean"] * outputs["scale"] - targets) ** 2

        outputs = {"mean": jnp.array([1.0, jnp.nan]), "scale": jnp.array([2.0, 1.0])}
        gradient = jax.value_and_grad(
            lambda o: value(loss, o, jnp.zeros(2), where=jnp.array([True, False]))
        )
        got, grads = jax.jit(gradient)(outputs)
        assert float(got) == 4.0
        assert grads["mean"].tolist() == [8.0, 0.0]

    def test_errors(self):
        where = jnp.ones((2, 3), bool)
        with pytest.raises(TypeError, match=r"'y'.*bool.*float32"):
            value(l2, self.preds, self.targets, where=where.astype(float))
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
            value(l2, self.preds, self.targets, where=jnp.ones((2, 4), bool))
        with pytest.raises(ValueError, match=r"'y'.*\(2, 3\).*\(2,\).*keyword-only"):
            value(
                lambda p, t: jnp.sum(p - t, -1), self.preds, self.targets, where=where
            )
        with pytest.raises(ValueError, match=r"where.*\['x'\].*\['y'\]"):
            value(l2, self.preds, self.targets, where={"x": where})
