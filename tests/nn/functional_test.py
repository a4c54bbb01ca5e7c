"""`functional` and `unite`: pure, transformable, and faithful to the module."""

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
from headwise.nn import unite


class Noisy(nnx.Module):
    """Batch norm, dropout and a list, so that every kind of state occurs."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs) for _ in range(1)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.dropout(self.norm(x))


class Tied(nnx.Module):
    """One layer under two names."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
        self.second = self.first

    def __call__(self, x):
        return self.second(self.first(x))


class Growing(nnx.Module):
    """A call that adds a variable."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        self.seen = nnx.Intermediate(x)
        return self.dense(x)


X = jnp.arange(15.0).reshape(5, 3) / 7.0


def noisy():
    return Noisy(nnx.Rngs(0))


def paths(tree):
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def raw(tree):
    """Random keys as numbers, to compare."""

    def is_key(a):
        return jnp.issubdtype(a.dtype, jax.dtypes.prng_key)

    return jax.tree.map(
        lambda a: np.asarray(jax.random.key_data(a) if is_key(a) else a), tree
    )


class FunctionalTest(chex.TestCase):
    def test_paths_and_partition(self):
        _, params, rest = functional(noisy())
        self.assertEqual(
            paths(params),
            ["layers/0/bias", "layers/0/kernel", "norm/bias", "norm/scale"],
        )
        self.assertEqual(
            paths(rest),
            ["dropout/rngs/count", "dropout/rngs/key", "norm/mean", "norm/var"],
        )
        trunk = nnx.List([nnx.Linear(3, 2, rngs=nnx.Rngs(0))])
        _, params, _ = functional(nnx.Dict(trunk=trunk))
        self.assertEqual(paths(params), ["trunk/0/bias", "trunk/0/kernel"])

    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_the_module(self):
        apply, params, rest = functional(noisy())
        for train in (True, False):
            model = noisy()
            model.train() if train else model.eval()
            expected = model(X)
            outputs, new_rest = self.variant(apply, static_argnames="train")(
                params, rest, X, train=train
            )
            chex.assert_trees_all_close(outputs, expected, rtol=1e-5, atol=1e-5)
            chex.assert_trees_all_close(new_rest["norm"]["mean"], model.norm.mean[...])

    def test_batch_statistics_move_in_training_only(self):
        apply, params, rest = functional(noisy())
        apply = jax.jit(apply, static_argnames="train")
        _, trained = apply(params, rest, X)
        _, evaluated = apply(params, rest, X, train=False)
        linear = np.asarray(X) @ np.asarray(params["layers"][0]["kernel"])
        np.testing.assert_allclose(
            trained["norm"]["mean"], 0.01 * linear.mean(axis=0), rtol=1e-4, atol=1e-6
        )
        chex.assert_trees_all_equal(raw(evaluated), raw(rest))

    def test_dropout_draws(self):
        apply, params, rest = functional(noisy())
        first, after = apply(params, rest, X)
        again, _ = apply(params, rest, X)
        second, _ = apply(params, after, X)
        chex.assert_trees_all_equal(first, again)
        self.assertFalse(np.array_equal(first == 0, second == 0))
        quiet, _ = apply(params, rest, X, train=False)
        quiet_later, _ = apply(params, after | {"norm": rest["norm"]}, X, train=False)
        chex.assert_trees_all_equal(quiet, quiet_later)
        self.assertFalse((quiet == 0).any())

    def test_nothing_of_the_caller_changes(self):
        model = noisy()
        before = raw(functional(model).rest)
        apply, params, rest = functional(model)
        jax.grad(lambda p: apply(p, rest, X)[0].sum())(params)
        apply(params, rest, X)
        apply(params, rest, X, train=False)
        unite(model, params, apply(params, rest, X)[1])
        chex.assert_trees_all_equal(raw(rest), before)
        chex.assert_trees_all_equal(raw(functional(model).rest), before)
        self.assertFalse(model.dropout.deterministic)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradient_equals_nnx(self):
        model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jax.nn.tanh)
        apply, params, rest = functional(model)
        grads = self.variant(jax.grad(lambda p: apply(p, rest, X)[0].sum()))(params)
        expected = nnx.to_pure_dict(nnx.grad(lambda m: m(X).sum())(model))
        chex.assert_trees_all_close(grads, expected, rtol=1e-5)

    def test_vmap_over_params_and_rest_equals_loop(self):
        apply, _, _ = functional(noisy())

        def values(key):
            return functional(Noisy(nnx.Rngs(key)))[1:]

        keys = jax.random.split(jax.random.key(1), 3)
        params, rest = jax.jit(jax.vmap(values))(keys)
        outputs, new_rest = jax.jit(jax.vmap(apply, in_axes=(0, 0, None)))(
            params, rest, X
        )
        compiled = jax.jit(apply)
        for i, key in enumerate(keys):
            expected = compiled(*values(key), X)
            got = jax.tree.map(lambda a, i=i: a[i], (outputs, new_rest))
            chex.assert_trees_all_close(raw(got), raw(expected), rtol=1e-5, atol=1e-5)

    def test_scan_equals_loop(self):
        apply, params, rest = functional(noisy())
        last, outputs = jax.lax.scan(
            lambda rest, x: apply(params, rest, x)[::-1], rest, jnp.stack([X, X + 1.0])
        )
        state, expected = rest, []
        for x in (X, X + 1.0):
            y, state = apply(params, state, x)
            expected.append(y)
        chex.assert_trees_all_close(outputs, jnp.stack(expected), rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close(raw(last), raw(state), rtol=1e-5)

    def test_rest_keeps_structure_and_dtypes(self):
        for dtype in (None, jnp.bfloat16):
            model = MultiHead(
                Mlp((3, 4), dtype=dtype, rngs=nnx.Rngs(0)),
                {"a": nnx.BatchNorm(4, dtype=dtype, rngs=nnx.Rngs(0))},
            )
            apply, params, rest = functional(model)
            _, new_rest = jax.eval_shape(apply, params, rest, X)
            chex.assert_trees_all_equal_shapes_and_dtypes(rest, new_rest)

    def test_one_trace_for_many_values(self):
        apply, params, rest = functional(noisy())
        step = jax.jit(chex.assert_max_traces(lambda p, r: apply(p, r, X), n=1))
        for _ in range(3):
            _, rest = step(params, rest)
            params = jax.tree.map(lambda p: 2.0 * p, params)

    def test_tied_weights_are_one_leaf(self):
        model = Tied(nnx.Rngs(0))
        apply, params, rest = functional(model)
        self.assertEqual(paths(params), ["first/kernel"])
        kernel = params["first"]["kernel"]
        np.testing.assert_allclose(
            apply(params, rest, X)[0], X @ kernel @ kernel, rtol=1e-5, atol=1e-6
        )
        grads = jax.grad(lambda p: apply(p, rest, X)[0].sum())(params)
        expected = jax.grad(lambda k: (X @ k @ k).sum())(kernel)
        np.testing.assert_allclose(grads["first"]["kernel"], expected, rtol=1e-5)
        united = unite(model, jax.tree.map(jnp.ones_like, params))
        self.assertIs(united.first, united.second)

    def test_what_a_call_adds_is_left_out(self):
        apply, params, rest = functional(Growing(nnx.Rngs(0)))
        _, new_rest = apply(params, rest, X)
        self.assertEqual(new_rest, {})

    def test_unite(self):
        model = noisy()
        apply, params, rest = functional(model)
        _, rest = apply(params, rest, X)
        params = jax.tree.map(lambda p: p + 1.0, params)
        united = unite(model, params, rest)
        chex.assert_trees_all_equal(functional(united).params, params)
        chex.assert_trees_all_equal(raw(functional(united).rest), raw(rest))
        united.eval()
        np.testing.assert_allclose(
            united(X), apply(params, rest, X, train=False)[0], rtol=1e-5, atol=1e-6
        )
        as_text = params | {"layers": {"0": params["layers"][0]}}
        chex.assert_trees_all_equal(functional(unite(model, as_text)).params, params)


class ErrorsTest(parameterized.TestCase):
    def test_not_a_module(self):
        with pytest.raises(TypeError, match=r"model: expected an nnx\.Module, got"):
            functional(jnp.ones(3))

    @parameterized.parameters(
        ({}, r"params: .*\['bias', 'kernel'\], got \[\]; missing \['bias', 'kernel'\]"),
        ({"bias": 1.0, "kernel": 1.0, "gain": 1.0}, r"unknown \['gain'\]"),
        ({"bias": {}, "kernel": 1.0}, "params: expected an array at bias, got a dict"),
        ([1.0], "params: expected a dict with keys"),
    )
    def test_structure(self, params, message):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        for call in (lambda: functional(model).apply(params, {}, X),):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(ValueError, match=message):
            unite(model, params)

    def test_shape(self):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        params = functional(model).params | {"bias": jnp.ones(5)}
        with pytest.raises(ValueError, match=r"expected shape \(2,\) at bias, got"):
            unite(model, params)

    def test_nested_path_is_named(self):
        apply, params, rest = functional(noisy())
        with pytest.raises(ValueError, match=r"params: .* at layers/0, got"):
            apply(params | {"layers": {0: {}}}, rest, X)
        with pytest.raises(ValueError, match="rest: expected keys"):
            apply(params, {}, X)
