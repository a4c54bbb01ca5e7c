"""Dense regression losses in float64 NumPy, one example at a time.

Written from their formulas and slow on purpose; nothing is shared with the library.
"""

import itertools

import numpy as np

from tests.losses._reference import spread


def entries(preds, targets, where, value):
    """Values entry by entry; 0 where masked."""
    where = spread(where, preds.shape)
    out = np.zeros(preds.shape)
    for i in np.ndindex(preds.shape):
        if where[i]:
            out[i] = value(float(preds[i]), float(targets[i]))
    return out


def absolute_error(preds, targets, *, where=None):
    return entries(preds, targets, where, lambda p, t: abs(p - t))


def squared_error(preds, targets, *, where=None):
    return entries(preds, targets, where, lambda p, t: (p - t) ** 2)


def huber(preds, targets, *, where=None, delta=1.0):
    def value(p, t):
        x = abs(p - t)
        return x * x / 2 if x <= delta else delta * (x - delta / 2)

    return entries(preds, targets, where, value)


def berhu(
    preds, targets, *, where=None, threshold=None, fraction=0.2, over_batch=False
):
    sizes = absolute_error(preds, targets, where=where)
    out = np.zeros(preds.shape)
    for b in range(len(preds)):
        largest = (sizes if over_batch else sizes[b]).max()
        c = fraction * largest if threshold is None else threshold
        for i in np.ndindex(preds.shape[1:]):
            x = sizes[b][i]
            out[b][i] = x if x <= c else (x * x + c * c) / (2 * c)
    return out


def scale_invariant_log(
    preds, targets, *, where=None, variance_focus=0.5, log_space=False, root=False
):
    where = spread(where, preds.shape)
    values = []
    for p, t, w in zip(preds.astype(np.float64), targets.astype(np.float64), where):
        p, t = p[w & (t > 0)], t[w & (t > 0)]
        if not p.size:
            values.append(0.0)
            continue
        d = (p if log_space else np.log(p)) - np.log(t)
        value = (d**2).mean() - variance_focus * d.mean() ** 2
        values.append(np.sqrt(value) if root else value)
    return np.array(values)


def gradient_matching(preds, targets, *, where=None, scales=4):
    where = spread(where, preds.shape)
    values = []
    for p, t, w in zip(preds.astype(np.float64), targets.astype(np.float64), where):
        value = 0.0
        for k, axis in itertools.product(range(scales), range(p.ndim)):
            steps = []
            for i in np.ndindex(p.shape):
                # i and its next neighbour among the positions that are kept.
                j = tuple(x + 2**k * (a == axis) for a, x in enumerate(i))
                if any(x % 2**k for x in i) or j[axis] >= p.shape[axis]:
                    continue
                if w[i] and w[j]:
                    steps.append(abs((p[j] - t[j]) - (p[i] - t[i])))
            value += np.mean(steps) if steps else 0.0
        values.append(value)
    return np.array(values)


def normal_cosine(preds, targets, *, where=None):
    where = spread(where, preds.shape)
    out = np.zeros(preds.shape[:-1])
    for i in np.ndindex(out.shape):
        p = preds[i].astype(np.float64)[where[i]]
        t = targets[i].astype(np.float64)[where[i]]
        if not t.any():
            continue
        lengths = np.linalg.norm(p) * np.linalg.norm(t)
        out[i] = 1 - p @ t / lengths if lengths else 1.0
    return out


def window_weights(window, size, sigma, rank):
    """[size, ..., size], computed in all dimensions at once; sums to 1."""
    weights = np.ones((size,) * rank)
    if window == "gaussian":
        for i in np.ndindex(weights.shape):
            squares = sum((x - (size - 1) / 2) ** 2 for x in i)
            weights[i] = np.exp(-squares / (2 * sigma**2))
    return weights / weights.sum()


def ssim(
    preds,
    targets,
    *,
    where=None,
    data_range=1.0,
    window="gaussian",
    size=11,
    sigma=1.5,
    k1=0.01,
    k2=0.03,
):
    where = spread(where, preds.shape)
    sides = preds.shape[1:-1]
    weights = window_weights(window, size, sigma, len(sides))
    c_1, c_2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    out = np.zeros((preds.shape[0], preds.shape[-1]))
    for b, c in np.ndindex(out.shape):
        windows = []
        for start in np.ndindex(*(n - size + 1 for n in sides)):
            cut = (b, *(slice(i, i + size) for i in start), c)
            if not where[cut].all():
                continue
            p, t = preds[cut].astype(np.float64), targets[cut].astype(np.float64)
            m_p, m_t = (weights * p).sum(), (weights * t).sum()
            v_p = (weights * (p - m_p) ** 2).sum()
            v_t = (weights * (t - m_t) ** 2).sum()
            v_pt = (weights * (p - m_p) * (t - m_t)).sum()
            luminance = (2 * m_p * m_t + c_1) / (m_p**2 + m_t**2 + c_1)
            windows.append(luminance * (2 * v_pt + c_2) / (v_p + v_t + c_2))
        out[b, c] = 1 - np.mean(windows) if windows else 0.0
    return out
