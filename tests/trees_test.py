"""Copies of the arrays of a tree: their own memory, the old places, no programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise import _trees


def spread(x, spec=("i",)):
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))


TREES = {
    "arrays": lambda: {"w": jnp.ones((2, 3)), "none": jnp.zeros((0, 3)), "n": 2},
    "split": lambda: [spread(jnp.arange(8.0)), spread(jnp.arange(8.0), ())],
    "keys": lambda: [jax.random.key(1), spread(jax.random.split(jax.random.key(1), 4))],
    "of another device": lambda: [jax.device_put(jnp.ones(3), jax.devices()[2])],
    "of NumPy": lambda: [np.arange(3, dtype=np.float16)],
}


def plain(x):
    keys = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if keys else x


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_they_are_equal_and_lie_there_and_apart(make):
    tree = make()
    copy = _trees.copied(tree)
    assert jax.tree.structure(copy) == jax.tree.structure(tree)
    for a, b in zip(*map(jax.tree.leaves, (tree, copy)), strict=True):
        assert isinstance(b, jax.Array)
        np.testing.assert_array_equal(plain(jnp.asarray(a)), plain(b))
        if not isinstance(a, jax.Array):
            continue
        assert jax.typeof(b) == jax.typeof(a)
        assert (b.sharding, b.committed) == (a.sharding, a.committed)
        assert not _trees._places(a) & _trees._places(b)


def test_the_old_ones_stay_when_the_copies_are_given_for_good():
    tree = {"w": jnp.ones(5), "key": jax.random.key(0)}
    add = jax.jit(lambda tree: {**tree, "w": tree["w"] + 1}, donate_argnums=0)
    copy = _trees.copied(tree)
    assert add(copy)["w"].sum() == 10
    assert copy["w"].is_deleted()
    assert tree["w"].sum() == 5
    assert jax.random.key_data(tree["key"]).shape == (2,)


def test_no_program_is_compiled_for_them():
    """Of shapes that no other test has."""
    arrays = [jnp.asarray(np.ones((n, 61), np.float32)) for n in range(1, 9)]
    compiled = []

    def listen(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        _trees.copied(arrays)
        assert compiled == []
        jnp.copy(arrays[-1])
        assert len(compiled) == 1  # such a listener hears them
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_in_a_program_they_are_copies_too():
    program = jax.make_jaxpr(_trees.copied)([jnp.ones(3), jnp.ones(3)])
    assert [eqn.primitive.name for eqn in program.eqns] == ["copy", "copy"]
