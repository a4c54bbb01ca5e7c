"""What is asked of a study that is there, by its folder alone: a trial once more."""

import pathlib

from absl import flags

import headwise as hw
from experiments.harness import plan as plans
from experiments.harness import study as studies
from experiments.harness import sweep
from experiments.harness import text
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.text import UsageError


def asked(given: flags.FlagValues, place: str = "studies/{}") -> int | None:
    """Answers `--verify`; the exit code. None: nothing of the kind is asked.

    Args:
        given: of `study.define`. Without `--experiment` the texts in the folder say
            what the study is.
        place: as `study.read`.

    Raises:
        UsageError: no folder, or the folder has no such trial, or several.
    """
    if given.verify is None:
        return None
    if given.experiment is not None:
        there = [plans.make(studies.read(given, place))]
        folder = there[0].study.folder
    else:
        if given.folder is None:
            raise UsageError("--verify: expected --folder of the study, got none")
        folder = text.folder("--folder", given.folder)
        there = _plans(folder)
    return 0 if verify(there, folder, given.verify) else 1


def verify(there: list[Plan], folder: pathlib.Path, key: str) -> bool:
    """Runs one trial of a study again for its first steps; whether it is the same.

    Args:
        there: the studies that the trial may be of.
        folder: that they share.
        key: of the trial, or how it begins.
    """
    trials = [
        hw.sweeps.Trial(record["weights"], record["seed"], record["settings"])
        for record in hw.sweeps.read(folder)
    ]
    found = [trial for trial in trials if trial.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(
            f"--verify: expected the key of one trial of {folder}, or how it begins, "
            f"got {key}, which {len(found)} of {len(trials)} have (the files in "
            "done/ are called by their keys)"
        )
    (trial,), others = found, {}
    for plan in there:
        settings = plan.recorded()
        others = {n: x for n, x in trial.varied.items() if n in settings}
        if others == settings:
            varied = {n: x for n, x in trial.varied.items() if n not in settings}
            make, _ = sweep.maker(plan._replace(trials=[trial._replace(varied=varied)]))
            verified = hw.sweeps.verify(make, folder, trial.key)
            print(verified)
            return verified.holds
    raise UsageError(f"--verify: trial {trial.key} is of {others}, not {settings}")


def _plans(folder: pathlib.Path) -> list[Plan]:
    """The studies whose texts are in a folder; prints how this code is another."""
    found, refused = [], None
    for one in texts.read(folder).values():
        try:
            plan = texts.plan(one, folder)
        except UsageError as error:
            refused = error
            continue
        found.append(plan)
        for line in texts.differences(one, plan.task):
            print(line)
    if not found and refused is not None:
        raise refused
    return found
