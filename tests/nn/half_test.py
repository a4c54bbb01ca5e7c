"""Every module computes in half precision close to float32, and stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import headwise as hw

DTYPES = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""With the largest relative error of one rounding."""
rng = np.random.default_rng(0)


class Normed(nnx.Module):
    """What the house has no own layer for: statistics, draws and a table."""

    def __init__(self, dtype=None, *, rngs):
        self.table = nnx.Embed(5, 6, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(6, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.dense = nnx.Linear(6, 3, dtype=dtype, rngs=rngs)

    def __call__(self, labels):
        return self.dense(self.dropout(nnx.tanh(self.norm(self.table(labels)))))


def heads_of(trunk, width):
    """`MultiHead` around each: its own way to compute is that of its parts."""
    rngs = nnx.Rngs(1)
    return hw.nn.MultiHead(trunk, {"y": nnx.Linear(width, 2, rngs=rngs)})


def array(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


# (module of a dtype, inputs)
MODULES = {
    "Mlp": (lambda **k: hw.nn.Mlp((4, 16, 16, 3), **k), array(8, 4)),
    "ConvNet": (
        lambda **k: hw.nn.ConvNet((8, 8, 1), (3,), out_features=5, kernel_size=3, **k),
        array(4, 8, 8, 1),
    ),
    "UNet3D": (lambda **k: hw.nn.UNet3D(1, (2, 4), **k), array(2, 4, 4, 4, 1)),
    "MultiHead": (
        lambda dtype=None, *, rngs: heads_of(
            hw.nn.Mlp((4, 6), dtype=dtype, rngs=rngs), 6
        ),
        array(8, 4),
    ),
    "Normed": (Normed, jnp.asarray(rng.integers(0, 5, 16))),
}


def run(apply, params, rest, x):
    def loss(params):
        outputs, new = apply(params, rest, x)
        leaves = jax.tree.leaves(outputs)
        wide = [y.astype(jnp.float32) for y in leaves]
        return sum(jnp.mean((y - 0.5) ** 2) for y in wide), (outputs, new)

    grads, (outputs, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    return outputs, grads, new


def distance(got, want):
    """Relative, over all entries together."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    squares = [
        (np.sum(np.square(np.float64(a) - b)), np.sum(np.square(np.float64(b))))
        for a, b in pairs
    ]
    return np.sqrt(sum(a for a, _ in squares) / sum(b for _, b in squares))


def types(tree):
    return {str(x.dtype) for x in jax.tree.leaves(tree)}


@pytest.mark.parametrize("name", MODULES)
def test_outputs_gradients_and_statistics(name):
    make, x = MODULES[name]
    apply, params, rest = hw.nn.functional(make(rngs=nnx.Rngs(0)))
    outputs, grads, new = run(apply, params, rest, x)
    for text, rounding in DTYPES.items():
        dtype = jnp.dtype(text)
        whole = hw.nn.functional(make(rngs=nnx.Rngs(0)), dtype=dtype)
        own = hw.nn.functional(make(rngs=nnx.Rngs(0), dtype=dtype))
        for model in (whole, own):
            assert types(model.params) == {"float32"}
            got, slopes, later = run(model.apply, params, rest, x)
            # A handful of roundings a layer, there and back.
            assert 0 < distance(got, outputs) < 8 * rounding
            assert distance(slopes, grads) < 32 * rounding
            assert types(slopes) == {"float32"}
            assert jax.tree.map(jnp.shape, later) == jax.tree.map(jnp.shape, new)
            assert jax.tree.map(lambda r: r.dtype, later) == jax.tree.map(
                lambda r: r.dtype, rest
            )
            if name == "Normed":
                moved = {n: later["norm"][n] for n in ("mean", "var")}
                still = {n: new["norm"][n] for n in ("mean", "var")}
                assert distance(moved, still) < rounding
                assert types(moved) == {"float32"}
        assert types(jax.eval_shape(whole.apply, params, rest, x)[0]) == {"float32"}


def test_what_is_no_floating_array_stays_as_it_is():
    seen = []

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))

        def __call__(self, x, labels, scale, *, mask, flag):
            seen.append((x.dtype, labels.dtype, scale, mask.dtype, flag, self.w.dtype))
            return {"y": x * self.w, "labels": labels, "wide": x.astype(jnp.float32)}

    apply, params, rest = hw.nn.functional(Model(), dtype=jnp.float16)
    x, labels, mask = jnp.ones(3), jnp.arange(3), jnp.ones(3, bool)
    outputs, _ = apply(params, rest, x, labels, 2.0, mask=mask, flag=True)
    f16 = jnp.dtype("float16")
    assert seen == [(f16, labels.dtype, 2.0, jnp.dtype(bool), True, f16)]
    assert types(outputs) == {"float32", str(labels.dtype)}
    with pytest.raises(ValueError, match="dtype: expected a floating one, got int32"):
        hw.nn.functional(Model(), dtype=jnp.int32)


@pytest.mark.parametrize("mixed", [False, True])
def test_losses_are_computed_in_float32(mixed):
    """Of others too, alone and in a mixture: 300.4 in bfloat16 is 300."""
    loss = optax.losses.squared_error
    if mixed:
        loss = hw.losses.mix({"l2": (loss, 1.0)})
    objective = hw.Objective({"y": loss})
    preds, targets = jnp.bfloat16([[20.0], [1.0]]), jnp.float32([[2.5], [0.99]])
    with jax.numpy_dtype_promotion("strict"):
        value = objective.values({"y": preds}, {"y": targets})["y"]
    np.testing.assert_allclose(value, (17.5**2 + 0.01**2) / 2, rtol=1e-6)
    assert value.dtype == jnp.float32
