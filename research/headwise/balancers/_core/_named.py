"""Options given by name of head, as arrays in sorted order of names."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from headwise import _checks
from headwise.typing import Array

Given = Mapping[str, float | Array] | None
"""A scalar for every head, or None for what the method takes by itself."""


def check(
    argument: str, given: Given, entry: Callable[[str, Any], None] | None = None
) -> None:
    """Raises unless it is None or a mapping whose scalars all pass the check."""
    if given is None:
        return
    _checks.mapping(argument, given)
    if entry is not None:
        for name, number in given.items():
            entry(f"{argument}[{name!r}]", number)


def row(
    argument: str, given: Given, names: Sequence[str], default: float = 0.0
) -> Array:
    """[H] float32 of scalars given by name, which must be those of the heads."""
    if given is None:
        return jnp.full(len(names), default, jnp.float32)
    _checks.same_names(argument, names, given)
    scalars = [_checks.scalar(f"{argument}[{n!r}]", given[n]) for n in names]
    return jnp.stack(scalars).astype(jnp.float32)
