"""A look at values: what shapes cannot tell of the arguments of a loss.

Losses never look at values, which may be traced and would stop the device. `findings`
says as traced booleans what would make no sense to a loss of the library;
`losses.checked` hands them to `checkify`, and `looking` collects them from every loss
that `_reduction.entries` meets, so that a caller may compute them for one batch.

Example:
    >>> from headwise import _look
    >>> p, t = jnp.array([[2.0, -1.0]]), jnp.array([0])
    >>> [found.text() for found in _look.findings(hw.losses.dice, p, t, None)
    ...  if not found.ok]
    ['preds: expected probabilities in [0, 1], got -1.0 to 2.0']
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _declared
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

# Rounding of bfloat16 probabilities and of their sums.
_SLACK = 0.02


class Finding(NamedTuple):
    """One thing that is as expected, or not."""

    ok: Array
    """bool scalar"""
    expected: str
    """the text, in which {least} and {most} may stand"""
    least: Array
    most: Array
    always: bool = True
    """whether it is wrong also if the loss has weight 0"""

    def text(self) -> str:
        return self.expected.format(least=self.least, most=self.most)


_found: contextvars.ContextVar[list[tuple[str, Finding]] | None]
_found = contextvars.ContextVar("found", default=None)
_names: contextvars.ContextVar[tuple[str, ...]]
_names = contextvars.ContextVar("names", default=())


@contextlib.contextmanager
def looking() -> Iterator[list[tuple[str, Finding]]]:
    """Collects (names, finding) of all losses that are met meanwhile."""
    found: list[tuple[str, Finding]] = []
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def is_on() -> bool:
    """Whether findings are collected."""
    return _found.get() is not None


@contextlib.contextmanager
def at(
    name: str, loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> Iterator[None]:
    """Looks at the arguments of a loss, and knows its name while it runs."""
    found = _found.get()
    if found is None:
        yield
        return
    token = _names.set((*_names.get(), name))
    try:
        path = " / ".join(repr(n) for n in _names.get())
        if _declared.itself(loss) is not None:
            found += [(path, f) for f in findings(loss, preds, targets, where)]
        yield
    finally:
        _names.reset(token)


def findings(
    loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> list[Finding]:
    """What can be said of the values: of a loss of the library, on channels.

    None where shapes do not fit (the loss says so), or of other losses, but whether
    preds are finite.
    """
    if not (_declared.is_array(preds) and _declared.is_array(targets)):
        return []
    p, t = jnp.asarray(preds), jnp.asarray(targets)
    if not jnp.issubdtype(p.dtype, jnp.floating) or not p.ndim:
        return []
    counts = _counts(loss, p, t, where)
    if counts is None:
        return []
    finite = jnp.isfinite(p)
    none = jnp.zeros(())
    everywhere = jnp.all(finite | ~counts)
    found = [Finding(everywhere, "preds: expected finite values", none, none, False)]
    takes = _declared.takes(loss)
    if takes is None or p.ndim < 2:
        return found
    shown = jnp.where(counts & finite, p, 0).astype(jnp.float32)
    least, most = _extremes(shown, counts & finite)
    in_range = (least >= -_SLACK) & (most <= 1 + _SLACK)
    if takes == "logits":
        whole = jnp.abs(jnp.sum(shown, -1) - 1) < _SLACK
        whole = jnp.all(whole | ~jnp.all(counts, -1)) & jnp.any(counts)
        text = (
            "preds: expected logits, got probabilities ({least} to {most}, with sum 1 "
            "over the channels)"
        )
        found.append(Finding(~(in_range & whole), text, least, most))
    else:
        text = "preds: expected probabilities in [0, 1], got {least} to {most}"
        found.append(Finding(in_range, text, least, most))
    if t.shape == p.shape:
        return found + _of_dense(loss, t, counts)
    return found + _of_labels(t, counts)


def _counts(loss: Loss, p: Array, t: Array, where: Array | None) -> Array | None:
    """bool, of the shape of preds; None if something does not fit."""
    counts, ignored = jnp.ones(p.shape, bool), _declared.ignored_label(loss)
    masks = [] if where is None else [jnp.asarray(where)]
    if t.shape != p.shape:
        if t.shape != p.shape[:-1] or not jnp.issubdtype(t.dtype, jnp.integer):
            return None
        if ignored is not None:
            masks.append(t != ignored)
    for mask in masks:
        pairs = zip(mask.shape, p.shape, strict=False)
        if mask.ndim > p.ndim or not all(m in (1, s) for m, s in pairs):
            return None
        counts &= mask.reshape(mask.shape + (1,) * (p.ndim - mask.ndim))
    return counts


def _extremes(x: Array, counts: Array) -> tuple[Array, Array]:
    """Least and greatest of what counts; where nothing does, of no entries at all."""
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    limits = jnp.finfo(x.dtype) if floating else jnp.iinfo(x.dtype)
    least = jnp.min(x, initial=limits.max, where=counts)
    return least, jnp.max(x, initial=limits.min, where=counts)


def _of_labels(t: Array, counts: Array) -> list[Finding]:
    last = counts.shape[-1] - 1
    least, most = _extremes(t, jnp.any(counts, -1))
    text = f"targets: expected labels in 0..{last}, got {{least}} to {{most}}"
    return [Finding((least >= 0) & (most <= last), text, least, most)]


def _of_dense(loss: Loss, t: Array, counts: Array) -> list[Finding]:
    here = jnp.where(counts, t, 0).astype(jnp.float32)
    least, most = _extremes(here, counts)
    text = "targets: expected values in [0, 1], got {least} to {most}"
    found = [Finding((least >= 0) & (most <= 1), text, least, most)]
    sums = jnp.sum(here, -1)
    least, most = _extremes(sums, jnp.any(counts, -1))
    got = "over the last axis, got sums {least} to {most}; are the channels last?"
    fits = most <= 1 + _SLACK
    if _declared.is_exclusive(loss):
        text = f"targets: expected classes that exclude each other, of sum 1 {got}"
        return [*found, Finding(fits, text, least, most)]
    if t.ndim > 3 and t.shape[-1] > 1:  # one-hot along the axis after the batch
        first = jnp.all(jnp.sum(here, 1) == 1) & jnp.all(counts)
        text = f"targets: one-hot along axis 1, expected so {got}"
        found.append(Finding(fits | ~first, text, least, most))
    return found
