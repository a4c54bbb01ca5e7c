"""What a sweep is told of a step, and whether the step is one to go on from."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from headwise.typing import Array


def reported(info: Any) -> dict[str, Any]:
    """What a sweep keeps of a step."""
    report = {
        "values": dict(info.values),
        "weights": dict(info.weights),
        "grad_norm": info.grad_norm,
        "finite": _finite(info),
    }
    optional = ("conflicts", "gramian", "contributions", "skipped", "loss_scale")
    for name in optional:
        if getattr(info, name, None) is not None:
            report[name] = getattr(info, name)
    return report


def _finite(info: Any) -> Array:
    """Whether `fit` would go on: `_window` has the rule."""
    names = [*info.values]

    def row(of_heads: Mapping[str, Any]) -> Array:
        return jnp.stack([jnp.asarray(of_heads[name]) for name in names])

    idle = row(info.weights) == 0
    finite = jnp.isfinite(info.grad_norm)
    finite &= jnp.all(jnp.isfinite(row(info.values)) | idle)
    if getattr(info, "broken", None) is not None:
        broken = row(info.broken)
        data = broken | row(info.present)
        finite &= ~(jnp.any(data) & jnp.all(broken == data))
    if info.skipped is not None:
        finite |= info.skipped
    return finite
