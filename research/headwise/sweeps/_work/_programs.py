"""Work of a study whose trials are programs: its cohorts, and what is shown."""

import logging
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax

from headwise.sweeps._cohort import _choice
from headwise.sweeps._cohort import _forecast
from headwise.sweeps._cohort import _memory_faults
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _choices
from headwise.sweeps._work import _compose
from headwise.sweeps._work import _groups
from headwise.sweeps._work import _job
from headwise.sweeps._work import _live
from headwise.sweeps._work import _made_by
from headwise.sweeps._work import _running
from headwise.sweeps._work import _wanted

_LOG = logging.getLogger("headwise")


class Programs:
    """How the trials of programs are composed and trained.

    Args:
        groups: the programs.
        choices: how they run.
        wanted: the trials of this run.
        store: of the study.
        job: what is done with each cohort.
        view: of `_live`.

    Raises:
        StudyError: cohorts of the study were composed for other programs.
    """

    def __init__(
        self,
        groups: _groups.Groups,
        choices: _choices.Choices,
        wanted: _wanted.Wanted,
        store: Any,
        job: _job.Job,
        view: _live.View,
    ):
        self._groups, self._choices, self._how = groups, choices, choices.how
        self._wanted, self._store, self._job, self._view = wanted, store, job, view
        self._memory: float | None = None
        for group, _ in groups.split(list(wanted.trials.values())):
            mine = [one for one in store.cohorts() if self._is_like(one, group)]
            _made_by.check_program(store.folder, group.fingerprint, mine)

    def compose(
        self, free: Sequence[str], cohorts: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The next cohort: as many trials of one program as are to run at once."""
        every = [self._wanted.trials[name] for name in free]
        group, trials = self._groups.split(every)[0]
        mine = set(trials)
        names = [n for n, t in zip(free, every, strict=True) if t in mine]
        like = [one for one in cohorts if self._is_like(one, group)]
        if like and self._how.size is None:
            mode, largest, why = like[-1]["mode"], like[-1]["size"], like[-1]["why"]
            memory = like[-1].get("memory")
        else:
            choice = self._choose(group, trials)
            mode, largest, why = choice.mode, choice.size, choice.why
            nbytes = choice.bytes_a_trial  # beside what all of them share
            memory = round(nbytes) if 0 < nbytes < math.inf else None
        size = _compose.size(len(names), like, largest, self._how.workers)
        number = size
        if self._job.halving is not None:  # they wait for places
            number = len(like[-1]["trials"]) if like else len(names)
            number = -(-number // (1 if like else self._how.workers))
            size = min(size, number)
        return {
            "trials": names[:number],
            "rows": [trial._asdict() for trial in trials[:number]],
            "mode": mode,
            "size": size,
            "why": why,
            "memory": memory,
            "static": group.values,
            "program": group.fingerprint,
            "device": jax.devices()[0].device_kind,
        }

    def carry_out(self, claim: Any, text: Mapping[str, Any]) -> dict[str, Any] | None:
        """Trains a cohort; where it is too large, the text of a smaller one."""
        trial = _trials.Trial(**text["rows"][0])
        group = self._groups.of(text["static"], trial)
        _made_by.check_program(self._store.folder, group.fingerprint, [text])
        try:
            _running.carry_out(
                group.program, self._job, self._store, claim, text, self._show
            )
        except Exception as error:
            if not _memory_faults.out_of_memory(error):
                raise
            if text["size"] > 1:
                size = -(-text["size"] // 2)
                _LOG.warning(_memory_faults.SMALLER, text["size"], size)
                number = size if self._job.halving is None else len(text["trials"])
                fewer = {name: text[name][:number] for name in ("trials", "rows")}
                return {**text, **fewer, "size": size}
            self._give_up(claim, text, error)
        return None

    def _give_up(self, claim: Any, text: Mapping[str, Any], error: Exception) -> None:
        """Records that trials have no room, not even alone."""
        done = self._store.records()
        for name, row in zip(text["trials"], text["rows"], strict=True):
            if name not in done:
                words, trial = _memory_faults.words(error), _trials.Trial(**row)
                record = self._job.maker.record(
                    trial, text["mode"], 0.0, metrics={}, error=words
                )
                claim.check()
                self._store.commit(name, record)
        self._store.finished(claim)

    def _is_like(self, cohort: Mapping[str, Any], group: _groups.Group) -> bool:
        """Whether a cohort is of these programs, and runs as this worker would."""
        same = cohort.get("static") == group.values
        here = cohort.get("device") == jax.devices()[0].device_kind
        return same and here and self._how.mode in ("auto", cohort.get("mode"))

    def _choose(
        self, group: _groups.Group, trials: Sequence[_trials.Trial]
    ) -> _choice.Choice:
        """How they run; it is said before they do."""
        choice = self._choices.of(group, trials)
        self._memory = choice.nbytes
        words = _choices.words(group, choice, len(trials), self._job.steps)
        self._store.event("plan", words=words)
        self._view.say(words)
        return choice

    def _show(self, *, ahead: int, **numbers: Any) -> None:
        """Shows how far the study is."""
        done, steps = self._wanted.done(), self._job.steps
        number, rate = len(self._wanted.trials), numbers["rate"]
        mode = _forecast.WORDS[numbers["mode"]]
        self._view.show(
            _live.Snapshot(
                trials=number,
                done=len(done),
                running=numbers["trials"],
                frozen=numbers["frozen"],
                rate=rate,
                left=((number - len(done)) * steps - ahead) / max(rate, 1e-9),
                best=_live.best(list(done.values())),
                memory=self._memory,
                doing=f"cohort {numbers['cohort']}: {numbers['trials']} trials {mode}, "
                f"step {numbers['step']} of {steps}",
            )
        )
