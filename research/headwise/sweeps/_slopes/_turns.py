"""Slopes of trials: as dicts, and as a table that says which way to turn a weight."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _checks
from headwise import _text
from headwise.sweeps._design import _trials

_ROWS = 60
"""Rows of a printed table."""
_COLUMNS = 4
"""Heads that have a column each: more do not fit beside each other."""


@dataclasses.dataclass(frozen=True, eq=False)
class Slopes(Sequence[dict[str, dict[str, float]]]):
    """Derivatives of final metrics in the log weights; made by `hw.sweeps.slopes`.

    `slopes[i]` is {metric: {head: float}} of a trial. `print(slopes)` is a table, and
    `slopes.table(higher)` one with arrows.
    """

    trials: tuple[_trials.Trial, ...]
    """[K]"""
    metrics: tuple[str, ...]
    """[M], sorted; nested ones as `a/b`."""
    heads: tuple[str, ...]
    """[H], sorted."""
    values: np.ndarray
    """[K, M]: the metrics themselves."""
    slopes: np.ndarray
    """[K, M, H]: d metric / d log weight; NaN where a trial diverged."""
    reach: np.ndarray
    """[K, H]: length of the last state's tangent over that of the state; NaN where no
    tangent was asked for. A weight turned by 1 / reach moves the state by its own
    length: the slope is right for smaller turns only."""
    forward: np.ndarray
    """[K, M] bool: found by forward mode, else by differences."""
    notes: tuple[str, ...]
    """What was warned of."""

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        table = self.slopes[i]
        return {
            metric: dict(zip(self.heads, map(float, row), strict=True))
            for metric, row in zip(self.metrics, table, strict=True)
        }

    def __str__(self) -> str:
        return self.table()

    def table(self, higher: Mapping[str, bool] | None = None) -> str:
        """A row a weighting and metric, a column a head.

        Args:
            higher: {metric: whether more is better}; these metrics are shown, with an
                arrow that says which way to turn the weight, up or down, to make the
                metric better: only where all seeds say the same.

        Returns:
            Lines of text. Slopes are means over the seeds, ± their deviation. A weight
            turned up by 1 % changes the metric by a hundredth of its slope.
        """
        if higher is not None:
            _checks.known_names("higher", self.metrics, higher)
        names = list(self.metrics if higher is None else higher)
        labels = _labels(self.trials)
        groups: dict[str, list[int]] = {}
        for i, label in enumerate(labels):
            groups.setdefault(label, []).append(i)
        rows = []
        for label, members in groups.items():
            for name in names:
                m = self.metrics.index(name)
                value = _mean(self.values[members, m])
                cells = [
                    _cell(self.slopes[members, m, h], (higher or {}).get(name))
                    for h in range(len(self.heads))
                ]
                rows.append([label, name, value, *self._turns(cells)])
                label = ""
        left = len(rows) - _ROWS
        title = "change of a metric for a weight times e (1 % of it: a hundredth)"
        columns = ["weights", "metric", "value", *self._columns()]
        text = _text.table(columns, rows[:_ROWS], title)
        return f"{text}\n... {left} more rows" if left > 0 else text

    def _columns(self) -> list[str]:
        return list(self.heads) if len(self.heads) <= _COLUMNS else ["turns"]

    def _turns(self, cells: list[str]) -> list[str]:
        """A cell a head; of many heads one text, which a table can fold."""
        if len(self.heads) <= _COLUMNS:
            return cells
        named = zip(self.heads, cells, strict=True)
        return [", ".join(f"{head} {' '.join(cell.split())}" for head, cell in named)]


def joined(trials: Sequence[_trials.Trial], parts: Sequence[Slopes]) -> Slopes:
    """The slopes of several programs as one, in the order of the trials."""
    first = parts[0]
    for part in parts[1:]:
        _checks.same_names("program: metrics", first.metrics, part.metrics)
    places = {id(trial): i for i, trial in enumerate(trials)}
    order = np.argsort([places[id(t)] for part in parts for t in part.trials])
    fields = ("values", "slopes", "reach", "forward")
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in fields
    }
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return dataclasses.replace(first, trials=tuple(trials), notes=notes, **arrays)


def notes(
    names: Sequence[str],
    flat: Sequence[bool],
    trials: Sequence[_trials.Trial],
    reach: np.ndarray,
    far: np.ndarray,
    method: str,
) -> list[str]:
    """What a user has to know of slopes by forward mode."""
    found = []
    still = [name for name, constant in zip(names, flat, strict=True) if constant]
    if still and method == "forward":
        found.append(
            f"slopes: {_text.some(still)} count or compare, so their derivative is 0 "
            "wherever they have one; method='differences' tells what a turn changes"
        )
    if np.any(far):
        longest = np.where(far, np.nan_to_num(reach, nan=np.inf).max(axis=1), 0.0)
        worst = int(np.argmax(longest))
        size = "beyond all numbers"
        if np.isfinite(longest[worst]):
            size = f"{longest[worst]:.1e} times as long as the state"
        instead = "method='differences' tells what a turn changes"
        if method == "auto":
            instead = "differences are taken for them"
        found.append(
            f"slopes: the tangents of {np.sum(far)} of {len(far)} trials explode (at "
            f"{_labels(trials)[worst]}, seed {trials[worst].seed}: {size}); {instead}"
        )
    return found


def _labels(trials: Sequence[_trials.Trial]) -> list[str]:
    """A trial without its seed, with the digits that tell all apart.

    Of what varies only what differs between them; of many weights likewise.
    """
    settings = [{**t.varied, **t.weights} for t in trials]
    first = settings[0]
    same = {n for n, x in first.items() if all(r.get(n) == x for r in settings)}
    if len(trials[0].weights) <= _COLUMNS:
        same -= {*trials[0].weights}
    settings = [{n: x for n, x in row.items() if n not in same} for row in settings]
    exact = {repr(sorted(row.items())) for row in settings}
    labels: list[str] = []
    for digits in (3, 6, 17):
        labels = [
            " ".join(f"{name}={_short(x, digits)}" for name, x in row.items())
            for row in settings
        ]
        if len(set(labels)) == len(exact):
            break
    return labels


def _short(value: object, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.4g}" if len(finite) else "-"


def _cell(slopes: np.ndarray, more: bool | None) -> str:
    """Mean and deviation of a slope over the seeds, and which way makes it better."""
    finite = slopes[np.isfinite(slopes)]
    if not len(finite):
        return "-"
    text = f"{finite.mean():+.3g}"
    if len(finite) > 1:
        text += f" ± {finite.std(ddof=1):.2g}"
    signs = {float(np.sign(x)) for x in finite}
    if more is None:
        return text
    arrow = " "
    if len(signs) == 1 and signs != {0.0}:
        arrow = "↑" if (signs == {1.0}) == more else "↓"
    return f"{text} {arrow}"
