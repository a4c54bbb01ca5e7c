"""Dependence, entry by entry: random programs against numbers."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise.gradients import _control_flow
from headwise.gradients import _dependence
from headwise.gradients import _head_sets


def product(a, b):
    """Both derivatives are positive where a and b are; does not grow."""
    return a * b / (1.0 + a + b)


def shape_of_size(r, n):
    first = r.choice([d for d in range(1, n + 1) if n % d == 0])
    second = r.choice([d for d in range(1, n // first + 1) if n // first % d == 0])
    return r.choice([(first, second, -1), (first, -1), (-1,), (1, first, -1)])


def part(x, axis, where):
    return x[(slice(None),) * axis + (where,)]


def some(r, n):
    start = r.randrange(n)
    return slice(start, r.randint(start + 1, n), r.choice([1, 1, 2]))


def resized(x, shape):
    size = math.prod(shape)
    copies = [x.ravel()] * (1 + size // x.size)
    return jnp.concatenate(copies)[:size].reshape(shape)


def repeated(x, axis):
    x = jnp.expand_dims(x, axis)
    return jnp.broadcast_to(x, [2 if i == axis else n for i, n in enumerate(x.shape)])


def padded(r, x, axis, fill):
    least = -1 if x.shape[axis] > 2 else 0
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (r.randint(least, 2), r.randint(least, 2), r.randint(0, 1))
    return jax.lax.pad(x, fill, config)


def joined(a, b, k):
    return jnp.concatenate([product(a, b), jnp.sqrt(a)], k)


def either(which, a, b, k):
    branches = [lambda a, b: (a + b, jnp.flip(b, k)), lambda a, b: (b, a)]
    return jax.lax.switch(which, branches, a, b)


def convolved(x, kernel, **options):
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(
        x, kernel, padding="SAME", dimension_numbers=numbers, **options
    )


def strided(r, a, b):
    x = a.reshape(a.shape[0], -1, a.shape[-1] if a.ndim > 1 else 1)
    features = x.shape[-1]
    groups = r.choice([1, features])
    kernel = resized(b, (2, features // groups, 2 * features))
    strides = (r.randint(1, 2),)
    return convolved(x, kernel, window_strides=strides, feature_group_count=groups)


def pointwise(a, b):
    x = a.reshape(len(a), 1, -1)
    return convolved(x, resized(b, (1, x.shape[-1], 2)), window_strides=(1,))


def batched(a, b):
    rows = (x.reshape(len(x), -1) for x in (a, b))
    return jnp.einsum("bi,bj->bij", *rows)


def pooled(a, k, start, operation):
    window = [min(2, n) if i == k else 1 for i, n in enumerate(a.shape)]
    return jax.lax.reduce_window(a, start, operation, window, [1] * a.ndim, "VALID")


def scanned(r, a, b, k):
    def body(carry, x):
        return jnp.roll(carry, 1, k) + 0.1 * x, jnp.flip(carry, k)

    return jax.lax.scan(body, a, jnp.stack([a, b]), reverse=r.random() < 0.5)


def updated(r, a, b, k):
    start = jnp.array(r.randrange(a.shape[k]))
    row = part(b, k, slice(1))
    return jax.lax.dynamic_update_slice_in_dim(a, row, start, k)


# Of random numbers r, two arrays a and b of the same shape, and an axis k of theirs.
EXACT = {
    "add": lambda r, a, b, k: [a + 0.5 * b],
    "barrier": lambda r, a, b, k: jax.lax.optimization_barrier((a, b)),
    "batched": lambda r, a, b, k: [batched(a, b)],
    "broadcast": lambda r, a, b, k: [repeated(a, k)],
    "concatenate": lambda r, a, b, k: [jnp.concatenate([a, b], k)],
    "flip": lambda r, a, b, k: [jnp.flip(a, k)],
    "jit": lambda r, a, b, k: [jax.jit(joined, static_argnums=2)(a, b, k)],
    "matmul": lambda r, a, b, k: [a @ jnp.full((a.shape[-1], 2), 0.3)],
    "mul": lambda r, a, b, k: [product(a, b)],
    "outer": lambda r, a, b, k: [jnp.outer(a.ravel()[:3], b.ravel()[-3:])],
    "pad": lambda r, a, b, k: [padded(r, a, k, jnp.float32(0.7))],
    "remat": lambda r, a, b, k: [jax.checkpoint(joined, static_argnums=2)(a, b, k)],
    "pointwise": lambda r, a, b, k: [pointwise(a, b)],
    "reshape": lambda r, a, b, k: [a.reshape(shape_of_size(r, a.size))],
    "roll": lambda r, a, b, k: [jnp.roll(a, 1, k)],
    "slice": lambda r, a, b, k: [part(a, k, some(r, a.shape[k]))],
    "split": lambda r, a, b, k: jnp.split(a, [r.randint(0, a.shape[k])], k),
    "stack": lambda r, a, b, k: [jnp.stack([a, b], k)],
    "sum": lambda r, a, b, k: [a.sum(k)],
    "tanh": lambda r, a, b, k: [jnp.tanh(0.1 * a)],
    "transpose": lambda r, a, b, k: [a.transpose(r.sample(range(a.ndim), a.ndim))],
    "unstack": lambda r, a, b, k: jnp.unstack(a, axis=k),
    "vmap": lambda r, a, b, k: [jax.vmap(jnp.outer, k, k)(a, b)],
    "where": lambda r, a, b, k: [jnp.where(jnp.array(True), a, b) + a + b],
}
SAFE = EXACT | {
    "at": lambda r, a, b, k: [part(a, k, jnp.array(r.randrange(a.shape[k])))],
    "cumsum": lambda r, a, b, k: [jnp.cumsum(a, k)],
    "cond": lambda r, a, b, k: either(jnp.array(r.randrange(2)), a, b, k),
    "conv": lambda r, a, b, k: [strided(r, a, b)],
    "einsum": lambda r, a, b, k: [jnp.einsum("...i,...i->...", a, b)],
    "grad": lambda r, a, b, k: [jax.grad(lambda a: jnp.sum(joined(a, b, k) ** 2))(a)],
    "max": lambda r, a, b, k: [a.max(k)],
    "mean": lambda r, a, b, k: [pooled(a, k, 0.0, jax.lax.add)],
    "pad_with": lambda r, a, b, k: [padded(r, a, k, b.ravel()[0])],
    "pool": lambda r, a, b, k: [pooled(a, k, -jnp.inf, jax.lax.max)],
    "scan": lambda r, a, b, k: scanned(r, a, b, k),
    "scatter": lambda r, a, b, k: [a.at[jnp.array([0, -1])].add(b[:1])],
    "set": lambda r, a, b, k: [a.at[r.randrange(len(a))].set(b[0])],
    "softmax": lambda r, a, b, k: [jax.nn.softmax(a, k)],
    "sort": lambda r, a, b, k: [jnp.sort(a, k)],
    "take": lambda r, a, b, k: [jnp.take(a, jnp.array([0, a.shape[k] - 1]), k)],
    "take_along": lambda r, a, b, k: [jnp.take_along_axis(a, jnp.argsort(b, k), k)],
    "update": lambda r, a, b, k: [updated(r, a, b, k)],
}


def with_derivatives(operation, r, a, b, k):
    """What it makes of a and b; cotangents that depend on b, pulled back through it."""
    state = r.getstate()

    def fixed(a, b):
        r.setstate(state)
        return list(operation(r, a, b, k))

    made, pullback = jax.vjp(fixed, a, b)
    return made, pullback([resized(b, x.shape) for x in made])


def check(program, exact):
    """Compares flags with numbers: doubling a scalar changes what depends on it.

    Args:
        program: from 6 scalars to a list of pairs of the operation and an array.
        exact: operations whose arrays depend on nothing else.
    """
    names = []

    def arrays_alone(scalars):
        names[:], arrays = zip(*program(scalars))
        return list(arrays)

    scalars = np.random.default_rng(0).uniform(0.5, 1.5, 6).astype(np.float32)
    jaxpr = jax.make_jaxpr(arrays_alone)(list(scalars))
    run = jax.jit(arrays_alone)
    before = run(list(scalars))
    after = [run(list(row)) for row in scalars * (1 + np.eye(6, dtype=np.float32))]
    changes = [np.array([x != old for x in new]) for old, *new in zip(before, *after)]

    def flags():
        sets = _dependence.entrywise(jaxpr, [1 << i for i in range(6)])
        for found, old in zip(sets, before, strict=True):
            entries = np.broadcast_to(found, old.shape)
            yield np.array([entries >> i & 1 > 0 for i in range(6)])

    for name, changed, flagged in zip(names, changes, flags(), strict=True):
        assert not np.any(changed & ~flagged), name
        assert name not in exact or not np.any(flagged & ~changed), name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_head_sets, "LARGEST", 5)
        patch.setattr(_control_flow, "STEPS", 1)
        for name, changed, flagged in zip(names, changes, flags(), strict=True):
            assert not np.any(changed & ~flagged), name


def test_each_operation():
    """On arrays whose entries depend on one scalar each."""

    def program(scalars):
        r = random.Random(0)
        a = jnp.stack(scalars).reshape(3, 1, 2)
        found = []
        for name, operation in SAFE.items():
            k = r.choice([0, 2])
            made, derivatives = with_derivatives(operation, r, a, jnp.flip(a), k)
            found += [(name, x) for x in (*made, *derivatives)]
        return found

    check(program, EXACT)


@pytest.mark.parametrize("seed", range(8))
def test_random_programs(seed):
    """Operations on what others have made; half of the programs are of exact ones."""
    operations = EXACT if seed % 2 else SAFE

    def program(scalars):
        r = random.Random(seed)
        start = r.choice([(6,), (2, 3), (1, 6), (3, 1, 2)])
        arrays = [jnp.stack(scalars).reshape(start), jnp.stack(scalars[1:4])]
        found = []
        for _ in range(8):
            name = r.choice(sorted(operations))
            a = r.choice(arrays)
            b = r.choice([x for x in arrays if x.shape == a.shape])
            k = r.randrange(a.ndim)
            made, derivatives = with_derivatives(operations[name], r, a, b, k)
            found += [(name, x) for x in (*made, *derivatives)]
            for x in made:
                if x.size:
                    x = x if x.size <= 48 else x.ravel()[:24]
                    arrays.append(x if x.ndim else x[None])
        return found

    check(program, operations if operations is EXACT else ())
