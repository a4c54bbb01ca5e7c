"""What a sweep shows, in plain words: which metrics the weights moved at all."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _records
from headwise import _text
from headwise.reports import _chance
from headwise.reports import _given
from headwise.reports import _groups
from headwise.reports import _numbers
from headwise.reports import _summary


class _Pairs(NamedTuple):
    """The trials of a metric that can be compared: a pair is a seed, as a rule."""

    rows: list[int]
    """Which rows of the summary have the metric, or diverged throughout."""
    table: np.ndarray
    """[rows, pairs]; infinitely bad where the trial diverged."""
    left_out: int
    """Pairs that not all of these rows have."""


def verdict(
    records: Iterable[_groups.Record],
    higher: Mapping[str, bool],
    level: float = 0.05,
    by: Sequence[str] | None = None,
) -> str:
    """A sentence a metric: did the weights make a difference beyond the seeds?

    The weightings are compared seed by seed, since a seed means the same start and
    the same batches for all: Friedman's rank test for three or more weightings (it
    does not mind that some of them vary more than others), Wilcoxon's signed-rank test
    for two. p is exact: the part of all orders within the seeds that differ as much.
    So with k weightings and n seeds it is at least ::

        (1 / k!)^(n - 1)      k = 2: 6 seeds for p < 0.05; 3: 3 seeds; 4 and more: 2

    and with fewer seeds nothing is said of the weights but that. That no difference is
    shown does not say that there is none. A trial that diverged is the worst of its
    seed; one that halving stopped is neither that nor a result. Seeds that not all
    weightings have are left out, and counted.

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
        ValueError: no records; `higher` names a metric that they do not have; `level`
            is not in (0, 1]; `by` holds a name that is neither a head nor a setting.

    Example:
        >>> records = [
        ...     {"weights": {"a": w}, "seed": s, "finite": True,
        ...      "metrics": {"dice": 0.5 + 0.1 * w + 0.001 * s, "mse": 0.1 + 0.01 * s}}
        ...     for w in (1.0, 2.0, 3.0) for s in range(4)
        ... ]
        >>> higher = {"dice": True, "mse": False}
        >>> print(hw.reports.verdict(records, higher))
        dice: the weights matter (p < 0.01): 0.801 at a=3, 0.601 at a=1, seeds ± 0.001
        mse: no difference shown (p = 1.00): 0.115 to 0.115, seeds ± 0.013
        >>> two_seeds = [record for record in records if record["seed"] < 2]
        >>> print(hw.reports.verdict(two_seeds, {"dice": True}))  # doctest: +ELLIPSIS
        dice: too few seeds to tell (the least possible p is 0.17; 3 could decide): ...

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets",
        JMLR 2006, sections 3.1.3 and 3.2.2.
    """
    _checks.in_range("level", level, "a number in (0, 1]", lambda x: 0 < x <= 1)
    records = _given.records(records)
    _given.metrics(records, higher)
    columns = _groups.columns(records, by)
    rows = _summary.summary(records, by)
    labels, _ = _groups.labels(rows, columns)
    rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    words = _groups.words(rows, columns)
    return "\n".join(
        f"{_text.printable(name)}: "
        + _sentence(
            name, more, rows, _paired(records, columns, name, more), level, words
        )
        for name, more in higher.items()
    )


def _paired(
    records: list[_groups.Record],
    columns: Sequence[_groups.Column],
    metric: str,
    more: bool,
) -> _Pairs:
    """The trials of a metric by what agrees but in what is compared.

    That is a seed, and where settings or weights are pooled a seed and their values.
    """
    groups = _groups.grouped(records, columns)
    pooled = _groups.pooled(groups.values())
    worst = -np.inf if more else np.inf
    rows, every = [], []
    for i, group in enumerate(groups.values()):
        row, whole = {}, False
        for record in group:
            if _records.halved(record):  # neither the worst nor a result
                continue
            pair = (record["seed"], *_groups.key(record, pooled))
            metrics = _given.flat(record["metrics"]) if record["finite"] else {}
            if metric in metrics or not record["finite"]:
                value = metrics.get(metric, np.nan)
                row[pair] = worst if np.isnan(value) else value
            whole |= metric in metrics
        if whole or not any(r["finite"] or _records.halved(r) for r in group):
            rows.append(i)
            every.append(row)
    anywhere = dict.fromkeys(pair for row in every for pair in row)
    pairs = [p for p in anywhere if all(p in row for row in every)]
    table = np.array([[row[pair] for pair in pairs] for row in every])
    return _Pairs(rows, table, len(anywhere) - len(pairs))


def _sentence(
    name: str,
    more: bool,
    rows: list[dict[str, Any]],
    pairs: _Pairs,
    level: float,
    words: _groups.Words,
) -> str:
    """What the trials say of one metric, in words."""
    write = _numbers.writer(rows, name)
    means = {i: row["mean"][name] for i, row in enumerate(rows) if name in row["mean"]}
    if not means:
        diverged = sum(row["diverged"] for row in rows)
        return f"no finite value; {diverged} of {_trials(rows)} trials diverged"
    if len(pairs.rows) < 2:
        return f"one {words.one}, nothing to compare"
    order = sorted(means, key=means.__getitem__)
    between = f"{write(means[order[0]])} to {write(means[order[-1]])}"
    within = "trials" if any(row["pooled"] for row in rows) else "seeds"
    notes = _notes(name, rows, pairs, within)
    smallest = _chance.least(*pairs.table.shape)
    if smallest >= level:
        needed = _chance.pairs_needed(len(pairs.rows), level)
        return (
            f"too few {within} to tell (the least possible p is {smallest:.2g}; "
            f"{needed} could decide): {between}{notes}"
        )
    chance = _chance.probability(pairs.table)
    p = "p < 0.01" if chance < 0.01 else f"p = {chance:.2f}"
    if chance >= level:
        return f"no difference shown ({p}): {between}{notes}"

    def place(i: int) -> str:
        row, lost = rows[i], rows[i]["diverged"]
        if i not in means:
            return f"all diverged at {row['label']}"
        of = f" ({lost} of {_trials([row])} diverged)" if lost else ""
        return f"{write(means[i])} at {row['label']}{of}"

    best, worst = (order[-1], order[0]) if more else (order[0], order[-1])
    worst = next((i for i in pairs.rows if i not in means), worst)
    return f"the {words.title} {words.verb} ({p}): {place(best)}, {place(worst)}{notes}"


def _trials(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["count"] + row["diverged"] + row["stopped"] for row in rows)


def _notes(name: str, rows: list[dict[str, Any]], pairs: _Pairs, within: str) -> str:
    """The spread within the rows, and what was not compared as it should be."""
    spreads = [row["std"][name] for row in rows if name in row["std"]]
    spreads = [spread for spread in spreads if not np.isnan(spread)]
    notes = ""
    if spreads:
        write = _numbers.writer(rows, name)
        notes += f", {within} ± {write(float(np.median(spreads)))}"
    if worst := int(np.isinf(pairs.table).sum()):
        notes += f"; {worst} diverged, counted as the worst"
    if pairs.left_out:
        of = pairs.table.shape[1] + pairs.left_out
        notes += f"; {pairs.left_out} of {of} {within} left out, not all rows have them"
    if stopped := sum(row["stopped"] for row in rows):
        notes += f"; {stopped} stopped early, not compared"
    if missing := len(rows) - len(pairs.rows):
        notes += f"; {missing} of {len(rows)} rows left out, they lack the metric"
    return notes
