"""What is asked of a study that is there, by its folder alone.

A trial once more; which way to turn each weight.
"""

import pathlib
import warnings
from collections.abc import Sequence

from absl import flags

import headwise as hw
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import study as studies
from experiments.harness import sweep
from experiments.harness import text
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.text import STATIC
from experiments.harness.text import UsageError


def asked(given: flags.FlagValues, place: str = "studies/{}") -> int | None:
    """Answers `--verify`, or `--slopes` of a folder; the exit code. None: neither.

    Args:
        given: of `study.define`. Without `--experiment` the texts in the folder say
            what the study is.
        place: as `study.read`.

    Raises:
        UsageError: no folder, or it has no such trial, or several.
    """
    if given.verify is not None and given.experiment is not None:
        plan = plans.make(studies.read(given, place))
        return 0 if verify([plan], plan.study.folder, given.verify) else 1
    question = "--verify" if given.verify is not None else "--slopes"
    later = "slopes" in given and given.slopes and given.experiment is None
    if given.verify is None and not later:
        return None
    if given.folder is None:
        raise UsageError(f"{question}: expected --folder of the study, got none")
    folder = text.folder("--folder", given.folder)
    there = _plans(folder)
    if given.verify is not None:
        return 0 if verify(there, folder, given.verify) else 1
    slopes(there, folder)
    return 0


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


def slopes(there: Sequence[Plan], folder: pathlib.Path) -> None:
    """Finds, keeps and shows which way to turn each weight of the trials of a study.

    Args:
        there: its texts; what is static in them counts, and has come to an end.
        folder: that they share.

    Raises:
        UsageError: there is no such trial.
    """
    ended = {
        hw.sweeps.identity(record)
        for record in hw.sweeps.read(folder)
        if record["finite"]
    }
    found = 0
    for plan in there:
        static = [t for t in plan.trials if t.varied["balancer"] == STATIC]
        trials = [t for t in static if outcome.identity(plan)(t) in ended]
        if not trials:
            continue
        found += len(trials)
        make, names = sweep.maker(plan._replace(trials=trials))
        print(f"slopes of {len(trials)} trials in {len(plan.spec.heads)} weights")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its notes are printed below
            turns = hw.sweeps.slopes(
                make,
                trials,
                plan.steps,
                mode=sweep.mode(plan),
                static=names,
                folder=folder,
                settings=plan.recorded(),
            )
        shown = {n: more for n, more in plan.spec.metrics.items() if n in turns.metrics}
        print(turns.table(shown or None))
        print(*turns.notes, sep="\n", end="\n" if turns.notes else "")
    if not found:
        raise UsageError(
            f"--slopes: {folder} has no trial of static weights that came to an end"
        )


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
