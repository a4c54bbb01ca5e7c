"""`head_grads`: one gradient a head, equal to `jax.grad` of that head alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.gradients import _programs
from tests.gradients._programs import assert_close
from tests.gradients._programs import count
from tests.gradients._programs import make_params
from tests.gradients._programs import one_by_one
from tests.gradients._programs import plain
from tests.gradients._programs import PROGRAMS
from tests.gradients._programs import reaches_nothing
from tests.gradients._programs import scanned

X = jnp.asarray(_programs.X, jnp.float32)

METHODS = ("sequential", "batched")
GRAMIANS = ("sequential", "lockstep", "batched")


@functools.cache
def answers(name):
    """All ways through one program, and the reference, in one compiled program."""
    program = PROGRAMS[name]

    def everything(params, x):
        grads = {m: hw.head_grads(program, method=m)(params, x) for m in METHODS}
        grams = {m: hw.head_gramian(program, method=m)(params, x) for m in GRAMIANS}
        return grads, grams, (program(params, x), one_by_one(program, params, x))

    with jax.enable_x64(True):
        params = make_params(dtype=jnp.float64)
        return jax.device_get(_programs.quickly(everything, params, _programs.X))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("method", METHODS)
def test_equals_grad_of_each_head(name, method):
    grads, _, expected = answers(name)
    assert list(grads[method][0]) == list(grads[method][1]) == sorted(expected[0])
    # A few float64 roundings (2^-53 each) of numbers of order 1 to 10.
    assert_close(grads[method], expected, 1e-13)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("method", GRAMIANS)
def test_gramian_is_j_jt(name, method):
    _, grams, (values, grads) = answers(name)
    got, gram = grams[method]
    assert_close(got, values, 1e-13)
    assert gram.dtype == np.float64
    expected = _programs.gramian(grads)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gram, expected, rtol=1e-12, atol=1e-14 * scale)


def test_float32():
    program, ways = PROGRAMS["attention"], [*METHODS, "auto"]

    def all_of(params, x):
        mine = [hw.head_grads(program, method=m)(params, x)[1] for m in ways]
        return mine, one_by_one(program, params, x)

    grads, expected = _programs.quickly(all_of, make_params(), X)
    for mine in grads:
        # A few float32 roundings (2^-23 each) of numbers of order 1 to 10.
        assert_close(mine, expected, 2e-6)


@pytest.mark.parametrize("name", ["remat_of_all", "conditional_heads"])
def test_vmap_on_top(name):
    """Many problems at once, each with parameters and data of its own."""
    program = PROGRAMS[name]

    def all_of(params, x):
        return (
            [jax.vmap(hw.head_grads(program, method=m))(params, x)[1] for m in METHODS],
            [
                jax.vmap(hw.head_gramian(program, method=m))(params, x)[1]
                for m in GRAMIANS
            ],
            # The reference takes one problem after the other.
            jax.lax.map(lambda both: one_by_one(program, *both), (params, x)),
        )

    with jax.enable_x64(True):
        many = [make_params(seed, jnp.float64) for seed in range(3)]
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *many)
        x = jnp.stack([_programs.X, 6 * _programs.X, -_programs.X])
        grads, grams, alone = jax.device_get(_programs.quickly(all_of, stacked, x))
    for mine in grads:
        assert_close(mine, alone, 1e-13)
    for k in range(3):
        expected = _programs.gramian(jax.tree.map(lambda a, k=k: a[k], alone))
        for gram in grams:
            np.testing.assert_allclose(gram[k], expected, rtol=1e-11)


def test_eager_equals_jit():
    params = make_params()
    transformed = hw.head_grads(plain)
    # The same operations, fused or not: the last bits may differ.
    assert_close(transformed(params, X), jax.jit(transformed)(params, X), 2e-6)


@pytest.mark.parametrize("method", METHODS)
def test_aux_comes_back_as_it_is(method):
    def program(params, x):
        return plain(params, x), {"hidden": x @ params["A"], "text": "kept"}

    params = make_params()
    transformed = hw.head_grads(program, has_aux=True, method=method)
    (values, aux), grads = transformed(params, X)
    assert aux["text"] == "kept"
    np.testing.assert_array_equal(aux["hidden"], X @ params["A"])
    expected = jax.jit(lambda p, x: (plain(p, x), one_by_one(plain, p, x)))
    assert_close((values, grads), expected(params, X), 2e-6)


def test_keyword_arguments_and_integer_inputs():
    def program(params, ids, *, scale):
        return {"y": scale * jnp.sum(params[ids] ** 2)}

    grads = hw.head_grads(program)(jnp.arange(4.0), jnp.array([1, 3, 3]), scale=2)[1]
    # 2 * d/dp (p1² + 2 p3²)
    np.testing.assert_array_equal(grads["y"], [0.0, 4.0, 0.0, 24.0])


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_stays_bfloat16(method):
    params = make_params(dtype=jnp.bfloat16)
    x = X.astype(jnp.bfloat16)
    values, grads = jax.jit(hw.head_grads(plain, method=method))(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("bfloat16")}
    assert values["y1"].dtype == jnp.bfloat16
    wide, x = jax.tree.map(lambda a: a.astype(jnp.float32), (params, x))
    wide = jax.jit(lambda p, x: one_by_one(plain, p, x))(wide, x)
    # bfloat16 keeps 8 bits; about ten roundings of 2^-9 each along the path.
    assert_close(grads, wide, 0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_leaf_keeps_its_own_dtype(method):
    """A bfloat16 trunk under a float32 decoder and a bfloat16 one."""

    def program(params, x):
        h = jnp.tanh(x @ params["A"])
        wide = h.astype(jnp.float32) @ params["C"]
        return {"y1": jnp.sum(jnp.sin(wide)), "y2": jnp.sum(h * h)}

    params = make_params() | {"A": make_params()["A"].astype(jnp.bfloat16)}
    x = X.astype(jnp.bfloat16)
    grads = jax.jit(hw.head_grads(program, method=method))(params, x)[1]
    expected = jax.jit(lambda p, x: one_by_one(program, p, x))(params, x)
    for name in expected:
        assert grads[name]["A"].dtype == jnp.bfloat16
        assert grads[name]["C"].dtype == jnp.float32
    assert_close(grads, expected, 0.01)  # bfloat16: a rounding or two of 2^-9


def with_complex(params, x):
    h = jnp.tanh(x @ params["w"])
    return {
        "y1": jnp.sum(jnp.abs(h) ** 2),
        "y2": jnp.sum((h @ params["v"]).real ** 3),
        "y3": jnp.sum(h.imag * params["r"]),
    }


def test_complex_parameters_as_jax_grad_treats_them():
    rng = np.random.default_rng(0)

    def both(params, x):
        grads = [hw.head_grads(with_complex, method=m)(params, x)[1] for m in METHODS]
        grams = [
            hw.head_gramian(with_complex, method=m)(params, x)[1] for m in GRAMIANS
        ]
        return grads, grams, one_by_one(with_complex, params, x)

    with jax.enable_x64(True):
        params = {
            "w": rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)),
            "v": rng.normal(size=4) + 1j * rng.normal(size=4),
            "r": np.float64(1.5),
        }
        grads, grams, alone = jax.device_get(jax.jit(both)(params, _programs.X))
    expected = _programs.gramian(alone)  # real: Re J Jᴴ
    for mine in grads:
        assert mine["y1"]["w"].dtype == np.complex128
        assert mine["y1"]["r"].dtype == np.float64
        assert_close(mine, alone, 1e-13)
    for gram in grams:
        assert gram.dtype == np.float64
        np.testing.assert_allclose(gram, expected, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_is_differentiable_again(method):
    """The gradient of the gradients' lengths, as GradNorm takes it."""

    def length(grads):
        return sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads))

    def both(params, x):
        transformed = hw.head_grads(plain, method=method)
        return (
            jax.grad(lambda p: length(transformed(p, x)[1]))(params),
            jax.grad(lambda p: length(one_by_one(plain, p, x)))(params),
        )

    with jax.enable_x64(True):
        params = make_params(dtype=jnp.float64)
        mine, expected = _programs.quickly(both, params, _programs.X)
    assert_close(mine, expected, 1e-12)


def test_head_that_reaches_nothing_has_gradient_zero():
    grads = jax.jit(hw.head_grads(reaches_nothing))(make_params(), X)[1]
    for name in ("y3", "y4"):
        for leaf in jax.tree.leaves(grads[name]):
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


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
