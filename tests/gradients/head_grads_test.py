"""`head_grads`: one gradient a head, equal to `jax.grad` of that head alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

X = jnp.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.5]])


def make_params(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"A": (3, 4), "B": (4, 4), "C": (4, 2), "D": (4, 1)}
    return {
        name: jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32)
        for name, shape in shapes.items()
    }


def heads(params, h):
    return {
        "y1": jnp.sum(jnp.square(h @ params["C"])),
        "y2": jnp.mean(jnp.abs(h @ params["D"])),
    }


def plain(params, x):
    return heads(params, jnp.tanh(jnp.tanh(x @ params["A"]) @ params["B"]))


def jitted(params, x):
    return jax.jit(plain)(params, x)


def scanned(params, x):
    def body(h, _):
        return jnp.tanh(h @ params["B"]), jnp.sum(h @ params["D"])

    h, each = jax.lax.scan(body, x @ params["A"], None, length=3)
    return {"y1": jnp.sum(jnp.square(h @ params["C"])), "y2": jnp.sum(jnp.sin(each))}


def remat(params, x):
    trunk = jax.checkpoint(lambda p, x: jnp.tanh(jnp.tanh(x @ p["A"]) @ p["B"]))
    return heads(params, trunk(params, x))


@jax.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def cube_jvp(primals, tangents):
    # Not the true derivative, so that a wrong path would be seen.
    return cube(*primals), 5.0 * tangents[0]


@jax.custom_vjp
def scaled(x, y):
    return x * y


scaled.defvjp(
    lambda x, y: (scaled(x, y), (x, y)),
    lambda kept, ct: (7.0 * kept[1] * ct, jnp.zeros_like(kept[0])),
)


def with_custom_jvp(params, x):
    return heads(params, cube(x @ params["A"]) @ params["B"])


def with_custom_vjp(params, x):
    h = x @ params["A"]
    return heads(params, scaled(h, h @ params["B"]))


def tied(params, x):
    h = jnp.tanh(x @ params["A"] @ params["B"]) @ params["B"].T
    return heads(params, h) | {"y3": jnp.sum(h @ params["A"].T)}


def embedded(params, x):
    ids = jnp.array([0, 2, 2, 1])
    return heads(params, params["A"][ids] @ params["B"])


def reaches_nothing(params, x):
    constant = jnp.sum(jax.lax.stop_gradient(params["A"]))
    return heads(params, x @ params["A"]) | {"y3": constant, "y4": jnp.sum(x)}


PROGRAMS = {
    program.__name__: program
    for program in (
        plain,
        jitted,
        scanned,
        remat,
        with_custom_jvp,
        with_custom_vjp,
        tied,
        embedded,
        reaches_nothing,
    )
}


def one_by_one(program, params, *args):
    """The reference: every head differentiated alone, by JAX's own reverse mode."""
    names = sorted(jax.eval_shape(program, params, *args))
    return {n: jax.grad(lambda p, n=n: program(p, *args)[n])(params) for n in names}


def assert_close(got, expected, rtol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol, atol=rtol
        ),
        got,
        expected,
    )


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_equals_grad_of_each_head(program):
    params = make_params()
    values, grads = jax.jit(hw.head_grads(program))(params, X)
    expected = jax.jit(lambda p, x: (program(p, x), one_by_one(program, p, x)))
    expected_values, expected_grads = expected(params, X)
    assert list(values) == list(grads) == sorted(expected_values)
    # A few float32 roundings (2^-23 each) of numbers of order 1 to 10.
    assert_close(values, expected_values, 2e-6)
    assert_close(grads, expected_grads, 2e-6)


def test_eager_equals_jit():
    params = make_params()
    transformed = hw.head_grads(plain)
    # The same operations, fused or not: the last bits may differ.
    assert_close(transformed(params, X), jax.jit(transformed)(params, X), 2e-6)


def test_vmap_over_problems_is_a_loop():
    many = jax.tree.map(lambda *a: jnp.stack(a), *map(make_params, range(3)))
    batch = jnp.stack([X, 2 * X, -X])
    together = jax.jit(jax.vmap(hw.head_grads(plain)))(many, batch)
    one = jax.jit(hw.head_grads(plain))
    for k in range(3):
        alone = one(jax.tree.map(lambda a, k=k: a[k], many), batch[k])
        row = jax.tree.map(lambda a, k=k: a[k], together)
        assert_close(row, alone, 2e-6)  # float32 rounding


def test_aux_comes_back_as_it_is():
    def program(params, x):
        return plain(params, x), {"hidden": x @ params["A"], "text": "kept"}

    params = make_params()
    (values, aux), grads = hw.head_grads(program, has_aux=True)(params, X)
    expected_values, expected = jax.jit(hw.head_grads(plain))(params, X)
    assert aux["text"] == "kept"
    np.testing.assert_array_equal(aux["hidden"], X @ params["A"])
    assert_close((values, grads), (expected_values, expected), 2e-6)


def test_keyword_arguments_and_integer_inputs():
    def program(params, ids, *, scale):
        return {"y": scale * jnp.sum(params[ids] ** 2)}

    grads = hw.head_grads(program)(jnp.arange(4.0), jnp.array([1, 3, 3]), scale=2)[1]
    # 2 * d/dp (p1² + 2 p3²)
    np.testing.assert_array_equal(grads["y"], [0.0, 4.0, 0.0, 24.0])


def test_bfloat16_stays_bfloat16():
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), make_params())
    x = X.astype(jnp.bfloat16)
    values, grads = jax.jit(hw.head_grads(plain))(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("bfloat16")}
    assert values["y1"].dtype == jnp.bfloat16
    wide, x = jax.tree.map(lambda a: a.astype(jnp.float32), (params, x))
    wide = jax.jit(lambda p, x: one_by_one(plain, p, x))(wide, x)
    # bfloat16 keeps 8 bits; about ten roundings of 2^-9 each along the path.
    assert_close(grads, wide, 0.05)


def test_head_that_reaches_nothing_has_gradient_zero():
    grads = jax.jit(hw.head_grads(reaches_nothing))(make_params(), X)[1]
    for name in ("y3", "y4"):
        for leaf in jax.tree.leaves(grads[name]):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_nan_of_one_head_stays_its_own(wrap):
    @wrap
    def program(params, x):
        h = x @ params["A"]
        return heads(params, h) | {"bad": jnp.sum(jnp.sqrt(h @ params["B"] - 1e3))}

    params = make_params()
    values, grads = jax.jit(hw.head_grads(program))(params, X)
    assert np.isnan(values["bad"])
    assert np.isnan(grads["bad"]["A"]).any()
    alone = jax.jit(lambda p: one_by_one(lambda p, x: heads(p, x @ p["A"]), p, X))
    good = alone(params)
    for name, expected in good.items():
        assert_close(grads[name], expected, 2e-6)


def test_weighted_sum_is_the_gradient_of_the_total():
    weights = {"y1": 0.25, "y2": -3.0}
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), make_params())
        x = np.asarray(X, np.float64)

        def total(p):
            values = scanned(p, x)
            return sum(weights[n] * values[n] for n in weights)

        grads = jax.jit(hw.head_grads(scanned))(params, x)[1]
        weighted = jax.tree.map(
            lambda a, b: weights["y1"] * a + weights["y2"] * b, grads["y1"], grads["y2"]
        )
        assert_close(
            weighted, jax.jit(jax.grad(total))(params), 1e-13
        )  # float64 rounding


def count(jaxpr, primitive):
    """Occurrences in a program and in the programs inside it."""
    found = 0
    for eqn in jaxpr.eqns:
        found += eqn.primitive.name == primitive
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            found += count(inner, primitive) if hasattr(inner, "eqns") else 0
    return found


@pytest.mark.parametrize("number", [2, 5])
def test_one_backward_pass_a_head_along_its_own_path(number):
    depth = 3

    def program(params, x):
        for layer in range(depth):
            x = x @ params[f"trunk{layer}"]
        return {
            f"y{h}": jnp.sum(jnp.sin(x @ params[f"head{h}"])) for h in range(number)
        }

    params = {f"trunk{layer}": jnp.eye(3) for layer in range(depth)}
    params |= {f"head{h}": jnp.eye(3) for h in range(number)}
    jaxpr = jax.make_jaxpr(hw.head_grads(program))(params, jnp.ones((2, 3)))
    forward = depth + number
    # Two products a layer (for its weights, for its input), but none for the input x.
    backward = number * (2 * (depth + 1) - 1)
    assert count(jaxpr.jaxpr, "dot_general") == forward + backward


class Vector(list):
    """Not a mapping."""


@pytest.mark.parametrize(
    ("program", "params", "error", "words"),
    [
        (lambda p: p["w"], {"w": 1.0}, TypeError, ["values_fn", "name of head"]),
        (lambda p: Vector([p["w"]]), {"w": 1.0}, TypeError, ["Vector"]),
        (
            lambda p: {"y": p["w"] * jnp.ones(3)},
            {"w": 1.0},
            ValueError,
            ["'y'", "(3,)"],
        ),
        (
            lambda p: {"count": jnp.array(3)},
            {"w": 1.0},
            TypeError,
            ["'count'", "int32"],
        ),
        (lambda p: {"y": p["w"] * 1j}, {"w": 1.0}, TypeError, ["'y'", "complex64"]),
        (lambda p: {}, {"w": 1.0}, ValueError, ["at least one head"]),
        (lambda p: {3: p["w"]}, {"w": 1.0}, TypeError, ["names of heads", "3"]),
        (lambda p: {"y": 1.0}, {}, ValueError, ["params", "without leaves"]),
        (
            lambda p: {"y": 1.0},
            {"trunk": {"steps": jnp.arange(3)}},
            TypeError,
            ["params", "int32", "trunk/steps"],
        ),
        (lambda p: {"y": 1.0}, {"name": "A"}, TypeError, ["params", "str", "name"]),
    ],
)
@pytest.mark.parametrize("transform", ["head_grads", "head_gramian", "routing"])
def test_misuse_is_named(transform, program, params, error, words):
    call = {
        "head_grads": lambda: hw.head_grads(program)(params),
        "head_gramian": lambda: (
            jax.jit(hw.head_gramian(program))(params)
            if "name" not in params
            else hw.head_gramian(program)(params)
        ),
        "routing": lambda: hw.routing(program, params),
    }[transform]
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value)


def test_missing_aux_is_named():
    with pytest.raises(TypeError, match="has_aux=True, got dict"):
        hw.head_grads(plain, has_aux=True)(make_params(), X)
