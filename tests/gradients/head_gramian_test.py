"""`head_gramian`: J Jᵀ without J. The programs of the battery: head_grads_test."""

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw
from tests.gradients import _programs
from tests.gradients._programs import make_params
from tests.gradients._programs import one_by_one
from tests.gradients._programs import PROGRAMS

X = jnp.asarray(_programs.X, jnp.float32)
METHODS = ("auto", "sequential", "lockstep", "batched")


def all_methods(program, params, *args, **options):
    """{method: gram} and the reference's gradients, in one compiled program."""

    def everything(params, *args):
        grams = {
            m: hw.head_gramian(program, method=m, **options)(params, *args)[1]
            for m in METHODS
        }
        return grams, one_by_one(program, params, *args)

    return jax.device_get(_programs.quickly(everything, params, *args))


def test_float32():
    grams, grads = all_methods(PROGRAMS["attention"], make_params(), X)
    expected = _programs.gramian(grads)
    scale = np.abs(expected).max()
    for gram in grams.values():
        assert gram.dtype == np.float32
        # Sums of some dozen products, 2^-24 each, of gradients that are as exact.
        np.testing.assert_allclose(gram, expected, rtol=1e-5, atol=1e-6 * scale)


def test_bfloat16_gives_float32():
    params = make_params(dtype=jnp.bfloat16)
    grams, grads = all_methods(PROGRAMS["tied"], params, X.astype(jnp.bfloat16))
    expected = _programs.gramian(grads)
    scale = np.abs(expected).max()
    for gram in grams.values():
        assert gram.dtype == np.float32
        # The products and sums are in float32; the gradients of two programs may
        # differ in the last of their 8 bits where these sum in another order.
        np.testing.assert_allclose(gram, expected, rtol=0.02, atol=0.01 * scale)


def test_sums_of_long_bfloat16_gradients_are_exact():
    """300 is more than bfloat16 can count to (256) in steps of one."""

    def program(params):
        return {"a": jnp.sum(params), "b": jnp.sum(params) * 2.0}

    grams, _ = all_methods(program, jnp.zeros(300, jnp.bfloat16))
    for gram in grams.values():
        np.testing.assert_array_equal(gram, [[300.0, 600.0], [600.0, 1200.0]])


def test_long_gradients_of_float32():
    """Longer than what is multiplied as one matrix: pair by pair."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 300)).astype(np.float32)

    def program(params, x):
        h = jnp.tanh(x @ params["w"])
        return {f"y{i}": jnp.sum(h * params["v"][i]) for i in range(3)}

    params = {
        "w": jnp.asarray(rng.normal(size=(300, 300)) / 17, jnp.float32),
        "v": jnp.asarray(rng.normal(size=(3, 4, 300)), jnp.float32),
    }
    grams, grads = all_methods(program, params, x)
    expected = _programs.gramian(grads)
    for gram in grams.values():
        np.testing.assert_allclose(
            gram, expected, rtol=1e-5, atol=1e-5 * expected[0, 0]
        )


def test_head_that_reaches_nothing_has_rows_of_zeros():
    grams, _ = all_methods(PROGRAMS["reaches_nothing"], make_params(), X)
    for gram in grams.values():
        np.testing.assert_array_equal(gram[2:], np.zeros((2, 4)))
        np.testing.assert_array_equal(gram[:, 2:], np.zeros((4, 2)))
        assert (np.diagonal(gram)[:2] > 0).all()


def test_no_head_reaches_what_is_asked_for():
    """`wrt` names a parameter; that nothing moves it is an answer, not a mistake."""
    grams, _ = all_methods(
        PROGRAMS["plain"], make_params(), X, wrt=lambda path: path == "scale"
    )
    for gram in grams.values():
        np.testing.assert_array_equal(gram, np.zeros((2, 2)))


def test_one_head_and_one_leaf():
    def program(p):
        return {"only": jnp.sum(p**3)}

    grams, _ = all_methods(program, jnp.array([1.0, -2.0]))
    for gram in grams.values():
        np.testing.assert_allclose(gram, [[9.0 + 144.0]])


def test_aux_comes_back_as_it_is():
    def program(p):
        return {"u": p @ p, "v": 3.0 * p[0]}, {"kept": "text", "twice": 2.0 * p}

    transformed = hw.head_gramian(program, has_aux=True)
    (values, aux), gram = transformed(jnp.array([1.0, 2.0]))
    assert {name: float(value) for name, value in values.items()} == {"u": 5, "v": 3}
    assert aux["kept"] == "text"
    np.testing.assert_array_equal(aux["twice"], [2.0, 4.0])
    np.testing.assert_array_equal(gram, [[20.0, 6.0], [6.0, 9.0]])
