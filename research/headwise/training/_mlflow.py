"""Records for MLflow: metrics, and settings as parameters."""

import os
import pathlib
import time
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _columns
from headwise.training import _tracker

_METRICS, _PARAMS, _LONGEST, _TEXT = 1000, 100, 250, 6000
"""What MLflow takes: in a request, and of names and texts."""


def mlflow_tracker(
    uri: str | None = None,
    *,
    experiment: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> _tracker.Open:
    """Records of a run in MLflow, for `fit(track=)`.

    Numbers are metrics by their path (`values/a`, `weights/a`,
    `contributions/trunk/a/share`), settings are parameters, the step is the step. What
    MLflow does not take in a name is written as `:` and its hexadecimal code: `a/b` as
    `a:2Fb`. A run that goes on is the same there: `mlflow.json` in the workdir keeps
    its id, and what it has had already is not sent again. Extra `[mlflow]`.

    Args:
        uri: where: `http://host:5000`, `sqlite:///mlflow.db` (needs the whole package
            mlflow); None: as MLflow is set (`MLFLOW_TRACKING_URI`).
        experiment: its name, made if need be; None: `MLFLOW_EXPERIMENT_NAME`, else
            "Default".
        name: of the run; None: that of the workdir.
        tags: of the run.

    Returns:
        A function that `fit` calls: see `Tracker`.

    Raises:
        TypeError: an argument is of another type.
        ModuleNotFoundError: mlflow is missing.

    Example:
        >>> track = hw.training.mlflow_tracker  # fit(..., track=track("http://host:1"))
    """
    texts = {"uri": uri, "experiment": experiment, "name": name}
    if tags is not None and not isinstance(tags, Mapping):
        raise TypeError(f"tags: expected a dict, got {_checks.kind(tags)}")
    texts |= {f"tags[{tag!r}]": value for tag, value in (tags or {}).items()}
    for argument, value in texts.items():
        if value is not None:
            _checks.text(argument, value)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'mlflow_tracker needs mlflow: pip install "headwise[mlflow]"'
        ) from error

    def mlflow_run(
        workdir: pathlib.Path, step: int, settings: Mapping[str, Any]
    ) -> _tracker.Tracker:
        from mlflow import entities

        client = mlflow.MlflowClient(tracking_uri=uri)
        path = workdir / "mlflow.json"
        known = _tracker.note(path)
        if not known:
            place = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
            run = client.create_run(
                _experiment(client, place),
                run_name=name or workdir.resolve().name,
                tags=dict(tags or {}),
            )
            known = {"run": run.info.run_id}
            params = [
                entities.Param(_name(key), str(value)[:_TEXT])
                for key, value in settings.items()
            ]
            for i in range(0, len(params), _PARAMS):
                client.log_batch(known["run"], params=params[i : i + _PARAMS])
        id_ = known["run"]
        client.update_run(id_, status="RUNNING")

        def log(step: int, numbers: Mapping[str, float]) -> None:
            now = int(1000 * time.time())
            metrics = [
                entities.Metric(_name(key), float(x), now, step)
                for key, x in numbers.items()
            ]
            for i in range(0, len(metrics), _METRICS):
                client.log_batch(id_, metrics=metrics[i : i + _METRICS])

        return _tracker.Tracker(
            _tracker.once(path, known, log),
            lambda ended: client.set_terminated(id_, ended.upper()),
        )

    return mlflow_run


def _experiment(client: Any, name: str) -> str:
    """The id of an experiment; other processes may make it at the same time."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except Exception:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _name(path: str) -> str:
    """A path as MLflow takes it; no two become the same.

    Example:
        >>> _name("values/a%2Fb"), _name("values/a b"), _name("é/..")
        ('values/a:2Fb', 'values/a b', ':C3:A9/:2E:2E')
    """
    whole = "/".join(_quoted(_columns.part(part)) for part in path.split("/"))
    if len(whole) <= _LONGEST:
        return whole
    return f"{whole[: _LONGEST - 9]}:{zlib.crc32(path.encode()):08x}"


def _quoted(part: str) -> str:
    if not part.strip("."):
        return ":2E" * len(part) or ":"
    return urllib.parse.quote(part, safe=" ").replace("%", ":").replace("~", ":7E")
