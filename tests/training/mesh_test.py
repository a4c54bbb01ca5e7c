"""Training on a mesh as a user does it: the same numbers, one program, exact resume."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import headwise as hw
from tests import _pages
from tests.training import one_program_test

B, T = hw.balancers, hw.training
NAMES = ("a", "b")
rng = np.random.default_rng(0)
SHAPES = {"trunk": (6, 64), "a": (64, 32), "b": (64, 3), "bias": (32,)}
PARAMS = {n: np.float32(rng.normal(size=s) / 8) for n, s in SHAPES.items()}
X = np.float32(rng.normal(size=(6, 8, 6)))
ADAM = optax.adam(0.01)


def make_mesh(kind="Auto", **axes):
    types = (getattr(AxisType, kind),) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=types)


def values_fn(params, rest, x, key):
    h = jnp.tanh(x @ params["trunk"])
    a = jnp.mean((h @ params["a"] + params["bias"][None] - 1) ** 2)
    return {"a": a, "b": jnp.mean(jnp.abs(h @ params["b"]))}, {
        "calls": rest["calls"] + 1
    }


@pytest.mark.optimized
def test_where_parameters_lie():
    """The longest axis that four, or two, divide; whole if there is none."""
    like = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in SHAPES.items()}
    like["odd"] = jax.ShapeDtypeStruct((33, 65), jnp.float32)
    mesh = make_mesh(data=2, model=2)
    place = functools.partial(T.fsdp_shardings, like, mesh)

    def specs(tree):
        return {name: sharding.spec for name, sharding in tree.items()}

    whole = {"b": P(), "bias": P(), "odd": P()}
    assert specs(place("model")) == whole | {"trunk": P(), "a": P("model")}
    both = ("data", "model")
    assert specs(place(both, least=100)) == whole | {
        "trunk": P(None, both),
        "a": P(both),
        "b": P(both),
    }
    with pytest.raises(ValueError, match=r"axis: expected one of \['data', 'model'\]"):
        place("devices")


@pytest.mark.optimized
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_where_examples_lie(kind):
    mesh = make_mesh(kind, data=2, model=2)
    batch = {"x": np.ones((4, 3)), "y": jnp.arange(4), "t": 1.0}
    shard = functools.partial(T.shard_batch, mesh=mesh)
    with jax.set_mesh(mesh) as _:
        traced = jax.jit(shard)(batch)
    for placed in (shard(batch), traced):
        for name, leaf in placed.items():
            np.testing.assert_array_equal(leaf, batch[name])
            parts = {s.data.shape[0] for s in leaf.addressable_shards if leaf.ndim}
            assert parts == ({2} if leaf.ndim else set())
    with pytest.raises(
        ValueError,
        match=r"the 2 devices of mesh axis 'data' divide, got shape \(3, 2\) at 'x'",
    ):
        shard({"x": np.ones((3, 2))})
    with pytest.raises(ValueError, match=r"the 4 devices of mesh axis \('data', 'mod"):
        shard(np.ones((6, 2)), axis=("data", "model"))


def fit(mesh, balancer, steps=6, workdir=None, **options):
    params = PARAMS
    batches = [jnp.asarray(x) for x in X]
    if mesh is not None:
        axis = mesh.axis_names[-1]
        places = T.fsdp_shardings(PARAMS, mesh, axis, least=100)
        params = jax.device_put(PARAMS, places)
        batches = [T.shard_batch(x, mesh) for x in X]
    parts = ADAM, balancer
    return T.fit(
        T.make_step(values_fn, *parts, stateful=True, **options),
        T.init_state(NAMES, params, *parts, {"calls": jnp.int32(0)}),
        lambda t: batches[t % len(batches)],
        steps,
        workdir=workdir,
        log_every=2,
        checkpoint_every=2,
        progress=False,
        check=False,
    )


def assert_close(got, want):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        jax.device_get(got),
        jax.device_get(want),
    )


CASES = {
    "values": (B.uncertainty(), {}, {"data": 4}),
    "gramian": (B.imtl_g(), {"private": "own"}, {"data": 2, "model": 2}),
}


@pytest.mark.optimized
@pytest.mark.parametrize("name", CASES)
def test_fit_is_the_same_and_stays_where_it_was(name):
    """Nothing but the parameters was placed; every step is the same program."""
    balancer, options, axes = CASES[name]
    mesh = make_mesh(**axes)
    want, records = fit(None, balancer, **options)
    fit(mesh, balancer, steps=2, **options)  # the small programs around it
    one_program_test.compiled.clear()
    state, history = fit(mesh, balancer, **options)
    assert len(one_program_test.compiled) == 1
    assert_close((state.params, state.optimizer), (want.params, want.optimizer))
    assert_close([r["values"] for r in history], [r["values"] for r in records])
    places = T.fsdp_shardings(PARAMS, mesh, mesh.axis_names[-1], least=100)
    for tree in (state.params, state.optimizer[0].mu, state.optimizer[0].nu):
        for leaf, place in zip(*map(jax.tree.leaves, (tree, places)), strict=True):
            assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    assert len(state.step.sharding.device_set) == 4


@pytest.mark.optimized
def test_a_checkpoint_goes_on_on_this_mesh_and_on_others(tmp_path):
    """The same bits on the same devices; the same numbers on others."""
    wide, tall = make_mesh(data=4), make_mesh(data=2, model=2)
    balancer = B.uncertainty()
    want, records = fit(wide, balancer)
    fit(wide, balancer, 4, tmp_path)
    state, history = fit(wide, balancer, 6, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.params, want.params)
    assert history == records
    for steps, mesh in ((8, tall), (10, None)):
        state, _ = fit(mesh, balancer, steps, tmp_path)
        devices = 1 if mesh is None else 4
        assert len(state.params["trunk"].sharding.device_set) == devices
    want, _ = fit(None, balancer, 10)
    assert_close(state.params, want.params)


def test_the_page_runs_as_written():
    page = one_program_test.__file__.partition("tests")[0] + "docs/guides/devices.md"
    assert _pages.run_page(page)["state"].loss_scale is not None
