"""What a study trains: its flags, with the experiment that they are for, as trials."""

import json
import pathlib
import time
from collections.abc import Iterable
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from typing import NamedTuple

import headwise as hw
from experiments.harness import find
from experiments.harness import run
from experiments.harness import study as studies
from experiments.harness import text
from experiments.harness.request import Request
from experiments.harness.spec import Spec
from experiments.harness.study import Study
from experiments.harness.text import STATIC
from experiments.harness.text import UsageError

AT_ONCE = 5.0
"""Seconds to wait for another command that makes the same folder."""


class Plan(NamedTuple):
    """A study whose trials are known and checked; nothing is read or written yet."""

    study: Study
    experiment: str
    """A name, or the absolute path of a file."""
    task: ModuleType
    spec: Spec
    steps: int
    trials: list[hw.sweeps.Trial]
    """What varies in each: `balancer`, and all settings of the experiment."""

    def request(self, trial: hw.sweeps.Trial) -> Request:
        """One trial as a run of its own."""
        values = dict(trial.varied)
        balancer = str(values.pop("balancer"))
        return Request(
            experiment=self.experiment,
            task=self.task,
            spec=self.spec,
            settings=values,
            weights=trial.weights if balancer == STATIC else None,
            balancer=balancer,
            steps=self.steps,
            seed=trial.seed,
            smoke=self.study.smoke,
            workdir=self.study.folder,
            dtype=self.study.dtype,
            mesh=self.study.mesh,
        )

    def recorded(self) -> dict[str, Any]:
        """The settings of every record; those of a trial come to them."""
        given = self.request(self.trials[0]).recorded()
        return {n: x for n, x in given.items() if n not in self.trials[0].varied}

    def told(self) -> dict[str, str]:
        """What may change in between, but not without a word."""
        return self.request(self.trials[0]).told()

    def config(self) -> dict[str, Any]:
        """What identifies the study: the folder belongs to it."""
        config = {
            "experiment": self.experiment,
            "smoke": self.study.smoke,
            "steps": self.steps,
            "launched": True,
        }
        return config | ({"dtype": self.study.dtype} if self.study.dtype else {})

    def claim(self) -> pathlib.Path:
        """Makes the folder, or takes it up again if it is this study's.

        Any number of commands may work in it at once. Folders that an older `--sweep`
        or an older launcher made are taken up, too.

        Raises:
            WorkdirError: it is of other work (what differs is named), or not writable.
        """
        folder, config = self.study.folder, self.config()
        try:
            before = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = {}
        if isinstance(before, dict) and before.get("sweep") is True:
            settings = {"settings": dict(self.request(self.trials[0]).settings)}
            version = self.request(self.trials[0]).config()["version"]
            del config["launched"]
            config |= settings | {"sweep": True, "version": version}
        end = time.monotonic() + AT_ONCE
        while True:
            try:
                return hw.training.claim_workdir(folder, config, told=self.told())
            except hw.training.WorkdirError as error:
                # Another command makes it at the same time: is it the same study?
                made = (folder / "run.json").exists()
                making = "is in use" in str(error) and time.monotonic() < end
                if before or not (made or making):
                    raise
                before = before or made
            time.sleep(0.05)


def make(study: Study) -> Plan:
    """The trials of a study, in order: settings, balancers, weightings, seeds.

    Raises:
        UsageError: what the experiment, a balancer or a design does not know; more
            trials than anyone means.
    """
    task = find.load(study.experiment)
    spec = task.SPEC.smoke() if study.smoke else task.SPEC
    experiment = study.experiment
    if find.is_path(experiment):
        experiment = str(pathlib.Path(experiment).resolve())
    steps = study.steps or spec.steps
    studies.check_count(study, len(spec.heads))
    plan = Plan(study, experiment, task, spec, steps, [])
    if study.design is None:
        return plan._replace(trials=_checked(plan, _crossed(plan)))
    return plan._replace(trials=_checked(plan, _listed(plan, study.design)))


def _crossed(plan: Plan) -> list[hw.sweeps.Trial]:
    """Every combination of what the flags say."""
    study, spec = plan.study, plan.spec
    settings = studies.settings(study, spec.defaults)
    seeds = study.seeds
    if seeds is None:
        seeds = list(spec.seeds) if study.own_design else [0]
    static = _weightings(plan, settings[0]) if STATIC in study.balancers else []
    return [
        hw.sweeps.Trial(weights, seed, {"balancer": balancer, **row})
        for row in settings
        for balancer in study.balancers
        for weights in (static if balancer == STATIC else [{}])
        for seed in seeds
    ]


def _weightings(plan: Plan, settings: Mapping[str, Any]) -> list[dict[str, float]]:
    study, spec = plan.study, plan.spec
    if study.grid is not None:
        for weights in (rows := studies.grid(study.grid)):
            text.same_heads("--weights", weights, spec.heads)
        return [dict(sorted(row.items())) for row in rows]
    if study.simplex is not None:
        return hw.sweeps.rows(hw.sweeps.simplex(spec.heads, study.simplex))
    design = spec.design
    if design is None:  # it follows from the data
        trial = hw.sweeps.Trial({}, 0, {"balancer": "equal", **settings})
        design = run.build(plan.request(trial)).design
    assert design is not None, "the design: of SPEC or of the Experiment"
    return hw.sweeps.rows(design)


def _listed(plan: Plan, file: str) -> list[hw.sweeps.Trial]:
    """The trials of a file, crossed with what the flags say beside it."""
    study, spec = plan.study, plan.spec
    names = {*spec.heads, "seed", "balancer", *spec.defaults}
    try:
        bare = hw.sweeps.table(file, ())
        columns = set().union(*(trial.varied for trial in bare)) & set(spec.heads)
        heads = spec.heads if columns else ()
        rows = hw.sweeps.table(file, heads, seeds=study.seeds)
    except ValueError as error:
        raise UsageError(f"--design: {error}") from None
    text.known_names(f"--design={file}: columns", rows[0].varied, sorted(names))
    in_file = set(rows[0].varied)
    if "balancer" in in_file and study.balancers != [STATIC]:
        raise UsageError(f"--balancers: {file} has a column 'balancer': leave one out")
    if twice := sorted(in_file & set(study.settings)):
        raise UsageError(f"--set: {file} has a column {twice[0]!r}: leave one out")
    balancers = study.balancers
    if "balancer" not in in_file and not columns and balancers == [STATIC]:
        raise UsageError(
            f"--design: {file}: expected a column for every head "
            f"({', '.join(spec.heads)}), a column 'balancer', or --balancers"
        )
    found = []
    for settings in studies.settings(study, spec.defaults):
        for row in rows:
            cells = dict(row.varied)
            own = cells.pop("balancer", None)
            typed = {n: _typed(file, n, x, spec.defaults[n]) for n, x in cells.items()}
            for balancer in balancers if own is None else [str(own)]:
                weights = row.weights if balancer == STATIC else {}
                varied = {"balancer": balancer, **settings, **typed}
                found.append(hw.sweeps.Trial(weights, row.seed, varied))
    return found


def _typed(file: str, name: str, value: Any, default: Any) -> Any:
    """A cell as the default's type: CSV knows numbers, but not which."""
    return text.typed(f"--design={file}", name, str(value), default)


def _checked(plan: Plan, trials: Iterable[hw.sweeps.Trial]) -> list[hw.sweeps.Trial]:
    """The trials, each once, whose balancers can be made."""
    distinct = list({trial.key: trial for trial in trials}.values())
    first = {trial.varied["balancer"]: trial for trial in reversed(distinct)}
    for balancer, trial in first.items():
        plan.request(trial).make_balancer()
        if balancer == STATIC and not trial.weights:
            text.same_heads("--design", trial.weights, plan.spec.heads)
    return distinct
