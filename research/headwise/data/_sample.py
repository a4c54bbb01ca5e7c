"""Random batches of arrays that already lie on the device."""

from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.data import _arguments


def sample(arrays: Any, key: jax.Array, batch_size: int) -> Any:
    """A random batch: the same random rows of every array, with replacement.

    Without replacement, every row once an epoch: `epochs`.

    The fastest input pipeline for data that fits on the device: one gather inside the
    training step, no host and no queue. Derive the key of step t by
    `jax.random.fold_in(key, t)` and a run can be repeated and resumed exactly.

    Args:
        arrays: a pytree (dict, tuple, NamedTuple, nested) whose leaves all have the
            leading axis N >= 1. Pass it as an argument of a jitted function, not as a
            closure, or it becomes a constant of the program.
        key: a key of `jax.random`; the same key gives the same rows.
        batch_size: the number B >= 1 of rows (static under jit).

    Returns:
        The pytree with leading axis B.

    Raises:
        ValueError: no arrays, no rows, a scalar leaf, unequal leading axes (two are
            named), or batch_size is no positive int.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from headwise import data
        >>> arrays = {"x": jnp.arange(5), "y": 10 * jnp.arange(5)}
        >>> batch = data.sample(arrays, jax.random.key(0), 3)
        >>> batch["x"].shape, bool((batch["y"] == 10 * batch["x"]).all())
        ((3,), True)
    """
    batch_size = _checks.positive_int("batch_size", batch_size)
    _checks.key("key", key)
    count = _arguments.leading_axis("arrays", arrays)
    rows = jax.random.randint(key, (batch_size,), 0, count)
    return jax.tree.map(lambda array: jnp.asarray(array)[rows], arrays)
