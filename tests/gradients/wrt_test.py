"""`wrt`: gradients and gramians over some parameters, or over the features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.gradients import _programs
from tests.gradients._programs import assert_close
from tests.gradients._programs import make_params
from tests.gradients._programs import one_by_one
from tests.gradients._programs import plain
from tests.gradients._programs import trunk
from tests.gradients._programs import X

METHODS = ("sequential", "batched")
GRAMIANS = ("sequential", "lockstep", "batched", "auto")


def nested(params):
    """The same parameters in modules, so that a prefix has something to hold."""
    trunk = {"first": params["A"], "second": params["B"]}
    return {"trunk": trunk, "heads": [params["C"], params["D"]], "rest": params["E"]}


def of_nested(params, x):
    flat = {"A": params["trunk"]["first"], "B": params["trunk"]["second"]}
    flat |= {"C": params["heads"][0], "D": params["heads"][1]}
    values = plain(flat, x)
    # Also moved by the parameters themselves, shared and private.
    return values | {"y3": jnp.sum(jnp.square(params["heads"][0])) * values["y2"]}


TRUNK = {"trunk": {"first": True, "second": True}, "heads": [False] * 2, "rest": False}
LAST = {"trunk": {"first": False, "second": True}, "heads": [False] * 2, "rest": False}
MIXED = {"trunk": {"first": True, "second": False}, "heads": [True] * 2, "rest": False}
CHOICES = {
    "predicate": (lambda path: path.startswith("trunk/"), TRUNK),
    "last shared layer": (lambda path: path == "trunk/second", LAST),
    "prefix": ({"trunk": True, "heads": False, "rest": False}, TRUNK),
    "flags": (MIXED, MIXED),
    "one flag of numpy": (np.True_, jax.tree.map(lambda _: True, TRUNK)),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_some_parameters(choice):
    """None where `wrt` leaves a leaf out; the others are those of `jax.grad`."""
    wrt, flags = CHOICES[choice]

    def all_of(params, x):
        grads = {
            m: hw.head_grads(of_nested, wrt=wrt, method=m)(params, x)[1]
            for m in METHODS
        }
        grams = {
            m: hw.head_gramian(of_nested, wrt=wrt, method=m)(params, x)[1]
            for m in GRAMIANS
        }
        return grads, grams, one_by_one(of_nested, params, x)

    with jax.enable_x64(True):
        params = nested(make_params(dtype=jnp.float64))
        grads, grams, whole = jax.device_get(_programs.quickly(all_of, params, X))
    expected = {
        name: jax.tree.map(lambda g, on: g if on else None, grad, flags)
        for name, grad in whole.items()
    }
    for mine in grads.values():
        assert_close(mine, expected, 1e-13)
    gram = _programs.gramian(expected)
    for mine in grams.values():
        np.testing.assert_allclose(mine, gram, rtol=1e-12, atol=1e-15)


def layers(params, x):
    one = jnp.tanh(x @ params["A"])
    two = jnp.tanh(one @ params["B"])
    return [one, two, jnp.tanh(two @ params["E"])]


def heads_of_skips(params, features):
    one, two, three = features
    return {
        "y1": jnp.sum(jnp.square(jnp.concatenate([one, three], -1))),
        "y2": jnp.mean((two + three) @ params["D"]),
        "y3": jnp.sum(one @ params["C"]),
    }


def middle(params, x):
    h = trunk(params, x)
    return [h, jnp.sin(h @ params["E"])]


def heads_of_middle(params, features):
    h, middle = features
    return _programs.heads(params, middle) | {"y3": jnp.sum(jnp.cos(h))}


def one_row_at_a_time(params, features):
    each = jax.vmap(_programs.heads, in_axes=(None, 0))(params, features[0])
    return jax.tree.map(jnp.mean, each)


def last(params, x):
    return [trunk(params, x)]


def heads_of_last(params, features):
    return _programs.heads(params, features[0])


SPLIT = {
    "plain": (last, heads_of_last),
    "nested_jit": (last, heads_of_last),
    "remat": (last, heads_of_last),
    "per_example": (last, one_row_at_a_time),
    "hierarchical": (middle, heads_of_middle),
    "skips": (layers, heads_of_skips),
}
"""For a program, its features in order and the heads as functions of them."""


@pytest.mark.parametrize("name", SPLIT)
def test_features_are_what_passes_into_the_decoders(name):
    """Found where the heads part, through jit, remat and vmap."""
    program = _programs.PROGRAMS[name]
    shared, decoders = SPLIT[name]

    def all_of(params, x):
        grads = hw.head_grads(program, wrt="features")(params, x)[1]
        gram = hw.head_gramian(program, wrt="features")(params, x)[1]
        features = shared(params, x)
        # `one_by_one` differentiates its second argument here: the features.
        of_features = one_by_one(lambda f: decoders(params, f), features)
        return grads, gram, of_features, features

    with jax.enable_x64(True):
        params = make_params(dtype=jnp.float64)
        answers = _programs.quickly(all_of, params, X)
        grads, gram, expected, features = jax.device_get(answers)
    for found in grads.values():
        assert [g.shape for g in found] == [f.shape for f in features]
    assert_close(grads, expected, 1e-13)  # zeros where a head does not use a feature
    np.testing.assert_allclose(gram, _programs.gramian(expected), rtol=1e-12)
    if name == "skips":
        assert not grads["y3"][1].any()
        assert not grads["y3"][2].any()


def test_a_feature_may_be_used_several_times():
    def program(params, x):
        h = trunk(params, x)
        return {"y1": jnp.sum(h * (h @ params["E"])), "y2": jnp.sum(h) ** 2}

    params = make_params()
    grads = jax.jit(hw.head_grads(program, wrt="features"))(params, X)[1]
    h = trunk(params, X)
    assert len(grads["y1"]) == len(grads["y2"]) == 1
    both = params["E"] + params["E"].T
    np.testing.assert_allclose(grads["y1"][0], h @ both, atol=1e-6)
    expected = np.full((2, 4), 2 * np.sum(h))
    np.testing.assert_allclose(grads["y2"][0], expected, rtol=1e-5)


def test_parameters_are_no_features():
    """`scale` goes straight into two decoders; it stays a parameter."""

    def program(params, x):
        h = trunk(params, x)
        return {"y1": jnp.sum(params["scale"] * h), "y2": params["scale"] * h[0, 0]}

    params = make_params()
    grads = jax.jit(hw.head_grads(program, wrt="features"))(params, X)[1]
    assert [g.shape for g in grads["y1"]] == [(2, 4)]
    np.testing.assert_allclose(grads["y1"][0], np.full((2, 4), params["scale"]))


@pytest.mark.parametrize("transform", [hw.head_grads, hw.head_gramian])
def test_no_pass_through_the_trunk(transform):
    """Three layers more cost their forward products, and no backward ones."""

    def products(depth):
        def program(params, x):
            h = x @ params["A"]
            for _ in range(depth):
                h = jnp.tanh(h @ params["B"])
            return plain({**params, "A": params["E"]}, h)

        transformed = transform(program, wrt="features")
        jaxpr = jax.make_jaxpr(transformed)(make_params(), jnp.ones((2, 3)))
        return _programs.count(jaxpr.jaxpr, "dot_general")

    assert products(5) - products(2) == 3


@pytest.mark.parametrize("order", ["early first", "late first"])
def test_features_come_in_the_order_of_the_program(order):
    def program(params, x):
        one = jnp.tanh(x * params["a"])  # [3]
        two = jnp.concatenate([one, one * params["b"]])  # [6]
        if order == "early first":
            y2 = jnp.sum(jnp.sin(one) * params["d"])
            y1 = jnp.sum(two * params["c"])
        else:
            y1 = jnp.sum(two * params["c"])
            y2 = jnp.sum(jnp.sin(one) * params["d"])
        return {"y1": y1, "y2": y2, "y3": jnp.sum(two**2) + jnp.sum(one)}

    params = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    grads = hw.head_grads(program, wrt="features")(params, jnp.ones(3))[1]
    assert [g.shape for g in grads["y1"]] == [(3,), (6,)]


def apart(params, x):
    return {"y1": jnp.sum(x @ params["A"]), "y2": jnp.sum(jnp.square(params["B"]))}


@pytest.mark.parametrize("transform", [hw.head_grads, hw.head_gramian])
def test_a_model_without_features_says_so(transform):
    """Nothing passes from a shared part into a private one."""
    with pytest.raises(ValueError, match=r"wrt: .*features"):
        transform(apart, wrt="features")(make_params(), X)


@pytest.mark.parametrize("transform", [hw.head_grads, hw.head_gramian])
@pytest.mark.parametrize(
    ("wrt", "error", "words"),
    [
        (
            lambda path: path.startswith("decoder"),
            ValueError,
            ["wrt", "selects no parameter", "trunk/first", "heads/0", "rest"],
        ),
        (False, ValueError, ["wrt", "selects no parameter", "trunk/second"]),
        ({"trunk": True}, ValueError, ["wrt", "prefix", "PyTreeDef({'trunk': *})"]),
        (
            {"trunk": True, "heads": [True], "rest": False},
            ValueError,
            ["wrt", "prefix", "[*]"],
        ),
        (
            {"trunk": 1.0, "heads": False, "rest": False},
            TypeError,
            ["wrt", "bool", "float"],
        ),
        (
            {"trunk": 1, "heads": False, "rest": False},
            TypeError,
            ["wrt", "bool", "int"],
        ),
        ("feature", TypeError, ["wrt", "bool", "str"]),
    ],
)
def test_misuse_is_named(transform, wrt, error, words):
    params = nested(make_params())
    with pytest.raises(error) as raised:
        transform(of_nested, wrt=wrt)(params, X)
    for word in words:
        assert word in str(raised.value)


def test_unknown_methods_are_named():
    """Lockstep keeps no gradients: it is a way to a gramian alone."""
    with pytest.raises(ValueError, match=r"method: .*'sequential'.*got 'lockstep'"):
        hw.head_grads(plain, method="lockstep")
    with pytest.raises(ValueError, match=r"method: .*'lockstep'.*got 'parallel'"):
        hw.head_gramian(plain, method="parallel")
    with pytest.raises(ValueError, match=r"method: .*got 'parallel'"):
        hw.balanced_grad(plain, hw.balancers.mgda(), method="parallel")
