"""GO4Align: heads at a similar state of progress form a group with one weight."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _optimizer
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class Go4AlignState(NamedTuple):
    """What each head has gathered of past values."""

    names: _types.Names
    log_share: Array
    """[H] log p; p sums to 1 over all heads."""


def go4align(
    groups: int = 2, step_size: float = 1e-4, iterations: int = 10
) -> _types.Balancer:
    """Group optimisation for alignment: weights of groups of heads.

    ::

        p_h <- p_h exp(-step_size value_h), normalised          (past values)
        u_h = p_h (Σ value) / value_h                           (risk-guided indicator)
        weight_h = mean of u over the group of h                (k-means on u)

    Equal values give weights of 1; there is no fixed sum. A head whose value is not
    positive has weight 1 and keeps its p; p stops at e^-14, u at 1e6.

    The official code runs k-means on u from random centres until it converges. Here
    centres start at evenly spaced ranks of u and take a fixed number of steps, so that
    the answer is the same every time and inside a compiled step; with as many groups as
    heads the weights are u itself.

    Args:
        groups: at most this many; 1 gives all heads the mean of u.
        step_size: the paper's η >= 0.
        iterations: of k-means.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: groups or iterations < 1; step_size < 0.

    Example:
        >>> balancer = hw.balancers.go4align(groups=2, step_size=0.0)
        >>> signals = hw.Signals(values=jnp.array([1.0, 1.5, 6.0]))  # u = 8.5 / 3 value
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b", "c"]))
        >>> print(np.asarray(decision.weights).round(3))  # (2.833 + 1.889) / 2
        [2.361 2.361 0.472]

    References:
        Shen et al., "GO4Align: group optimization for multi-task alignment", NeurIPS
        2024, algorithm 1; official code autumn9999/GO4Align.
    """
    groups = _checks.positive_int("groups", groups)
    _checks.nonnegative("step_size", step_size)
    iterations = _checks.positive_int("iterations", iterations)

    def init(names: Sequence[str], params: PyTree = None) -> Go4AlignState:
        del params
        names = _types.Names(names, "go4align")
        heads = len(names)
        return Go4AlignState(names, jnp.full(heads, -math.log(heads), jnp.float32))

    def update(
        signals: _types.Signals, state: Go4AlignState
    ) -> tuple[_types.Decision, Go4AlignState]:
        values, present = _signals.read("go4align", state, signals)
        old = state.log_share
        counted = present & (values > 0)
        values = _masked.positive(jnp.where(counted, values, 1.0))
        # Absent heads keep their share: the others share out what they had.
        before = _masked.log_sum_exp(old, counted)
        moved = old - step_size * values
        moved -= _masked.log_sum_exp(moved, counted)
        # A share that is too small to come back is none.
        moved = jnp.maximum(moved, -_optimizer.LIMIT)
        moved += before - _masked.log_sum_exp(moved, counted)
        share = _masked.softmax(moved, counted)
        largest = _masked.highest(values, counted)
        summed = largest * _masked.total(values / largest, counted)
        indicator = jnp.minimum(share * (summed / values), _masked.LARGEST)
        weights = _group_means(indicator, counted, groups, iterations)
        weights = jnp.where(counted, weights, present.astype(weights.dtype))
        new = Go4AlignState(state.names, jnp.where(counted, moved, old))
        return _types.Decision(weights), new

    return _types.Balancer(init, update)


def _group_means(x: Array, present: Array, groups: int, iterations: int) -> Array:
    """Each entry's mean over its group, by k-means on scalars; 0 for absent heads."""
    x = _masked.zero_absent(x, present)
    last = jnp.maximum(jnp.sum(present) - 1, 0)
    evenly = jnp.linspace(0.0, 1.0, groups, dtype=jnp.float32)
    ranks = jnp.round(evenly * last.astype(jnp.float32)).astype(jnp.int32)
    centres = jnp.sort(jnp.where(present, x, jnp.inf))[ranks]

    def member(centres: Array) -> Array:
        """[H, groups] bool: whose centre is nearest, the first on a tie."""
        nearest = jnp.argmin(jnp.abs(x[:, None] - centres[None, :]), axis=1)
        return (nearest[:, None] == jnp.arange(groups)[None, :]) & present[:, None]

    def step(_: int, centres: Array) -> Array:
        here = member(centres)
        count = jnp.sum(here, axis=0)
        mean = jnp.sum(jnp.where(here, x[:, None], 0.0), 0)
        mean = mean / jnp.maximum(count, 1).astype(mean.dtype)
        return jnp.where(count > 0, mean, centres)

    centres = jax.lax.fori_loop(0, iterations, step, centres)
    return jnp.sum(jnp.where(member(centres), centres[None, :], 0.0), axis=1)
