"""How much a step computes, read off its program before anything is compiled."""

import math
from typing import Any

from jax.extend import core

SMALL = 3e6
"""Operations of a step in products of matrices, up to which small operations beside
them count: trials that take a step together share what those cost. (9e6, an MLP of 14
heads, is no longer small: vmapped it takes 1.7 times what two threads take.)"""


def of_products(program: core.ClosedJaxpr | core.Jaxpr) -> float:
    """Operations in products of matrices; each round of a loop is counted once.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from headwise.sweeps._cohort import _arithmetic
        >>> a, b = jnp.ones((2, 3)), jnp.ones((3, 5))
        >>> _arithmetic.of_products(jax.make_jaxpr(jax.jit(jnp.dot))(a, b))
        60.0
    """
    total = 0.0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            result: Any = equation.outvars[0].aval
            lhs, out = left.shape, result.shape
            total += 2.0 * math.prod(out) * math.prod(lhs[i] for i in contracted)
        for inner in core.jaxprs_in_params(equation.params):
            total += of_products(inner)
    return total
