"""A stream of uneven batches, and a batch spread over devices, for any metric."""

import functools

import jax
import numpy as np

import headwise as hw

UNEVEN = (1, 4, 2)


def streamed(metric, *arrays):
    """The sum over batches of 1, 4 and 2 examples."""
    ends = np.cumsum(UNEVEN)
    parts = [[a[e - n : e] for a in arrays] for n, e in zip(UNEVEN, ends)]
    return functools.reduce(hw.metrics.add, [metric(*part) for part in parts])


def spread_by_the_compiler(metric, *arrays):
    """One call on four examples that lie on two devices."""
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    return jax.jit(metric)(*(jax.device_put(a[:4], spec) for a in arrays))


def spread_by_hand(metric, *arrays):
    """A call on each of two devices, summed over these."""
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def summed(*shards):
        return jax.lax.psum(metric(*shards), "data")

    return jax.jit(
        jax.shard_map(
            summed, mesh=mesh, in_specs=spec, out_specs=jax.sharding.PartitionSpec()
        )
    )(*(a[:4] for a in arrays))


def summed_after_vmap(metric, *arrays):
    """One call an example, and the sum of the results."""
    results = jax.jit(jax.vmap(metric))(*(a[:4, None] for a in arrays))
    return jax.tree.map(lambda x: x.sum(0), results)


def assert_same(got, expected, rtol=1e-6):
    """Equal pytrees, but for the rounding of one sum in another order."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), got, expected
    )


def assert_adds_up(metric, *arrays, rtol=1e-6):
    """Streams, shards and vmaps of seven examples give what one call gives."""
    metric = jax.jit(metric)  # a program a shape, not one for each operation
    assert_same(streamed(metric, *arrays), metric(*arrays), rtol)
    four = metric(*(a[:4] for a in arrays))
    for way in (spread_by_the_compiler, spread_by_hand, summed_after_vmap):
        assert_same(way(metric, *arrays), four, rtol)
