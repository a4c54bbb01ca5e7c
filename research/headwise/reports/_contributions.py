"""The contributions of a whole run, from its metrics."""

import itertools
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from headwise import gradients
from headwise.reports import _given


def mean_contributions(history: Iterable[Mapping[str, Any]]) -> gradients.Contributions:
    """What each head contributed to every module over a whole run.

    The share is that of all updates together. A mean of shares would be decided by a
    single step in which they nearly cancel. With p_h = w_h <g_h, u>, the `pull`::

        share_h = Σ_records p_h / Σ_records Σ_k p_k

    Norms and cosines are means over the records in which a head moves the module.

    Args:
        history: records of `hw.training.fit` or `read_metrics`; those without
            contributions are passed over.

    Returns:
        `hw.gradients.Contributions` of the modules of the newest record; `print` and
        `.plot()` show them. Of records that hold no `pull`, those of 0.2.0, the median
        of the shares.

    Raises:
        ValueError: no record holds contributions.

    Example:
        >>> def record(a, b, cosine):
        ...     trunk = {
        ...         "a": {"norm": 2.0, "share": a / (a + b), "pull": a},
        ...         "b": {"norm": 1.0, "share": b / (a + b), "pull": b},
        ...     }
        ...     trunk["a"]["cosine"] = {"b": cosine}
        ...     return {"contributions": {"trunk": trunk}}
        >>> c = mean_contributions([record(4.0, 1.0, 0.5), record(-1.0, 1.0625, -1.0)])
        >>> print(c.modules, c.share.round(2), c.conflict)    # 3 and 2.0625 of 5.0625
        ('trunk',) [[0.59 0.41]] [-0.25]
    """
    history = _given.history(history)
    known = [r["contributions"] for r in history if r.get("contributions")]
    if not known:
        raise ValueError("history: expected records with contributions, got none")
    modules = tuple(known[-1])
    # Beside the heads a module of 0.2.0 holds the cosines of all pairs.
    first = known[-1][modules[0]]
    names = tuple(name for name, entry in first.items() if "norm" in entry)
    norm = np.zeros((len(modules), len(names)))
    share = np.zeros_like(norm)
    cosine = np.zeros((*norm.shape, len(names)))
    for m, module in enumerate(modules):
        rows = [
            contributions[module] for contributions in known if module in contributions
        ]
        for h, name in enumerate(names):
            lengths = [row[name]["norm"] for row in rows]
            norm[m, h] = _mean(length for length in lengths if length != 0)
        share[m] = _share(rows, names)
        moving = [h for h in range(len(names)) if norm[m, h] != 0]
        cosine[m, moving, moving] = 1.0
        for i, j in itertools.combinations(moving, 2):
            a, b = names[i], names[j]
            both = [row for row in rows if row[a]["norm"] and row[b]["norm"]]
            mean = _mean(_cosine(row, a, b) for row in both)
            cosine[m, i, j] = cosine[m, j, i] = mean
    arrays = (jnp.asarray(x, jnp.float32) for x in (norm, share, cosine))
    return gradients.Contributions(names, modules, *arrays)


def _mean(values: Iterable[float | None]) -> float:
    """Of what is finite (None is not); 0 of no values at all."""
    values = list(values)
    finite = [value for value in values if value is not None]
    return float(np.mean(finite or [np.nan])) if values else 0.0


def _share(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    """[H], of the records that are finite, and in which the module moves."""
    lines = [[row[name] for name in names] for row in rows]
    lines = [line for line in lines if any(entry["norm"] != 0 for entry in line)]

    def table(key: str) -> np.ndarray:
        # A head that moves nothing has no pull in its entry.
        found = [
            [e.get(key) if e["norm"] != 0 else 0.0 for e in line] for line in lines
        ]
        return np.array([line for line in found if None not in line], np.float64)

    pulls = table("pull")
    if len(pulls) or not lines:
        parts = pulls.sum(axis=0)
        return parts / parts.sum() if parts.sum() else np.zeros(len(names))
    shares = table("share")
    return np.median(shares, axis=0) if len(shares) else np.full(len(names), np.nan)


def _cosine(row: Mapping[str, Any], a: str, b: str) -> float | None:
    """Of two heads that both move a module, in one record."""
    if "cosine" in row[a]:
        return row[a]["cosine"][b]
    return row["cosine"][f"{a}|{b}"]
