"""Loss scale: a number, or a pair of functions that find it. `_scaled` uses it."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.typing import Array

_LARGEST = 2.0**126
"""What float32 can still divide 1 by."""


class LossScaleState(NamedTuple):
    """A scale that moves, and how long it has not: a field of the state of training."""

    scale: Array
    """float32."""
    steps: Array
    """int32, finite steps since the scale was changed."""


class LossScale(NamedTuple):
    """A pair of pure functions that find the scale: `dynamic_loss_scale` makes one.

    Example:
        >>> loss_scale = hw.training.dynamic_loss_scale(8.0)
        >>> state, skip = loss_scale.update(loss_scale.init(), jnp.array(False))
        >>> print(state.scale, skip)
        4.0 True
    """

    init: Callable[[], LossScaleState]
    """`init()` -> the first state."""
    update: Callable[[LossScaleState, Array], tuple[LossScaleState, Array]]
    """`update(state, finite)` -> (state, whether the step is to be skipped)."""


def dynamic_loss_scale(
    initial: float = 2.0**15,
    *,
    period: int = 2000,
    factor: float = 2.0,
    least: float = 1.0,
) -> LossScale:
    """A loss scale for float16 that grows while all is finite, and gives way if not.

    ::

        not finite, scale > least:   scale <- max(scale / factor, least), step skipped
        `period` finite steps:       scale <- scale * factor

    A step is finite if its gradient is, and the value and gradient of every head that
    counts: a head that overflows makes the step be skipped, so that no balancer takes
    it for absent. A skipped step leaves parameters, `rest`, optimiser and balancer as
    they were; its number is used up. At the least scale a step is as without any: `fit`
    raises `NonFiniteError`.

    Give it to `make_step` (or `make_bilevel_step`) and to the state. Parameters are
    float32; what computes in float16 is the model, as with
    `hw.nn.functional(model, dtype=jnp.float16)`. bfloat16 needs no loss scale.

    Args:
        initial: the first scale. With powers of 2 nothing is rounded.
        period: finite steps after which it grows.
        factor: > 1, by which it grows, and gives way.
        least: what it does not fall below.

    Returns:
        `LossScale`.

    Raises:
        ValueError: a number is not positive, `factor` is not above 1, `initial` is
            below `least`.

    Example:
        >>> def values_fn(params, batch):    # a gradient of 1e-8, which is 0 in float16
        ...     return {"a": params["w"].astype(jnp.float16) * batch * batch}
        >>> batch, loss_scale = jnp.float16(1e-4), hw.training.dynamic_loss_scale()
        >>> sgd, params = optax.sgd(1.0), {"w": jnp.array(0.0)}
        >>> for scale in (None, loss_scale):
        ...     step = hw.training.make_step(values_fn, sgd, loss_scale=scale)
        ...     state = hw.training.init_state(["a"], params, sgd, loss_scale=scale)
        ...     print(f"{step(state, batch)[0].params['w']:.1e}")
        0.0e+00
        -1.0e-08

    References:
        Micikevicius et al., "Mixed precision training", ICLR 2018, section 3.2; the
        rule, its factor and its period are those of jmp and of PyTorch's `GradScaler`.
    """
    for name, number in (("initial", initial), ("factor", factor), ("least", least)):
        _checks.positive(name, number)
        if not _checks.is_static(number):
            raise TypeError(f"{name}: expected a number, got {_checks.kind(number)}")
    period = _checks.positive_int("period", period)
    if factor <= 1:
        raise ValueError(f"factor: expected a number above 1, got {factor}")
    if not least <= initial <= _LARGEST:
        raise ValueError(
            f"initial: expected a number from {least} (least) to 2**126, got {initial}"
        )

    def init() -> LossScaleState:
        return LossScaleState(
            jnp.asarray(initial, jnp.float32), jnp.zeros((), jnp.int32)
        )

    def update(state: LossScaleState, finite: Array) -> tuple[LossScaleState, Array]:
        scale, steps = state.scale, state.steps + 1
        due = steps >= period
        larger = jnp.where(scale * factor <= _LARGEST, scale * factor, scale)
        smaller = jnp.maximum(scale / factor, jnp.float32(least))
        moved = jnp.where(finite, jnp.where(due, larger, scale), smaller)
        counted = jnp.where(finite & ~due, steps, jnp.zeros_like(steps))
        return LossScaleState(moved, counted), ~finite & (scale > least)

    return LossScale(init, update)


def check(loss_scale: Any, wrt: Any = None) -> None:
    """Raises unless it is None, a number or a `LossScale`, and goes with `wrt`."""
    if loss_scale is None:
        return
    if loss_scale is dynamic_loss_scale:
        raise TypeError(
            "loss_scale: expected a number or a LossScale, got its factory; call it: "
            "dynamic_loss_scale()"
        )
    if not isinstance(loss_scale, LossScale):
        _checks.positive("loss_scale", loss_scale)
    if isinstance(wrt, str):
        raise ValueError(
            f"loss_scale: expected None with wrt={wrt!r}, whose gradients are taken "
            "inside of the model, where they are scaled"
        )


def init(loss_scale: LossScale | float | None) -> LossScaleState | None:
    """What the first state of training holds of it."""
    check(loss_scale)
    return loss_scale.init() if isinstance(loss_scale, LossScale) else None
