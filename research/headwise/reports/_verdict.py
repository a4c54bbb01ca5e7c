"""What a sweep shows, in plain words: which metrics the weights moved at all."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _text
from headwise.reports import _comparison
from headwise.reports import _groups
from headwise.reports import _numbers
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
    does not mind that some of them vary more than others), Wilcoxon's signed-rank test
    for two. p is exact: the part of all orders within the seeds that differ as much.
    So with k weightings and n seeds it is at least ::

        (1 / k!)^(n - 1)      k = 2: 6 seeds for p < 0.05; 3: 3 seeds; 4 and more: 2

    and with fewer seeds nothing is said of the weights but that. That no difference is
    shown does not say that there is none. A trial that diverged is the worst of its
    seed; one that halving stopped is neither that nor a result. Seeds that not all
    weightings have are left out, and counted.

    Of several metrics p is corrected for all of them (Benjamini and Hochberg). With
    four seeds or more it is told how far best and worst are apart, with an interval
    (BCa bootstrap): on each seed of the two that are best and worst on all others,
    since the best of many looks better than it is where it was looked for. One
    weighting is called the best if it beats all others seed by seed, each at the level
    over their number; else it is told how many may be: those that none beats, or, with
    too few seeds for that, those within Nemenyi's critical difference of the best mean
    rank. How many more seeds would tell holds if they are like those that are there.

    Args:
        records: of `hw.sweeps.run` or `read`.
        higher: {metric: whether more is better}.
        level: probability of chance below which a difference is called one.
        by: what is compared: names of settings and heads, `"weights"` for all heads;
            trials that agree in the seed and in all else are then compared. None: the
            weights and every setting that varies.

    Returns:
        Lines of text: best and worst mean, p, and the median over the weightings of
        the deviation between seeds. `compare` has the numbers.

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
        >>> print(hw.reports.verdict(records, higher))  # doctest: +NORMALIZE_WHITESPACE
        dice: the weights matter (p < 0.01): 0.801 at a=3, 0.601 at a=1, seeds ± 0.001;
          0.200 [0.200, 0.200] apart on seeds held out; 2 of 3 may be the best, about
          3 more seeds could tell
        mse: no difference shown (p = 1.00): 0.115 to 0.115, seeds ± 0.013
        (p is corrected for 2 metrics)
        >>> two_seeds = [record for record in records if record["seed"] < 2]
        >>> print(hw.reports.verdict(two_seeds, {"dice": True}))  # doctest: +ELLIPSIS
        dice: too few seeds to tell (the least possible p is 0.17; 3 could decide): ...

    References:
        Demsar, "Statistical comparisons of classifiers over multiple data sets",
        JMLR 2006, sections 3.1.3 and 3.2.2.
    """
    return of_rows(_comparison.rows(records, higher, level, by), higher, level)


def of_rows(
    given: _summary.Rows, higher: Mapping[str, bool], level: float = 0.05
) -> str:
    """`verdict` of rows that are there."""
    compared = _comparison.of_rows(given, higher, level)
    rows, columns = given.summary, given.columns
    labels, _ = _groups.labels(rows, columns)
    rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    words = _groups.words(rows, columns)
    lines = [
        f"{_text.printable(name)}: {_sentence(name, rows, compared[name], words)}"
        for name in higher
    ]
    tested = sum(not np.isnan(one.adjusted) for one in compared.values())
    if tested > 1:
        lines.append(f"(p is corrected for {tested} metrics)")
    return "\n".join(lines)


def _sentence(
    name: str,
    rows: list[dict[str, Any]],
    one: _comparison.Comparison,
    words: _groups.Words,
) -> str:
    """What the trials say of one metric, in words."""
    write = _numbers.writer(rows, name)
    means = {i: row["mean"][name] for i, row in enumerate(rows) if name in row["mean"]}
    if not means:
        diverged = sum(row["diverged"] for row in rows)
        return f"no finite value; {diverged} of {_trials(rows)} trials diverged"
    if len(one.rows) < 2:
        return f"one {words.one}, nothing to compare"
    order = sorted(means, key=means.__getitem__)
    between = f"{write(means[order[0]])} to {write(means[order[-1]])}"
    within = "trials" if any(row["pooled"] for row in rows) else "seeds"
    spread, notes = _spread(name, rows, within), _notes(rows, one, within)
    if np.isnan(one.adjusted):
        return (
            f"too few {within} to tell (the least possible p is {one.least:.2g}; "
            f"{one.needed} could decide): {between}{spread}{notes}"
        )
    p = "p < 0.01" if one.adjusted < 0.01 else f"p = {one.adjusted:.2f}"
    more = ""
    if one.needed is not None:
        more = f"about {one.needed - one.values.shape[1]} more {within} could tell"
    if one.adjusted >= one.level:
        more = f"; {more}" * bool(more)
        return f"no difference shown ({p}{more}): {between}{spread}{notes}"

    def place(i: int) -> str:
        row, lost = rows[i], rows[i]["diverged"]
        if i not in means:
            return f"all diverged at {row['label']}"
        of = f" ({lost} of {_trials([row])} diverged)" if lost else ""
        return f"{write(means[i])} at {row['label']}{of}"

    best, worst = (order[-1], order[0]) if one.more else (order[0], order[-1])
    worst = next((i for i in one.rows if i not in means), worst)
    return (
        f"the {words.title} {words.verb} ({p}): {place(best)}, {place(worst)}"
        f"{spread}{_apart(one, write, within)}{_best(one, words, more)}{notes}"
    )


def _apart(
    one: _comparison.Comparison, write: Callable[[float], str], within: str
) -> str:
    """How far best and worst are apart where they were not looked for."""
    mean, low, high = one.held_out()
    if not np.isfinite(mean):
        return ""
    interval = f"[{write(low)}, {write(high)}]"
    return f"; {write(mean)} {interval} apart on {within} held out"


def _best(one: _comparison.Comparison, words: _groups.Words, more: str) -> str:
    """Which row is the best, or among how many it is."""
    if len(one.leaders) == 1:
        return f"; {one.labels[one.leaders[0]]} is the best"
    number = len(one.leaders)
    every = number == len(one.rows)
    of = f"{'any' if every else f'{number} of {len(one.rows)}'} may be the best"
    return f"; {of}, {more}" if more else f"; {of}"


def _trials(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["count"] + row["diverged"] + row["stopped"] for row in rows)


def _spread(name: str, rows: list[dict[str, Any]], within: str) -> str:
    """The deviation within the rows, in the median over them."""
    spreads = [row["std"][name] for row in rows if name in row["std"]]
    spreads = [spread for spread in spreads if not np.isnan(spread)]
    if not spreads:
        return ""
    write = _numbers.writer(rows, name)
    return f", {within} ± {write(float(np.median(spreads)))}"


def _notes(rows: list[dict[str, Any]], one: _comparison.Comparison, within: str) -> str:
    """What was not compared as it should be."""
    notes = ""
    if worst := int(np.isinf(one.values).sum()):
        notes += f"; {worst} diverged, counted as the worst"
    if one.left_out:
        of = one.values.shape[1] + one.left_out
        notes += f"; {one.left_out} of {of} {within} left out, not all rows have them"
    if stopped := sum(row["stopped"] for row in rows):
        notes += f"; {stopped} stopped early, not compared"
    if missing := len(rows) - len(one.rows):
        notes += f"; {missing} of {len(rows)} rows left out, they lack the metric"
    return notes
