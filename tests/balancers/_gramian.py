"""Balancers on batches of gramians: compiled once a method, solved once a sample."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw
from tests.solvers import _samples

EPS = float(np.finfo(np.float32).eps)
NAMES = tuple("abcdefgh")
KINDS = tuple(_samples.SAMPLERS)
SIZES = (2, 3, 8)

# (factory, its traced option): one program for all options.
METHODS = {
    **{name: (getattr(hw.balancers, name),) for name in hw.balancers.FROM_GRAMIAN},
    "cagrad": (hw.balancers.cagrad, 0.5),
    "cagrad 0.4": (hw.balancers.cagrad, 0.4),
    "cagrad 1": (hw.balancers.cagrad, 1.0),
    "cagrad 1.5": (hw.balancers.cagrad, 1.5),
    "cagrad square": (functools.partial(hw.balancers.cagrad, rescale="square"), 0.5),
    "cagrad linear": (functools.partial(hw.balancers.cagrad, rescale="linear"), 0.5),
    "aligned_mtl rmse": (functools.partial(hw.balancers.aligned_mtl, "rmse"),),
    "nash_mtl": (hw.balancers.nash_mtl, 1.0),
    "nash_mtl free": (hw.balancers.nash_mtl, np.inf),
    "fairgrad": (hw.balancers.fairgrad, 1.0),
    "fairgrad 0.5": (hw.balancers.fairgrad, 0.5),
    "fairgrad 2": (hw.balancers.fairgrad, 2.0),
    "krum": (functools.partial(hw.balancers.krum, 1, 2),),
    "krum 4": (functools.partial(hw.balancers.krum, 1, 4),),
    "pcd": (functools.partial(hw.balancers.pcd, "a"),),
}
BATCH = 20 * len(KINDS)
"""All calls have so many problems: one program for each number of heads."""


def update(balancer, gram, present=None, key=None, preferences=None):
    """The weights of a first step."""
    heads = len(gram)
    state = balancer.init(NAMES[:heads])
    if preferences is not None:  # data in the state
        state = state._replace(preferences=preferences)
    signals = hw.balancers.Signals(jnp.ones(heads), gram, key=key, present=present)
    return balancer.update(signals, state)[0].weights


@functools.cache
def compiled(factory):
    """(gram [K, H, H], present [K, H], key [K], *options) -> weights [K, H]."""

    def every(grams, present, keys, *options):
        balancer = factory(*options)
        return jax.vmap(functools.partial(update, balancer))(grams, present, keys)

    return jax.jit(every)


def keys(number=BATCH):
    return jax.random.split(jax.random.key(0), number)


def weights(method, grams, present=None, dtype=np.float32):
    """[K, H] weights for [K, H, H] gramians, in float64."""
    factory, *options = METHODS[method]
    grams = np.asarray(grams, dtype)
    if present is None:
        present = np.ones(grams.shape[:2], bool)
    index = np.arange(BATCH) % len(grams)
    answer = compiled(factory)(grams[index], present[index], keys(), *options)
    assert answer.dtype == dtype
    return np.asarray(answer, np.float64)[: len(grams)]


@functools.cache
def solved(method, heads):
    """{kind: [20, H] weights} of all samples, by one call."""
    grams = np.concatenate([_samples.sample(kind, heads) for kind in KINDS])
    return dict(zip(KINDS, np.split(weights(method, grams), len(KINDS))))


def directions(w, rows):
    return np.einsum("kh,khp->kp", w, rows)


def measure(w, rows):
    """Lengths of the gradients [K, H], and Σ |w| |g| [K, 1]: what rounding is of."""
    lengths = np.linalg.norm(rows, axis=2)
    return lengths, np.sum(np.abs(w) * lengths, axis=1, keepdims=True)
