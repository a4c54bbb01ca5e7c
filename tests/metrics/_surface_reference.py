"""Metrics of surfaces in float64 NumPy, one example and class at a time."""

import numpy as np
from scipy import ndimage


def surface_points(mask, spacing):
    """[K, S]: where the positions lie that an erosion takes away."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    return points * (np.ones(mask.ndim) if spacing is None else np.array(spacing))


def directed(p, t, spacing=None):
    """Distances of both surfaces to each other, from all pairs of points."""
    a, b = surface_points(p, spacing), surface_points(t, spacing)
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return pairs.min(1), pairs.min(0)


def naive_hausdorff(p, t, percentile=95.0, spacing=None):
    """Of one example and class, in float64; None if it has no distance."""
    if not p.any() or not t.any():
        return None
    return max(np.percentile(d, percentile) for d in directed(p, t, spacing))


def naive_surface_dice(p, t, tolerance, spacing=None):
    if not p.any() and not t.any():
        return None
    if not p.any() or not t.any():
        return 0.0
    distances = np.concatenate(directed(p, t, spacing))
    return np.mean(distances <= tolerance * (1 + 1e-9))  # 3 * 0.7 is not 2.1


def naive(value, preds, targets, where=None, **options):
    """Sum over the examples and how many count, [C] each."""
    preds, targets = np.asarray(preds), np.asarray(targets)
    if where is not None:
        where = where.reshape(where.shape + (1,) * (preds.ndim - where.ndim))
        preds, targets = preds & where, targets & where
    total, count = np.zeros(preds.shape[-1]), np.zeros(preds.shape[-1])
    for b, c in np.ndindex(len(preds), preds.shape[-1]):
        got = value(preds[b, ..., c], targets[b, ..., c], **options)
        if got is not None:
            total[c] += got
            count[c] += 1
    return total, count


def blobs(seed, shape):
    """Masks [*shape] along the first axis, smooth along the others but the last."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in range(1, len(shape) - 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise > 0.5 * noise.std()


def pair(shape=(3, 9, 8, 3), seed=0):
    """Predictions and targets; some examples and classes are empty in one or both."""
    preds, targets = blobs(seed, shape), blobs(seed + 1, shape)
    preds[0, ..., 1] = targets[0, ..., 1] = False
    preds[1, ..., 1] = False
    targets[2, ..., 2] = False
    return preds, targets
