"""For debugging: a loss that looks at the values that it gets."""

import inspect

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.typing import Array
from headwise.typing import Loss

# Rounding of bfloat16 probabilities and of their sums.
_SLACK = 0.02


def _takes_logits(loss: Loss) -> bool:
    """Whether it applies an activation: one that it is given, or one of its own."""
    parameters = inspect.signature(loss).parameters
    if "activation" in parameters:
        return parameters["activation"].default is not None
    return _reduction.layout_of(loss) is not None and "ignore" in parameters


def checked(loss: Loss) -> Loss:
    """A loss on channels that checks its values, for use inside `checkify`.

    The losses look at shapes and dtypes alone: values that make no sense pass. This
    wrapper finds, at the positions that count:

    - preds that are not finite;
    - preds outside [0, 1] where the loss takes probabilities;
    - preds that are probabilities already (in [0, 1], with sum 1 over the channels)
      where it takes logits: a softmax was applied twice;
    - integer labels outside 0..C-1 that are not its `ignore`;
    - soft targets outside [0, 1].

    Args:
        loss: one of `hw.losses` on channels, or a `functools.partial` of one.

    Returns:
        `loss(preds, targets, *, where=None)` with the same values. It must run inside
        `jax.experimental.checkify.checkify`, which returns the first finding beside
        the result, also under jit, vmap and grad.

    Raises:
        TypeError: `loss` is no callable.

    Example:
        >>> from jax.experimental import checkify
        >>> dice = checkify.checkify(hw.losses.checked(hw.losses.dice))
        >>> error, _ = dice(jnp.array([[[2.0, -1.0]]]), jnp.array([[0]]))
        >>> print(error.get().splitlines()[0])
        preds: expected probabilities in [0, 1], got -1.0 to 2.0 (`check` failed)
    """
    _checks.function("loss", loss)
    ignore = _reduction.ignored_label(loss)
    of_logits = _takes_logits(loss)

    def checking(preds: Array, targets: Array, *, where: Array | None = None) -> Array:
        inputs = _inputs.check(preds, targets, where, ignore)
        p, t, counts = inputs.preds, inputs.targets, inputs.where
        labels = _inputs.are_labels(p, t)
        counts = jnp.ones(p.shape, bool) if counts is None else counts
        counts = jnp.broadcast_to(counts, p.shape)
        shown = jnp.where(counts, p.astype(jnp.float32), 0)
        checkify.check(jnp.all(jnp.isfinite(shown)), "preds: expected finite values")
        least, most = jnp.min(shown, initial=0), jnp.max(shown, initial=0)
        in_range = (least >= -_SLACK) & (most <= 1 + _SLACK)
        if of_logits:
            whole = jnp.abs(jnp.sum(shown, -1) - 1) < _SLACK
            whole = jnp.all(whole | ~jnp.all(counts, -1)) & jnp.any(counts)
            checkify.check(
                ~(in_range & whole),
                "preds: expected logits, got probabilities ({least} to {most}, with "
                "sum 1 over the channels)",
                least=least,
                most=most,
            )
        else:
            checkify.check(
                in_range,
                "preds: expected probabilities in [0, 1], got {least} to {most}",
                least=least,
                most=most,
            )
        if labels:
            here = jnp.where(jnp.any(counts, -1), t, 0)
            checkify.check(
                (jnp.min(here, initial=0) >= 0)
                & (jnp.max(here, initial=0) < p.shape[-1]),
                f"targets: expected labels in 0..{p.shape[-1] - 1}, got {{least}} to "
                "{most}",
                least=jnp.min(here, initial=0),
                most=jnp.max(here, initial=0),
            )
        else:
            here = jnp.where(counts, t.astype(jnp.float32), 0)
            checkify.check(
                (jnp.min(here, initial=0) >= 0) & (jnp.max(here, initial=0) <= 1),
                "targets: expected values in [0, 1], got {least} to {most}",
                least=jnp.min(here, initial=0),
                most=jnp.max(here, initial=0),
            )
        return loss(preds, targets, where=where)

    layout = _reduction.layout_of(loss)
    named = jax.named_call(checking, name="checked")
    return named if layout is None else _reduction.values_per(layout)(named)
