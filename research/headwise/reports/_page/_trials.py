"""The trials of a study as columns, and the rows that they belong to."""

import math
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _records
from headwise import pareto
from headwise import sweeps
from headwise.reports import _given
from headwise.reports import _groups
from headwise.reports import _summary
from headwise.reports._page._contents import Contents


def table(contents: Contents) -> dict[str, Any]:
    """{"columns": [{"name", "kind", "values", "more"}], "state", "key", ...}.

    A column has a value for each trial: heads' weights, settings, the seed, metrics,
    the seconds that it took and, where it is known, the memory. `kind` is "weight",
    "setting", "seed", "metric" or "info"; what is missing or not finite is None.
    """
    records = contents.records
    heads = sorted({name for r in records for name in r["weights"]})
    settings = sorted({name for r in records for name in r["settings"]})
    columns = [
        _column(n, "weight", [r["weights"].get(n) for r in records]) for n in heads
    ]
    columns += [
        _column(name, "setting", [r["settings"].get(name) for r in records])
        for name in settings
    ]
    columns.append(_column("seed", "seed", [r["seed"] for r in records]))
    flat = [_given.flat(r["metrics"] or {}) for r in records]
    for name in _metrics(contents, flat):
        column = _column(name, "metric", [row.get(name) for row in flat])
        column["more"] = contents.higher.get(name, True)
        column["shown"] = name in contents.higher
        columns.append(column)
    columns.append(_column("seconds", "info", [r["seconds"] for r in records]))
    memory = [megabytes(record) for record in records]
    if any(memory):
        columns.append(_column("MB", "info", memory))
    return {
        "n": len(records),
        "columns": columns,
        "state": [_state(record) for record in records],
        "key": [_key(record) for _, record in contents.sources],
        "slopes": [record.get("slopes") for record in records],
    }


def commands(contents: Contents) -> list[str]:
    """What runs each trial again."""
    return [_command(contents, *source) for source in contents.sources]


def megabytes(record: Mapping[str, Any]) -> float | None:
    """The memory of a trial, beside what all trials share; None where none is told."""
    memory = record.get("memory")
    return memory / 1e6 if isinstance(memory, int | float) else None


def rows(contents: Contents, given: _summary.Rows) -> dict[str, Any]:
    """The weightings: which trials are theirs, their names, means and front.

    {"of": [row of each trial], "labels", "mean" {metric: [rows]}, "count",
    "diverged", "front": [whether a row's means are on the front of all]}.
    """
    higher = contents.higher
    records, chosen, groups, summary = given
    labels, _ = _groups.labels(summary, chosen)
    places = {key: i for i, key in enumerate(groups)}
    means = np.array(
        [[row["mean"].get(name, math.nan) for name in higher] for row in summary]
    ).reshape(len(summary), len(higher))
    whole = ~np.isnan(means).any(axis=1)
    front = np.zeros(len(summary), bool)
    if higher and whole.any():
        front[whole] = pareto.front(means[whole], list(higher.values()))
    return {
        "of": [places[_groups.key(record, chosen)] for record in records],
        "labels": labels,
        "mean": {n: [_number(r["mean"].get(n)) for r in summary] for n in higher},
        "count": [row["count"] for row in summary],
        "diverged": [row["diverged"] for row in summary],
        "front": front.tolist(),
    }


def _metrics(contents: Contents, flat: Sequence[Mapping[str, float]]) -> list[str]:
    """Those with a direction first, then all others."""
    return list(
        dict.fromkeys([*contents.higher, *(name for row in flat for name in row)])
    )


def _column(name: str, kind: str, values: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "values": [_plain(value) for value in values]}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return _number(value)
    return _records.canonical(value)


def _number(value: Any) -> float | int | None:
    """A number with the digits that a page needs; None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.7g}")


def _state(record: _records.Record) -> str:
    """How a trial ended; nothing of a whole one."""
    if record["error"]:
        at = "" if record["stopped"] is None else f"step {record['stopped']}: "
        return f"{at}{record['error']}"
    if _records.halved(record):
        return f"stopped by halving at step {record['stopped']}"
    return "" if record["finite"] else "not finite"


def _key(record: _records.Record) -> str:
    return sweeps.Trial(record["weights"], record["seed"], record["settings"]).key


def _command(contents: Contents, folder: pathlib.Path, record: _records.Record) -> str:
    """What runs this trial again, alone: a command line where there is one.

    `command` of `report.json` is a text with the fields {weights}, {seed}, {folder},
    {key} of the trial, {NAME} of a setting, and {set}: the settings that it does not
    name itself, or those that `set` of `report.json` names.
    """
    about = contents.about
    template = about.get("command")
    if not record["weights"]:
        template = about.get("command_of_balancers", template)
    if isinstance(template, str):
        settings = record["settings"]
        names = about.get("set") or [n for n in settings if f"{{{n}}}" not in template]
        others = {name: settings[name] for name in names if name in settings}
        fields = {
            **settings,
            "weights": _pairs(record["weights"]),
            "set": _pairs(others),
            "seed": record["seed"],
            "folder": folder,
            "key": _key(record),
        }
        try:
            words = template.format_map(fields).split()
        except (KeyError, IndexError, ValueError, AttributeError):
            words = []
        if words:
            return " ".join(word for word in words if not word.endswith("="))
    trial = (
        f"hw.sweeps.Trial({record['weights']}, {record['seed']}, {record['settings']})"
    )
    return f"hw.sweeps.run(program, [{trial}], steps=...)"


def _pairs(values: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items())
