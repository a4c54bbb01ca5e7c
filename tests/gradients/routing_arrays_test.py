"""Routing through arrays that heads share: their entries tell the heads apart."""

import jax
import jax.numpy as jnp
import pytest

import headwise as hw
from tests.gradients._routes import ABCD
from tests.gradients._routes import moved
from tests.gradients._routes import network


def stacked(p, x):
    losses = jnp.stack(list(network(p, x).values()))
    return {"loss1": losses[0], "loss2": losses[-1]}


def unstacked(p, x):
    losses = jnp.concatenate([value[None] for value in network(p, x).values()])
    return dict(zip(["loss1", "loss2"], losses * jnp.array([0.3, 0.7])))


@jax.custom_vjp
def pair(a, b):
    return jnp.stack([a, b])


pair.defvjp(lambda a, b: (pair(a, b), None), lambda _, ct: (ct[0], 2 * ct[1]))


def custom(p, x):
    one, two = jnp.unstack(pair(*network(p, x).values()))
    return {"loss1": one, "loss2": two}


def stacked_cond(p, x):
    losses = jax.lax.cond(
        x > 0,
        lambda p: jnp.stack([p["A"], p["B"]]),
        lambda p: jnp.stack([p["C"], p["D"]]),
        p,
    )
    return {"loss1": losses[0], "loss2": losses[1]}


def accumulated(p, x):
    """Over small batches, as an array of losses."""

    def body(sums, x):
        return sums + jnp.stack(list(network(p, x).values())), None

    sums, _ = jax.lax.scan(body, jnp.zeros(2), x * jnp.arange(100.0))
    return {"loss1": sums[0], "loss2": sums[1]}


def rolled(p, x):
    """A carry that keeps changing is followed for some steps only."""
    start = jnp.concatenate([p["C"][None], p["D"] * jnp.ones(49)])
    row, _ = jax.lax.scan(lambda row, _: (jnp.roll(row, 1), None), start, length=49)
    return {"loss1": row[49] * x, "loss2": row[0] * x}


def decoder(p, x):
    """Channels of one image, up to the losses."""
    image = p["B"] * jnp.full((2, 6, 6, 3), p["A"] * x)
    both = jnp.concatenate([p["C"] * image, p["D"] * image], -1)
    both = jax.nn.gelu(jax.image.resize(both, (2, 12, 12, 6), "linear"))
    both = jnp.moveaxis(both[:, 1:-1, ::2], -1, 1).reshape(2, 6, -1)
    one, two = jnp.split(both, 2, 1)
    return {"loss1": jnp.mean(one), "loss2": jnp.mean(jnp.square(two))}


def one_matrix(p, x):
    h = jnp.full((4, 3), p["A"] * x)
    w = jnp.concatenate([jnp.full((3, 1), p["C"]), jnp.full((3, 2), p["D"])], 1)
    one, two = jnp.split(h @ w + p["B"], [1], -1)
    return {"loss1": jnp.sum(one), "loss2": jnp.sum(two)}


def convolution(image, kernel):
    return jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def one_convolution(p, x):
    image = jnp.full((2, 4, 4, 3), p["A"] * x)
    kernels = [jnp.full((3, 3, 3, 2), p[name]) for name in "CD"]
    one, two = jnp.split(convolution(image, jnp.concatenate(kernels, -1)), 2, -1)
    return {"loss1": jnp.sum(one), "loss2": p["B"] * jnp.sum(two)}


def vmapped_heads(p, x):
    h = jnp.full(3, p["A"] * x)
    heads = jnp.stack([p["C"] * jnp.ones((3, 2)), p["D"] * jnp.ones((3, 2))])
    one, two = jax.vmap(lambda w: jnp.sum(jnp.tanh(h @ w) * p["B"]))(heads)
    return {"loss1": one, "loss2": two}


def indexed_rows(p, x):
    """Nodes of a graph, with the channels of both heads."""
    both = jnp.stack([p["C"] * jnp.ones(5), p["D"] * jnp.ones(5)], -1) * p["A"] * x
    some = both[jnp.array([0, 3, 3])].at[1].add(jnp.stack([p["B"], x]))
    return {"loss1": jnp.sum(some[:, 0]), "loss2": jnp.sum(some[:, 1])}


def computed_index(p, x):
    losses, i = jnp.stack(list(network(p, x).values())), jnp.int32(x)
    return {"loss1": losses[i], "loss2": jax.lax.dynamic_slice(losses, (i,), (1,))[0]}


@pytest.mark.parametrize(
    ("program", "one", "two"),
    [
        (stacked, "ABC", "ABD"),
        (jax.jit(stacked), "ABC", "ABD"),
        (jax.checkpoint(stacked), "ABC", "ABD"),
        (unstacked, "ABC", "ABD"),
        (custom, "ABC", "ABD"),
        (stacked_cond, "AC", "BD"),
        (accumulated, "ABC", "ABD"),
        (decoder, "ABC", "ABD"),
        (jax.jit(decoder), "ABC", "ABD"),
        (jax.checkpoint(decoder), "ABC", "ABD"),
        (one_matrix, "ABC", "ABD"),
        (one_convolution, "AC", "ABD"),
        (vmapped_heads, "ABC", "ABD"),
        (indexed_rows, "ABC", "AD"),
        # On the safe side.
        (rolled, "CD", "CD"),
        (computed_index, "ABCD", "ABCD"),
    ],
)
def test_through_arrays_that_heads_share(program, one, two):
    assert list(moved(program, ABCD, 1.0).values()) == [one, two]
    values_fn = hw.gradients.with_aux(program, False)
    _, _, backward = hw.gradients.linearize(values_fn, ABCD, 1.0)
    flags = zip(*backward.reaches(), strict=True)
    assert list(flags) == [(key in one, key in two) for key in ABCD]


def test_a_parameter_with_all_heads_is_moved_by_all():
    def program(p, x):
        one, two = jax.vmap(lambda w: jnp.sum(w * p["trunk"] * x))(p["heads"])
        return {"loss1": one, "loss2": two + jnp.sum(p["own"])}

    params = {"heads": jnp.ones((2, 3)), "own": jnp.ones(2), "trunk": jnp.ones(3)}
    r = hw.routing(program, params, 1.0)
    assert r.shared == {"heads": True, "own": False, "trunk": True}
    assert r.private("loss2") == {"heads": False, "own": True, "trunk": False}


def test_more_heads_than_bits_of_an_integer():
    names = [f"h{i:02}" for i in range(70)]

    def program(p):
        losses = jnp.stack([p[name] * p["trunk"] for name in names]).reshape(7, 10)
        return {name: losses.T[i % 10, i // 10] for i, name in enumerate(names)}

    r = hw.routing(program, dict.fromkeys([*names, "trunk"], 1.0))
    assert r.by_module() == {name: (name,) for name in names} | {"trunk": r.names}


def test_channels_of_large_images():
    """Takes as long as for small ones; crops and pads of all axes included."""

    def program(p, image):
        both = jnp.concatenate([image * p["C"], image * p["D"]], -1)
        for _ in range(5):
            both = jnp.pad(jnp.tanh(both)[:, 2:-2, 2:-2, 2:-2], [(0, 0), *[(2, 2)] * 4])
            both = jax.nn.relu(both)[..., 2:-2]
        return {"u": jnp.sum(both[..., 0]), "v": jnp.sum(both[:, 1:, 1:, 1:, 1])}

    image = jax.ShapeDtypeStruct((2, 160, 192, 224, 1), jnp.float32)
    assert moved(program, {"C": 1.0, "D": 1.0}, image) == {"u": "C", "v": "D"}
