"""The losses once more, in float64 NumPy, one example and one class at a time.

Written from their formulas and slow on purpose. Masked positions are taken out of the
arrays, where the library puts zeros in. No code is shared with the library.
"""

import numpy as np

ACTIVATIONS = {
    None: lambda x: x,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def spread(mask, shape):
    """The mask as bool of the given shape, its axes matched from the batch on."""
    if mask is None:
        return np.ones(shape, bool)
    return np.broadcast_to(
        mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape
    )


def flat(preds, targets, where, activation=None, background=True):
    """Predictions, targets and mask as [B, N, C], without channel 0 if so wanted."""
    preds = np.asarray(preds, np.float64)
    channels = preds.shape[-1]
    if targets.shape != preds.shape:
        targets = np.stack([targets == c for c in range(channels)], -1)
    where = spread(where, preds.shape)
    arrays = ACTIVATIONS[activation](preds), np.asarray(targets, np.float64), where
    first = 0 if background else 1
    return [a.reshape(len(a), -1, channels)[:, :, first:] for a in arrays]


def one_minus(numerator, denominator, smooth):
    above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)
    if denominator + below == 0:
        return 0.0
    return 1 - (numerator + above) / (denominator + below)


class Sums:
    """Sums over the positions that count of some examples, for one class."""

    def __init__(self, p, t, m, examples, c, squared, soft_targets):
        p = np.concatenate([p[b, m[b, :, c], c] for b in examples])
        t = np.concatenate([t[b, m[b, :, c], c] for b in examples])
        power = 2 if squared else 1
        apart = (abs(p - t) ** power).sum()
        both = (p**power).sum() + (t**power).sum() - apart
        self.intersection = float(both / 2 if soft_targets else (p * t).sum())
        self.volume = float(t.sum())
        self.preds, self.targets = float((p**power).sum()), float((t**power).sum())


def by_class(
    ratio,
    preds,
    targets,
    *,
    where=None,
    activation=None,
    smooth=1e-5,
    squared=False,
    soft_targets=False,
    background=True,
    class_weights=None,
    over_batch=False,
    **options,
):
    """[B, C], or [C] over the batch: `ratio` gives numerator and denominator."""
    p, t, m = flat(preds, targets, where, activation, background)
    weights = np.ones(preds.shape[-1]) if class_weights is None else class_weights
    weights = weights if background else weights[1:]
    examples = [range(len(p))] if over_batch else [[b] for b in range(len(p))]
    rows = []
    for group in examples:
        row = []
        for c in range(p.shape[-1]):
            sums = Sums(p, t, m, group, c, squared, soft_targets)
            row.append(weights[c] * one_minus(*ratio(sums, **options), smooth))
        rows.append(row)
    return np.array(rows[0] if over_batch else rows)


def dice(*args, **options):
    return by_class(
        lambda s: (2 * s.intersection, s.preds + s.targets), *args, **options
    )


def iou(*args, **options):
    return by_class(
        lambda s: (s.intersection, s.preds + s.targets - s.intersection),
        *args,
        **options,
    )


def tversky(*args, **options):
    def ratio(s, alpha=0.5, beta=0.5):
        wrong = alpha * (s.preds - s.intersection) + beta * (s.targets - s.intersection)
        return s.intersection, s.intersection + wrong

    return by_class(ratio, *args, **options)


def generalized_dice(
    preds,
    targets,
    *,
    where=None,
    weighting="square",
    activation=None,
    smooth=1e-5,
    squared=False,
    soft_targets=False,
    background=True,
    class_weights=None,
    over_batch=False,
):
    """[B], or a scalar over the batch."""
    p, t, m = flat(preds, targets, where, activation, background)
    own = np.ones(preds.shape[-1]) if class_weights is None else class_weights
    own = own if background else own[1:]
    power = {"square": 2, "simple": 1, "uniform": 0}[weighting]
    values = []
    for group in [range(len(p))] if over_batch else [[b] for b in range(len(p))]:
        sums = [
            Sums(p, t, m, group, c, squared, soft_targets) for c in range(p.shape[-1])
        ]
        rarest = min((s.volume for s in sums if s.volume > 0), default=None)
        absent = 0.0 if rarest is None and weighting != "uniform" else 1.0
        weights = [
            (rarest / s.volume) ** power if s.volume > 0 else absent for s in sums
        ]
        above = sum(w * o * 2 * s.intersection for w, o, s in zip(weights, own, sums))
        below = sum(
            w * o * (s.preds + s.targets) for w, o, s in zip(weights, own, sums)
        )
        values.append(one_minus(above, below, smooth))
    return np.array(values[0] if over_batch else values)
