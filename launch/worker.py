"""Works on a study in a folder until no trial of it is left: what launchers start.

    python -m launch.worker --folder=studies/digits_launched

A launcher has put the study's text there. Any number of workers, on any number of
machines that see the folder, share its trials; one more may be started at any time.
Exit codes: 0 all trials are done; 1 failed; 2 wrong usage, or of another version of the
code (one line, nothing written); 75 interrupted, and the same command goes on.
"""

import os
from collections.abc import Sequence

from absl import flags

from experiments.harness import command
from experiments.harness import find
from experiments.harness import outcome
from experiments.harness import sweep
from experiments.harness import text
from experiments.harness import texts
from experiments.harness.text import UsageError


def define(values: flags.FlagValues) -> None:
    """The flags of a worker."""
    words = {
        "folder": "of the study",
        "study": "one text of the folder, by its name; else all of them",
        "cpus": "CPUs to keep to, as 0,1",
    }
    for name, meaning in words.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    share = "how many workers share the study, about"
    flags.DEFINE_integer("workers", 1, share, flag_values=values)
    flags.DEFINE_bool("retry", False, text.RETRY, flag_values=values)
    stop = "end with the first trial that has no result"
    flags.DEFINE_bool("stop_on_failure", False, stop, flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Trains what is open of every text; 1 if a trial is left without a record."""
    given = command.parse(argv, define, __doc__)
    if given.folder is None:
        raise UsageError("--folder: expected the folder of a study, got none")
    workers = text.whole("--workers", given.workers, 1) or 1
    keep_to(given.cpus)
    folder = text.folder("--folder", given.folder)
    plans, refused = [], None
    for one in texts.read(folder, given.study).values():
        try:
            texts.check_code(one, find.load(texts.study(one, folder).experiment))
            plans.append(texts.plan(one, folder))
        except UsageError as error:
            refused = error
    if refused is not None and not plans:
        raise refused
    left = 0
    for plan in plans:
        study = plan.study._replace(
            retry=given.retry, stop_on_failure=given.stop_on_failure
        )
        records = sweep.train(plan._replace(study=study), workers=workers)
        left += len(outcome.undone(plan, records))
    return 1 if left else 0


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
