"""The losses with distances once more, in float64 NumPy, one mask at a time.

The distances are SciPy's. No code is shared with the library.
"""

import numpy as np
from scipy import ndimage

from tests.losses import _reference


def distances(away_from, spacing=None):
    """[*S]: distance of each position to the nearest one in the mask `away_from`."""
    sampling = None if spacing is None else [float(s) for s in spacing]
    return ndimage.distance_transform_edt(~away_from, sampling=sampling)


def two_sides(mask, counted, spacing=None):
    """Depth of the positions inside, distance of those outside; 0 without boundary."""
    inside, outside = mask & counted, ~mask & counted
    if not inside.any() or not outside.any():
        return np.zeros(mask.shape), np.zeros(mask.shape)
    return (
        np.where(inside, distances(outside, spacing), 0),
        np.where(outside, distances(inside, spacing), 0),
    )


def signed(mask, counted, spacing=None):
    depth, away = two_sides(mask, counted, spacing)
    step = 1.0 if spacing is None else float(min(spacing))
    return away - np.where(depth > 0, depth - step, 0)


def by_mask(
    value,
    preds,
    targets,
    where=None,
    ignore=None,
    activation=None,
    background=True,
    class_weights=None,
):
    """[B, C]: `value(p, t, counted)` of each example and class."""
    preds = np.asarray(preds, np.float64)
    channels = preds.shape[-1]
    counted = _reference.spread(where, preds.shape)
    if ignore is not None:
        counted = counted & (targets != ignore)[..., None]
    if targets.shape != preds.shape:
        targets = np.stack([targets == c for c in range(channels)], -1)
    p, t = _reference.ACTIVATIONS[activation](preds), np.asarray(targets, np.float64)
    weights = np.ones(channels) if class_weights is None else class_weights
    return np.array(
        [
            [
                weights[c] * value(p[b, ..., c], t[b, ..., c], counted[b, ..., c])
                for c in range(0 if background else 1, channels)
            ]
            for b in range(len(p))
        ]
    )


def boundary(preds, targets, *, spacing=None, **options):
    def value(p, t, counted):
        phi = signed(t > 0.5, counted, spacing)
        return np.mean((p * phi)[counted]) if counted.any() else 0.0

    return by_mask(value, preds, targets, **options)


def hausdorff(preds, targets, *, alpha=2.0, log=False, spacing=None, **options):
    def value(p, t, counted):
        if not counted.any():
            return 0.0
        to_p = sum(two_sides(p > 0.5, counted, spacing))
        to_t = sum(two_sides(t > 0.5, counted, spacing))
        mean = np.mean(((p - t) ** 2 * (to_p**alpha + to_t**alpha))[counted])
        return np.log(1 + mean) if log else mean

    return by_mask(value, preds, targets, **options)
