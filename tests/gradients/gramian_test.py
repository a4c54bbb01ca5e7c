"""Gramian and cosines against J Jᵀ in float64, and at the edges of the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

gramian = jax.jit(hw.gramian)
cosines = jax.jit(hw.cosines)


def make_grads(heads=3, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = {"bias": (4,), "layers": [(3, 4), ()], "scale": (2, 1, 3)}

    def one():
        return jax.tree.map(
            lambda shape: rng.normal(size=shape).astype(dtype),
            shapes,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    # Not in sorted order: the rows of the gramian are.
    return {f"h{h}": one() for h in reversed(range(heads))}


def jacobian(grads):
    """[H, P] in float64, rows in sorted order of the names."""
    return np.stack(
        [
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads[name])])
            for name in sorted(grads)
        ]
    ).astype(np.float64)


def test_is_j_jt():
    with jax.enable_x64(True):
        grads = make_grads(dtype=np.float64)
        gram = gramian(grads)
        assert gram.dtype == jnp.float64
        rows = jacobian(grads)
        np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-13)


def test_float32_and_bfloat16_give_float32():
    grads = make_grads()
    rows = jacobian(grads)
    gram = gramian(grads)
    assert gram.dtype == jnp.float32
    # Sums of 23 products, 2^-24 each.
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-5, atol=1e-5)

    short = jax.tree.map(lambda g: jnp.asarray(g, jnp.bfloat16), grads)
    rows = jacobian(jax.tree.map(lambda g: np.asarray(g, np.float64), short))
    gram = gramian(short)
    assert gram.dtype == jnp.float32
    # Products of bfloat16 numbers are exact in float32: only the sums round.
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-5, atol=1e-5)


def test_mixed_dtypes():
    grads = {
        "a": {"u": jnp.ones(300, jnp.bfloat16), "v": jnp.float32(2.0)},
        "b": {"u": jnp.ones(300, jnp.bfloat16), "v": jnp.float32(-1.0)},
    }
    # 300 is more than bfloat16 can count to (256) in steps of one.
    np.testing.assert_array_equal(gramian(grads), [[304.0, 298.0], [298.0, 301.0]])


def test_head_gramian_is_gramian_of_head_grads():
    def program(p, x):
        return {"b": jnp.sum(jnp.tanh(x @ p["w"])), "a": jnp.sum(p["w"] ** 2)}

    params, x = {"w": jnp.arange(6.0).reshape(3, 2) / 7}, jnp.ones((2, 3))
    values, gram = jax.jit(hw.head_gramian(program))(params, x)
    expected_values, grads = jax.jit(hw.head_grads(program))(params, x)
    rows = jacobian(grads)
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-6)  # float32 rounding
    assert list(values) == ["a", "b"]
    np.testing.assert_allclose(values["b"], expected_values["b"], rtol=1e-6)
    (values, aux), _ = hw.head_gramian(lambda p, x: (program(p, x), x), has_aux=True)(
        params, x
    )
    assert aux is x
    assert list(values) == ["a", "b"]


def test_runs_in_full_precision_on_every_device():
    text = str(jax.make_jaxpr(hw.gramian)(make_grads()))
    assert "dot_general" in text
    assert text.count("dot_general") == text.count("precision=(Precision.HIGHEST")


def test_order_is_by_name():
    grads = {"b": jnp.array([0.0, 2.0]), "a": jnp.array([1.0, 1.0])}
    np.testing.assert_array_equal(hw.gramian(grads), [[2.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize(
    ("grads", "words"),
    [
        ({"a": {"u": 1.0}, "b": {"v": 1.0}}, ["structure", "'a'", "'b'"]),
        ({"a": jnp.ones(2), "b": jnp.ones(3)}, ["'b'", "(3,)", "(2,)"]),
        ({}, ["at least one head"]),
    ],
)
def test_misuse_is_named(grads, words):
    with pytest.raises(ValueError, match="grads") as raised:
        hw.gramian(grads)
    for word in words:
        assert word in str(raised.value)


class TestCosines:
    def test_against_numpy(self):
        rows = jacobian(make_grads(5))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cos = cosines(gramian(make_grads(5)))
        # The gramian's 2^-24 a product, divided by lengths: a few 1e-7.
        np.testing.assert_allclose(cos, unit @ unit.T, atol=2e-6)

    @pytest.mark.parametrize("scale", [1e-15, 1e-10, 1.0, 1e10, 1e15])
    def test_scale_of_the_gradients_does_not_matter(self, scale):
        grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([-4.0, -3.0])}
        grads = jax.tree.map(lambda g: g * scale, grads)
        cos = cosines(gramian(grads))
        np.testing.assert_allclose(cos, [[1.0, -0.96], [-0.96, 1.0]], atol=1e-6)

    def test_heads_of_very_different_size(self):
        grads = {"a": jnp.array([3e-15, 4e-15]), "b": jnp.array([-4e15, -3e15])}
        cos = cosines(gramian(grads))
        np.testing.assert_allclose(cos, [[1.0, -0.96], [-0.96, 1.0]], atol=1e-6)

    def test_zero_gradient_has_cosine_zero(self):
        cos = cosines(jnp.array([[4.0, 0.0], [0.0, 0.0]]))
        np.testing.assert_array_equal(cos, [[1.0, 0.0], [0.0, 0.0]])

    def test_antiparallel_and_duplicate_stay_in_range(self):
        rows = np.array([[0.1, 0.7], [0.1, 0.7], [-0.3, -2.1]], np.float32)
        cos = np.asarray(cosines(rows @ rows.T))
        np.testing.assert_allclose(
            cos, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], atol=1e-6
        )
        assert np.abs(cos).max() <= 1.0

    def test_batched(self):
        rows = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)
        gram = rows @ rows.swapaxes(-1, -2)
        one = np.asarray(cosines(gram[1, 3]))
        np.testing.assert_allclose(cosines(gram)[1, 3], one, atol=1e-6)

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 1)])
    def test_not_square(self, shape):
        with pytest.raises(ValueError, match=r"\[\.\.\., H, H\], got shape"):
            hw.cosines(jnp.ones(shape))
