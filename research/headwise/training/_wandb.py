"""Records for Weights & Biases: history, and settings as configuration."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from headwise.training import _tracker


def wandb_tracker(**options: Any) -> _tracker.Open:
    """Records of a run in Weights & Biases, for `fit(track=)`.

    Numbers are history by their path (`values/a`, `weights/a`,
    `contributions/trunk/a/share`), settings are the configuration, the step is the
    step. A run that goes on is the same there: `wandb.json` in the workdir keeps its
    id, and what it has had already is not sent again. Extra `[wandb]`.

    Args:
        **options: of `wandb.init`, such as `project="mine"` or `mode="offline"` (sent
            later by `wandb sync`). What is not given: the folder and the name are the
            workdir's, `resume` is "allow".

    Returns:
        A function that `fit` calls: see `Tracker`.

    Raises:
        ModuleNotFoundError: wandb is missing.

    Example:
        >>> track = hw.training.wandb_tracker  # fit(..., track=track(project="mine"))
    """
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'wandb_tracker needs wandb: pip install "headwise[wandb]"'
        ) from error

    def wandb_run(
        workdir: pathlib.Path, step: int, settings: Mapping[str, Any]
    ) -> _tracker.Tracker:
        path = workdir / "wandb.json"
        known = _tracker.note(path) or {"run": options.get("id", secrets.token_hex(4))}
        own = {
            "dir": str(workdir),
            "name": workdir.resolve().name,
            "resume": "allow",
            "reinit": "create_new",
        }
        config = {**settings, **(options.get("config") or {})}
        whole = own | options | {"id": known["run"], "config": config}
        run = wandb.init(**whole)

        def log(step: int, numbers: Mapping[str, float]) -> None:
            run.log(dict(numbers), step=step, commit=True)

        return _tracker.Tracker(
            _tracker.once(path, known, log),
            lambda ended: run.finish(exit_code=int(ended != "finished")),
        )

    return wandb_run
