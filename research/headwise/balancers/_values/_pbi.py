"""PBI: along a ray of preferred values, and a penalty off it."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._core import _vectors
from headwise.balancers._values import _derivatives
from headwise.typing import Array

_EPSILON = float(jnp.finfo(jnp.float32).eps)


def pbi(
    theta: float,
    preferences: _named.Given = None,
    reference: _named.Given = None,
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
    _checks.nonnegative("theta", theta)
    _named.check("preferences", preferences, _checks.nonnegative)

    def distance(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        ray = _vectors.unit_vector(_masked.zero_absent(wanted, present))
        offset = _masked.zero_absent(values - z, present)
        along = jnp.sum(ray * offset)
        across = offset - along * ray
        # What is left of a vector on the ray is rounding, of no direction.
        size = jax.lax.stop_gradient(_vectors.length(offset))
        off = jax.lax.stop_gradient(_vectors.length(across)) > 8 * _EPSILON * size
        across = jnp.where(off, across, jnp.zeros_like(across))
        return along + theta * _vectors.length(across)

    return _derivatives.build("pbi", distance, preferences, reference)
