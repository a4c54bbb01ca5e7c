"""`MultiHead` and `Mlp`."""

import chex
import jax
import numpy as np
import pytest
from absl.testing import parameterized
from flax import nnx
from jax import numpy as jnp

from headwise.nn import functional
from headwise.nn import Mlp
from headwise.nn import MultiHead

X = jnp.arange(8.0).reshape(2, 4) / 8.0


def two_heads(names=("b", "a")):
    rngs = nnx.Rngs(0)
    trunk = Mlp((4, 3), activate_last=True, rngs=rngs)
    return MultiHead(trunk, {n: nnx.Linear(3, 2, rngs=rngs) for n in names})


class MultiHeadTest(parameterized.TestCase):
    def test_outputs_are_heads_of_the_trunk(self):
        model = two_heads()
        outputs = model(X)
        self.assertEqual(list(outputs), ["a", "b"])
        for name, y in outputs.items():
            np.testing.assert_array_equal(y, model.heads[name](model.trunk(X)))

    def test_a_head_moves_the_trunk_and_itself(self):
        apply, params, rest = functional(two_heads())
        grads = jax.grad(lambda p: jnp.sum(apply(p, rest, X)[0]["a"] ** 2))(params)
        moved = {
            k: any(bool(jnp.any(g != 0)) for g in jax.tree.leaves(tree))
            for k, tree in {"trunk": grads["trunk"], **grads["heads"]}.items()
        }
        self.assertEqual(moved, {"trunk": True, "a": True, "b": False})

    def test_names_that_are_methods_of_dicts(self):
        _, params, _ = functional(two_heads(("items", "keys", "a b")))
        self.assertEqual(sorted(params["heads"]), ["a b", "items", "keys"])

    def test_keyword_arguments_reach_the_trunk(self):
        model = MultiHead(lambda x, scale: scale * x, {"a": lambda x: x + 1.0})
        np.testing.assert_array_equal(model(X, scale=2.0)["a"], 2.0 * X + 1.0)

    @parameterized.parameters(
        ({}, ValueError, "at least one head"),
        ({"": jnp.tanh}, TypeError, "non-empty str.*got ''"),
        ({1: jnp.tanh}, TypeError, "str.*got 1 of type int"),
        ([jnp.tanh], TypeError, "a dict by name of head, got list"),
        ({"a": 3}, TypeError, r"heads\['a'\]: expected a callable, got int"),
    )
    def test_errors(self, heads, error, message):
        with pytest.raises(error, match=message):
            MultiHead(jnp.tanh, heads)

    def test_trunk_must_be_callable(self):
        with pytest.raises(TypeError, match="trunk: expected a callable"):
            MultiHead(None, {"a": jnp.tanh})


class MlpTest(parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_equals_the_formula(self, activate_last):
        net = Mlp(
            (4, 5, 2),
            activation=jnp.tanh,
            activate_last=activate_last,
            rngs=nnx.Rngs(0),
        )
        first, second = net.layers
        hidden = jnp.tanh(X @ first.kernel[...] + first.bias[...][None])
        expected = hidden @ second.kernel[...] + second.bias[...][None]
        expected = jnp.tanh(expected) if activate_last else expected
        np.testing.assert_allclose(net(X), expected, rtol=1e-5, atol=1e-6)

    def test_dtype(self):
        net = Mlp((4, 5, 2), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        chex.assert_type(net(X), jnp.bfloat16)
        chex.assert_type(net.layers[0].kernel[...], jnp.float32)

    @parameterized.parameters(
        ((), "two or more"),
        ((3,), "two or more"),
        ((3, 0), "a positive int, got 0"),
        ((3, 2.0), r"a positive int, got 2\.0"),
    )
    def test_errors(self, sizes, message):
        with pytest.raises(ValueError, match=f"sizes: expected {message}"):
            Mlp(sizes, rngs=nnx.Rngs(0))
