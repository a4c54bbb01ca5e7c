"""Softmax and integer labels, the common case, in few passes over memory.

What a loss of class probabilities p needs of logits [B, *S, C] and labels [B, *S] are
sums over the positions and -log p of each label. Both are found without one-hot labels
and with one array of the size of the logits, exp(logits - max), which the backward
pass makes anew.

Few channels are written out, and all sums taken side by side in one pass; above
`_xla.WRITTEN_OUT` of them sums with factors are products of matrices
(`_block_sums`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal
from jax.custom_derivatives import SymbolicZero

from headwise import _numerics
from headwise import _xla
from headwise.losses import _block_sums
from headwise.losses import _class_axis
from headwise.typing import Array

NO_CLASS = -1
"""Label of a position that counts and has no class: its p is in the sums."""
MASKED = -2
"""Label of a position that does not count."""


class LabelSums(NamedTuple):
    """What is known of p = softmax(logits) beside the labels."""

    intersection: Array
    """[B, C] sum of p of a class over the positions with its label"""
    preds: Array
    """[B, C] sum of p"""
    squares: Array
    """[B, C] sum of p squared"""
    volume: Array
    """[B, C] number of positions with the label"""
    nll: Array
    """[B, *S] -log p of the label; 0 where there is no class"""


@jax.custom_jvp
def _kept(labels: Array, x: Array) -> Array:
    """x, computed once: compilers for CPUs would compute it anew in every use.

    A loop that may run, as far as they know, stays (`_xla.keeps_arrays`). It never
    does: labels are not below MASKED.
    """
    if not _xla.keeps_arrays(x):
        return x
    runs = (labels.reshape(-1)[0] < MASKED).astype(jnp.int32)

    def loop(runs: Array, x: Array) -> Array:
        return lax.fori_loop(0, runs, lambda _, x: -x, x)

    return lax.platform_dependent(runs, x, cpu=loop, default=lambda _, x: x)


@_kept.defjvp
def _kept_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _kept(*primals), tangents[1]


def _exponentials(logits: Array, labels: Array, largest: Array) -> Array:
    """exp(logits - max), finite also where the logits are masked."""
    exps = jnp.exp(visible(logits, labels) - largest[..., None])
    return _kept(labels, exps) if logits.shape[-1] <= _xla.WRITTEN_OUT else exps


def visible(logits: Array, labels: Array) -> Array:
    """The logits at full precision, 0 where masked (they may be NaN there)."""
    wide = logits.astype(_numerics.accumulator(logits))
    return jnp.where((labels == MASKED)[..., None], 0, wide)


@jax.custom_vjp
def _label_sums(logits: Array, labels: Array) -> LabelSums:
    return _forward(logits, labels)[0]


def _forward(logits: Array, labels: Array) -> tuple[LabelSums, tuple]:
    if logits.shape[-1] > _xla.WRITTEN_OUT:
        sums, largest, scale = _wide_sums(logits, labels)
    else:
        sums, largest, scale = _written_out_sums(logits, labels)
    return sums, (logits, labels, largest, scale)


def _written_out_sums(logits: Array, labels: Array) -> tuple[LabelSums, Array, Array]:
    """The sums, and of each position the largest logit and 1 / Σ exp(logit - it).

    Few channels: every sum is one of a loop over the positions, all in one pass.
    """
    channels = logits.shape[-1]
    shown = visible(logits, labels)
    # p and -log p do not depend on what is subtracted.
    largest = _kept(labels, lax.stop_gradient(_class_axis.over_channels("max", shown)))
    exps = _exponentials(logits, labels, largest)
    total = _class_axis.over_channels("sum", exps)
    scale = _kept(labels, jnp.where(labels == MASKED, 0, 1 / total))
    # Not (largest + log) - logit: that would lose the digits of the log.
    nll = jnp.log(total) - (
        _class_axis.at(labels, shown, _xla.LOGIT_WRITTEN_OUT) - largest
    )
    nll = jnp.where(labels >= 0, nll, 0)
    each = [x * scale for x in _class_axis.channels_of(exps)]
    here = [labels == c for c in range(channels)]
    totals = _block_sums.totals(
        [jnp.where(is_here, p, 0) for is_here, p in zip(here, each)]
        + each
        + [p * p for p in each]
        + [is_here.astype(exps.dtype) for is_here in here]
    )
    intersection, preds, squares, volume = (
        jnp.stack(totals[i : i + channels], -1)
        for i in range(0, 4 * channels, channels)
    )
    return LabelSums(intersection, preds, squares, volume, nll), largest, scale


def _wide_sums(logits: Array, labels: Array) -> tuple[LabelSums, Array, Array]:
    """The same for many channels: their axis is the one that is vectorised.

    Sums with factors are products of matrices there, sums by label a scatter.
    """
    shown = visible(logits, labels)
    largest = lax.stop_gradient(jnp.max(shown, -1))
    exps = jnp.exp(shown - largest[..., None])
    total = jnp.sum(exps, -1)
    scale = jnp.where(labels == MASKED, 0, 1 / total)
    of_label = _below_largest(logits, labels, largest)
    channels = logits.shape[-1]
    sums = LabelSums(
        intersection=_block_sums.sums_by_label(
            jnp.exp(of_label) * scale, labels, channels
        ),
        preds=_block_sums.weighted_sums(scale, exps),
        squares=_block_sums.weighted_sums(scale * scale, exps * exps),
        volume=_block_sums.sums_by_label(jnp.ones_like(scale), labels, channels),
        nll=jnp.where(labels >= 0, jnp.log(total) - of_label, 0),
    )
    return sums, largest, scale


def _below_largest(logits: Array, labels: Array, largest: Array) -> Array:
    """[B, *S] logit of the label minus the largest; 0 where it is no class."""
    of_label = _class_axis.at(labels, logits).astype(largest.dtype)
    return jnp.where(labels >= 0, of_label - largest, 0)


def _backward(residuals: tuple, cotangents: LabelSums) -> tuple[Array, None]:
    """Cotangents of the logits, from exponentials that are computed once more.

    For p of one position and g = dloss/dp: dloss/dlogits = p (g - Σ p g), and p - t
    for -log p of the label. What the loss does not use costs nothing.
    """
    logits, labels, largest, scale = residuals
    exps = _exponentials(logits, labels, largest)
    p = exps * scale[..., None]
    g, rest, at_label = jnp.zeros_like(p), jnp.zeros_like(scale), jnp.zeros_like(p)
    if not _is_zero(cotangents.nll):
        rest = jnp.where(labels >= 0, cotangents.nll, 0)
        at_label -= rest[..., None]
    if not all(map(_is_zero, cotangents[:3])):
        _, preds, squares = (_class_axis.spread(x, exps) for x in cotangents[:3])
        g = preds + 2 * p * squares
        of_label = _class_axis.of_label(labels, cotangents.intersection, exps)
        if logits.shape[-1] > _xla.WRITTEN_OUT:
            mine = jnp.exp(_below_largest(logits, labels, largest))
            total = _block_sums.along_channels(exps, cotangents.preds) + 2 * scale * (
                _block_sums.along_channels(exps * exps, cotangents.squares)
            )
        else:
            mine = _class_axis.at(labels, exps)
            total = _class_axis.over_channels("sum", exps * g)
        rest = _kept(labels, rest - scale * (mine * of_label + total))
        at_label += p * of_label[..., None]
    label = _class_axis.is_label(labels, logits.shape[-1])
    slope = p * (g + rest[..., None]) + jnp.where(label, at_label, 0)
    return slope.astype(logits.dtype), None


def _is_zero(cotangent: Array | SymbolicZero) -> bool:
    return isinstance(cotangent, SymbolicZero)


def _forward_of(
    logits: CustomVJPPrimal, labels: CustomVJPPrimal
) -> tuple[LabelSums, tuple]:
    return _forward(logits.value, labels.value)


_label_sums.defvjp(_forward_of, _backward, symbolic_zeros=True)
# Outside of jit, too, its loops are compiled once.
_compiled = jax.jit(_label_sums, inline=True)


def label_sums(logits: Array, labels: Array) -> LabelSums:
    """Sums over the positions, and -log p of each label.

    Args:
        logits: [B, *S, C] floating.
        labels: int32 [B, *S], as `Labels.labels` of `_inputs`.

    Returns:
        In float32, or float64 for such logits. Differentiable in reverse mode any
        number of times, and forward over reverse.
    """
    return _compiled(jnp.asarray(logits), labels)
