"""What a report says in words: what was run, what it shows, what to try next."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import pareto
from headwise.reports import _given
from headwise.reports import _summary
from headwise.reports import _verdict
from headwise.reports._page import _trials
from headwise.reports._page._contents import Contents

_MOST = 8
"""Lines of advice."""


def what(contents: Contents, rows: _summary.Rows) -> list[str]:
    """What was run: trials, weightings, seeds, settings that all share."""
    records = contents.records
    if not records:
        return []
    seeds = len({record["seed"] for record in records})
    lines = [
        f"{_count(len(records), 'trial')}: {_count(len(rows.summary), 'weighting')} or "
        f"settings, {_count(seeds, 'seed')}."
    ]
    same = {
        name: value
        for name, value in records[0]["settings"].items()
        if all(r["settings"].get(name) == value for r in records)
    }
    if same:
        lines.append(
            "In all: " + ", ".join(f"{n} = {x}" for n, x in same.items()) + "."
        )
    return lines


def verdict(contents: Contents, rows: _summary.Rows) -> list[str]:
    """A line a metric; what nobody said of the metrics."""
    higher, lines = contents.higher, []
    if len(rows.summary) > 1 and higher:
        lines = _verdict.of_rows(rows, higher).splitlines()
    if contents.guessed:
        more = [n for n in contents.guessed if higher[n]]
        less = [n for n in contents.guessed if not higher[n]]
        parts = [f"more of {', '.join(more)}"] * bool(more)
        parts += [f"less of {', '.join(less)}"] * bool(less)
        lines.append(
            "Nobody said which way is better; taken by their names: "
            f"{', '.join(parts)} (--higher= and --lower= say it)."
        )
    return lines


def compared(contents: Contents) -> list[str]:
    """Several studies at equal budget: the same number of trials of each."""
    records, higher = contents.records, contents.higher
    studies = list(dict.fromkeys(str(folder) for folder, _ in contents.sources))
    if len(studies) < 2 or not higher:
        return []
    of_study: dict[str, list[Any]] = {study: [] for study in studies}
    for (folder, _), record in zip(contents.sources, records, strict=True):
        of_study[str(folder)].append(record)
    budget = min(map(len, of_study.values()))
    points = {s: _points(of[:budget], higher) for s, of in of_study.items()}
    whole = [p for p in points.values() if len(p)]
    lines = []
    for study, rows in points.items():
        name = of_study[study][0]["settings"]["study"]
        best = [
            f"{metric} {(rows[:, k].max() if more else rows[:, k].min()):.4g}"
            for k, (metric, more) in enumerate(higher.items())
            if len(rows)
        ]
        size = ""
        if len(whole) == len(points) and len(higher) == 2:
            ways = list(higher.values())
            every = np.concatenate(whole)
            worst = np.where(ways, every.min(0), every.max(0))
            span = np.where(np.ptp(every, axis=0) > 0, np.ptp(every, axis=0), 1.0)
            volume = pareto.hypervolume((rows - worst) / span, [0.0, 0.0], higher=ways)
            size = f"; hypervolume {float(volume):.3g} of 1"
        lines.append(
            f"{name}, its first {_count(budget, 'trial')}: best {', '.join(best)}{size}"
        )
    return lines


def _points(records: Sequence[Any], higher: Mapping[str, bool]) -> np.ndarray:
    """[trials, metrics] of those that have all."""
    flat = [_given.flat(r["metrics"] or {}) for r in records if r["finite"]]
    rows = [[row.get(name, np.nan) for name in higher] for row in flat]
    table = np.array(rows, np.float64).reshape(len(rows), len(higher))
    return table[np.isfinite(table).all(axis=1)]


def broken(contents: Contents) -> list[str]:
    """Trials without a result, by how they ended."""
    ends = collections.Counter(
        str(record["error"] or "not finite").split(" at step")[0]
        for record in contents.records
        if not record["finite"] and (record["error"] or record["stopped"] is None)
    )
    return [f"{_count(n, 'trial')}: {text}" for text, n in ends.most_common(8)]


def advice(contents: Contents, given: _summary.Rows) -> list[str]:
    """What to try next: beyond the design's edges; without what broke."""
    higher = contents.higher
    rows = [row for row in given.summary if row["weights"]]
    heads = sorted({name for row in rows for name in row["weights"]})
    lines = []
    for name, more in higher.items():
        with_it = [row for row in rows if name in row["mean"]]
        if len(with_it) < 3:
            continue
        best = (max if more else min)(with_it, key=lambda row: row["mean"][name])
        for head in heads:
            levels = sorted({row["weights"].get(head, np.nan) for row in with_it})
            if not 3 <= len(levels) <= len(with_it) / 2:  # of a random design: chance
                continue
            at = best["weights"].get(head)
            side = {levels[0]: "smaller", levels[-1]: "larger"}.get(at)
            if side:
                lines.append(
                    f"The best mean {name} is at the {side[:-2]}est weight of {head} "
                    f"that was tried ({at:g}): try {side} ones."
                )
    diverged = [row for row in rows if row["diverged"]]
    if diverged and len(diverged) < len(rows):
        lines.append(
            f"{_count(len(diverged), 'weighting')} of {len(rows)} had trials that "
            "diverged; leave them out or lower the learning rate there."
        )
    return lines[:_MOST]


def machine(contents: Contents) -> list[str]:
    """What it was made with: versions, devices, hosts, time."""
    made = [record["made_with"] or {} for record in contents.records]
    lines = []
    for title, key in (("Versions", "versions"), ("Device", "device")):
        kinds = collections.Counter(_pairs(one.get(key)) for one in made)
        kinds.pop("", None)
        lines += [
            f"{title}: {text} ({_count(n, 'trial')})" for text, n in kinds.items()
        ]
    for title, key in (("Revision", "revision"), ("Host", "host")):
        values = sorted({str(one[key]) for one in made if one.get(key)})
        lines += [f"{title}: {', '.join(values[:8])}"] * bool(values)
    seconds = [r["seconds"] for r in contents.records if r["seconds"] is not None]
    if seconds:
        lines.append(
            f"Time: {sum(seconds):.3g} s of trials, {np.median(seconds):.3g} s a trial "
            "(median)"
        )
    memory = [x for r in contents.records if (x := _trials.megabytes(r)) is not None]
    if memory:
        lines.append(
            f"Memory: {np.median(memory):.3g} MB a trial (median; as the compiler "
            "tells, without data that all share)"
        )
    modes = collections.Counter(r["mode"] for r in contents.records if r["mode"])
    if modes:
        each = ", ".join(f"{mode} ({_count(n, 'trial')})" for mode, n in modes.items())
        lines.append(f"How they ran: {each}")
    plan = (contents.status or {}).get("plan")
    if isinstance(plan, Mapping) and plan.get("words"):
        lines.append(f"The plan: {plan['words']}")
    return lines


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return ""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"
