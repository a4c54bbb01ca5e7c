"""Derivatives of an Objective: forward and reverse mode, and over each other."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

l2 = optax.losses.squared_error


def bent(p, t):
    return jnp.tanh(p - t) ** 2


def broken(p, t):
    return jnp.sqrt(p - p - 1.0) * p


class TestBothWays:
    """With a head that is NaN and has weight 0."""

    params = jnp.array([0.4, -0.7, 1.1])
    along = jnp.array([1.0, 2.0, -0.5])

    def total(self, params, weight=0.0):
        objective = hw.Objective({"y1": bent, "y2": bent, "bad": broken})
        outputs = {n: params * x for n, x in [("y1", 1.0), ("y2", 2.0), ("bad", 1.0)]}
        weights = {"y1": 0.5, "y2": 0.25, "bad": weight}
        return objective(outputs, dict.fromkeys(outputs, jnp.ones(3)), weights)[0]

    def plain(self, params):
        of_y1, of_y2 = bent(params, 1.0), bent(2 * params, 1.0)
        return jnp.mean(0.5 * of_y1 + 0.25 * of_y2)

    def test_every_way_equals_the_formula(self):
        def ways(f):
            def along(p):
                return jax.jvp(f, (p,), (self.along,))[1]

            return (
                jax.jacfwd(f)(self.params),
                jax.jacrev(f)(self.params),
                jax.linearize(f, self.params)[1](self.along),
                jax.hessian(f)(self.params),
                jax.jacfwd(jax.jacfwd(f))(self.params),
                jax.jvp(along, (self.params,), (self.along,))[1],
                jax.grad(jax.checkpoint(f))(self.params),
                jax.vmap(jax.jacfwd(f))(self.params[None]),
            )

        got, expected = jax.jit(lambda: (ways(self.total), ways(self.plain)))()
        chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-6)

    def test_reverse_over_either_way(self):
        """Without a NaN head: what it does to a second pullback is not promised."""

        objective = hw.Objective({"y1": bent, "y2": bent})

        def total(p):
            ones = jnp.ones(3)
            return objective({"y1": p, "y2": 2 * p}, {"y1": ones, "y2": ones})[0]

        def formula(p):
            return jnp.mean(bent(p, 1.0) + bent(2 * p, 1.0))

        ways = (jax.jacfwd, jax.jacrev)
        got = jax.jit(lambda: [jax.jacrev(way(total))(self.params) for way in ways])()
        expected = jax.jit(jax.hessian(formula))(self.params)
        chex.assert_trees_all_close(got, [expected] * 2, rtol=1e-5, atol=1e-6)

    def test_another_weight_is_not_hidden(self):
        tangent = jax.jvp(lambda p: self.total(p, 0.5), (self.params,), (self.along,))
        assert np.isnan(tangent).all()

    def test_rows_of_vmap_that_share_their_outputs(self):
        """Each has its own gate: signs do not cancel, and NaN stays in its row."""
        targets = jnp.array([[1.0, 2.0], [5.0, 0.0], [jnp.nan, 0.0]])
        weights = jnp.array([1.0, -1.0, 0.0])
        objective = hw.Objective({"y": l2})

        def total(y):
            def one(t, w):
                return objective({"y": y}, {"y": t}, {"y": w})[0]

            return jnp.sum(jax.vmap(one)(targets, weights))

        y = jnp.array([3.0, 3.0])  # Σ w (y - t): (3 - 1) - (3 - 5) and (3 - 2) - 3
        for derivative in (jax.grad, jax.jacfwd):
            assert jax.jit(derivative(total))(y).tolist() == [4.0, -2.0]

    def test_layers_of_the_user(self):
        """A loss with a rule of its own for one way keeps it."""

        @jax.custom_vjp
        def double(x):
            return 2 * x

        double.defvjp(lambda x: (2 * x, None), lambda _, ct: (2 * ct,))

        @jax.custom_jvp
        def cube(x):
            return x**3

        @cube.defjvp
        def jvp(primals, tangents):
            return cube(*primals), 3 * primals[0] ** 2 * tangents[0]

        def total(layer):
            objective = hw.Objective({"y": lambda p, t: layer(p) ** 2 - t})
            return lambda y: objective({"y": y}, {"y": jnp.zeros(2)})[0]

        y = jnp.array([1.0, 2.0])
        for derivative in (jax.grad, jax.jacrev):
            assert jax.jit(derivative(total(double)))(y).tolist() == [4.0, 8.0]
        hessian = jax.jit(jax.hessian(total(double)))(y)
        assert hessian.tolist() == [[4.0, 0.0], [0.0, 4.0]]
        with pytest.raises(TypeError, match="custom_vjp"):  # as without an Objective
            jax.jacfwd(total(double))(y)
        for derivative in (jax.grad, jax.jacfwd):
            slopes = jax.jit(derivative(total(cube)))(y)
            assert slopes.tolist() == [3.0, 96.0]  # 6 y⁵ / 2
