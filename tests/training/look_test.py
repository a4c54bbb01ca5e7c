"""Looking: what one batch, several batches and microbatches leave to use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise import _xla
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.training import _look
from headwise.training import _model
from headwise.training import _parts

PARAMS = {"A": 2.0, "B": 3.0, "C": 5.0, "D": -7.0}
X = jnp.arange(1.0, 7.0)
REACHED = [[True, True, True, False], [True, True, False, True]]
SHARED = [True, True, False, False]


def values_fn(p, x):
    h = p["B"] * (p["A"] * x)
    return {"loss2": jnp.mean(jnp.cos(p["D"] * h)), "loss1": jnp.mean(p["C"] * h)}, x


PLAIN = _model.plain(values_fn, True)


def by_hand(x):
    """{name: value} and [H][leaf] gradients, a plain `jax.grad` for each head."""
    values = values_fn(PARAMS, x)[0]
    rows = [
        jax.tree.leaves(jax.grad(lambda p, n=n: values_fn(p, x)[0][n])(PARAMS))
        for n in sorted(values)
    ]
    return values, rows


def gram_by_hand(rows, others, over=SHARED):
    first, second = (np.float64(r)[:, np.array(over)] for r in (rows, others))
    return first @ second.T


def close(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), got, want
    )


LAYOUT = _layout.Layout(REACHED, SHARED)


class TestWhole:
    def test_values_aux_and_reaches(self):
        look = _look.whole(PLAIN, PARAMS, X)
        close(look.values, by_hand(X)[0])
        np.testing.assert_array_equal(look.aux, X)
        assert look.reaches() == REACHED

    @pytest.mark.parametrize("kept", [True, False])
    def test_gradients(self, kept):
        rows = by_hand(X)[1]
        look = _look.whole(PLAIN, PARAMS, X)
        gram, made_of = look.gradients(LAYOUT, kept, "auto")
        close(gram, gram_by_hand(rows, rows))
        if kept:
            close(made_of.rows, rows)
            assert made_of.reached == REACHED
        else:
            assert made_of == _head_gradients.OneMorePass(look.backward)

    @pytest.mark.parametrize("kept", [True, False])
    def test_features(self, kept):
        """Of h, the only array between the shared and the private parts."""
        look = _look.whole(PLAIN, PARAMS, X)
        features = _layout.Layout(REACHED, "features")
        gram, made_of = look.gradients(features, kept, "auto")
        h = 6.0 * X
        of_h = np.stack([np.full(6, 5 / 6), 7.0 * np.sin(-7.0 * h) / 6])
        np.testing.assert_allclose(gram, of_h @ of_h.T, rtol=1e-3)
        assert isinstance(made_of, _head_gradients.Kept) == kept

    def test_keeps_what_is_small_unless_told(self, monkeypatch):
        look = _look.whole(PLAIN, PARAMS, X)
        assert look.keeps(None)
        assert not look.keeps(False)
        monkeypatch.setattr(_xla, "KEPT_BYTES", 0)
        assert look.keeps(True)
        # Six numbers a head, while the forward pass has kept at least x twice.
        assert look.keeps(None) == (
            look.backward.rows_bytes <= look.backward.kept_bytes
        )


@pytest.mark.parametrize("batches", [2, 3])
class TestSeveral:
    def test_values_are_means_and_aux_is_the_last(self, batches):
        look = _look.several(PLAIN, batches, PARAMS, X)
        close(look.values, by_hand(X)[0])
        np.testing.assert_array_equal(look.aux, X[batches - 1 :: batches])
        assert look.reaches() == REACHED
        assert look.keeps(False) == (batches == 2)

    def test_gramian_is_of_the_first_with_the_second(self, batches):
        look = _look.several(PLAIN, batches, PARAMS, X)
        rows = [by_hand(X[i::batches])[1] for i in range(batches)]
        for kept in (True, False):
            gram, made_of = look.gradients(LAYOUT, kept, "auto")
            close(gram, gram_by_hand(rows[0], rows[1]))
            if kept:
                close(made_of.rows, rows[-1])
            else:
                assert made_of.backward is look.backward

    def test_means_of_half_precision_are_finite(self, batches):
        def plain(p, x):
            return {"a": jnp.float16(6e4) + 0 * jnp.sum(p["s"])}

        params = {"s": jnp.ones(2, jnp.float16)}
        plain = _model.plain(plain, False)
        look = _look.several(plain, batches, params, jnp.ones(batches))
        assert look.values["a"] == jnp.float16(6e4)

    def test_the_model_is_traced_once(self, batches):
        traces = []

        def watched(params, x, factor):
            traces.append(x.shape)
            return PLAIN(params, factor * x)

        _look.several(watched, batches, PARAMS, X, 2.0)
        assert traces == [(6 // batches,)]


class TestAccumulated:
    def test_means_of_the_parts(self):
        look = _look.accumulated(PLAIN, 3, "auto", PARAMS, X)
        values, rows = by_hand(X)
        close(look.values, values)
        close(look.rows, rows)
        np.testing.assert_array_equal(look.aux, X[2::3])
        assert look.reaches() == REACHED
        assert look.keeps(False)
        gram, made_of = look.gradients(LAYOUT, True, "auto")
        close(gram, gram_by_hand(rows, rows))
        assert made_of.rows is look.rows

    def test_sums_are_float32_and_means_have_the_type_of_a_part(self):
        params = {n: jnp.bfloat16(v) for n, v in PARAMS.items()}
        look = _look.accumulated(PLAIN, 3, "auto", params, X.astype(jnp.bfloat16))
        types = {x.dtype for x in jax.tree.leaves((look.values, look.rows))}
        assert types == {jnp.dtype("bfloat16")}


def test_parts_must_divide_every_array():
    parts = _parts.parted("batches", 2, {"x": X, "y": jnp.ones((4, 3))})
    assert jax.tree.map(jnp.shape, parts) == {"x": (2, 3), "y": (2, 2, 3)}
    np.testing.assert_array_equal(parts["x"], [X[0::2], X[1::2]])
    for bad in (jnp.ones(5), 1.0):
        with pytest.raises(ValueError, match=r"batches: .* divides .* got 2 and shape"):
            _parts.parted("batches", 2, {"x": X, "y": bad})
