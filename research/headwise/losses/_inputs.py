"""The one entry of every loss: arguments are checked once, and become labels or arrays.

`check` is for losses on channels, [B, *S, C] with labels or one-hot targets: its
`Inputs` give `labels()` where the fast way of `_softmax` is open, or `arrays()`.
`regression` is for losses of two arrays of one shape.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _marks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _softmax
from headwise.typing import Array

Activation = Callable[[Array], Array] | None

ENTRIES = "[B, ...]"
CHANNELS = "[B, *S, C]"
SPATIAL = "[B, *S, C] with a spatial axis"
_LEAST_AXES = {ENTRIES: 1, CHANNELS: 2, SPATIAL: 3}


class Labels(NamedTuple):
    """Logits of a softmax and integer labels: what `_softmax.label_sums` takes."""

    logits: Array
    """[B, *S, C] as they came"""
    labels: Array
    """int32 [B, *S]: 0..C-1, `_softmax.NO_CLASS` or `_softmax.MASKED`"""


class Arrays(NamedTuple):
    """Predictions and targets that fit each other, 0 where nothing counts."""

    preds: Array
    """[B, *S, C] after the activation (or [B, ...]), float32 or float64"""
    targets: Array
    """one-hot, soft or real, of the same shape and dtype"""
    where: Array | None
    """bool that broadcasts to preds: [B, *S, 1] or [B, *S, C] (or 1 for an axis)"""

    @property
    def valid(self) -> Array:
        """The mask in the shape of preds; all True without one."""
        if self.where is None:
            return jnp.ones(self.preds.shape, bool)
        return jnp.broadcast_to(self.where, self.preds.shape)

    def summed_axes(self, over_batch: bool = False) -> tuple[int, ...]:
        """The positions, and the batch too if the classes share it."""
        _checks.boolean("over_batch", over_batch)
        return tuple(range(0 if over_batch else 1, self.preds.ndim - 1))


class Inputs(NamedTuple):
    """Arguments of a loss on channels that fit each other; nothing is computed yet."""

    preds: Array
    """[B, *S, C] as they came"""
    targets: Array
    """integer labels [B, *S], or [B, *S, C], as they came"""
    where: Array | None
    """bool that broadcasts to preds, False also where a label is ignored"""
    activation: Activation
    background: bool
    weighed: Array | None = None
    """bool [1, .., C]: False for a class whose predictions `arrays` leaves out"""

    def labels(self) -> Labels | None:
        """Logits and labels; None if they are not the case of `_softmax.label_sums`.

        The activation must be `jax.nn.softmax` itself, the targets integer labels, and
        the mask the same for all channels.
        """
        where, softmax = self.where, self.activation is jax.nn.softmax
        if not softmax or not are_labels(self.preds, self.targets):
            return None
        if where is not None and where.shape[-1] > 1:
            return None
        known = (self.targets >= 0) & (self.targets < self.preds.shape[-1])
        labels = jnp.where(known, self.targets.astype(jnp.int32), _softmax.NO_CLASS)
        if where is not None:
            labels = jnp.where(where[..., 0], labels, _softmax.MASKED)
        return Labels(self.preds, labels)

    def arrays(self) -> Arrays:
        """Activated preds and dense targets, without channel 0 if it is left out.

        A label outside 0..C-1 belongs to no class: its row is all zero.
        """
        dtype = _numerics.accumulator(self.preds)
        p, t, where = self.preds.astype(dtype), self.targets, self.where
        if are_labels(p, t):
            t = jax.nn.one_hot(t, p.shape[-1])
        t = t.astype(dtype)
        weighed = self.weighed
        seen = where if weighed is None else _reduction.both(where, weighed)
        if self.activation is not None:
            p = self.activation(p if seen is None else _hidden(p, seen))
            _checks.returned("activation", p)
        if seen is not None:
            p = jnp.where(seen, p, 0)
        if where is not None:
            t = jnp.where(where, t, 0)
        if not self.background:
            p, t = p[..., 1:], t[..., 1:]
            if where is not None and where.shape[-1] > 1:
                where = where[..., 1:]
        return Arrays(p, t, where)


def are_labels(preds: Array, targets: Array) -> bool:
    """Whether the targets are integer labels [B, *S] of preds [B, *S, C]."""
    return (
        targets.shape == preds.shape[:-1]
        and targets.shape != preds.shape
        and jnp.issubdtype(targets.dtype, jnp.integer)
    )


def check(
    preds: Array,
    targets: Array,
    where: Array | None = None,
    ignore: int | None = None,
    activation: Activation = None,
    background: bool = True,
    *,
    axes: str = CHANNELS,
) -> Inputs:
    """Checks the arguments that the losses on channels share, each once.

    Args:
        preds: [B, *S, C] floating.
        targets: [B, *S, C], or integer labels [B, *S].
        where: None, or bool from the batch on: [B], [B, *S], [B, *S, C] or with 1s.
        ignore: a label whose positions do not count.
        activation: applied to preds, or None.
        background: False drops channel 0, after the activation.
        axes: `CHANNELS`, or `SPATIAL` for a loss that needs neighbours.

    Raises:
        ValueError, TypeError: they do not fit; names what was expected and what came.
    """
    preds, targets = _checks.array("preds", preds), _checks.array("targets", targets)
    _check_preds(preds, axes)
    _checks.boolean("background", background)
    if not background and preds.shape[-1] < 2:
        raise ValueError(
            f"background=False drops channel 0 of {preds.shape[-1]}: none is left"
        )
    if activation is not None and not callable(activation):
        raise TypeError(
            "activation: expected a callable such as jax.nn.softmax, got "
            f"{activation!r}"
        )
    _check_targets(preds, targets)
    where = None if where is None else _aligned(where, preds)
    if ignore is not None:
        where = _reduction.both(where, _not_ignored(preds, targets, ignore))
    where = None if where is None else _marks.mark(where)
    return Inputs(preds, targets, where, activation, background)


def regression(
    preds: Array, targets: Array, where: Array | None, *, axes: str = ENTRIES
) -> Arrays:
    """Checks the arguments of a loss of real values, and puts 0 where nothing counts.

    Args:
        preds: [B, ...] floating.
        targets: of the same shape, floating or integer.
        where: None, or bool from the batch on, as in `check`.
        axes: `ENTRIES`, `CHANNELS` or `SPATIAL`.

    Raises:
        ValueError, TypeError: they do not fit; names what was expected and what came.
    """
    preds, targets = _checks.array("preds", preds), _checks.array("targets", targets)
    _check_preds(preds, axes)
    if preds.shape != targets.shape:
        raise ValueError(
            f"targets: expected the shape of preds {preds.shape}, got {targets.shape}"
        )
    p, t = (x.astype(_numerics.accumulator(preds)) for x in (preds, targets))
    if where is not None:
        where = _marks.mark(_aligned(where, preds))
        p, t = jnp.where(where, p, 0), jnp.where(where, t, 0)
    return Arrays(p, t, where)


def _check_preds(preds: Array, axes: str) -> None:
    if preds.ndim < _LEAST_AXES[axes]:
        raise ValueError(f"preds: expected {axes}, got shape {preds.shape}")
    if not jnp.issubdtype(preds.dtype, jnp.floating):
        raise TypeError(f"preds: expected floating values, got {preds.dtype}")
    if 0 in preds.shape:  # nothing has a mean
        raise ValueError(f"preds: expected no axis of length 0, got {preds.shape}")


def _check_targets(preds: Array, targets: Array) -> None:
    if targets.shape == preds.shape:
        return
    if not are_labels(preds, targets):
        raise ValueError(
            f"targets: expected one-hot or soft {preds.shape} like preds, or integer "
            f"labels {preds.shape[:-1]}; got {targets.dtype} {targets.shape}"
        )
    if preds.shape[-1] == 1:
        raise ValueError(
            "targets: integer labels need two or more channels in preds, got "
            f"preds {preds.shape}; for one foreground channel give targets "
            f"{preds.shape} in [0, 1]"
        )


def _aligned(where: Array, preds: Array) -> Array:
    """The mask, broadcastable to preds: [B, *S] gets a channel axis."""
    where = _checks.array("where", where)
    if where.dtype != bool:
        raise TypeError(f"where: expected bool, got {where.dtype}")
    return _reduction.align("where", where, preds.shape)


def _not_ignored(preds: Array, targets: Array, ignore: int) -> Array:
    """[B, *S, 1]: the positions whose label is another one (it may be traced)."""
    _checks.label("ignore", ignore)
    if not are_labels(preds, targets):
        raise ValueError(
            f"ignore: expected integer labels {preds.shape[:-1]} as targets, got "
            f"{targets.dtype} {targets.shape}"
        )
    return (targets != ignore)[..., None]


def _hidden(preds: Array, where: Array) -> Array:
    """Preds with 0 where nothing counts, fit for an activation.

    A NaN at a masked position then reaches neither the value nor the gradient. Where
    some channels of a position count, a softmax needs the logits of the others too.
    """
    spared = jnp.any(where, -1, keepdims=True) & ~jnp.isnan(preds)
    return jnp.where(where | spared, preds, 0)
