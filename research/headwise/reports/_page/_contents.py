"""What a report is made of: what a folder tells, and what could not be read of it."""

import json
import os
import pathlib
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _records
from headwise import sweeps
from headwise import training
from headwise.reports import _given

_RUNS = 12
"""The most single runs that are shown of one folder."""
LESS = (
    "loss",
    "error",
    "mse",
    "mae",
    "rmse",
    "nll",
    "perplexity",
    "distance",
    "regret",
)
"""What a metric's name holds if less of it is better, where nobody says so."""


class Run(NamedTuple):
    """A single training that kept its metrics."""

    name: str
    settings: dict[str, Any]
    history: list[dict[str, Any]]
    """Records of `hw.training.fit`."""
    routing: str
    """Which loss moves which module, as text, where the run kept it."""


class Contents(NamedTuple):
    """A study or a run, as it was read."""

    folder: pathlib.Path
    records: list[_records.Record]
    higher: dict[str, bool]
    """{metric: whether more is better}."""
    guessed: list[str]
    """Metrics of which nobody said it."""
    about: dict[str, Any]
    """Of `report.json`: "question", "remark", "front" (two metrics), "command"; of
    several studies "name"."""
    status: dict[str, Any] | None
    runs: list[Run]
    problems: list[str]
    """What could not be read, a line each."""
    sources: list[tuple[pathlib.Path, _records.Record]]
    """Of each record its folder, and what stands there."""


def read(
    folder: str | os.PathLike, higher: Mapping[str, bool] | None = None
) -> Contents:
    """Reads a study's folder or a run's; what cannot be read is told, never raised.

    Args:
        folder: of `hw.sweeps.run`, of `hw.training.fit`, or of an experiment.
        higher: {metric: whether more is better}; None: as `report.json` says, else by
            the metrics' names.
    """
    path = pathlib.Path(folder)
    problems: list[str] = []
    about = _about(path / "report.json", problems)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            records = sweeps.read(path)
        except (OSError, ValueError, TypeError) as error:
            records = []
            problems.append(_line(error))
        runs = _runs(path, problems)
    problems += [_line(one.message) for one in caught]
    status = None
    if (path / "study.json").exists():
        try:
            status = sweeps.status(path)
            problems += [str(text) for text in status["unread"]]
        except (OSError, ValueError) as error:
            problems.append(_line(error))
    said = {**(about.get("metrics") or {}), **(higher or {})}
    names = dict.fromkeys(n for r in records for n in _numbers(r))
    shown = [name for name in said if name in names] or list(names)
    if higher:
        shown = [name for name in higher if name in names] or shown
    problems += [
        f"metric {n}: no trial has it" for n in said if n not in names and records
    ]
    ways = {name: bool(said.get(name, _more(name))) for name in shown}
    guessed = [name for name in shown if name not in said]
    problems = list(dict.fromkeys(problems))
    sources = [(path, record) for record in records]
    parts = records, ways, guessed, about, status, runs, problems, sources
    return Contents(path, *parts)


def together(every: Sequence[Contents]) -> Contents:
    """Several studies as one: whose a record is stands in its settings, as `study`."""
    if len(every) == 1:
        return every[0]
    names = _names([one.folder for one in every])
    records: list[Any] = []
    runs, problems = [], []
    for name, one in zip(names, every, strict=True):
        for record in one.records:
            settings = {"study": name, **record["settings"]}
            records.append({**record, "settings": settings})
        runs += [run._replace(name=f"{name}/{run.name}") for run in one.runs]
        problems += [f"{name}: {problem}" for problem in one.problems]
    higher = {n: more for one in reversed(every) for n, more in one.higher.items()}
    said = {n for one in every for n in one.higher if n not in one.guessed}
    guessed = [name for name in higher if name not in said]
    return every[0]._replace(
        records=records,
        higher=higher,
        guessed=guessed,
        about=every[0].about | {"question": "", "remark": "", "name": ", ".join(names)},
        status=None,
        runs=runs[:_RUNS],
        problems=problems,
        sources=[source for one in every for source in one.sources],
    )


def _names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for many in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-many:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one)} ({i})" for i, one in enumerate(parts)]


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    try:
        return _given.flat(record["metrics"] or {})
    except ValueError:
        return {}


def _more(name: str) -> bool:
    return not any(word in name.lower() for word in LESS)


def _about(path: pathlib.Path, problems: list[str]) -> dict[str, Any]:
    """What `report.json` says of a study; {} if there is none."""
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path}: {_line(error)}")
        return {}
    if isinstance(text, dict) and isinstance(text.get("metrics", {}), dict):
        return text
    problems.append(f'{path}: expected {{"metrics": {{name: true or false}}, ...}}')
    return {}


def _runs(path: pathlib.Path, problems: list[str]) -> list[Run]:
    """The folder itself if it is a run, and the runs that it holds."""
    files = [path / "metrics.jsonl", *sorted(path.glob("*/metrics.jsonl"))]
    files = [file for file in files if file.is_file()]
    if len(files) > _RUNS:
        problems.append(f"{len(files)} runs in {path}: the first {_RUNS} are shown")
    found = []
    for file in files[:_RUNS]:
        try:
            history = training.read_metrics(file)
        except (OSError, ValueError) as error:
            problems.append(_line(error))
            continue
        if not history:
            problems.append(f"{file}: holds no record")
            continue
        routing = _text(file.parent / "routing.txt")
        found.append(Run(file.parent.name, _settings(file.parent), history, routing))
    return found


def _settings(folder: pathlib.Path) -> dict[str, Any]:
    try:
        text = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return text if isinstance(text, dict) else {}


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _line(error: Any) -> str:
    return " ".join(str(error).split())
