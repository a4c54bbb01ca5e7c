"""Routing through every way to write a program, and random programs against numbers."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.gradients._routes import ABCD
from tests.gradients._routes import moved
from tests.gradients._routes import network


def nested_jit(p, x):
    return jax.jit(lambda p, x: jax.jit(network)(p, x))(p, x)


def remat(p, x):
    return jax.checkpoint(network)(p, x)


def vmapped(p, x):
    each = jax.vmap(network, in_axes=(None, 0))(p, jnp.stack([x, 2 * x]))
    return jax.tree.map(jnp.sum, each)


@jax.custom_jvp
def both(a, b):
    return a * b, a + b


@both.defjvp
def both_jvp(primals, tangents):
    (a, b), (_, db) = primals, tangents
    return both(a, b), (a * db, db)  # a counts for nothing


@jax.custom_vjp
def dropped(a, b):
    return a * b


dropped.defvjp(
    lambda a, b: (a * b, a),
    lambda a, ct: (None, a * ct),  # its bwd drops a
)


def cond(p, x):
    h = jax.lax.cond(x > 0, lambda p: p["A"] * p["B"], lambda p: p["B"] * 1.0, p)
    return {"loss1": p["C"] * h, "loss2": p["D"] * x}


def cond_of_both(p, x):
    one, two = jax.lax.cond(
        x > 0, lambda p: (p["C"], p["D"]), lambda p: (p["A"], p["B"]), p
    )
    return {"loss1": one * x, "loss2": two * x}


def fori(p, x):
    h = jax.lax.fori_loop(0, 3, lambda i, h: h * p["B"] + i, p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": p["D"] * p["A"]}


def stopped(p, x):
    h = p["B"] * jax.lax.stop_gradient(p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": jax.lax.stop_gradient(p["C"]) * p["D"]}


def integers(p, x):
    table = jnp.stack([p["C"], p["D"]])
    choice = jnp.argmax(p["A"] * jnp.arange(2.0))
    rounded = jnp.int32(p["B"]).astype(jnp.float32)
    return {"loss1": table[choice] * rounded, "loss2": p["B"] * x}


def dead(p, x):
    """Gradient 0 at this point, but the path is there."""
    return {
        "loss1": jax.nn.relu(-p["A"] * p["A"]) * p["C"],
        "loss2": p["D"] * (x - x) + 0.0 * p["B"],
    }


def two_iterations(p, x):
    """Each carry takes from the next: D needs three iterations to reach loss1."""

    def body(carry, _):
        a, b, c, d = carry
        return (a + b, b + c, c + d, 2 * d), None

    start = (p["A"], p["B"], p["C"], p["D"])
    (a, _, c, _), _ = jax.lax.scan(body, start, None, length=2)
    return {"loss1": a * x, "loss2": c * x}


def rotated(p, x):
    """Exact in the number of iterations: a permutation, applied 1000 times."""

    def body(carry, _):
        return (*carry[1:], carry[0]), carry[0]

    start = (p["A"], p["B"], p["C"])
    carry, seen = jax.lax.scan(body, start, None, length=1000)
    return {"loss1": carry[0] * x, "loss2": jnp.sum(seen) + p["D"]}


def overwritten(p, x):
    """The initial carry is lost in the first iteration."""
    carry, _ = jax.lax.scan(lambda c, x: (p["B"] * x, None), p["A"], jnp.arange(3.0))
    return {"loss1": carry * p["C"], "loss2": p["D"] * x}


def scanned_over(p, x):
    """Constants, carries, scanned and stacked values at once, in reverse, nested."""

    def outer(h, w):
        inner, _ = jax.lax.scan(lambda h, _: (h * p["B"], None), h, None, length=2)
        return inner * w, h * p["D"]

    xs = p["A"] * jnp.arange(1.0, 4.0)
    carry, each = jax.lax.scan(outer, p["C"], xs, reverse=True)
    return {"loss1": carry * x, "loss2": each[0] * x}


def empty_loop(p, x):
    carry, _ = jax.lax.scan(lambda c, _: (p["B"] * c, None), p["A"], None, length=0)
    return {"loss1": carry * p["C"], "loss2": p["D"] * x}


def reference(p, x):
    """Through a mutable array."""
    ref = jax.new_ref(jnp.zeros(()))
    ref[...] = p["A"] * p["B"]
    return {"loss1": ref[...] * p["C"], "loss2": ref[...] * p["D"]}


def updated_reference(p, x):
    """A mutable array that a loop writes, read twice."""
    ref = jax.new_ref(jnp.zeros(()))

    def body(i, _):
        ref[...] = ref[...] * p["A"] + p["B"] * i

    jax.lax.fori_loop(0, 3, body, None)
    return {"loss1": ref[...] * ref[...] * p["C"], "loss2": p["D"] * x}


def indexed(p, x):
    all_of_them = jnp.stack([p["A"], p["B"]])
    return {"loss1": all_of_them[0] * p["C"], "loss2": jnp.sum(all_of_them) * p["D"]}


CASES = [
    (network, "ABC", "ABD"),
    (nested_jit, "ABC", "ABD"),
    (jax.jit(network), "ABC", "ABD"),
    (remat, "ABC", "ABD"),
    (vmapped, "ABC", "ABD"),
    (lambda p, x: dict(zip(["u", "v"], both(p["A"], p["B"]))), "B", "B"),
    (lambda p, x: {"u": dropped(p["A"], p["B"]), "v": p["C"] * p["A"]}, "B", "AC"),
    (
        jax.checkpoint(lambda p, x: {"u": dropped(p["A"], p["B"]), "v": p["C"] * x}),
        "B",
        "C",
    ),
    (cond, "ABC", "D"),
    (cond_of_both, "AC", "BD"),
    (fori, "ABC", "AD"),
    (stopped, "BC", "D"),
    (integers, "CD", "B"),
    (dead, "AC", "BD"),
    (two_iterations, "ABC", "CD"),
    (rotated, "B", "ABCD"),
    (overwritten, "BC", "D"),
    (scanned_over, "ABC", "ABCD"),
    (empty_loop, "AC", "D"),
    (reference, "ABC", "ABD"),
    (updated_reference, "ABC", "D"),
    # Entry by entry: the loss that takes the first entry does not move B.
    (indexed, "AC", "ABD"),
    (lambda p, x: {"u": 1.0 * x, "v": jnp.sum(x * p["D"])}, "", "D"),
]


@pytest.mark.parametrize(("program", "one", "two"), CASES)
def test_through(program, one, two):
    assert list(moved(program, ABCD, 1.0).values()) == [one, two]


def test_multiplied_by_a_traced_zero_is_a_path():
    @jax.jit
    def traced(p, gate):
        r = hw.routing(lambda p, gate: {"y": p["A"] * gate}, p, gate)
        return jnp.array(r.reaches["y"]["A"])

    assert traced(ABCD, 0.0)


@pytest.mark.parametrize("program", [network, two_iterations, scanned_over])
def test_from_shapes_alone_and_inside_jit(program):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    expected = moved(program, ABCD, 1.0)
    assert moved(program, dict.fromkeys(ABCD, shape), shape) == expected
    seen = []

    @jax.jit
    def step(p, x):
        seen.append(moved(program, p, x))
        return x

    step(ABCD, 1.0)
    jax.vmap(step, in_axes=(None, 0))(ABCD, jnp.ones(2))
    assert all(found == expected for found in seen)


def by_reference(program):
    return program in (reference, updated_reference)  # no linear program has these


@pytest.mark.parametrize("program", [c[0] for c in CASES if not by_reference(c[0])])
def test_a_linearised_model_knows_it_without_another_trace(program):
    traces = []

    def traced(p, x):
        traces.append(None)
        return program(p, x)

    values_fn = hw.gradients.with_aux(traced, False)
    _, _, backward = hw.gradients.linearize(values_fn, ABCD, 1.0)
    reaches = backward.reaches()
    assert len(traces) == 1
    expected = hw.routing(program, ABCD, 1.0).reaches
    assert reaches == [jax.tree.leaves(expected[name]) for name in backward.names]


@pytest.mark.parametrize("seed", range(20))
def test_equals_numbers_on_random_programs(seed):
    """Generic inputs: a derivative is 0 exactly where there is no path.

    Every operation has derivatives that vanish nowhere near these inputs, and arrays
    are scalars, so that the flags and the numbers must agree on every parameter.
    """
    rng = random.Random(seed)
    parameters = [f"p{i}" for i in range(5)]
    steps = [
        (rng.choice(["add", "mul", "tanh", "stop", "jit", "scan", "cond", "int"]), r, s)
        for r, s in [(rng.random(), rng.random()) for _ in range(8)]
    ]
    picks = [rng.random() for _ in range(4)]

    def body(pair, x):
        a, b = pair
        return (a * 0.5 + b * x, jnp.sin(b)), a * x

    def program(p):
        nodes = [p[name] for name in parameters]
        for kind, r, s in steps:
            a, b = (nodes[int(u * len(nodes))] for u in (r, s))
            if kind == "add":
                nodes.append(a + 1.3 * b)
            elif kind == "mul":
                nodes.append(a * b)
            elif kind == "tanh":
                nodes.append(jnp.tanh(0.3 * a))
            elif kind == "stop":
                nodes.append(jax.lax.stop_gradient(a) * b)
            elif kind == "jit":
                nodes += jax.jit(lambda a, b: (jnp.exp(0.1 * a), a * b))(a, b)
            elif kind == "scan":
                length = 1 + int(4 * r)
                carry, each = jax.lax.scan(body, (a, b), jnp.arange(1.0, 1.0 + length))
                nodes += [*carry, jnp.sum(each)]
            elif kind == "cond":
                less, more = (lambda a, b: a + b), (lambda a, b: a - 0.7 * b)
                nodes.append(jax.lax.cond(a > b, less, more, a, b))
            else:
                nodes.append((jnp.floor(a) + 0.5) * b + jnp.float32(a > 0))
        mine = [nodes[int(u * len(nodes))] for u in picks]
        return {"u": mine[0] * mine[1], "v": mine[2], "w": mine[3] + mine[2]}

    values = np.random.default_rng(seed).uniform(0.5, 1.5, size=5).astype(np.float32)
    params = dict(zip(parameters, jnp.asarray(values)))
    grads = jax.jit(lambda p: hw.head_grads(program)(p)[1])(params)
    numbers = jax.tree.map(lambda g: bool(g != 0), grads)
    assert hw.routing(program, params).reaches == numbers
