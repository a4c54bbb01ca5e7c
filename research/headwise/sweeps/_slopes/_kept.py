"""Slopes in the folder of their study, a file a trial: what is there counts."""

import math
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _provenance
from headwise import _records
from headwise.sweeps._design import _trials
from headwise.sweeps._slopes import _turns
from headwise.sweeps._store import _kept_slopes
from headwise.sweeps._store import _study


class Kept:
    """The slopes of a study's folder.

    Args:
        folder: of the study; None: nothing is kept.
        settings: of its records.
        how: what is told of the slopes beside them: method, change.

    Raises:
        StudyError: there is no study.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None,
        settings: Mapping[str, Any],
        how: Mapping[str, Any],
    ):
        self._folder = None if folder is None else pathlib.Path(folder)
        self._settings, self._how = settings, how
        if self._folder is not None and not self._folder.is_dir():
            raise _study.StudyError(f"folder {folder}: expected a study, found none")
        self._there = {} if self._folder is None else _kept_slopes.read(self._folder)

    def split(
        self, trials: Sequence[_trials.Trial]
    ) -> tuple[list[_turns.Slopes], list[_trials.Trial]]:
        """What is there of some trials, and those of which nothing is."""
        keys = [self._key(trial) for trial in trials]
        there = [
            _slopes(trial, self._there[key])
            for trial, key in zip(trials, keys, strict=True)
            if key in self._there
        ]
        pairs = zip(trials, keys, strict=True)
        return there, [trial for trial, key in pairs if key not in self._there]

    def keep(self, found: _turns.Slopes) -> None:
        """Writes new slopes."""
        if self._folder is None:
            return
        made = dict(self._how) | {"made_with": _provenance.made_with()}
        texts = {
            self._key(trial): _text(found, i) | made
            for i, trial in enumerate(found.trials)
        }
        _kept_slopes.keep(self._folder, texts)

    def _key(self, trial: _trials.Trial) -> str:
        return _trials.key(trial, self._settings)


def _text(found: _turns.Slopes, i: int) -> dict[str, Any]:
    """One trial's as plain JSON; None for what is no number."""
    trial = found.trials[i]
    slopes = {
        metric: {head: _plain(x) for head, x in by_head.items()}
        for metric, by_head in found[i].items()
    }
    columns = {
        "values": dict(zip(found.metrics, map(_plain, found.values[i]), strict=True)),
        "forward": dict(zip(found.metrics, map(bool, found.forward[i]), strict=True)),
        "reach": dict(zip(found.heads, map(_plain, found.reach[i]), strict=True)),
    }
    said = {"weights": trial.weights, "seed": trial.seed, "varied": trial.varied}
    said["varied"] = _records.json_settings(trial.varied)
    return said | {"slopes": slopes} | columns | {"notes": list(found.notes)}


def _slopes(trial: _trials.Trial, text: Mapping[str, Any]) -> _turns.Slopes:
    """What `_text` gave, of one trial."""
    metrics, heads = tuple(text["slopes"]), tuple(text["reach"])
    table = [[text["slopes"][metric][head] for head in heads] for metric in metrics]
    return _turns.Slopes(
        trials=(trial,),
        metrics=metrics,
        heads=heads,
        values=np.array([[text["values"][name] for name in metrics]], float),
        slopes=np.array([table], float),
        reach=np.array([list(text["reach"].values())], float),
        forward=np.array([[text["forward"][name] for name in metrics]], bool),
        notes=tuple(text["notes"]),
    )


def _plain(number: Any) -> float | None:
    return float(number) if math.isfinite(number) else None
