"""The losses of single positions and the compounds in float64 NumPy, loop by loop.

Written from the formulas; shares no code with the library. A masked entry is left out
of its sum.
"""

import numpy as np

from tests.losses import _reference


def flat(preds, targets, where, ignore=None):
    """Logits, hard or soft targets and mask, [B, N, C]; no class is a row of zeros."""
    preds = np.asarray(preds, np.float64)
    channels = preds.shape[-1]
    where = _reference.spread(where, preds.shape)
    if targets.shape != preds.shape:
        if ignore is not None:
            where = where & (targets != ignore)[..., None]
        targets = np.stack([targets == c for c in range(channels)], -1)
    return [
        np.asarray(x, x.dtype if x.dtype == bool else np.float64).reshape(
            len(preds), -1, channels
        )
        for x in (preds, targets.astype(np.float64), where)
    ]


def log_probabilities(z):
    z = z - z.max()
    return z - np.log(np.exp(z).sum())


def exclusive(term, preds, targets, where, ignore, factors, smoothing):
    """[B, *S]: Σ_c factor_c t_c term(p_c) of softmax probabilities."""
    z, t, m = flat(preds, targets, where, ignore)
    values = np.zeros(z.shape[:2])
    channels = z.shape[-1]
    factors = np.ones(channels) if factors is None else np.asarray(factors, float)
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            if not m[b, i].any():
                continue
            log_p = log_probabilities(z[b, i])
            row = np.where(m[b, i], t[b, i], 0.0)
            row = (1 - smoothing) * row + smoothing * row.sum() / channels
            for c in range(channels):
                if m[b, i, c]:
                    values[b, i] += factors[c] * row[c] * term(log_p[c])
    return values.reshape(preds.shape[:-1])


def normalised(class_weights):
    if class_weights is None:
        return None
    class_weights = np.asarray(class_weights, float)
    return class_weights / class_weights.sum() * len(class_weights)


def cross_entropy(
    preds,
    targets,
    *,
    where=None,
    ignore=None,
    class_weights=None,
    label_smoothing=0.0,
):
    weights = normalised(class_weights)
    return exclusive(
        lambda log_p: -log_p, preds, targets, where, ignore, weights, label_smoothing
    )


def poly(preds, targets, *, where=None, ignore=None, epsilon=2.0, class_weights=None):
    def term(log_p):
        return -log_p + epsilon * (1 - np.exp(log_p))

    weights = normalised(class_weights)
    return exclusive(term, preds, targets, where, ignore, weights, 0.0)


def focal(
    preds,
    targets,
    *,
    where=None,
    ignore=None,
    gamma=2.0,
    alpha=None,
    class_weights=None,
    label_smoothing=0.0,
):
    channels = preds.shape[-1]
    factors = np.ones(channels)
    if alpha is not None:
        scalar = np.ndim(alpha) == 0
        factors = np.array([1 - alpha] + [alpha] * (channels - 1) if scalar else alpha)
    if class_weights is not None:
        factors = factors * class_weights

    def term(log_p):
        return (1 - np.exp(log_p)) ** gamma * -log_p

    return exclusive(term, preds, targets, where, ignore, factors, label_smoothing)


def independent(term, preds, targets, where, ignore, class_weights, smoothing):
    """[B, *S, C] of sigmoid probabilities: term(p, t, c)."""
    z, t, m = flat(preds, targets, where, ignore)
    weights = np.ones(z.shape[-1]) if class_weights is None else class_weights
    values = np.zeros(z.shape)
    for b, i, c in np.ndindex(z.shape):
        if m[b, i, c]:
            target = (1 - smoothing) * t[b, i, c] + smoothing / 2
            p = 1 / (1 + np.exp(-z[b, i, c]))
            values[b, i, c] = weights[c] * term(p, target, c)
    return values.reshape(preds.shape)


def of_channel(option, c):
    return option if np.ndim(option) == 0 else option[c]


def binary_cross_entropy(
    preds,
    targets,
    *,
    where=None,
    ignore=None,
    class_weights=None,
    positive_weight=1.0,
    label_smoothing=0.0,
):
    def term(p, t, c):
        positive = of_channel(positive_weight, c)
        return -positive * t * np.log(p) - (1 - t) * np.log(1 - p)

    return independent(
        term, preds, targets, where, ignore, class_weights, label_smoothing
    )


def binary_focal(
    preds,
    targets,
    *,
    where=None,
    ignore=None,
    gamma=2.0,
    alpha=None,
    class_weights=None,
    label_smoothing=0.0,
):
    def term(p, t, c):
        fore, back = 1.0, 1.0
        if alpha is not None:
            fore, back = of_channel(alpha, c), 1 - of_channel(alpha, c)
        hit = fore * t * (1 - p) ** gamma * -np.log(p)
        return hit + back * (1 - t) * p**gamma * -np.log(1 - p)

    return independent(
        term, preds, targets, where, ignore, class_weights, label_smoothing
    )


def mean_of_valid(values, where, preds):
    """[B]: mean over the entries [B, *S] or [B, *S, C] that count; 0 if none does."""
    m = _reference.spread(where, preds.shape)
    if values.ndim < preds.ndim:
        m = m.any(-1)
    rows = zip(values.reshape(len(values), -1), m.reshape(len(m), -1))
    return np.array([v[w].mean() if w.any() else 0.0 for v, w in rows])


def mean_of_classes(values, where, preds, background):
    """[B]: mean over the classes of which any position counts."""
    m = _reference.spread(where, preds.shape)
    m = m.reshape(len(m), -1, m.shape[-1]).any(1)[:, 0 if background else 1 :]
    return np.array([v[w].mean() if w.any() else 0.0 for v, w in zip(values, m)])


def compound(region, exclusive_loss, binary_loss, part):
    """A compound of a region loss and a position loss, by their references."""

    def loss(
        preds,
        targets,
        *,
        where=None,
        activation="softmax",
        dice_weight=1.0,
        smooth=1e-5,
        squared=False,
        background=True,
        class_weights=None,
        weighting=None,
        **options,
    ):
        weight = options.pop(part, 1.0)
        shared = dict(
            activation=activation,
            smooth=smooth,
            squared=squared,
            background=background,
            class_weights=class_weights,
        )
        if weighting is not None:
            shared["weighting"] = weighting
        regions = region(preds, targets, where=where, **shared)
        if regions.ndim > 1:
            regions = mean_of_classes(regions, where, preds, background)
        else:  # an example of which nothing counts has no value
            counts = _reference.spread(where, preds.shape)
            regions = regions * counts.reshape(len(preds), -1).any(-1)
        of_positions = exclusive_loss if activation == "softmax" else binary_loss
        positions = of_positions(
            preds, targets, where=where, class_weights=class_weights, **options
        )
        mean = mean_of_valid(positions, where, preds)
        return dice_weight * regions + weight * mean

    return loss


dice_ce = compound(_reference.dice, cross_entropy, binary_cross_entropy, "ce_weight")
dice_focal = compound(_reference.dice, focal, binary_focal, "focal_weight")
_generalized = compound(
    _reference.generalized_dice, focal, binary_focal, "focal_weight"
)


def generalized_dice_focal(*args, weighting="square", **options):
    return _generalized(*args, weighting=weighting, **options)


def dice_and_squared_error(preds, targets, *, where=None):
    """[B]: 0.7 * mean Dice of the classes + 0.3 * mean squared error."""
    p, t, _ = flat(preds, targets, None)
    dices = mean_of_classes(
        _reference.dice(preds, targets, where=where), where, preds, True
    )
    errors = ((p - t) ** 2).reshape(preds.shape)
    return 0.7 * dices + 0.3 * mean_of_valid(errors, where, preds)
