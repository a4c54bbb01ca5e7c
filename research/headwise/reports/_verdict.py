"""What a sweep shows, in plain words: which metrics the weights moved at all."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise.reports import _groups
from headwise.reports import _summary


def verdict(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    level: float = 0.05,
    by: Sequence[str] | None = None,
) -> str:
    """A sentence a metric: did the weights make a difference beyond the seeds?

    The weightings are compared seed by seed, since a seed means the same start and
    the same batches for all: Friedman's rank test for three or more weightings (it
    does not mind that some of them vary more than others), the paired t-test for two.
    Seeds that diverged with any weighting are left out.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}.
        level: probability of chance below which a difference is called one.
        by: what is compared: names of settings and heads, `"weights"` for all heads;
            trials that agree in the seed and in all else are then compared. None: the
            weights and every setting that varies.

    Returns:
        Lines of text: best and worst mean, p, and the median over the weightings of
        the deviation between seeds.

    Raises:
        ValueError: `level` is not in [0, 1], or `by` holds a name that is neither a
            head nor a setting.

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
    _checks.fraction("level", level)
    records = list(records)
    columns = _groups.columns(records, by)
    rows = _summary.summary(records, by)
    labels, _ = _groups.labels(rows, columns)
    rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    words = _groups.words(rows, columns)
    return "\n".join(
        _sentence(name, more, rows, _paired(records, columns, name), level, words)
        for name, more in higher.items()
    )


def _paired(
    records: list[_groups.Record], columns: Sequence[_groups.Column], metric: str
) -> np.ndarray:
    """[rows, pairs] of a metric: a column holds what agrees but in what is compared.

    That is a seed, and where settings or weights are pooled a seed and their values;
    only those that all rows have.
    """
    groups = _groups.grouped(records, columns)
    pooled = _groups.pooled(groups.values())
    table = []
    for group in groups.values():
        row = {}
        for record in group:
            metrics = _summary.flat(record["metrics"]) if record["finite"] else {}
            if metric in metrics:
                pair = (record["seed"], *_groups.key(record, pooled))
                row[pair] = metrics[metric]
        table.append(row)
    pairs = sorted(set.intersection(*(set(row) for row in table)))
    return np.array([[row[pair] for pair in pairs] for row in table])


def _chance(table: np.ndarray) -> float:
    """Probability that rows which do not differ look as different as these."""
    # Imported here: it costs every `import headwise` 0.8 s otherwise.
    from scipy import stats

    difference = table - table[:1]
    if np.allclose(difference, 0.0, atol=1e-12):
        return 1.0
    if len(table) > 2:
        return float(stats.friedmanchisquare(*table).pvalue)
    if np.ptp(difference[1]) < 1e-9 * np.abs(difference[1]).max():
        return 0.0  # the same difference for every pair: t would be infinite
    return float(stats.ttest_rel(*table).pvalue)


def _sentence(
    name: str,
    more: bool,
    rows: list[dict[str, Any]],
    table: np.ndarray,
    level: float,
    words: _groups.Words,
) -> str:
    """What the trials say of one metric, in words.

    Nothing is claimed of one row, or of rows that have fewer than two pairs.
    """
    rows = [row for row in rows if name in row["mean"]]
    if not rows:
        return f"{name}: no finite trial"
    means = np.array([row["mean"][name] for row in rows])
    between = f"{means.min():.3f} to {means.max():.3f}"
    if len(rows) < 2:
        return f"{name}: one {words.one}, nothing to compare"
    if table.shape[1] < 2:
        return (
            f"{name}: {between}; without two seeds for every {words.one}, nobody can "
            "say whether that is more than chance"
        )
    chance = _chance(table)
    spread = np.nanmedian([row["std"][name] for row in rows])
    within = "trials" if any(row["pooled"] for row in rows) else "seeds"
    if chance >= level:
        return (
            f"{name}: no {words.one} made a difference (p = {chance:.2f}): {between}, "
            f"{within} ± {spread:.3f}"
        )
    best, worst = int(means.argmax()), int(means.argmin())
    if not more:
        best, worst = worst, best
    return (
        f"{name}: the {words.title} {words.verb} (p = {chance:.2f}): "
        f"{means[best]:.3f} at {rows[best]['label']}, {means[worst]:.3f} at "
        f"{rows[worst]['label']}, {within} ± {spread:.3f}"
    )
