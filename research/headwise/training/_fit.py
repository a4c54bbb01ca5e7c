"""A training loop: progress, metrics, checkpoints, exact resume, stop on NaN."""

import contextlib
import logging
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from headwise import _checks
from headwise.training import _bilevel
from headwise.training import _course
from headwise.training import _default
from headwise.training import _due
from headwise.training import _epochs
from headwise.training import _history
from headwise.training import _kept
from headwise.training import _profile
from headwise.training import _progress
from headwise.training import _resume
from headwise.training import _state
from headwise.training import _steps
from headwise.training import _stop
from headwise.training import _together

_LOG = logging.getLogger("headwise")

StateT = TypeVar("StateT", _state.TrainState, _bilevel.BilevelState)


def fit(
    step: Callable[[StateT, Any], tuple[StateT, Any]],
    state: StateT,
    batches: Callable[[int], Any] | Iterable[Any],
    steps: int | None = None,
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    workdir: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    track: Any = None,
    validate: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    validate_every: int | None = None,
    log_every: int | None = None,
    checkpoint_every: int | None = None,
    report: Callable[[StateT, Any], tuple[StateT, Any]] | None = None,
    report_every: int | None = None,
    stop: _stop.Stop | None = None,
    best: tuple[str, str] | None = None,
    adjust: Callable[[StateT, Sequence[Mapping[str, Any]]], StateT] | None = None,
    eval_params: Callable[[StateT], Any] | None = None,
    progress: bool = True,
    label: str = "training",
    check: bool = True,
    chunk: int | None = None,
    profile: int | tuple[int, int] | None = None,
) -> Any:
    """Trains until `steps` steps are done; goes on from a checkpoint in `workdir`.

    Many steps are one compiled program (a chunk), which ends where a validation, a
    report or a checkpoint is due, or after a quarter of a second; it is recorded while
    the next one runs, unless something follows from records. Where that cannot be,
    steps are run one by one (logger `headwise`, level INFO, says why). Records,
    validations, reports and checkpoints each come every so many steps, of which none
    need divide another, and at the end; none changes another, and neither does the
    length of a chunk. An interrupted and resumed run ends with the same state and the
    same metrics file as an uninterrupted one.

    What was learned comes from the checkpoint. What you set comes from `state`, the
    weights of `constant` among it: a new weight acts, and a line says so (logger
    `headwise`, and `changed` in the next record). So does a step that is another
    program than before: another learning rate, optimiser or loss.

    Args:
        step: of `make_step` or `make_bilevel_step`; jitted, its state donated, if not.
        state: the first state (`init_state`, `init_bilevel_state`), of arrays and
            numbers; replaced by the newest checkpoint.
        batches: `batches(t)` -> the batch of step t (best: resumes exactly, no
            state), or an iterable. A function of t alone that `jax.jit` would take is
            made part of the program, and called for a few steps only; any other
            function is called for every step. Batches from the host are read a chunk
            ahead. On resume a grain iterator's own state is
            restored, and any other iterable is read forward to where it was, but for
            an iterator that cannot be restarted (a generator, `map`): one that `fit`
            has read before, in this process, goes on where it stands.
        steps: the state's step at the end; or give `epochs`.
        epochs: so many times `steps_per_epoch` steps. A record and a validation are due
            after each, unless given otherwise, and an iterable that ends starts anew.
        steps_per_epoch: None: as the batches tell, by `len(batches)` or an attribute of
            that name.
        workdir: folder for `metrics.jsonl`, the same as a table (`metrics.csv`),
            `tensorboard/` (if tensorboardX is installed) and `checkpoints/`, held
            (`hold_workdir`) until `fit` is done; None keeps nothing. With it SIGINT,
            SIGTERM and SIGHUP act, whatever they do, after the step or chunk that runs
            and after its checkpoint; a second one at once.
        settings: {name: value} that JSON can hold, of all else that decides what comes
            out: kept in `run.json`, where others are an error (`claim_workdir`).
        track: `mlflow_tracker()`, `wandb_tracker()`, what else opens a `Tracker`, or a
            list of them: where records also go. It needs a workdir.
        validate: `(params, rest) -> {name: scalar}`, run at the end and when due. A
            metric of `hw.metrics` stands for its numbers; `evaluate` makes them.
        validate_every: every so many steps; None: each epoch, or at the end alone.
        log_every: a record every so many steps; None: each epoch, or every 10: means of
            values and weights over those in which a head has data, of values Σ count *
            value / Σ count (`hw.Means`); None if it has none.
        checkpoint_every: every so many steps. None: with each record, as long as that
            takes no more than half a second and a twentieth of the time.
        report: like `step`, made with `contributions=True`; in its place every so many
            steps: the metrics then say what each head contributed to every module.
        report_every: in steps 0, k, 2 k and so on; None means never.
        stop: `stop(history)`, asked after each record: why the run ends there, a str;
            None: it goes on. See `patience`, `reached`, `out_of_time`, `any_of`.
        best: a metric and "min" or "max", as ("validation/loss", "min"): the parameters
            of the best record are kept, in `workdir/best` too, and returned.
        adjust: `adjust(state, history) -> state`, after each record: with other numbers
            in it, such as a learning rate of `optax.inject_hyperparams`; see `plateau`.
        eval_params: `eval_params(state)`: parameters for `validate` and `best` in place
            of `state.params`, such as `averaged_params`.
        progress: show a bar on a terminal, and a line a record anywhere else.
        label: of the bar.
        check: look at the first batch once: preds and targets that make no sense to
            their losses (`hw.losses.checked`) are an error. It costs a forward pass.
        chunk: the most steps of a chunk, which changes no bit of the result. None: as
            many as take a quarter of a second. 1: steps are run one by one, which is
            another program and may round otherwise, and `batches` is called for each.
        profile: (start, stop), or how many steps after the first record, are traced
            into `profile/` of the workdir, steps or chunks marked `step`.

    Returns:
        (state, history); with `best` (state, history, best), a `Best`, or None if its
        metric was never finite. history holds the records of the metrics file, dicts
        with `step` and, every `log_every` steps and at the end, of the steps since the
        last multiple of `log_every`: `values`, `weights`, `grad_norm` and, where they
        were made, `conflicts`, `contributions` (the newest), and `broken`: {head:
        number of steps} that a balancer left out for a value or gradient that is not
        finite; of a dynamic loss scale `loss_scale` (the newest), `skipped` (steps, in
        no mean). `validation` stands in the record of its step; if no means are due
        there, it is all that the record holds. `epoch` tells how many are done,
        `stopped` why a run ended, `hyperparams` what `adjust` sets.

    Raises:
        NonFiniteError: a value of a head with a weight, or the gradient, is not
            finite; or, where a balancer leaves such heads out, every head that has data
            is broken in a step, or a head in all steps (two or more) of a record in
            which it has data. It names step and heads. Nothing of that is checkpointed.
        ValueError: a metric is in no record (those that are, are listed); not exactly
            one of steps and epochs is given; a period is no positive int; the batches
            end too early; more than `steps` are done; values of the first batch make no
            sense; a metric of `validate` is no scalar.
        WorkdirError: the workdir is of another run: other heads, parameters, shapes,
            dtypes, optimiser, balancer, key or settings. All that differs is named. Or
            it is in use, or no checkpoint in it is whole.
        OSError: the disk refuses a record or a checkpoint, or the workdir was removed:
            at the next record, in one line that names the file.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params["w"] - batch) ** 2}
        >>> step = hw.training.make_step(values_fn, optax.sgd(0.25))
        >>> state = hw.training.init_state(
        ...     ["a"], {"w": 0.0}, optax.sgd(0.25), hw.balancers.equal()
        ... )
        >>> state, history = hw.training.fit(
        ...     step, state, lambda t: 4.0, 4, log_every=2, progress=False
        ... )
        >>> print(state.params["w"])                      # halves the gap every step
        3.75
        >>> print([record["values"]["a"] for record in history])  # (16 + 4) / 2, ...
        [10.0, 0.625]
    """
    steps, per_epoch = _epochs.lengths(batches, steps, epochs, steps_per_epoch)
    if per_epoch is not None:
        batches = _epochs.again(batches)
    log_every = (per_epoch or 10) if log_every is None else log_every
    validate_every = per_epoch if validate_every is None else validate_every
    periods = _due.periods(
        steps,
        log_every=log_every,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        report_every=report_every,
    )
    if report is None:
        periods = periods._replace(report=None)
    if chunk is not None:
        _checks.positive_int("chunk", chunk)
    if not hasattr(state, "step"):
        raise TypeError(
            "state: expected that of init_state or init_bilevel_state, got "
            f"{_checks.kind(state)}"
        )
    _profile.check(profile, workdir)
    course = _course.Course(stop, best, adjust, eval_params, validate, validate_every)
    step, state = _steps.compiled(step, state)
    report = None if report is None else _steps.compiled(report, state)[0]
    given = int(state.step)
    for line in _default.overruled(step, state):
        _LOG.warning("weights of the step -> of the state, which act: %s", line)
    with contextlib.ExitStack() as opened:
        together = opened.enter_context(_together.Together(state, workdir))
        course.shared = together.shared
        kept = _kept.Kept(opened, workdir, settings, track)
        done, position = _resume.start(kept.checkpoints, given, steps)
        traced = _profile.steps_of(profile, done, steps, log_every)
        periods = periods._replace(marks=traced)
        run = _steps.Steps(step, report, periods, check, chunk, together)
        unused = together.each(run.read, batches, done, given, position, bool(kept))
        opened.callback(unused)
        if kept and done < steps:
            kept.program = run.program(state, done)
        state, window, records = kept.go_on(state, done)
        if done == steps and kept and validate is not None:
            _history.validate_end(course, state, records, kept)
        ended = course.start(opened, kept.folder("."), done, records, state)
        progress = progress and together.speaks
        show = opened.enter_context(_progress.progress(label, done, steps, progress))
        history = _history.History(records, window, done, kept, show)
        trace = _profile.Trace(kept.folder("profile"), *traced, on=together.speaks)
        opened.enter_context(trace)
        while done < steps and not ended:
            trace.at(done)
            start, unasked = done, checkpoint_every is None and kept.may_save()
            state, done, told = run.run(state, start, unasked or course.acts)
            together.agree()
            unasked = checkpoint_every is None and kept.may_save()
            ahead = run.ahead(state, done, unasked or course.acts or together.noted)
            history.add(start, told)
            for due in periods.stops(start, done):
                record = history.close(due)
                if validate is not None and due.validation:
                    record["validation"] = course.validation(state)
                saves = due.checkpoint or (unasked and due.record and due.done == done)
                if len(record) > 1:
                    record.update(_epochs.done(due.done, per_epoch))
                    state, ended = course.follow(history.records, record, state)
                    saves = saves or ended
                history.keep(record, durable=saves)
                kept.poll()
                if saves:
                    course.write(done)
                    kept.save(done, state, run.at, history.window, history.last)
            if together.noted and not ahead:
                course.write(done)
                kept.save(done, state, run.at, history.window, history.last)
                kept.stopped(done, together.noted)
                together.act()
    return course.answer(state, history.records)
