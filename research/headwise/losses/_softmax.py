"""Softmax and integer labels, the common case, in few passes over memory.

What a loss of class probabilities p needs of logits [B, *S, C] and labels [B, *S] are
sums over the positions and -log p of each label. Both are found without one-hot labels
and with one array of the size of the logits, exp(logits - max), which the backward
pass makes anew.

Few channels are written out, and all sums taken side by side in one pass; above
`_xla.WRITTEN_OUT` of them sums with factors are products of matrices
(`_block_sums`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _linear_map
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


@jax.custom_jvp
def _label_sums(logits: Array, labels: Array) -> LabelSums:
    return _forward(logits, labels)[0]


@_label_sums.defjvp
def _label_sums_jvp(primals: tuple, tangents: tuple) -> tuple[LabelSums, LabelSums]:
    sums, known = _forward(*primals)
    moved = _linear_map.linear_map(_tangents, _cotangent, known, tangents[:1])
    return sums, LabelSums(*moved)


def _forward(logits: Array, labels: Array) -> tuple[LabelSums, list[Array]]:
    """The sums, and what their derivative has to know."""
    if logits.shape[-1] > _xla.WRITTEN_OUT:
        sums, largest, scale = _wide_sums(logits, labels)
    else:
        sums, largest, scale = _written_out_sums(logits, labels)
    return sums, [logits, labels, largest, scale]


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


def _tangents(known: Sequence[Array], tangents: Sequence[Array]) -> list[Array]:
    """Tangents of the sums: for p of one position dp = p (dlogits - Σ p dlogits)."""
    logits, labels, largest, scale = known
    p = _exponentials(logits, labels, largest) * scale[..., None]
    along = visible(tangents[0], labels)
    mean = _class_axis.over_channels("sum", p * along)
    dp = p * (along - mean[..., None])
    label = _class_axis.is_label(labels, logits.shape[-1])
    sums = [
        jnp.sum(x, tuple(range(1, labels.ndim)))
        for x in (jnp.where(label, dp, 0), dp, 2 * p * dp)
    ]
    nll = jnp.where(labels >= 0, mean - _class_axis.at(labels, along), 0)
    return [*sums, jnp.zeros_like(sums[0]), nll]


def _cotangent(
    known: Sequence[Array], cotangents: Sequence[Array | None]
) -> list[Array]:
    """Cotangent of the logits, from exponentials that are computed once more.

    For p of one position and g = dloss/dp: dloss/dlogits = p (g - Σ p g), and p - t
    for -log p of the label. What the loss does not use, None, costs nothing.
    """
    logits, labels, largest, scale = known
    of_intersection, of_preds, of_squares, _, of_nll = cotangents
    exps = _exponentials(logits, labels, largest)
    p = exps * scale[..., None]
    g, rest, at_label = jnp.zeros_like(p), jnp.zeros_like(scale), jnp.zeros_like(p)
    if of_nll is not None:
        rest = jnp.where(labels >= 0, of_nll, 0)
        at_label -= rest[..., None]
    if any(ct is not None for ct in (of_intersection, of_preds, of_squares)):
        preds, squares = (_class_axis.spread(x, exps) for x in (of_preds, of_squares))
        g = preds + 2 * p * squares
        of_label = _class_axis.of_label(labels, of_intersection, exps)
        if logits.shape[-1] > _xla.WRITTEN_OUT:
            mine = jnp.exp(_below_largest(logits, labels, largest))
            total = _block_sums.along_channels(exps, of_preds) + 2 * scale * (
                _block_sums.along_channels(exps * exps, of_squares)
            )
        else:
            mine = _class_axis.at(labels, exps)
            total = _class_axis.over_channels("sum", exps * g)
        rest = _kept(labels, rest - scale * (mine * of_label + total))
        at_label += p * of_label[..., None]
    label = _class_axis.is_label(labels, logits.shape[-1])
    slope = p * (g + rest[..., None]) + jnp.where(label, at_label, 0)
    return [slope.astype(logits.dtype)]


# Outside of jit, too, its loops are compiled once.
_compiled = jax.jit(_label_sums, inline=True)


def label_sums(logits: Array, labels: Array) -> LabelSums:
    """Sums over the positions, and -log p of each label.

    Args:
        logits: [B, *S, C] floating.
        labels: int32 [B, *S], as `Labels.labels` of `_inputs`.

    Returns:
        In float32, or float64 for such logits. Differentiable in both modes.
    """
    return _compiled(jnp.asarray(logits), labels)
