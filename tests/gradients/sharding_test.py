"""Arrays over four devices: the same numbers as on one, for every way through."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

import headwise as hw
from tests.gradients import _programs
from tests.gradients._programs import assert_close
from tests.gradients._programs import one_by_one

NAMES = ("y1", "y2", "y3")
METHODS = ("sequential", "batched")
GRAMIANS = ("sequential", "lockstep", "batched")


def make():
    rng = np.random.default_rng(0)
    shapes = {"A": (8, 8), "B": (8, 8), "b": (8,), "C": (8, 4), "D": (8, 1)}
    params = {
        name: jnp.asarray(rng.normal(size=shape) / 2, jnp.float32)
        for name, shape in shapes.items()
    }
    return params, jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)


def program(params, x):
    h = jnp.tanh(jnp.tanh(x @ params["A"]) @ params["B"] + params["b"][None])
    return {
        "y1": jnp.mean(jnp.square(h @ params["C"])),
        "y2": jnp.mean(jnp.sin(h @ params["D"])),
        "y3": jnp.mean(jnp.square(h - x)),
    }


def all_of(params, x):
    grads = {m: hw.head_grads(program, method=m)(params, x)[1] for m in METHODS}
    grams = {m: hw.head_gramian(program, method=m)(params, x)[1] for m in GRAMIANS}
    grams["features"] = hw.head_gramian(program, wrt="features")(params, x)[1]
    balancer = hw.balancers.imtl_g()
    balanced = {}
    for stored in (True, False):
        f = hw.balanced_grad(program, balancer, stored=stored)
        total, info, _ = f(params, balancer.init(NAMES), x)
        balanced[stored] = total, info.weights
    return grads, grams, balanced


@functools.cache
def on_one_device():
    params, x = make()
    expected = jax.jit(functools.partial(one_by_one, program))(params, x)
    return jax.device_get((expected, jax.jit(all_of)(params, x)))


def assert_like_on_one_device(found):
    expected, (_, of_features, balanced) = on_one_device()
    grads, grams, mine = jax.device_get(found)
    gram = _programs.gramian(expected)
    for of_method in grads.values():
        # The mean over the batch is summed in another order: float32 rounding.
        assert_close(of_method, expected, 2e-6)
    of_features = {name: gram for name in GRAMIANS} | {
        "features": of_features["features"]
    }
    for name, found in grams.items():
        np.testing.assert_allclose(found, of_features[name], rtol=1e-5, atol=1e-6)
    # The weights solve a small system in the gramian, which has its rounding.
    assert_close(mine, balanced, 1e-4)


def devices():
    return np.array(jax.devices()[:4])


LAYOUTS = {
    "data parallel": lambda shape: Spec(),
    "fully sharded": lambda shape: Spec("batch") if len(shape) > 1 else Spec(),
}


def put(mesh, layout):
    params, x = make()
    params = jax.tree.map(
        lambda leaf: jax.device_put(
            leaf, NamedSharding(mesh, LAYOUTS[layout](leaf.shape))
        ),
        params,
    )
    return params, jax.device_put(x, NamedSharding(mesh, Spec("batch")))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sharded_arguments(layout):
    params, x = put(Mesh(devices(), ("batch",)), layout)
    found = jax.jit(all_of)(params, x)
    assert_like_on_one_device(found)
    for leaf in jax.tree.leaves(found):
        assert len(leaf.sharding.device_set) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mesh_whose_shardings_are_types(layout):
    """What `jax.make_mesh` makes unless told otherwise."""
    params, x = put(jax.make_mesh((4,), ("batch",)), layout)
    assert_like_on_one_device(jax.jit(all_of)(params, x))


def test_constraint_inside_the_model():
    mesh = Mesh(devices(), ("batch",))

    def constrained(params, x):
        x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, Spec("batch")))
        return program(params, x)

    def both(params, x):
        return (
            [hw.head_grads(constrained, method=m)(params, x)[1] for m in METHODS],
            hw.head_gramian(constrained, method="lockstep")(params, x)[1],
        )

    grads, gram = jax.device_get(jax.jit(both)(*make()))
    expected, _ = on_one_device()
    for mine in grads:
        assert_close(mine, expected, 2e-6)
    np.testing.assert_allclose(gram, _programs.gramian(expected), rtol=1e-5, atol=1e-6)


def test_shard_map_inside_the_model():
    """The trunk runs on the shards of the batch, by hand."""
    mesh = Mesh(devices(), ("batch",))

    def by_hand(params, x):
        values = jax.shard_map(
            lambda p, x: jax.lax.pmean(program(p, x), "batch"),
            mesh=mesh,
            in_specs=(Spec(), Spec("batch")),
            out_specs=Spec(),
        )
        return values(params, x)

    def both(params, x):
        return (
            [hw.head_grads(by_hand, method=m)(params, x)[1] for m in METHODS],
            hw.head_gramian(by_hand, method="lockstep")(params, x)[1],
        )

    grads, gram = jax.device_get(jax.jit(both)(*make()))
    expected, _ = on_one_device()
    for mine in grads:
        assert_close(mine, expected, 2e-6)
    np.testing.assert_allclose(gram, _programs.gramian(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("check", [True, False])
def test_gradients_inside_shard_map(check):
    """Every device takes the gradients on its shard; their mean is over the batch."""
    mesh = Mesh(devices(), ("batch",))

    def on_a_shard(params, x):
        if check:  # otherwise the gradients are summed already
            params = jax.lax.pcast(params, "batch", to="varying")
        grads = [hw.head_grads(program, method=m)(params, x)[1] for m in METHODS]
        return jax.lax.pmean(grads, "batch")

    f = jax.shard_map(
        on_a_shard,
        mesh=mesh,
        in_specs=(Spec(), Spec("batch")),
        out_specs=Spec(),
        check_vma=check,
    )
    for mine in jax.device_get(jax.jit(f)(*make())):
        assert_close(mine, on_one_device()[0], 2e-6)


@pytest.mark.optimized
def test_long_gradients_stay_on_their_devices():
    """Products of what is split are summed where it lies; single numbers travel."""
    mesh = Mesh(devices(), ("batch",))
    rng = np.random.default_rng(0)
    rows = {name: {"w": np.float32(rng.normal(size=(256, 512)))} for name in NAMES}
    split = jax.device_put(rows, NamedSharding(mesh, Spec("batch")))
    program = jax.jit(hw.gramian).lower(split).compile()
    text = program.as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text
    np.testing.assert_allclose(program(split), _programs.gramian(rows), rtol=1e-4)
