"""Works on a study in a folder until no trial of it is left: what launchers start.

    python -m launch.worker --folder=studies/digits_launched

A launcher has put the study's text there. Any number of workers, on any number of
machines that see the folder, share its trials; one more may be started at any time.
Exit codes: 0 all trials are done; 1 failed; 2 wrong usage, another version of the
code, another folder, too few devices (one line, nothing written); 75 trials are left,
and the same command goes on: after an interrupt, or after as many `--cohorts` as were
asked for.
"""

import json
import os
import pathlib
import platform
import time
from collections.abc import Sequence

from absl import flags

from experiments.harness import command
from experiments.harness import find
from experiments.harness import outcome
from experiments.harness import signals
from experiments.harness import sweep
from experiments.harness import text
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.text import UsageError
from launch import launches

PATIENCE = 5.0
"""Seconds until a file that another machine wrote is seen by all."""


def define(values: flags.FlagValues) -> None:
    """The flags of a worker."""
    words = {
        "folder": "of the study",
        "study": "one text of the folder, by its name; else all of them",
        "launch": "the token of the launcher, which must be in the folder",
        "cpus": "CPUs to keep to, as 0,1",
    }
    command.define(values, str, words)
    numbers = {
        "devices": "how many there must be, at least",
        "cohorts": "end after so many of a text, with 75 if trials are left",
    }
    command.define(values, int, numbers)
    share = "how many workers share the study, about"
    command.define(values, int, {"workers": share}, 1)
    here = "how many of them share the memory of this machine; else all"
    command.define(values, int, {"workers_here": here})
    switches = {
        "retry": text.RETRY,
        "stop_on_failure": "end with the first trial that has no result",
        "check": "say in one line of JSON what is here, if a worker could work here; "
        "train nothing",
    }
    command.define(values, bool, switches)


def main(argv: Sequence[str]) -> int:
    """Trains what is open of every text; 75 if trials are left."""
    given = command.parse(argv, define, __doc__)
    if given.folder is None:
        raise UsageError("--folder: expected the folder of a study, got none")
    workers = text.whole("--workers", given.workers, 1) or 1
    workers_here = text.whole("--workers_here", given.workers_here, 1)
    cohorts = text.whole("--cohorts", given.cohorts, 1)
    devices = text.whole("--devices", given.devices, 1)
    keep_to(given.cpus)
    folder = text.folder("--folder", given.folder)
    check_folder(folder, given.launch)
    plans = _plans(folder, given.study)
    here = _here(devices)
    if given.check:
        print(json.dumps(here), flush=True)
        return 0
    for plan in plans:
        study = plan.study._replace(
            retry=given.retry, stop_on_failure=given.stop_on_failure
        )
        plan = plan._replace(study=study)
        records = sweep.train(
            plan, workers=workers, workers_here=workers_here, cohorts=cohorts
        )
        if left := len(outcome.undone(plan, records)):
            print(f"{left} of {len(plan.trials)} trials are left", flush=True)
            return signals.CODE
    return 0


def _plans(folder: pathlib.Path, name: str | None) -> list[Plan]:
    """The studies of a folder that this code can work on."""
    found, refused = [], None
    for one in texts.read(folder, name).values():
        try:
            texts.check_code(one, find.load(texts.study(one, folder).experiment))
            found.append(texts.plan(one, folder))
        except UsageError as error:
            refused = error
    if refused is not None and not found:
        raise refused
    return found


def check_folder(folder: pathlib.Path, token: str | None) -> None:
    """A UsageError unless this is the folder that the launcher signed."""
    end = time.monotonic() + PATIENCE
    while token is not None and not launches.is_there(folder, token):
        if time.monotonic() > end:
            raise UsageError(
                f"--launch: the worker on {platform.node()} does not see the "
                f"launcher's folder: {folder}/{launches.FOLDER}/{token}.json is not "
                "there (give a --folder that all machines share under one name)"
            )
        time.sleep(0.2)


def _here(devices: int | None) -> dict[str, object]:
    """What a worker has here; a UsageError if it has less than it needs."""
    import jax  # late: its threads keep to the CPUs that were given before

    host = platform.node()
    try:
        found = jax.local_devices()
    except (RuntimeError, AssertionError):
        asked = os.environ.get("JAX_PLATFORMS")
        raise UsageError(
            f"--devices: JAX finds none on {host} (JAX_PLATFORMS={asked})"
        ) from None
    backend = jax.default_backend()
    if len(found) < (devices or 1):
        raise UsageError(
            f"--devices: expected {devices} on {host}, found {len(found)} ({backend})"
        )
    return {
        "host": host,
        "devices": len(found),
        "backend": backend,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def keep_to(cpus: str | None) -> None:
    """Lets this process run on these CPUs alone, before JAX starts its threads."""
    if cpus is None:
        return
    try:
        numbers = {int(number) for number in cpus.split(",")}
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, numbers)
    except (ValueError, OSError):
        raise UsageError(f"--cpus: expected CPUs of this machine, got {cpus}") from None


if __name__ == "__main__":
    command.run(main)
