"""The record of a trial: what was set, what came out, what it was made with."""

import json
import math
import os
import pathlib
import reprlib
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TypedDict

import numpy as np

from headwise import _checks
from headwise import _files
from headwise import _provenance
from headwise import _scalars

_KEYS = ("weights", "seed", "metrics", "finite")


class Record(TypedDict):
    """What is kept of a trial: a dict, in a file a line of JSON.

    `weights` {head: float}, `seed` and `settings` {name: value} say what was trained:
    settings are all else that was set or varied (experiment, balancer, steps, ...).
    `metrics` {name: float or nested dict} is what came out, None for a number that
    is not finite; `finite` says whether all are and nothing went wrong; `stopped` is
    the step at which the trial gave up, `error` why, both None for a whole trial; a
    trial with a step and no error is not broken: halving stopped it (`halved`).
    `seconds` it took, `mode` is how it ran (`"loop"`: one after the other; `"vmap"`:
    all in one program), `made_with` where: `hw.sweeps.made_with`.

    Example:
        >>> record: hw.sweeps.Record = hw.sweeps.record({"a": 1.0}, 0, {"dice": 0.5})
        >>> list(record)[:7]
        ['weights', 'seed', 'settings', 'metrics', 'finite', 'stopped', 'error']
    """

    weights: dict[str, float]
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Any]
    finite: bool
    stopped: int | None
    error: str | None
    seconds: float | None
    mode: str | None
    made_with: dict[str, Any]


def record(
    weights: Mapping[str, Any],
    seed: int,
    metrics: Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    stopped: int | None = None,
    error: str | None = None,
    seconds: float | None = None,
    mode: str | None = None,
    made_with: Mapping[str, Any] | None = None,
) -> Record:
    """Makes the record of a trial; it is plain JSON.

    Args:
        weights: {head: scalar}; {} where a balancer chose them alone.
        seed: int.
        metrics: {name: scalar}, may be nested; None counts as not finite. Those of
            `hw.metrics` (a `Ratio`) stand for their values.
        settings: {name: value}, all else that was set or varied: str, numbers, bool,
            None, lists and dicts of them.
        stopped: step at which the trial gave up, or was stopped as one of the worst:
            then there is no `error`.
        error: why the trial has no (whole) result.
        seconds: time that it took.
        mode: how it ran, such as `"loop"` or `"vmap"`.
        made_with: of `hw.sweeps.made_with`; None asks for it now.

    Returns:
        `Record`: `finite` is True if every metric is and there is no `error` and no
        `stopped`.

    Raises:
        ValueError: a metric or weight that is no scalar, a weight or setting that is
            not finite. TypeError: a setting that JSON cannot hold, `error` or `mode`
            that is no text.

    Example:
        >>> record = hw.sweeps.record({"a": 1}, 0, {"m": jnp.inf}, settings={"lr": 0.1})
        >>> print(record["metrics"], record["finite"], record["error"])
        {'m': None} False a metric is not finite
    """
    _checks.mapping("weights", weights)
    for argument, text in (("error", error), ("mode", mode)):
        if text is not None:
            _checks.text(argument, text)
    if seconds is not None:
        _checks.number("seconds", seconds)
    metrics = _scalars.scalars(metrics)
    check_metrics(metrics)
    plain = _plain(metrics)
    if error is None and stopped is None and not _whole(plain):
        error = "a metric is not finite"
    return {
        "weights": {name: _weight(name, w) for name, w in weights.items()},
        "seed": _checks.integer("seed", seed),
        "settings": json_settings({} if settings is None else settings),
        "metrics": plain,
        "finite": error is None and stopped is None,
        "stopped": None if stopped is None else _checks.integer("stopped", stopped),
        "error": error,
        "seconds": None if seconds is None else float(seconds),
        "mode": mode,
        "made_with": dict(_provenance.made_with() if made_with is None else made_with),
    }


def append(path: str | os.PathLike, *records: Record) -> None:
    """Adds records to a study: a line each, on disk when this returns.

    Several processes may do so at once. Nothing that stands in the file is changed:
    a last line that a kill has torn stays, and the next begins on a fresh line.

    Args:
        path: of a study's folder, made if need be, or of a file `*.jsonl`.
        *records: of `record`; all are written at once.

    Raises:
        ValueError: something that is no record.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> hw.sweeps.append(folder, hw.sweeps.record({"a": 0.1}, 0, {"dice": 0.5}))
        >>> [record["metrics"] for record in hw.sweeps.read(folder)]
        [{'dice': 0.5}]
    """
    for one in records:
        if not is_record(one):
            raise ValueError(f"records: expected those of `record`, got {one!r}")
    file = file_of(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    _files.append_lines(file, records)


def read(path: str | os.PathLike) -> list[Record]:
    """The records of a file of lines, or of `trials.jsonl` in a folder.

    In the order in which their trials first came; of a trial that is there twice the
    last record counts. What is torn is left out, with a warning.
    """
    lines = _files.read_lines(file_of(path), is_record)
    return list({identity(line): whole(line) for line in lines}.values())


def identity(record: Mapping[str, Any]) -> str:
    """What tells a trial from all others, as text: weights, seed and settings.

    Numbers count at full precision, their type and the order of names do not.

    Args:
        record: a `Record`, or a dict with `weights`, `seed` and perhaps `settings`.

    Returns:
        One line of JSON, the same for the same trial.

    Example:
        >>> trial = {"weights": {"b": 1.0, "a": 0.1}, "seed": 0}
        >>> print(hw.sweeps.identity(trial | {"settings": {"lr": 0.003}}))
        [{"a": 0.1, "b": 1}, 0, {"lr": 0.003}]
    """
    if not (isinstance(record, Mapping) and {"weights", "seed"} <= record.keys()):
        raise TypeError(
            "record: expected a Record, or a dict with weights, seed and perhaps "
            f"settings, got {_checks.kind(record)}"
        )
    return canonical([record["weights"], record["seed"], record.get("settings") or {}])


def halved(record: Mapping[str, Any]) -> bool:
    """Whether a trial was stopped early as one of the worst, and nothing was wrong.

    Its metrics are of the step at which it stopped. It has no whole result (`finite` is
    False), and is none to try again.

    Args:
        record: a `Record`.

    Returns:
        True where it has a step at which it stopped and no error.

    Example:
        >>> early = hw.sweeps.record({"a": 1.0}, 0, {"dice": 0.2}, stopped=100)
        >>> hw.sweeps.halved(early), hw.sweeps.halved(early | {"error": "loss is NaN"})
        (True, False)
    """
    if not isinstance(record, Mapping):
        raise TypeError(f"record: expected a Record, got {_checks.kind(record)}")
    return record.get("stopped") is not None and record.get("error") is None


def canonical(value: Any) -> str:
    """A value as JSON: the same text for equal values, another for others."""
    return json.dumps(_exact(value), sort_keys=True)


def given(records: Iterable[Any]) -> list[Any]:
    """The records as a list; raises where something else came in their place."""
    expected = "records: expected those of `hw.sweeps.run` or `read`"
    if isinstance(records, str | os.PathLike):
        raise TypeError(f"{expected}, got the path {str(records)!r}; `read` reads it")
    listed = isinstance(records, Iterable) and getattr(records, "ndim", True)
    if isinstance(records, Mapping) or not listed:
        raise TypeError(f"{expected}, a list; got {type(records).__name__}")
    every = list(records)
    for i, one in enumerate(every):
        if not isinstance(one, Mapping) or not all(key in one for key in _KEYS):
            raise ValueError(
                f"records[{i}]: expected a dict with {', '.join(_KEYS)}, as "
                f"`hw.sweeps.run` and `read` give it; got {reprlib.repr(one)}"
            )
        if one["finite"] and not isinstance(one["metrics"], Mapping):
            raise ValueError(
                f"records[{i}]['metrics']: expected {{name: number}}, got "
                f"{reprlib.repr(one['metrics'])}"
            )
    return every


def file_of(path: str | os.PathLike) -> pathlib.Path:
    """The file of a study's records, of its path or its folder's."""
    path = pathlib.Path(path)
    if path.is_file() or (path.suffix == ".jsonl" and not path.is_dir()):
        return path
    return path / "trials.jsonl"


def whole(line: Mapping[str, Any]) -> Record:
    """A line of a file as a record: what older ones lack is None or {}."""
    missing = {"stopped": None, "error": None, "seconds": None, "mode": None}
    found: dict[str, Any] = missing | {"settings": {}, "made_with": {}} | dict(line)
    ordered = {name: found.pop(name) for name in Record.__annotations__}
    return ordered | found  # type: ignore[return-value]


def is_record(line: Mapping[str, Any]) -> bool:
    """Whether a line says which trial it is and what came out, as all ever did."""
    return (
        isinstance(line.get("weights"), Mapping)
        and isinstance(line.get("seed"), int)
        and isinstance(line.get("metrics"), Mapping)
        and isinstance(line.get("finite"), bool)
    )


def _exact(tree: Any) -> Any:
    """Python's numbers, whole floats as ints: 1.0 and 1 are the same weight."""
    if isinstance(tree, Mapping):
        return {name: _exact(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_exact(value) for value in tree]
    if np.shape(tree) == () and hasattr(tree, "item"):
        tree = tree.item()
    if isinstance(tree, float) and tree.is_integer():
        return int(tree)
    return tree


def check_metrics(metrics: Any, path: str = "metrics") -> None:
    """Raises unless these are scalars by name; they may be traced."""
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"{path}: expected a dict {{name: scalar}}, got {type(metrics).__name__}"
        )
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"{path}: expected names (str), got {name!r}")
        inner = f"{path}[{name!r}]"
        shape = getattr(value, "shape", () if _is_number(value) else None)
        if isinstance(value, Mapping):
            check_metrics(value, inner)
        elif shape is None:
            raise ValueError(f"{inner}: expected a scalar, got {type(value).__name__}")
        elif shape != ():
            hint = f"; {_scalars.CLASSES}" if path.startswith("metrics") else ""
            raise ValueError(f"{inner}: expected a scalar, got shape {shape}{hint}")
        elif getattr(getattr(value, "dtype", None), "kind", "") == "c":
            raise ValueError(f"{inner}: expected a real scalar, got {value.dtype}")


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _plain(tree: Any) -> Any:
    """Nested dicts of Python floats, None for what is not finite."""
    if isinstance(tree, Mapping):
        return {name: _plain(value) for name, value in tree.items()}
    try:
        value = math.nan if tree is None else float(tree)
    except OverflowError:  # an int beyond all floats
        return None
    return value if math.isfinite(value) else None


def _whole(tree: Any) -> bool:
    if isinstance(tree, dict):
        return all(_whole(value) for value in tree.values())
    return tree is not None


def _weight(name: str, weight: Any) -> float:
    check_metrics({name: weight}, "weights")
    plain = _plain(weight)
    if not isinstance(plain, float):
        raise ValueError(f"weights[{name!r}]: expected a finite number, got {weight}")
    return plain


def json_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they come back from a file.

    A number of NumPy or JAX is taken as Python's; an error names what JSON cannot hold.
    """

    def number(value: Any) -> Any:
        if np.shape(value) == () and hasattr(value, "item"):
            return value.item()
        raise TypeError(f"got {type(value).__name__}")

    if not isinstance(settings, Mapping):
        raise TypeError(
            f"settings: expected {{name: value}}, got {_checks.kind(settings)}"
        )
    plain = {}
    for name, value in settings.items():
        try:
            text = json.dumps(value, allow_nan=False, default=number)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"settings[{name!r}]: expected what JSON can hold; {error}"
            ) from None
        plain[name] = json.loads(text)
    return plain
