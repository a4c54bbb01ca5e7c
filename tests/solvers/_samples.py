"""Random head gradients of many structures."""

import functools

import numpy as np


def make_gauss(rng, heads):
    """Generic: more parameters than heads."""
    return rng.normal(size=(heads, heads + 5))


def make_scaled(rng, heads):
    """Lengths over four decades."""
    return make_gauss(rng, heads) * 10.0 ** rng.uniform(-2, 2, size=(heads, 1))


def make_correlated(rng, heads):
    """All near one direction: no conflict, and badly conditioned."""
    return rng.normal(size=(1, heads + 5)) + 0.1 * make_gauss(rng, heads)


def make_conflicting(rng, heads):
    """Few parameters: rank two, so many heads must conflict."""
    return rng.normal(size=(heads, 2))


def make_duplicate(rng, heads):
    """The second row is the first, up to 1e-6."""
    rows = make_gauss(rng, heads)
    rows[1] = rows[0] + 1e-6 * rng.normal(size=rows.shape[1])
    return rows


def make_stationary(rng, heads):
    """Strongly stationary: v > 0 with vᵀJ = 0. Draw v, then J orthogonal to v."""
    v = rng.uniform(0.5, 1.5, size=heads)
    rows = make_gauss(rng, heads)
    return rows - np.outer(v, v @ rows) / (v @ v)


SAMPLERS = {
    f.__name__[5:]: f
    for f in (
        make_gauss,
        make_scaled,
        make_correlated,
        make_conflicting,
        make_duplicate,
        make_stationary,
    )
}


@functools.cache
def sample_rows(kind, heads):
    """20 sets of rows, which are float32 numbers, as float64."""
    rng = np.random.default_rng([heads, len(kind)])
    rows = np.stack([SAMPLERS[kind](rng, heads) for _ in range(20)])
    return rows.astype(np.float32).astype(np.float64)


@functools.cache
def sample(kind, heads):
    """Their 20 gramians in float64."""
    rows = sample_rows(kind, heads)
    return rows @ rows.swapaxes(1, 2)
