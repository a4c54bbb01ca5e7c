"""One network in NNX, Linen and Equinox, through objective, gradients and routing."""

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import headwise as hw
from headwise import nn

X = jnp.array(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
TARGETS = {
    "loss1": jnp.array([0, 1, 1, 0, 1, 0]),
    "loss2": jnp.linspace(-1.0, 1.0, 6)[:, None],
}
RNGS = nnx.Rngs(0)
OBJECTIVE = hw.Objective(
    {
        "loss1": optax.losses.softmax_cross_entropy_with_integer_labels,
        "loss2": optax.losses.squared_error,
    },
    weights={"loss1": 0.7, "loss2": 1.5},
)


class NnxNetwork(nnx.Module):
    """Batch norm and dropout, so that the forward pass changes the model."""

    def __init__(self, rngs):
        self.A = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.B = nnx.Linear(4, 4, rngs=rngs)
        self.C = nnx.Linear(4, 2, rngs=rngs)
        self.D = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        h = self.B(self.drop(nnx.relu(self.norm(self.A(x)))))
        return {"loss1": self.C(h), "loss2": self.D(h)}


class LinenNetwork(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        h = flax.linen.Dense(4, name="A")(x)
        h = flax.linen.Dense(4, name="B")(flax.linen.relu(h))
        return {
            "loss1": flax.linen.Dense(2, name="C")(h),
            "loss2": flax.linen.Dense(1, name="D")(h),
        }


class EquinoxNetwork(eqx.Module):
    A: eqx.nn.Linear
    B: eqx.nn.Linear
    C: eqx.nn.Linear
    D: eqx.nn.Linear
    activation: object = jax.nn.relu  # not an array: partition keeps it apart

    def __init__(self, key):
        a, b, c, d = jax.random.split(key, 4)
        self.A = eqx.nn.Linear(3, 4, key=a)
        self.B = eqx.nn.Linear(4, 4, key=b)
        self.C = eqx.nn.Linear(4, 2, key=c)
        self.D = eqx.nn.Linear(4, 1, key=d)

    def __call__(self, x):
        h = self.B(self.activation(self.A(x)))
        return {"loss1": self.C(h), "loss2": self.D(h)}


def with_nnx_split():
    model = NnxNetwork(nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def apply(params, x):
        return nnx.merge(graphdef, params, rest, copy=True)(x)

    return apply, params


def with_functional():
    pure, params, rest = nn.functional(NnxNetwork(nnx.Rngs(0)))
    return lambda params, x: pure(params, rest, x)[0], params


def with_linen():
    model = LinenNetwork()
    return model.apply, model.init(jax.random.key(0), X)


def with_equinox():
    params, static = eqx.partition(
        EquinoxNetwork(jax.random.key(0)), eqx.is_inexact_array
    )
    return lambda params, x: jax.vmap(eqx.combine(params, static))(x), params


@pytest.fixture(
    scope="module", params=[with_nnx_split, with_functional, with_linen, with_equinox]
)
def model(request):
    """(values_fn, params, values and head gradients)."""
    apply, params = request.param()

    def values_fn(params, x):
        return OBJECTIVE.values(apply(params, x), TARGETS)

    return values_fn, params, jax.jit(hw.head_grads(values_fn))(params, X)


class Inner(nnx.Module):
    """What a call of BatchNorm writes, with no parameter beside it."""

    def __init__(self):
        self.mean, self.w = nnx.BatchStat(jnp.zeros(2)), nnx.Param(jnp.ones(2))


class KerasVariable:
    """As Keras has it: no array of JAX, and a page of numbers if it is printed."""

    __module__ = "keras.src.backend.common.variables"
    dtype = "float32"

    def __repr__(self):
        return "1.0 " * 10_000


LINEAR = eqx.nn.Linear(3, 2, key=jax.random.key(0))
NOT_PARAMETERS = {
    "dropout": (NnxNetwork(nnx.Rngs(0)), "alone, got Rng.* at 'drop/.*nn.functional"),
    "rngs": (
        {"m": nnx.Dropout(0.1, rngs=nnx.Rngs(0))},
        "Rng.* at 'm/rngs/.*functional",
    ),
    "statistics": ([Inner()], r"parameters alone, got BatchStat at '0/mean'; apply"),
    "linen": (LinenNetwork(), r"arrays, got LinenNetwork; params = model.init"),
    "equinox": (
        {"m": [LINEAR, eqx.nn.Lambda(jax.nn.relu)]},
        r"arrays, got custom_jvp at 'm/1/fn'; .*eqx.partition",
    ),
    "keras": ({"w": KerasVariable()}, r"got KerasVariable at 'w'; take its .value"),
    "function": ({"w": jnp.sin}, r"at 'w'; keep what is not trained out"),
    "int": ({"w": jnp.ones(2, int)}, r"floating arrays, got int32 at 'w'; keep what"),
}


@pytest.mark.parametrize("kind", NOT_PARAMETERS)
def test_what_is_no_parameter_names_the_way_out(kind):
    """Statistics that were taken for parameters would decay with them, unmoved."""
    params, words = NOT_PARAMETERS[kind]

    def values_fn(params):
        raise AssertionError("not called")

    for refused in (
        lambda: hw.head_grads(values_fn)(params),
        lambda: hw.head_gramian(values_fn)(params),
        lambda: hw.routing(values_fn, params),
        lambda: hw.training.init_state(
            ["a"], params, optax.sgd(0.1), hw.balancers.equal()
        ),
    ):
        with pytest.raises(TypeError, match=f"params: expected .*{words}") as raised:
            refused()
        assert len(str(raised.value)) < 200


def test_modules_of_parameters_alone_are_parameters():
    """And what `nnx.split` chose is taken as it is, whatever its type."""
    grads = hw.head_grads(lambda m: {"a": jnp.sum(m(X))})(nnx.Linear(3, 1, rngs=RNGS))
    np.testing.assert_allclose(grads[1]["a"].bias[...], [6.0])
    statistics = nnx.state(Inner(), nnx.BatchStat)
    grads = hw.head_grads(lambda s: {"a": jnp.sum(3 * s["mean"][...])})(statistics)[1]
    np.testing.assert_allclose(jax.tree.leaves(grads["a"]), [[3.0, 3.0]])


def test_flags_that_can_be_called_are_flags():
    """A module of Equinox is a tree of its leaves, and has a `__call__`."""

    def values_fn(m):
        return {"a": jnp.sum(jax.vmap(m)(X))}

    flags = eqx.tree_at(lambda m: m.bias, jax.tree.map(lambda _: True, LINEAR), False)
    grads = hw.head_grads(values_fn, wrt=flags)(LINEAR)[1]
    assert grads["a"].bias is None
    np.testing.assert_allclose(grads["a"].weight, [X.sum(0)] * 2, rtol=1e-5)
    gram = hw.head_gramian(values_fn, wrt=flags)(LINEAR)[1]
    np.testing.assert_allclose(gram, [[2 * np.sum(X.sum(0) ** 2)]], rtol=1e-5)
    by_path = jax.tree_util.Partial(lambda end, path: path.endswith(end), "bias")
    grads = hw.head_grads(values_fn, wrt=by_path)(LINEAR)[1]
    assert grads["a"].weight is None


def assert_close(got, expected):
    # float32 rounding in numbers of order 1.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6),
        got,
        expected,
    )


def test_equals_grad_of_each_head(model):
    values_fn, params, (values, grads) = model

    @jax.jit
    def alone(params):
        return {n: jax.grad(lambda p, n=n: values_fn(p, X)[n])(params) for n in values}

    assert_close(grads, alone(params))
    assert jax.tree.structure(grads["loss1"]) == jax.tree.structure(params)


def test_weighted_sum_is_the_gradient_of_the_total(model):
    values_fn, params, (_, grads) = model
    total = jax.jit(jax.grad(lambda p: OBJECTIVE.total(values_fn(p, X))))(params)
    weighted = jax.tree.map(
        lambda a, b: 0.7 * a + 1.5 * b, grads["loss1"], grads["loss2"]
    )
    assert_close(weighted, total)


def test_each_loss_moves_the_layers_on_its_path(model):
    values_fn, params, (_, grads) = model
    r = hw.routing(values_fn, params, X)
    norm = {"norm"} if "norm" in r.by_module() else set()
    assert set(r.moves("loss1")) == {"A", "B", "C"} | norm
    assert set(r.moves("loss2")) == {"A", "B", "D"} | norm
    c = jax.jit(hw.contributions)(grads, OBJECTIVE.weights)
    assert set(c.modules) == {"A", "B", "C", "D"} | norm
    private = {m: np.asarray(c.share[i]) for i, m in enumerate(c.modules) if m in "CD"}
    np.testing.assert_allclose(private["C"], [1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(private["D"], [0.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(c.share, axis=1), 1.0, rtol=1e-5)


def test_balanced_gradient(model):
    values_fn, params, (_, grads) = model
    balancer = hw.balancers.imtl_g()
    step = jax.jit(hw.balanced_grad(values_fn, balancer))
    direction, info, _ = step(params, balancer.init(["loss1", "loss2"]), X)
    weights = info.weights
    weighted = jax.tree.map(
        lambda a, b: weights["loss1"] * a + weights["loss2"] * b,
        grads["loss1"],
        grads["loss2"],
    )
    assert_close(direction, weighted)
    np.testing.assert_allclose(sum(weights.values()), 1.0, rtol=1e-6)
