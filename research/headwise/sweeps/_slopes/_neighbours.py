"""Trials beside trials: one weight a little less, a little more, all else the same."""

from collections.abc import Sequence

import numpy as np

from headwise.sweeps._design import _trials


def of(
    rows: _trials.Arrays, heads: Sequence[str], change: float
) -> tuple[_trials.Arrays, np.ndarray]:
    """The trials themselves, then those with one weight changed, as rows.

    Returns:
        Rows [N], and [N, 2] of each which trial it is of and which head was changed, -1
        for the trial itself. A changed weight comes twice, first less, then more; one
        of 0 does not come: no factor moves it.
    """
    weights = np.stack([rows["weights"][head] for head in heads], axis=1)
    own = np.stack([np.arange(len(weights)), np.full(len(weights), -1)], axis=1)
    turned = np.argwhere(weights != 0)
    who = np.concatenate([own, turned, turned])
    near = weights[who[:, 0]]
    sides = (1 - change, 1 + change)
    for side, at in zip(sides, np.split(np.arange(len(own), len(who)), 2), strict=True):
        near[at, who[at, 1]] *= np.asarray(side, near.dtype)
    columns = dict(zip(heads, near.T, strict=True))
    others = {name: x[who[:, 0]] for name, x in rows.items() if name != "weights"}
    return {"weights": columns, **others}, who


def slopes(
    near: _trials.Arrays, heads: Sequence[str], who: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Slopes [K, M, H] in the log weights from metrics [N, M] of what `of` gave."""
    weights = np.stack([near["weights"][head] for head in heads], axis=1)
    weights, values = weights.astype(np.float64), values.astype(np.float64)
    count = int(np.sum(who[:, 1] < 0))
    trial, head = np.split(who[count:], 2)[0].T
    (low, high), (less, more) = (np.split(x[count:], 2) for x in (values, weights))
    at = np.arange(len(head)), head
    scale = weights[trial, head] / (more[at] - less[at])
    found = np.zeros((count, values.shape[1], len(heads)))
    found[trial, :, head] = (high - low) * scale[:, None]
    return found
