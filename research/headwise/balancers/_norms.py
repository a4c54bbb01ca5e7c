"""Scalarisations by means, norms and angles: GLS, p-norm, PBI, COSMOS."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.balancers import _masked
from headwise.balancers import _scalarization
from headwise.balancers import _types
from headwise.typing import Array

_EPSILON = float(jnp.finfo(jnp.float32).eps)
_SMALL = 1e-30
"""A vector that is smaller everywhere counts as 0: its direction is not known."""


def gls(preferences: _scalarization.Given = None) -> _types.Balancer:
    """Geometric loss strategy: the geometric mean of the values.

    ::

        total = exp(Σ p_h log value_h / Σ p_h),   weight_h = p_h total / (Σ p value_h)

    in logs, so that no product leaves float32. Multiplying one head's value by a
    constant changes nothing but the overall scale. Σ weight · value is the mean itself:
    the weights have no fixed sum. A value that is not positive counts as the least
    normal float32, 1.2e-38.

    Args:
        preferences: {name: scalar >= 0}, one for every head, for a weighted mean, which
            is not in the paper; None means the same for all.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `init` gets other names than `preferences`.

    Example:
        >>> balancer = hw.balancers.gls()
        >>> signals = hw.Signals(values=jnp.array([1.0, 2.0, 4.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b", "c"]))
        >>> print(np.asarray(decision.weights * 3).round(4))  # 2 / value
        [2.  1.  0.5]

    References:
        Chennupati et al., "MultiNet++: multi-stream feature aggregation and geometric
        loss strategy for multi-task learning", CVPR workshops 2019, section on GLS.
        LibMTL computes the same gradient, but logs weights that are not those.
    """

    def mean(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        share = _masked.normalized(wanted, present)
        logs = jnp.log(_types.positive(values))
        return jnp.exp(_masked.total(share * logs, present))

    return _scalarization.build("gls", mean, preferences)


def p_norm(p: float, preferences: _scalarization.Given = None) -> _types.Balancer:
    """The p-norm of the values: their sum at p = 1, their largest as p grows.

    ::

        total = (Σ (p_h value_h)^p)^(1/p),   weight_h = p_h (p_h value_h / total)^(p-1)

    The weights do not depend on a common scale of the values; Σ weight · value is the
    norm. A value that is not positive counts as the least normal float32.

    Args:
        p: at least 1.
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: p < 1; `init` gets other names than `preferences`.

    Example:
        >>> balancer = hw.balancers.p_norm(2.0, {"a": 1.0, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([3.0, 4.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # value / 5
        [0.6 0.8]

    References:
        Zeleny, "Compromise programming", in Multiple criteria decision making, 1973;
        LibMOON's `PNorm` has p = 2.
    """
    _masked.check_number("p", p, "a number >= 1", lambda number: number >= 1)

    def norm(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        x = _masked.zero_absent(wanted * _types.positive(values), present)
        largest = jax.lax.stop_gradient(jnp.max(x))
        largest = jnp.where(largest > 0, largest, 1.0)
        unit = x / largest
        powers = _masked.total(unit**p, present & (unit > 0))
        powers = jnp.where(powers > 0, powers, 1.0)
        return largest * powers ** (1.0 / p)

    return _scalarization.build("p_norm", norm, preferences)


def pbi(
    theta: float,
    preferences: _scalarization.Given = None,
    reference: _scalarization.Given = None,
) -> _types.Balancer:
    """Penalty boundary intersection: along the preferred direction, and off it.

    ::

        ŵ = p / |p|,   d1 = Σ ŵ_h (value_h - z_h),   d2 = |value - z - d1 ŵ|
        total = d1 + theta d2

    The values are drawn to the ray from z along p. Weights are negative for a head that
    lies too low by more than theta pays for. At d2 = 0 (to float32) weight = ŵ. Their
    squares sum to 1 + theta² off the ray.

    Args:
        theta: >= 0, what leaving the ray costs; MOEA/D uses 5.
        preferences: {name: scalar >= 0}, one for every head: the direction, of any
            length; None means the same for all.
        reference: {name: scalar}, one for every head: z; None means 0.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: theta < 0; `init` gets other names.

    Example:
        >>> balancer = hw.balancers.pbi(1.0, {"a": 1.0, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([2.0, 0.0]))  # d1 = d2 = sqrt(2)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print((decision.weights**2).round(4))  # (1/√2 ± 1/√2)²
        [2. 0.]

    References:
        Zhang and Li, "MOEA/D: a multiobjective evolutionary algorithm based on
        decomposition", IEEE Trans. Evol. Comput. 2007, section II-A.3. LibMOON ignores
        z; TorchJD adds 1e-12 under the root instead of treating d2 = 0 apart.
    """
    _masked.check_number("theta", theta, "a number >= 0", lambda number: number >= 0)

    def distance(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        ray = unit_vector(_masked.zero_absent(wanted, present))
        offset = _masked.zero_absent(values - z, present)
        along = jnp.sum(ray * offset)
        across = offset - along * ray
        # What is left of a vector on the ray is rounding, of no direction.
        size = jax.lax.stop_gradient(length(offset))
        off = jax.lax.stop_gradient(length(across)) > 8 * _EPSILON * size
        across = jnp.where(off, across, jnp.zeros_like(across))
        return along + theta * length(across)

    return _scalarization.build("pbi", distance, preferences, reference)


def cosmos(penalty: float, preferences: _scalarization.Given = None) -> _types.Balancer:
    """COSMOS: a weighted sum, less the cosine between the values and the preferences.

    ::

        total = Σ p_h value_h - penalty cos(values, p)

    The scale is that of p for the sum; the other part grows as 1 / |values|, and makes
    weights negative where it wins. Values that are all 0 have cosine 0.

    Args:
        penalty: >= 0; the paper's λ, 1 to 8 there.
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: penalty < 0; `init` gets other names than `preferences`.

    Example:
        >>> balancer = hw.balancers.cosmos(5.0, {"a": 1.0, "b": 0.0})
        >>> signals = hw.Signals(values=jnp.array([0.0, 2.0]))  # b alone, cosine 0
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # 1 - 5 / |values|
        [-1.5  0. ]

    References:
        Ruchte and Grabocka, "Scalable Pareto front approximation for deep
        multi-objective learning", ICDM 2021, section on the cosine penalty. There the
        model is shown the preferences too; here it is the objective alone.
    """
    _masked.check_number(
        "penalty", penalty, "a number >= 0", lambda number: number >= 0
    )

    def angle(values: Array, wanted: Array, _: Array, present: Array) -> Array:
        wanted = _masked.zero_absent(wanted, present)
        values = _masked.zero_absent(values, present)
        cosine = jnp.sum(unit_vector(values) * unit_vector(wanted))
        return jnp.sum(wanted * values) - penalty * cosine

    return _scalarization.build("cosmos", angle, preferences)


def length(x: Array) -> Array:
    """Euclidean length; 0 has derivative 0, and no square leaves float32."""
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    known = scale > _SMALL
    safe = jnp.where(known, scale, 1.0)
    squares = jnp.where(known, jnp.sum((x / safe) ** 2), 1.0)
    return jnp.where(known, safe * jnp.sqrt(squares), 0.0)


def unit_vector(x: Array) -> Array:
    """The vector by its length; 0 for 0."""
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    scale = jnp.where(scale > _SMALL, scale, 0.0)
    x = _numerics.safe_divide(x, jnp.broadcast_to(scale, x.shape), 0.0)
    size = length(x)
    return _numerics.safe_divide(x, jnp.broadcast_to(size, x.shape), 0.0)
