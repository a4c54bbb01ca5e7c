"""Random weights, drawn anew in every step."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class RandomState(NamedTuple):
    """The weights of the last step, for the log; the draws have no memory."""

    names: _types.Names
    weights: Array
    """[H]"""


def random_weighting(distribution: str = "normal") -> _types.Balancer:
    """Random loss weighting: weights drawn from the key of each step.

    ::

        "normal"                 softmax(z), z standard normal
        "uniform"                softmax(z), z uniform in [0, 1)
        "dirichlet"              uniform on the simplex: Dirichlet(1, ..., 1)
        "bernoulli"              b / Σ b, b fair coins, given that one shows heads
        "constrained_bernoulli"  one head alone, each with the same probability

    The expected weight is 1 / H for every head present: on average this is the mean of
    the values, with noise in the gradient.

    Args:
        distribution: one of these.

    Returns:
        A balancer that needs the values and a key. The weights sum to 1.

    Raises:
        ValueError: unknown distribution; the key is missing.

    Example:
        >>> balancer = hw.balancers.random_weighting("constrained_bernoulli")
        >>> signals = hw.Signals(values=jnp.ones(3), key=jax.random.key(0))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b", "c"]))
        >>> print(sorted(decision.weights.tolist()))
        [0.0, 0.0, 1.0]

    References:
        Lin et al., "Reasonable effectiveness of random weighting: a litmus test for
        multi-task learning", TMLR 2022, algorithm 2. LibMTL and TorchJD
        draw "normal". Their older code puts a softmax on Dirichlet draws as well and
        does not normalise Bernoulli draws; here all sum to 1.
    """
    _checks.choice("distribution", list(_DRAWS), distribution)
    draw = _DRAWS[distribution]

    def init(names: Sequence[str], params: PyTree = None) -> RandomState:
        del params
        names = _types.Names(names, "random_weighting")
        return RandomState(names, jnp.zeros(len(names), jnp.float32))

    def update(
        signals: _types.Signals, state: RandomState
    ) -> tuple[_types.Decision, RandomState]:
        _signals.require("random_weighting", signals, "key")
        assert signals.key is not None
        _, present = _signals.read("random_weighting", state, signals)
        weights = draw(signals.key, present)
        return _types.Decision(weights), state._replace(weights=weights)

    return _types.Balancer(init, update)


def _normal(key: Array, present: Array) -> Array:
    draws = jax.random.normal(key, present.shape, jnp.float32)
    return _masked.softmax(draws, present)


def _uniform(key: Array, present: Array) -> Array:
    draws = jax.random.uniform(key, present.shape, jnp.float32)
    return _masked.softmax(draws, present)


def _dirichlet(key: Array, present: Array) -> Array:
    # Normalised exponential draws are uniform on the simplex.
    draws = jax.random.exponential(key, present.shape, jnp.float32)
    return _masked.normalized(draws, present)


def _bernoulli(key: Array, present: Array) -> Array:
    """Fair coins given that one shows heads, without drawing again.

    The first to show heads is head number k of those present with probability
    proportional to 2^-k; the coins after it are free.
    """
    first_key, rest_key = jax.random.split(key)
    number = jnp.cumsum(present.astype(jnp.float32))
    logits = jnp.where(present, -number * jnp.log(2.0), -jnp.inf)
    first = jax.random.categorical(first_key, logits)
    index = jnp.arange(present.shape[0])
    coins = jax.random.bernoulli(rest_key, 0.5, present.shape)
    shown = (index == first) | ((index > first) & coins)
    return _masked.normalized(shown.astype(jnp.float32), present)


def _constrained_bernoulli(key: Array, present: Array) -> Array:
    logits = jnp.where(present, 0.0, -jnp.inf)
    only = jax.random.categorical(key, logits)
    shown = jnp.arange(present.shape[0]) == only
    return _masked.zero_absent(shown.astype(jnp.float32), present)


_DRAWS: dict[str, Callable[[Array, Array], Array]] = {
    "normal": _normal,
    "uniform": _uniform,
    "dirichlet": _dirichlet,
    "bernoulli": _bernoulli,
    "constrained_bernoulli": _constrained_bernoulli,
}
