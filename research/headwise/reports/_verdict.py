"""What a sweep shows, in plain words: which metrics the weights moved at all."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from headwise.reports import _tables


def verdict(
    records: Iterable[_tables.Record], higher: Mapping[str, bool], level: float = 0.05
) -> str:
    """A sentence a metric: did the weights make a difference beyond the seeds?

    The weightings are compared seed by seed, since a seed means the same start and
    the same batches for all: Friedman's rank test for three or more weightings (it
    does not mind that some of them vary more than others), the paired t-test for two.
    Seeds that diverged with any weighting are left out.

    Args:
        records: of `hw.sweeps.run`.
        higher: {metric: whether more is better}.
        level: probability of chance below which a difference is called one.

    Returns:
        Lines of text: best and worst mean, p, and the median over the weightings of
        the deviation between seeds.

    Example:
        >>> records = [
        ...     {"weights": {"a": w}, "seed": s, "finite": True,
        ...      "metrics": {"dice": 0.5 + 0.1 * w + 0.001 * s, "mse": 0.1 + 0.01 * s}}
        ...     for w in (1.0, 2.0) for s in range(3)
        ... ]
        >>> print(hw.reports.verdict(records, {"dice": True, "mse": False}))
        dice: the weights matter (p = 0.00): 0.701 at a=2, 0.601 at a=1, seeds ± 0.001
        mse: no weighting made a difference (p = 1.00): 0.110 to 0.110, seeds ± 0.010

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets",
        JMLR 2006, section 3.2.
    """
    records = list(records)
    rows = _tables.summary(records)
    names, _ = _tables.labels(rows)
    rows = [row | {"label": label} for row, label in zip(rows, names, strict=True)]
    return "\n".join(
        _sentence(name, more, rows, _by_seed(records, name), level)
        for name, more in higher.items()
    )


def _by_seed(records: list[_tables.Record], metric: str) -> np.ndarray:
    """[weightings, seeds] of a metric, for the seeds that all weightings have."""
    table: dict[str, dict[int, float]] = {}
    for record in records:
        row = table.setdefault(_tables.weighting(record["weights"]), {})
        found = _tables.flat(record["metrics"]) if record["finite"] else {}
        if metric in found:
            row[record["seed"]] = found[metric]
    seeds = sorted(set.intersection(*(set(row) for row in table.values())))
    return np.array([[row[seed] for seed in seeds] for row in table.values()])


def _chance(table: np.ndarray) -> float:
    """Probability that rows which do not differ look as different as these."""
    difference = table - table[:1]
    if np.allclose(difference, 0.0, atol=1e-12):
        return 1.0
    if len(table) > 2:
        return float(stats.friedmanchisquare(*table).pvalue)
    if np.ptp(difference[1]) < 1e-9 * np.abs(difference[1]).max():
        return 0.0  # the same difference for every seed: t would be infinite
    return float(stats.ttest_rel(*table).pvalue)


def _sentence(
    name: str, more: bool, rows: list[dict[str, Any]], table: np.ndarray, level: float
) -> str:
    rows = [row for row in rows if name in row["mean"]]
    if not rows:
        return f"{name}: no finite trial"
    means = np.array([row["mean"][name] for row in rows])
    between = f"{means.min():.3f} to {means.max():.3f}"
    if len(rows) < 2:
        return f"{name}: one weighting, nothing to compare"
    if table.shape[1] < 2:
        return (
            f"{name}: {between}; without two seeds for every weighting, nobody can say "
            "whether that is more than chance"
        )
    chance = _chance(table)
    spread = np.nanmedian([row["std"][name] for row in rows])
    if chance >= level:
        return (
            f"{name}: no weighting made a difference (p = {chance:.2f}): {between}, "
            f"seeds ± {spread:.3f}"
        )
    best, worst = int(means.argmax()), int(means.argmin())
    if not more:
        best, worst = worst, best
    return (
        f"{name}: the weights matter (p = {chance:.2f}): {means[best]:.3f} at "
        f"{rows[best]['label']}, {means[worst]:.3f} at {rows[worst]['label']}, "
        f"seeds ± {spread:.3f}"
    )
