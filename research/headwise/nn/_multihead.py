"""Hard parameter sharing: one trunk, several named heads.

Only the wiring is here. What a trunk or a head computes is the caller's module.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from headwise import _checks


class MultiHead(nnx.Module):
    """A shared trunk with named heads; calls give one output a head.

    For every name h::

        outputs[h] = heads[h](trunk(x))

    so that the loss of head h moves the trunk and head h, and no other head.

    Args:
        trunk: module (or callable) that every head reads from. Its parameters lie under
            `trunk/`.
        heads: {name: module}, at least one. The parameters of head h lie under
            `heads/h/`. The names are those of the losses in an objective.

    Returns:
        Calls take the trunk's arguments and return {name: head output}, in sorted name
        order.

    Raises:
        TypeError: `heads` is not a mapping, a name is no non-empty string, or a trunk
            or head is not callable.
        ValueError: `heads` is empty.

    Example:
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import MultiHead
        >>> rngs = nnx.Rngs(0)
        >>> heads = {
        ...     "sex": nnx.Linear(3, 2, rngs=rngs),
        ...     "age": nnx.Linear(3, 1, rngs=rngs),
        ... }
        >>> model = MultiHead(nnx.Linear(4, 3, rngs=rngs), heads)
        >>> {name: y.shape for name, y in model(jnp.ones((5, 4))).items()}
        {'age': (5, 1), 'sex': (5, 2)}

    References:
        R. Caruana, "Multitask Learning", Machine Learning 28, 1997, section 2.
    """

    def __init__(self, trunk: Any, heads: Mapping[str, Any]):
        _checks.mapping("heads", heads)
        names = _checks.head_names("heads", heads)
        _checks.function("trunk", trunk)
        for name in names:
            _checks.function(f"heads[{name!r}]", heads[name])
        self.trunk = trunk
        # A plain dict, not nnx.Dict: there, a head called "items" hides the method.
        self.heads = nnx.data({name: heads[name] for name in names})

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        features = self.trunk(*args, **kwargs)
        return {name: head(features) for name, head in self.heads.items()}
