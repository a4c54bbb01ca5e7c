"""How trials of a cohort end: their records, from metrics or from what broke."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise import _provenance
from headwise import _records
from headwise.sweeps._design import _trials


class Maker(NamedTuple):
    """Makes the records of a study: what all of them share."""

    settings: Mapping[str, Any]
    made_by: Mapping[str, Any]
    """Goes into `made_with`."""

    def record(
        self, trial: _trials.Trial, mode: str, seconds: float, **end: Any
    ) -> _records.Record:
        """The record of a trial; `end`: metrics, stopped, error, and what else is kept.

        Example:
            >>> maker = Maker({"steps": 10}, {})
            >>> trial = _trials.Trial({"a": 1.0}, 0, {"lr": 0.1})
            >>> maker.record(trial, "vmap", 0.5, metrics={"m": 1.0})["settings"]
            {'steps': 10, 'lr': 0.1}
        """
        known = {name: end.pop(name, None) for name in ("stopped", "error")}
        made = _records.record(
            trial.weights,
            trial.seed,
            end.pop("metrics"),
            settings={**self.settings, **trial.varied},
            seconds=round(seconds, 3),
            mode=mode,
            made_with=_provenance.made_with() | dict(self.made_by),
            **known,
        )
        return made | end  # type: ignore[return-value]


def of_member(metrics: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The metrics of one member, on the host."""
    return jax.tree.map(lambda x: np.asarray(x)[place], dict(metrics))


def chain(marks: Sequence[int], digests: np.ndarray) -> dict[str, str]:
    """The digests of a trial at the marks that it has come to, by step.

    Example:
        >>> chain([10, 20], np.array([255, 0], np.uint32))
        {'10': '000000ff'}
    """
    found = zip(marks, digests, strict=True)
    return {str(mark): f"{int(digest):08x}" for mark, digest in found if digest}


def words(trial: _trials.Trial) -> str:
    """A trial in one line.

    Example:
        >>> words(_trials.Trial({"a": 1.0}, 0, {"lr": 0.1}))
        'a=1 seed=0 lr=0.1'
    """
    parts = [*trial.weights.items(), ("seed", trial.seed), *trial.varied.items()]
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in parts
    )


def failed(record: _records.Record) -> bool:
    """Whether a trial came to no end for a fault: not if halving ended it."""
    return not record["finite"] and not _records.halved(record)


def failure(trial: _trials.Trial, record: _records.Record) -> str:
    """What is said where a trial that failed ends the run."""
    return (
        f"trial {words(trial)}: {record['error']} (stop_on_failure; what is done is "
        "kept, and retry=True tries this one again)"
    )
