"""Region losses beyond Dice in float64 NumPy, one example and one class at a time.

Written from their formulas and slow on purpose. Masked positions are taken out of the
arrays where neighbours do not matter. No code is shared with the library.
"""

import itertools

import numpy as np

from tests.losses import _reference


def columns(
    preds, targets, where, activation, background, over_batch, class_weights, value
):
    """[B, C], or [C] over the batch: `value(p, t)` of the entries that count."""
    p, t, m = _reference.flat(preds, targets, where, activation, background)
    weights = np.ones(preds.shape[-1]) if class_weights is None else class_weights
    weights = weights if background else weights[1:]
    rows = []
    for group in [range(len(p))] if over_batch else [[b] for b in range(len(p))]:
        row = []
        for c in range(p.shape[-1]):
            kept_p = np.concatenate([p[b, m[b, :, c], c] for b in group])
            kept_t = np.concatenate([t[b, m[b, :, c], c] for b in group])
            row.append(weights[c] * value(kept_p, kept_t))
        rows.append(row)
    return np.array(rows[0] if over_batch else rows)


def jaccard_loss(truth, wrong):
    """Of the prediction that differs from the truth in the set `wrong`."""
    predicted = truth ^ wrong
    return 1 - len(truth & predicted) / len(truth | predicted)


def lovasz(errors, hard, absent):
    if absent == "zero" and not hard.any():
        return 0.0
    truth = {int(i) for i in np.flatnonzero(hard)}
    value, before, wrong = 0.0, 0.0, set()
    for i in np.argsort(-errors):
        wrong.add(int(i))
        loss = jaccard_loss(truth, wrong)
        value += errors[i] * (loss - before)
        before = loss
    return value


def lovasz_softmax(
    preds,
    targets,
    *,
    where=None,
    activation=None,
    absent="count",
    background=True,
    class_weights=None,
    over_batch=False,
):
    def value(p, t):
        hard = t > 0.5
        return lovasz(np.abs(hard - p), hard, absent)

    shared = activation, background, over_batch, class_weights
    return columns(preds, targets, where, *shared, value)


def lovasz_hinge(
    preds,
    targets,
    *,
    where=None,
    absent="count",
    background=True,
    class_weights=None,
    over_batch=False,
):
    def value(x, t):
        sign = np.where(t > 0.5, 1.0, -1.0)
        return lovasz(np.maximum(1 - x * sign, 0), t > 0.5, absent)

    shared = None, background, over_batch, class_weights
    return columns(preds, targets, where, *shared, value)


def pooled(array, valid, offsets, choose):
    """At each valid position, the choice among the valid ones at the offsets."""
    out = np.zeros(array.shape)
    for i in np.ndindex(array.shape):
        if not valid[i]:
            continue
        near = [tuple(np.add(i, offset)) for offset in offsets]
        near = [
            j
            for j in near
            if all(0 <= x < n for x, n in zip(j, array.shape)) and valid[j]
        ]
        out[i] = choose(array[j] for j in near)
    return out


def skeleton(array, valid, iterations):
    box = list(itertools.product([-1, 0, 1], repeat=array.ndim))
    cross = [offset for offset in box if np.count_nonzero(offset) <= 1]
    skeleton = np.zeros(array.shape)
    for _ in range(iterations + 1):
        eroded = pooled(array, valid, cross, min)
        opened = pooled(eroded, valid, box, max)
        edge = np.maximum(array - opened, 0)
        skeleton = skeleton + np.maximum(edge - skeleton * edge, 0)
        array = eroded
    return skeleton


def cldice(
    preds,
    targets,
    *,
    where=None,
    iterations=3,
    activation=None,
    smooth=1.0,
    background=True,
    class_weights=None,
):
    sides = preds.shape[1:-1]
    p, t, m = _reference.flat(preds, targets, where, activation, background)
    above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)
    weights = np.ones(preds.shape[-1]) if class_weights is None else class_weights
    weights = weights if background else weights[1:]

    def share(skeleton, mask):
        if skeleton.sum() + below == 0:
            return 1.0
        return ((skeleton * mask).sum() + above) / (skeleton.sum() + below)

    values = np.zeros((len(p), p.shape[-1]))
    for b, c in np.ndindex(values.shape):
        valid = m[b, :, c].reshape(sides)
        one = np.where(valid, p[b, :, c].reshape(sides), 0)
        other = np.where(valid, t[b, :, c].reshape(sides), 0)
        precision = share(skeleton(one, valid, iterations), other)
        sensitivity = share(skeleton(other, valid, iterations), one)
        both = precision + sensitivity
        score = 2 * precision * sensitivity / both if both else 0.0
        values[b, c] = weights[c] * (1 - score)
    return values


def dice_cldice(preds, targets, *, alpha=0.5, iterations=3, smooth=1.0, **options):
    of_masks = _reference.dice(preds, targets, smooth=smooth, **options)
    of_lines = cldice(preds, targets, iterations=iterations, smooth=smooth, **options)
    return (1 - alpha) * of_masks + alpha * of_lines


def generalized_wasserstein_dice(
    preds,
    targets,
    *,
    distances,
    where=None,
    weighting="default",
    activation=None,
    smooth=1e-5,
    over_batch=False,
):
    """[B]; a masked p is a rest, at distance 1."""
    p, t, m = _reference.flat(preds, targets, where, activation)
    p, t = np.where(m, p, 0), np.where(m, t, 0)
    matrix = np.asarray(distances, np.float64) / np.max(distances)
    values = []
    for group in [range(len(p))] if over_batch else [[b] for b in range(len(p))]:
        volumes = sum(t[b].sum(0) for b in group)
        if weighting == "simple":
            alpha = 1 / (volumes + 1)
        else:
            alpha = np.where(np.arange(len(matrix)) == 0, 0.0, 1.0)
        right = all_of_it = 0.0
        for b in group:
            for p_i, t_i in zip(p[b], t[b]):
                for label, share in enumerate(t_i):
                    error = (matrix[label] * p_i).sum() + 1 - p_i.sum()
                    right += share * alpha[label] * (1 - error)
                    if weighting == "simple":
                        all_of_it += share * alpha[label] * (2 - error)
                    else:
                        all_of_it += share * (2 * alpha[label] * (1 - error) + error)
        values.append(_reference.one_minus(2 * right, all_of_it, smooth))
    return np.array(values[0] if over_batch else values)


def mcc(
    preds,
    targets,
    *,
    where=None,
    activation=None,
    smooth=1e-5,
    background=True,
    class_weights=None,
    over_batch=False,
):
    above, below = smooth if isinstance(smooth, tuple) else (smooth, smooth)

    def value(p, t):
        tp, tn = (p * t).sum(), ((1 - p) * (1 - t)).sum()
        fp, fn = (p * (1 - t)).sum(), ((1 - p) * t).sum()
        of_p, of_t = (tp + fp) * (tn + fn), (tp + fn) * (tn + fp)
        if of_t == 0 or of_p + below * of_t == 0:
            return 0.0 if fp == fn == 0 else 1.0
        root = ((of_p + below * of_t) * (of_t + below * of_t)) ** 0.5
        return 1 - (tp * tn - fp * fn + above * of_t) / root

    shared = activation, background, over_batch, class_weights
    return columns(preds, targets, where, *shared, value)


def sensitivity_specificity(
    preds,
    targets,
    *,
    where=None,
    sensitivity_weight=0.05,
    activation=None,
    background=True,
    class_weights=None,
    over_batch=False,
):
    r = sensitivity_weight

    def value(p, t):
        inside = ((t - p) ** 2 * t).sum() / t.sum() if t.sum() else 0.0
        rest = 1 - t
        outside = ((t - p) ** 2 * rest).sum() / rest.sum() if rest.sum() else 0.0
        return r * inside + (1 - r) * outside

    shared = activation, background, over_batch, class_weights
    return columns(preds, targets, where, *shared, value)


def focal_tversky(preds, targets, *, gamma=0.75, class_weights=None, **options):
    # Where s_n > s_d a loss can be negative; a power of it is 0.
    values = np.maximum(_reference.tversky(preds, targets, **options), 0) ** gamma
    if class_weights is None:
        return values
    return values * np.asarray(class_weights)[-values.shape[-1] :]


def unified_focal(
    preds,
    targets,
    *,
    where=None,
    weight=0.5,
    delta=0.6,
    gamma=0.5,
    asymmetric=True,
    activation=None,
    smooth=1e-5,
):
    p, t, m = _reference.flat(preds, targets, where, activation)
    values = []
    for b in range(len(p)):
        nll, region = 0.0, []
        for c in range(p.shape[-1]):
            own_p, own_t = p[b, m[b, :, c], c], t[b, m[b, :, c], c]
            share = delta if c else 1 - delta
            exponent = 0.0 if asymmetric and c else gamma
            focus = (1 - own_p) ** exponent
            nll -= share * (focus * own_t * np.log(own_p)).sum()
            tp = (own_p * own_t).sum()
            fp, fn = own_p.sum() - tp, own_t.sum() - tp
            below = tp + delta * fn + (1 - delta) * fp
            loss = max(_reference.one_minus(tp, below, smooth), 0)
            region.append(loss if asymmetric and not c else loss ** (1 - gamma))
        count = m[b].any(-1).sum()
        cross_entropy = nll / count if count else 0.0
        values.append(weight * cross_entropy + (1 - weight) * np.mean(region))
    return np.array(values)
