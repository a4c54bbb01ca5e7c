"""The types that the layers share."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import TypeAlias

import jax

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any

Values: TypeAlias = Mapping[str, Array]
"""The raw, unweighted scalar loss of each head, by name."""

Loss: TypeAlias = Callable[..., Array]
"""`loss(preds, targets)` -> values with the batch as their leading axis.

One that reduces over positions itself (Dice) also takes a keyword-only `where`.
"""

ValuesFn: TypeAlias = Callable[..., Any]
"""`values_fn(params, *args)` -> `Values`, or `(Values, aux)` with `has_aux=True`; with
`stateful=True` `values_fn(params, rest, batch, key)` -> `(Values, rest)`."""

Schedule: TypeAlias = Callable[[Any], Any]
"""`schedule(step)` -> a scalar, as optax's schedules."""
