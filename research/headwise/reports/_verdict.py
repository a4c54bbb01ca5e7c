"""What a sweep shows, in plain words: which metrics the weights moved at all."""

from collections.abc import Iterable
from collections.abc import Mapping

import numpy as np
from scipy import stats

from headwise.reports import _tables


def verdict(
    records: Iterable[_tables.Record], higher: Mapping[str, bool], level: float = 0.05
) -> str:
    """A sentence a metric: did the weights make a difference beyond the seeds?

    One-way analysis of variance over the weightings, the seeds being the repetitions;
    only weightings with two or more finite trials take part.

    Args:
        records: of `hw.sweeps.run`.
        higher: {metric: whether more is better}.
        level: probability of chance below which a difference is called one.

    Returns:
        Lines of text.

    Example:
        >>> records = [
        ...     {"weights": {"a": w}, "seed": s, "finite": True,
        ...      "metrics": {"dice": 0.5 + 0.1 * w + 0.001 * s, "mse": 0.1 + 0.01 * s}}
        ...     for w in (1.0, 2.0) for s in range(3)
        ... ]
        >>> print(hw.reports.verdict(records, {"dice": True, "mse": False}))
        dice: the weights matter: best 0.701 at a=2, worst 0.601 at a=1, seeds ± 0.001
        mse: no weighting made a difference: 0.110 to 0.110, seeds ± 0.010 (p = 1.00)
    """
    rows = _tables.summary(records)
    names, _ = _tables.labels(rows)
    rows = [row | {"label": label} for row, label in zip(rows, names, strict=True)]
    return "\n".join(
        _sentence(rows, name, more, level) for name, more in higher.items()
    )


def _sentence(rows: list, name: str, more: bool, level: float) -> str:
    rows = [row for row in rows if name in row["mean"]]
    if not rows:
        return f"{name}: no finite trial"
    means = np.array([row["mean"][name] for row in rows])
    repeated = [row["metrics"][name] for row in rows if row["count"] > 1]
    if len(repeated) < 2:
        return (
            f"{name}: {means.min():.3f} to {means.max():.3f}; without two seeds a "
            "weighting, nobody can say whether that is more than chance"
        )
    spread = float(np.sqrt(np.mean([np.var(column, ddof=1) for column in repeated])))
    if np.ptp(means) == 0:
        chance = 1.0
    elif spread == 0:
        chance = 0.0
    else:
        chance = float(stats.f_oneway(*repeated).pvalue)
    if chance >= level:
        return (
            f"{name}: no weighting made a difference: {means.min():.3f} to "
            f"{means.max():.3f}, seeds ± {spread:.3f} (p = {chance:.2f})"
        )
    best, worst = int(means.argmax()), int(means.argmin())
    if not more:
        best, worst = worst, best
    return (
        f"{name}: the weights matter: best {means[best]:.3f} at "
        f"{rows[best]['label']}, worst {means[worst]:.3f} at {rows[worst]['label']}, "
        f"seeds ± {spread:.3f}"
    )
