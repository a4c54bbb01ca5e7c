"""Softmax and integer labels, the common case, in few passes over memory.

What a loss of class probabilities p needs of logits [B, *S, C] and labels [B, *S] are
sums over the positions and -log p of each label. Both are found without one-hot labels
and with one array of the size of the logits, exp(logits - max), which the backward
pass makes anew.

Channels are last. If they are few, a loop over positions with the channels written out
is what compilers vectorise; the sums are taken side by side in one pass, block by block
(sums of long rows would lose counts). Above `_WRITTEN_OUT` channels, the channel axis
is a vector axis of its own, and sums with factors are products of matrices.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal
from jax.custom_derivatives import SymbolicZero

from headwise import _numerics
from headwise.losses import _arrays
from headwise.typing import Array

_WRITTEN_OUT = 16
_LOGIT_WRITTEN_OUT = 15
"""The logit of a label, which is read once and in no other loop."""
_BLOCK = 1024

NO_CLASS = -1
"""Label of a position that counts and has no class: its p is in the sums."""
MASKED = -2
"""Label of a position that does not count."""


class LabelSums(NamedTuple):
    """What is known of p = softmax(logits) beside the labels."""

    both: Array
    """[B, C] sum of p of a class over the positions with its label"""
    preds: Array
    """[B, C] sum of p"""
    squares: Array
    """[B, C] sum of p squared"""
    volume: Array
    """[B, C] number of positions with the label"""
    surprise: Array
    """[B, *S] -log p of the label; 0 where there is no class"""


def labels_of(
    preds: Array, targets: Array, where: Array | None, ignore: int | None
) -> Array | None:
    """Labels for `label_sums`, int32 [B, *S]; None if the arguments are not its case.

    A label outside 0..C-1 is NO_CLASS; where nothing counts it is MASKED. Targets must
    be integer labels and the mask the same for all channels.
    """
    preds, targets = jnp.asarray(preds), jnp.asarray(targets)
    _arrays.check_preds(preds)
    _arrays.check_targets(preds, targets)
    if not _arrays.are_labels(preds, targets):
        return None
    where = _arrays.mask(preds, targets, where, ignore)
    if where is not None and where.shape[-1] > 1:
        return None
    known = (targets >= 0) & (targets < preds.shape[-1])
    labels = jnp.where(known, targets.astype(jnp.int32), NO_CLASS)
    return labels if where is None else jnp.where(where[..., 0], labels, MASKED)


@jax.custom_jvp
def _kept(labels: Array, x: Array) -> Array:
    """x, computed once: compilers for CPUs would compute it anew in every use.

    They drop an `optimization_barrier` before they fuse (jax 0.10); a loop that may
    run, as far as they know, stays. It never does: labels are not below MASKED.
    """
    if not x.size or _numerics.has_sharding_type(x):
        return x
    runs = (labels.reshape(-1)[0] < MASKED).astype(jnp.int32)

    def loop(runs: Array, x: Array) -> Array:
        return lax.fori_loop(0, runs, lambda _, x: -x, x)

    return lax.platform_dependent(runs, x, cpu=loop, default=lambda _, x: x)


@_kept.defjvp
def _kept_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _kept(*primals), tangents[1]


def _channels(x: Array) -> list[Array]:
    return [x[..., c] for c in range(x.shape[-1])]


def _over_channels(combine: str, x: Array) -> Array:
    if x.shape[-1] > _WRITTEN_OUT:
        return jnp.max(x, -1) if combine == "max" else jnp.sum(x, -1)
    add = jnp.maximum if combine == "max" else jnp.add
    return functools.reduce(add, _channels(x))


def at(labels: Array, x: Array, written_out: int = _WRITTEN_OUT) -> Array:
    """Of x [B, *S, C] the channel of each label; 0 where it is no class."""
    if x.shape[-1] > written_out:
        place = jnp.clip(labels, 0, x.shape[-1] - 1)[..., None]
        found = jnp.take_along_axis(x, place, -1, mode="promise_in_bounds")[..., 0]
        return jnp.where(labels >= 0, found, 0)
    nothing = jnp.zeros_like(x[..., 0])
    return functools.reduce(
        lambda found, c: jnp.where(labels == c, x[..., c], found),
        range(x.shape[-1]),
        nothing,
    )


def is_label(labels: Array, channels: int) -> Array:
    """[B, *S, C] whether it is the label; fused into its use, never stored."""
    return labels[..., None] == jnp.arange(channels).reshape(
        (1,) * labels.ndim + (channels,)
    )


def _spread(of_class: Array | SymbolicZero, like: Array) -> Array:
    """[B, C] as [B, 1.., C], to go with [B, *S, C]."""
    if isinstance(of_class, SymbolicZero):
        return jnp.zeros_like(like)
    batch, channels = of_class.shape
    of_class = of_class.reshape(batch, *(1,) * (like.ndim - 2), channels)
    return jnp.broadcast_to(of_class, like.shape)


def _of_label(labels: Array, of_class: Array | SymbolicZero, like: Array) -> Array:
    """[B, *S] of [B, C] the entry of each label; 0 where it is no class."""
    few = like.shape[-1] <= _WRITTEN_OUT
    if few or isinstance(of_class, SymbolicZero):
        return at(labels, _spread(of_class, like))
    found = at(labels.reshape(len(labels), -1), of_class[:, None])
    return found.reshape(labels.shape)


def _block(positions: int) -> int:
    """Length of the blocks that are summed first: a divisor, or a power of 2."""
    if positions <= _BLOCK:
        return positions
    largest = max(k for k in range(1, _BLOCK + 1) if positions % k == 0)
    return largest if largest >= 32 else _BLOCK // 2


@jax.custom_jvp
def _totals(arrays: Sequence[Array]) -> list[Array]:
    """The sums over all but the first axis, in one pass."""
    if _numerics.has_sharding_type(arrays[0]):
        return [jnp.sum(x, tuple(range(1, x.ndim))) for x in arrays]

    def add(one: tuple, other: tuple) -> tuple:
        return tuple(map(operator.add, one, other))

    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    blocks = tuple(_blocks_of(x, x) for x in arrays)
    partial = lax.reduce(blocks, zeros, add, (2,))
    return [jnp.sum(x, 1) for x in partial]


@_totals.defjvp
def _totals_jvp(primals: tuple, tangents: tuple) -> tuple[list, list]:
    (arrays,), (tangents,) = primals, tangents
    return _totals(arrays), [jnp.sum(t, tuple(range(1, t.ndim))) for t in tangents]


def _exponentials(logits: Array, labels: Array, largest: Array) -> Array:
    """exp(logits - max), finite also where the logits are masked."""
    exps = jnp.exp(visible(logits, labels) - largest[..., None])
    return _kept(labels, exps) if logits.shape[-1] <= _WRITTEN_OUT else exps


def visible(logits: Array, labels: Array) -> Array:
    """The logits at full precision, 0 where masked (they may be NaN there)."""
    wide = logits.astype(_numerics.accumulator(logits))
    return jnp.where((labels == MASKED)[..., None], 0, wide)


@jax.custom_vjp
def _label_sums(logits: Array, labels: Array) -> LabelSums:
    return _forward(logits, labels)[0]


def _forward(logits: Array, labels: Array) -> tuple[LabelSums, tuple]:
    if logits.shape[-1] > _WRITTEN_OUT:
        found, largest, scale = _wide_sums(logits, labels)
    else:
        found, largest, scale = _written_out_sums(logits, labels)
    return found, (logits, labels, largest, scale)


def _written_out_sums(logits: Array, labels: Array) -> tuple[LabelSums, Array, Array]:
    """The sums, and of each position the largest logit and 1 / Σ exp(logit - it)."""
    channels = logits.shape[-1]
    shown = visible(logits, labels)
    # p and -log p do not depend on what is subtracted.
    largest = _kept(labels, lax.stop_gradient(_over_channels("max", shown)))
    exps = _exponentials(logits, labels, largest)
    total = _over_channels("sum", exps)
    scale = _kept(labels, jnp.where(labels == MASKED, 0, 1 / total))
    # Not (largest + log) - logit: that would lose the digits of the log.
    surprise = jnp.log(total) - (at(labels, shown, _LOGIT_WRITTEN_OUT) - largest)
    surprise = jnp.where(labels >= 0, surprise, 0)
    each = [x * scale for x in _channels(exps)]
    here = [labels == c for c in range(channels)]
    totals = _totals(
        [jnp.where(is_here, p, 0) for is_here, p in zip(here, each)]
        + each
        + [p * p for p in each]
        + [is_here.astype(exps.dtype) for is_here in here]
    )
    both, preds, squares, volume = (
        jnp.stack(totals[i : i + channels], -1)
        for i in range(0, 4 * channels, channels)
    )
    return LabelSums(both, preds, squares, volume, surprise), largest, scale


def _wide_sums(logits: Array, labels: Array) -> tuple[LabelSums, Array, Array]:
    """The same for many channels: their axis is the one that is vectorised."""
    shown = visible(logits, labels)
    largest = lax.stop_gradient(jnp.max(shown, -1))
    exps = jnp.exp(shown - largest[..., None])
    total = jnp.sum(exps, -1)
    scale = jnp.where(labels == MASKED, 0, 1 / total)
    of_label = _below_largest(logits, labels, largest)
    channels = logits.shape[-1]
    found = LabelSums(
        both=_sums_by_label(jnp.exp(of_label) * scale, labels, channels),
        preds=_weighted_sums(scale, exps),
        squares=_weighted_sums(scale * scale, exps * exps),
        volume=_sums_by_label(jnp.ones_like(scale), labels, channels),
        surprise=jnp.where(labels >= 0, jnp.log(total) - of_label, 0),
    )
    return found, largest, scale


def _below_largest(logits: Array, labels: Array, largest: Array) -> Array:
    """[B, *S] logit of the label minus the largest; 0 where it is no class."""
    of_label = at(labels, logits).astype(largest.dtype)
    return jnp.where(labels >= 0, of_label - largest, 0)


def _is_fused(x: Array) -> bool:
    """Whether a sum over positions may be left to the compiler, factors and all.

    Those for CPUs are 50 times slower at that than at a product of matrices.
    """
    return _numerics.has_sharding_type(x) or jax.default_backend() != "cpu"


def _weighted_sums(weights: Array, x: Array) -> Array:
    """[B, C] sums of weights [B, *S] times x [B, *S, C]."""
    if _is_fused(x):
        return jnp.sum(weights[..., None] * x, tuple(range(1, weights.ndim)))
    w = _blocks_of(weights, weights)
    parts = jnp.einsum("bnk,bnkc->bnc", w, _blocks_of(weights, x), precision="highest")
    return jnp.sum(parts, 1)


def _along_channels(x: Array, of_class: Array | SymbolicZero) -> Array:
    """[B, *S] sums over the channels of x [B, *S, C] times what is [B, C]."""
    if isinstance(of_class, SymbolicZero):
        return jnp.zeros_like(x[..., 0])
    if _is_fused(x):
        return jnp.sum(x * _spread(of_class, x), -1)
    flat = x.reshape(len(x), -1, x.shape[-1])
    found = jnp.einsum("bnc,bc->bn", flat, of_class, precision="highest")
    return found.reshape(x.shape[:-1])


def _sums_by_label(x: Array, labels: Array, channels: int) -> Array:
    """[B, C] sums of x [B, *S] over the positions with each label."""
    if _is_fused(labels):
        mine = jnp.where(is_label(labels, channels), x[..., None], 0)
        return jnp.sum(mine, tuple(range(1, labels.ndim)))
    # A row for every block of every example; what has no class has its own channel.
    place = _blocks_of(labels, jnp.where(labels < 0, channels, labels))
    batch, blocks, _ = place.shape
    row = jnp.arange(batch * blocks, dtype=jnp.int32).reshape(batch, blocks, 1)
    place = (row * (channels + 1) + place).reshape(-1)
    parts = jnp.zeros(batch * blocks * (channels + 1), x.dtype)
    values = _blocks_of(labels, x).reshape(-1)
    parts = parts.at[place].add(values, mode="promise_in_bounds")
    return jnp.sum(parts.reshape(batch, blocks, -1), 1)[:, :channels]


def _blocks_of(positions: Array, x: Array) -> Array:
    """[B, *S, ...] -> [B, blocks, positions of a block, ...]."""
    batch, count = positions.shape[0], math.prod(positions.shape[1:])
    rest = x.shape[positions.ndim :]
    block = _block(count)
    x = x.reshape(batch, count, *rest)
    if count % block:
        x = jnp.pad(x, ((0, 0), (0, -count % block)) + ((0, 0),) * len(rest))
    return x.reshape(batch, -1, block, *rest)


def _backward(residuals: tuple, cotangents: LabelSums) -> tuple[Array, None]:
    # For p of one position and g = dloss/dp: dloss/dlogits = p (g - Σ p g), and p - t
    # for -log p of the label. What the loss does not use costs nothing.
    logits, labels, largest, scale = residuals
    exps = _exponentials(logits, labels, largest)
    p = exps * scale[..., None]
    g, rest, at_label = jnp.zeros_like(p), jnp.zeros_like(scale), jnp.zeros_like(p)
    if not _is_zero(cotangents.surprise):
        rest = jnp.where(labels >= 0, cotangents.surprise, 0)
        at_label -= rest[..., None]
    if not all(map(_is_zero, cotangents[:3])):
        _, preds, squares = (_spread(x, exps) for x in cotangents[:3])
        g = preds + 2 * p * squares
        of_label = _of_label(labels, cotangents.both, exps)
        if logits.shape[-1] > _WRITTEN_OUT:
            mine = jnp.exp(_below_largest(logits, labels, largest))
            total = _along_channels(exps, cotangents.preds) + 2 * scale * (
                _along_channels(exps * exps, cotangents.squares)
            )
        else:
            mine = at(labels, exps)
            total = _over_channels("sum", exps * g)
        rest = _kept(labels, rest - scale * (mine * of_label + total))
        at_label += p * of_label[..., None]
    label = is_label(labels, logits.shape[-1])
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
        labels: int32 [B, *S], from `labels_of`.

    Returns:
        In float32, or float64 for such logits. Differentiable in reverse mode any
        number of times, and forward over reverse.
    """
    return _compiled(jnp.asarray(logits), labels)
