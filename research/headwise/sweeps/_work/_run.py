"""Runs all trials of a study: in this process, beside others, after any kill."""

import logging
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import cast

import numpy as np

from headwise import _checks
from headwise import _program
from headwise import _records
from headwise.sweeps._design import _product
from headwise.sweeps._design import _trials
from headwise.sweeps._work import _alone
from headwise.sweeps._work import _choices
from headwise.sweeps._work import _run_plain
from headwise.sweeps._work import _run_programs

_LOG = logging.getLogger("headwise")
_PLAIN = {"trains": "functions of weights and seed"}
"""The text of a study of plain functions: their trials say by whom they were run."""


def run(
    program: _program.Program | Callable[..., _program.Program] | _alone.Train,
    design: Mapping[str, Any] | Iterable[_trials.Trial] | None = None,
    seeds: Sequence[int] | None = None,
    *,
    steps: int | None = None,
    vary: Mapping[str, Sequence[_trials.Varied] | np.ndarray] | None = None,
    static: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: str | os.PathLike | None = None,
    mode: str = "auto",
    size: int | None = None,
    workers: int = 1,
    workers_here: int | None = None,
    checkpoint_every: float | None = None,
    report_every: int | None = None,
    progress: bool = True,
    retry: bool = False,
    stop_on_failure: bool = False,
    search: Any = None,
    halving: Any = None,
    batched: bool = False,
    cohorts: int | None = None,
) -> list[_records.Record]:
    """Trains every trial of a study, and returns their records.

    Trials that differ in arrays alone (weights, seeds, numbers of `vary`) run as one
    program, a cohort. In a folder a study can be killed at any moment and goes on, with
    the same bits, where its last checkpoint was; any number of processes that call this
    with one folder, on any hosts that share it, divide its trials among them, and each
    returns all records when all are done. What is done is never run again; more seeds
    or weightings run only what is new.

    A plain function in place of a program is called for one trial after the other, or
    with `batched` by one `jax.vmap` for all.

    Args:
        program: a `Program`; or, where texts, bools or `static` numbers vary, a
            function `make(**values) -> Program` of these; or a plain `train(weights
            {head: float32 scalar}, seed int32 scalar) -> {metric: scalar}` (may be
            nested; a metric of `hw.metrics` stands for its value). Pure and traceable
            if `batched`.
        design: {head: [K]}, of `grid`, `simplex`, ...; or `trials`; None: no weights.
        seeds: distinct ints; every weighting is trained with each. None: 0, or those
            that the trials of the design have.
        steps: of a program, for each trial.
        vary: {name: levels} of what is crossed with the design: numbers, texts, bools.
        static: names of varied numbers that are no arrays in the program.
        settings: {name: value} of all else that decides what comes out (experiment,
            data, ...): written into each record; trials with others are other trials.
        folder: of the study, made if need be: a person can read it. None keeps nothing.
        mode: how a cohort runs: "vmap", "scan" (one trial after the other), "loop"
            (the same, step by step), "threads" (several of those), "shard" (over
            devices); "auto" measures.
        size: the most trials of a cohort; None: as many as fit into the memory.
        workers: how many processes share the study: cohorts are cut so that each has
            one.
        workers_here: how many of them share the memory of this machine; None: all.
        checkpoint_every: seconds; None: as often as costs less than 2 % of the time.
        report_every: steps between two rows of the curves; None: 100 rows a trial.
        progress: show how far it is.
        retry: run the trials again that failed; else they are done like the others.
        stop_on_failure: end at the first trial that fails, instead of going on.
        search: of `hw.sweeps.search`: asks for trials, batch after batch.
        halving: of `hw.sweeps.halving`: stops the worst on their way.
        batched: of a plain function: one program for all trials; in parts, if it runs
            out of memory.
        cohorts: end after so many of them, for an engine that gives each a task of its
            own; the same call goes on. None: when all trials are done.

    Returns:
        `Record`s in the order of the design, seeds innermost; rows that are the same
        trial share one; with `cohorts` those that there are. A trial that becomes
        non-finite is frozen before that step (`stopped`) and harms no other; it, one
        whose metrics are not finite, that raises `FloatingPointError` (as
        `hw.training.fit` does) or runs out of memory (`out_of_memory`) has `finite`
        False. The others go on. Other errors end the run: the trial is not done, and
        what is done is kept.

    Raises:
        ValueError: seeds that are no distinct int32 of 0 or more, a design whose heads
            differ in length, or a metric that is not a scalar (it is named).
        TypeError: metrics that are no dict.
        StudyError: the folder is of another study, or its trials were run by another
            program (what differs is named). Nothing is written.
        FloatingPointError: a trial failed, with `stop_on_failure`.
        KeyboardInterrupt: SIGINT or SIGTERM came: the chunk of steps that ran has come
            to its end and is kept, and the same call goes on.

    Example:
        >>> def train(weights, seed):
        ...     return {"best_x": weights["b"] / (weights["a"] + weights["b"])}
        >>> design = hw.sweeps.grid({"a": [1.0], "b": [1.0, 3.0]})
        >>> for record in hw.sweeps.run(train, design, batched=True, progress=False):
        ...     print(record["weights"], record["metrics"])
        {'a': 1.0, 'b': 1.0} {'best_x': 0.5}
        {'a': 1.0, 'b': 3.0} {'best_x': 0.75}
    """
    is_program = isinstance(program, _program.Program)
    if not is_program:
        argument = "train" if steps is None else "program"
        _checks.function(argument, program)
        if isinstance(program, type):
            raise TypeError(
                f"{argument}: expected a function, got {_checks.kind(program)}"
            )
    flags = {"batched": batched, "progress": progress, "retry": retry}
    for name, flag in (flags | {"stop_on_failure": stop_on_failure}).items():
        _checks.boolean(name, flag)
    if cohorts is not None:
        _checks.positive_int("cohorts", cohorts)
    settings = _records.json_settings({} if settings is None else settings)
    # The same row twice is one trial; a list of trials that holds one twice is a slip.
    rows = _product.product(design, seeds, vary=vary)
    if design is not None and not isinstance(design, Mapping):
        _product.check_distinct(rows)
    if search is not None and design is None:
        rows = []
    if not is_program and steps is None:
        if halving is not None or any(trial.varied for trial in rows):
            raise ValueError(
                f"{'vary' if halving is None else 'halving'}: expected a program, got "
                "a plain train, which knows weights and seed alone (give steps, and "
                "hw.sweeps.Program or a function that makes one)"
            )
        return _run_plain.run(
            cast(_alone.Train, program),
            rows,
            search,
            settings,
            folder,
            batched=batched,
            progress=progress,
            retry=retry,
            stop_on_failure=stop_on_failure,
            cohorts=cohorts,
        )
    return _run_programs.run(
        program,
        rows,
        steps=steps,
        static=static,
        settings=settings,
        folder=folder,
        how=_choices.How(mode, size, workers, workers_here),
        checkpoint_every=checkpoint_every,
        report_every=report_every,
        progress=progress,
        retry=retry,
        stop_on_failure=stop_on_failure,
        search=search,
        halving=halving,
        batched=batched,
        cohorts=cohorts,
    )


def read_trials(path: str | os.PathLike) -> list[_records.Record]:
    """The finished trials of a study: an older name of `read`.

    Args:
        path: of `trials.jsonl`, or of its folder.

    Returns:
        Records as `run` returns them; [] if there is no file.

    Example:
        >>> read_trials("/nowhere")
        []
    """
    return _records.read(path)
