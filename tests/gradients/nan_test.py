"""NaN in one head, in its decoder or in its loss, stays out of the other heads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

import headwise as hw
from tests.gradients import _programs
from tests.gradients._programs import assert_close
from tests.gradients._programs import make_params
from tests.gradients._programs import trunk

NAMES = ("bad", "good", "well")
X = jnp.asarray(_programs.X, jnp.float32)
METHODS = ("sequential", "batched")
GRAMIANS = ("sequential", "lockstep", "batched")


def good_heads(params, x):
    h = trunk(params, x)
    return {
        "good": jnp.sum(jnp.sin(h @ params["D"])),
        "well": jnp.mean(jnp.square(h @ params["E"])),
    }


@functools.cache
def good_alone():
    program = jax.jit(lambda p: _programs.one_by_one(good_heads, p, X))
    return jax.device_get(program(make_params()))


def by_decoder(params, x):
    """NaN in the parameters of the decoder, C."""
    h = trunk(params, x)
    return good_heads(params, x) | {"bad": jnp.sum(jnp.sin(h @ params["C"]))}


def by_loss(params, x):
    """The loss is the square root of a negative number."""
    h = trunk(params, x)
    return good_heads(params, x) | {"bad": jnp.sum(jnp.sqrt(h @ params["C"] - 1e3))}


def make(where):
    params = make_params()
    if where == "decoder":
        return by_decoder, params | {"C": jnp.full_like(params["C"], jnp.nan)}
    return by_loss, params


def in_cond(program):
    def branch(sign):
        return lambda p, x: jax.tree.map(lambda v: sign * v, program(p, x))

    return lambda p, x: jax.lax.cond(x[0, 0] > 0, branch(1.0), branch(-1.0), p, x)


def in_scan(program):
    def scanned(params, x):
        values = jax.lax.scan(lambda c, x: (c, program(params, x)), 0.0, x[None])[1]
        return jax.tree.map(lambda v: v[0], values)

    return scanned


def with_shardings(program):
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(program, in_shardings=(everywhere, everywhere))


APART = {"jit": jax.jit}
TOGETHER = {
    "remat": jax.checkpoint,
    "cond": in_cond,
    "scan": in_scan,
    "jit with shardings": with_shardings,
}
"""Ways to write a model so that one equation of the program holds all its heads."""


@pytest.mark.parametrize(
    ("wrap", "where"),
    [("jit", "loss"), *((wrap, "decoder") for wrap in APART | TOGETHER)],
)
def test_gradients_and_gramian_of_the_other_heads(wrap, where):
    program, params = make(where)
    program = (APART | TOGETHER)[wrap](program)

    def all_of(params, x):
        return (
            [hw.head_grads(program, method=m)(params, x)[1] for m in METHODS],
            [hw.head_gramian(program, method=m)(params, x)[1] for m in GRAMIANS],
        )

    grads, grams = jax.device_get(_programs.quickly(all_of, params, X))
    expected = good_alone()
    for mine in grads:
        assert np.isnan(mine["bad"]["A"]).all()  # and it is not hidden either
        assert_close({n: mine[n] for n in expected}, expected, 2e-6)
    gramian = _programs.gramian(expected)
    for gram in grams:
        np.testing.assert_allclose(gram[1:, 1:], gramian, rtol=1e-5, atol=1e-6)
        assert np.isnan(gram[0]).all()
        assert np.isnan(gram[:, 0]).all()


def fixed(needs):
    """A balancer of each kind, with weights 0, 2 and 0.5 for the heads in order."""

    def update(signals, state):
        weights = jnp.array([0.0, 2.0, 0.5])
        return hw.balancers.Decision(weights), state

    return hw.balancers.Balancer(lambda names, params=None: (), update, needs)


TRACED = "traced weights"
ZERO = {
    f"{needs}, {how}": (fixed(needs), None, options)
    for needs, how, options in [
        ("values", "one pass", {}),
        ("values", "head gradients too", {"head_grads": True}),
        ("gramian", "kept", {"stored": True}),
        ("gramian", "dropped", {"stored": False}),
        ("gramian", "features", {"wrt": "features"}),
        ("grads", "batched", {"method": "batched"}),
    ]
} | {"constant": (hw.balancers.constant(dict(bad=0.0, good=2.0, well=0.5)), None, {})}
PRESENT = jnp.array([False, True, True])
ABSENT = {
    "equal": (hw.balancers.equal(), PRESENT, {}),
    "imtl_g, dropped": (hw.balancers.imtl_g(), PRESENT, {"stored": False}),
    "imtl_g, features": (hw.balancers.imtl_g(), PRESENT, {"wrt": "features"}),
    "graddrop": (hw.balancers.graddrop(), PRESENT, {}),
}


def applied(program, params, cases, private):
    """{case: (gradient to apply, weights)} of many balancers in one program."""

    def all_of(params, x, zero):
        found = {}
        for case, (balancer, present, options) in cases.items():
            f = hw.balanced_grad(program, balancer, private, **options)
            state = balancer.init(NAMES)
            key = jax.random.key(0)
            grads, info, _ = f(params, state, x, present=present, key=key)
            found[case] = grads, info.weights
        balancer = hw.balancers.constant({"bad": zero, "good": 2.0, "well": 0.5})
        f = hw.balanced_grad(program, balancer, private)
        grads, info, _ = f(params, balancer.init(NAMES), x)
        return found | {TRACED: (grads, info.weights)}

    return jax.device_get(_programs.quickly(all_of, params, X, 0.0))


def assert_sum_of_the_others(case, found, private):
    (grads, weights), alone = found, good_alone()
    assert weights["bad"] == 0, case
    good, well = weights["good"], weights["well"]
    # Private parameters: D of "good", E of "well", C of "bad".
    to_d, to_e = (1.0, 1.0) if private == "own" else (good, well)
    expected = {
        "A": good * alone["good"]["A"] + well * alone["well"]["A"],
        "B": good * alone["good"]["B"] + well * alone["well"]["B"],
        "D": to_d * alone["good"]["D"],
        "E": to_e * alone["well"]["E"],
    }
    for leaf, g in expected.items():
        np.testing.assert_allclose(grads[leaf], g, rtol=1e-5, atol=1e-6, err_msg=case)


@pytest.mark.parametrize(
    ("where", "private"), [("decoder", "weighted"), ("loss", "own")]
)
def test_weight_zero_leaves_no_trace(where, private):
    """With the weights as constants, as data, and since the head is absent."""
    program, params = make(where)
    found = applied(jax.jit(program), params, ZERO | ABSENT, private)
    drop = found.pop("graddrop")  # its direction is drawn
    for leaf in "ABDE":
        assert np.isfinite(drop[0][leaf]).all()
        assert np.abs(drop[0][leaf]).max() > 0
    for case in found:
        assert_sum_of_the_others(case, found[case], private)
    if private == "weighted":
        for case, (grads, _) in found.items():
            np.testing.assert_array_equal(grads["C"], np.zeros((4, 2)), err_msg=case)


@pytest.mark.xfail(strict=True, reason="0 * NaN inside the equation")
@pytest.mark.parametrize("wrap", TOGETHER)
def test_weight_zero_where_one_equation_holds_all_heads(wrap):
    program, params = make("decoder")
    found = applied(TOGETHER[wrap](program), params, {}, "weighted")
    assert_sum_of_the_others(TRACED, found[TRACED], "weighted")


@pytest.mark.parametrize("wrap", TOGETHER)
def test_weight_zero_by_rows_where_one_equation_holds_all_heads(wrap):
    """A head has a backward pass of its own then, whatever the equation holds."""
    program, params = make("decoder")
    cases = {"gramian, kept": ZERO["gramian, kept"]}
    found = applied(TOGETHER[wrap](program), params, cases, "own")
    assert_sum_of_the_others("kept", found["gramian, kept"], "own")
