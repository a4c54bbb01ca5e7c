"""What a study left, for those who look at it: records, and the curves of a trial.

Nothing here writes, and no study is opened: folders of any age, half-written or on
their way, can be read.
"""

import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from headwise import _records
from headwise.sweeps._store import _curves
from headwise.sweeps._store import _done
from headwise.sweeps._store import _kept_slopes
from headwise.sweeps._store import _links


def read(path: str | os.PathLike) -> list[_records.Record]:
    """The records of a study, in the order in which their trials first ended.

    Those that are committed (`done/KEY.json`), and those of `trials.jsonl`, of older
    studies and of single runs. Of a trial that was run twice (the same `identity`) the
    last record counts. What is torn, unreadable or no record is left out, with a
    warning that names it. What older records lack is None or {}. A trial whose slopes
    were kept (`hw.sweeps.slopes(folder=...)`) has them as `slopes` {metric: {head:
    float}}, None where there is none.

    Args:
        path: of a study's folder, or of a file such as `trials.jsonl`.

    Returns:
        Records; [] if there is nothing.

    Example:
        >>> hw.sweeps.read("/nowhere")
        []
    """
    found = {_records.identity(r): r for r in _records.read(path)}
    folder = pathlib.Path(path)
    committed, unread = _done.read_all(folder) if folder.is_dir() else ({}, [])
    if unread:
        warnings.warn("; ".join(f"{text}: left out" for text in unread), stacklevel=2)
    place = {key: i for i, key in enumerate(_keys(folder))}
    last = len(place)
    for key in sorted(
        committed, key=lambda key: (place.get(key, last), _done.attempt(key))
    ):
        found[_records.identity(committed[key])] = committed[key]
    slopes = _kept_slopes.read(folder)
    return [_with_slopes(record, slopes) for record in found.values()]


def _with_slopes(
    record: _records.Record, kept: Mapping[str, Mapping[str, Any]]
) -> _records.Record:
    """The record, and its slopes if there are any."""
    text = kept.get(_done.key_of(record)) if kept else None
    return record if text is None else {**record, "slopes": text["slopes"]}  # type: ignore[typeddict-unknown-key]


def curves(folder: str | os.PathLike, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial of a study reported on its way: its curves.

    Args:
        folder: of the study.
        record: of `read`, or a dict with weights, seed and settings.

    Returns:
        {"t": [rows] int, name: [rows, ...] or a dict of them}: `t` are the steps, each
        once and in order, the rest is what the program reports, such as
        `["values"]["dice"]`. {} if nothing was kept. What cannot be read is left out,
        with a line (logger `headwise`).

    Raises:
        TypeError: `record` is no record.

    Example:
        >>> hw.sweeps.curves("/nowhere", {"weights": {"a": 1.0}, "seed": 0})
        {}
    """
    _records.identity(record)  # says what is no record
    folder = pathlib.Path(folder)
    key = _done.key_of(record)
    found: dict[str, Any] = {}
    for number, cohort in cohorts(folder).items():
        trials = [str(trial) for trial in cohort.get("trials", ())]
        for trial in trials:
            if trial.split(".")[0] != key:
                continue
            chunks = _curves.read(folder / "curves" / f"{number:06d}")
            # A later attempt, or a cohort in place of another, has the last word.
            found = _curves.of_member(chunks, trials, trial) or found
    return _curves.nested(found)


def cohorts(folder: pathlib.Path) -> dict[int, dict[str, Any]]:
    """{number: cohort} of a study's folder; what cannot be read is left out."""
    found = {}
    for path in sorted((folder / "cohorts").glob("*.json")):
        try:
            cohort = _links.read(path)
        except ValueError:
            continue
        if cohort is not None and path.stem.isdigit():
            found[int(path.stem)] = cohort
    return found


def _keys(folder: pathlib.Path) -> list[str]:
    """Keys of trials in the order of their cohorts."""
    return [str(key) for c in cohorts(folder).values() for key in c.get("trials", ())]
