"""Multi-layer perceptron: the smallest trunk or head."""

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from headwise import _checks


class Mlp(nnx.Module):
    """Dense layers with an activation between them, on the last axis.

    For sizes (n_0, ..., n_L) and layers l = 1..L::

        x_l = activation(W_l x_{l-1} + b_l),  and without activation for l = L.

    Args:
        sizes: at least two positive integers: input, hidden ..., output features.
        activation: callable between the layers; default `jax.nn.relu`.
        activate_last: True applies the activation after the last layer too, as a trunk
            wants it.
        dtype: dtype of the computation (such as `jnp.bfloat16`); None follows the input
            and the parameters, which are float32.
        rngs: random streams for the initial values.

    Returns:
        Calls map [..., n_0] to [..., n_L].

    Raises:
        ValueError: fewer than two sizes, or one that is not a positive integer.

    Example:
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import Mlp
        >>> net = Mlp((4, 8, 3), rngs=nnx.Rngs(0))
        >>> net(jnp.ones((5, 4))).shape
        (5, 3)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        activate_last: bool = False,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        sizes = _checks.positive_ints("sizes", sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes: expected two or more, got {sizes}")
        _checks.function("activation", activation)
        _checks.boolean("activate_last", activate_last)
        self.layers = nnx.List(
            nnx.Linear(n, m, dtype=dtype, rngs=rngs)
            for n, m in itertools.pairwise(sizes)
        )
        self.activation = activation
        self.activate_last = activate_last

    def __call__(self, x: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.activate_last or i + 1 < len(self.layers):
                x = self.activation(x)
        return x
