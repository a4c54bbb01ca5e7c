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

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _records
from headwise import _trees
from headwise.training import _batches
from headwise.training import _bilevel
from headwise.training import _checkpoints
from headwise.training import _course
from headwise.training import _default
from headwise.training import _due
from headwise.training import _epochs
from headwise.training import _fingerprint
from headwise.training import _first_batch
from headwise.training import _metrics
from headwise.training import _progress
from headwise.training import _record
from headwise.training import _resume
from headwise.training import _state
from headwise.training import _stop
from headwise.training import _window
from headwise.training import _workdir

_LOG = logging.getLogger("headwise")
_IDLE = "step %d: nothing is trained, all weights and gradients are 0"

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
) -> Any:
    """Trains until `steps` steps are done; goes on from a checkpoint in `workdir`.

    The host looks at results only where something is due, so the device never waits
    for it in between. Records, validations, reports and checkpoints each come every so
    many steps, of which none need divide another, and at the end; none changes another.
    An interrupted and resumed run ends with the same state and the same metrics file
    as an uninterrupted one.

    What was learned comes from the checkpoint. What you set comes from `state`, the
    weights of `constant` among it: a new weight acts, and a line says so (logger
    `headwise`, and `changed` in the next record). So does a step that is another
    program than before: another learning rate, optimiser or loss.

    Args:
        step: of `make_step` or `make_bilevel_step`. If it is not jitted, it is, and its
            state donated.
        state: the first state (`init_state`, `init_bilevel_state`), of arrays and
            numbers; replaced by the newest checkpoint.
        batches: `batches(t)` -> the batch of step t (best: resumes exactly, no
            state), or an iterable. On resume a grain iterator's own state is
            restored, and any other iterable is read forward to where it was, but for
            an iterator that cannot be restarted (a generator, `map`): one that `fit`
            has read before, in this process, goes on where it stands.
        steps: the state's step at the end; or give `epochs`.
        epochs: so many times `steps_per_epoch` steps. A record and a validation are due
            after each, unless given otherwise, and an iterable that ends starts anew.
        steps_per_epoch: None: as the batches tell, by `len(batches)` or an attribute of
            that name.
        workdir: folder for `metrics.jsonl`, `tensorboard/` (if tensorboardX is
            installed) and `checkpoints/`, held (`hold_workdir`) until `fit` is done;
            None keeps nothing.
        settings: {name: value} that JSON can hold, of all else that decides what comes
            out (flags): kept in the workdir's `run.json`, where other ones are an
            error, as in `claim_workdir`. None looks at none.
        validate: `(params, rest) -> {name: scalar}`, run at the end and when due. A
            metric of `hw.metrics` (`Ratio`) stands for its `value`.
        validate_every: every so many steps; None: each epoch, or at the end alone.
        log_every: a record every so many steps; None: each epoch, or every 10: means of
            values and weights over those in which a head has data, of values Σ count *
            value / Σ count (`hw.Means`); None if it has none.
        checkpoint_every: every so many steps. None: with each record, as long as that
            takes no more than half a second and a twentieth of the time.
        report: like `step`, made with `contributions=True`: takes the place of `step`
            every so many steps, so that the metrics say what each head contributed to
            every module.
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
        check: look at the first batch once, before the first step: preds and targets
            that make no sense to their losses (`hw.losses.checked`) are an error. It
            costs a forward pass and its compilation.

    Returns:
        (state, history); with `best` (state, history, best), a `Best`, or None if its
        metric was never finite. history holds the records of the metrics file, dicts
        with `step` and, every `log_every` steps and at the end, of the steps since the
        last multiple of `log_every`: `values`, `weights`, `grad_norm` and, where they
        were made, `conflicts`, `contributions` (the newest), and `broken`: {head:
        number of steps} that a balancer left out for a value or gradient that is not
        finite. `validation` stands in the record of its step; if no means are due
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
    for name, period in (
        ("log_every", log_every),
        ("validate_every", validate_every),
        ("checkpoint_every", checkpoint_every),
        ("report_every", report_every),
    ):
        if name == "log_every" or period is not None:
            _checks.positive_int(name, period)
    if not hasattr(state, "step"):
        raise TypeError(
            "state: expected that of init_state or init_bilevel_state, got "
            f"{_checks.kind(state)}"
        )
    course = _course.Course(stop, best, adjust, eval_params, validate, validate_every)
    step, state = _compiled(step, state)
    report = None if report is None else _compiled(report, state)[0]
    checkpoints = writer = program = None
    ahead: list[Any] = []
    given, window = int(state.step), _window.empty()
    for line in _default.overruled(step, state):
        _LOG.warning("weights of the step -> of the state, which act: %s", line)
    with contextlib.ExitStack() as opened:
        if workdir is not None:
            path = opened.enter_context(_workdir.hold_workdir(workdir))
            if settings is not None:
                settings = _records.json_settings(settings)
                _workdir.claim(path, settings, {}, alone=False)
            checkpoints = _checkpoints.Checkpoints(path / "checkpoints")
            opened.enter_context(checkpoints)
        first, position = _resume.start(checkpoints, given, steps)
        batch_of = _batches.reader(batches, first, given, position)
        if checkpoints is not None and first < steps:
            ahead = [batch_of(first)]
            always = report if report is not None and report_every == 1 else step
            program = _fingerprint.program(always, state, ahead[0])
        if checkpoints is not None:
            state, changed = _resume.resume(checkpoints, state, program)
            known = _resume.read(checkpoints)
            window = _window.from_text(known["window"])
            window["changed"] += changed
            writer = _metrics.MetricsWriter(path, first, known["recorded"])
            opened.enter_context(writer)
        history = [] if writer is None else list(writer.history)
        saving, done, idle = _due.Budget(), first, False
        stops = _due.stops(first, steps, log_every, validate_every, checkpoint_every)
        if first == steps and writer is not None and validate is not None:
            there = history and history[-1]["step"] == steps
            end: dict[str, Any] = history.pop() if there else {"step": steps}
            if "validation" not in end:
                _LOG.warning("%s: the end was not validated, which is done now", path)
                end["validation"] = course.validation(state)
                writer.write(end)
            history.append(end)
        folder = None if workdir is None else path
        ended = course.start(opened, folder, first, history, state)
        with _progress.progress(label, first, steps, progress) as show:
            for due in () if ended else stops:
                infos: list[_record.Info] = []
                for t in range(done, due.done):
                    take = step
                    if report is not None and _due.every(report_every, t):
                        take = report
                    batch = ahead.pop() if ahead else batch_of(t)
                    if check and t == first:
                        _first_batch.check_first_batch(step, state, batch)
                    state, info = take(state, batch)
                    infos.append(info)
                done = due.done
                window = _window.added(window, done, infos)
                record: dict[str, Any] = {"step": done}
                if due.record:
                    _window.refuse_broken(window)
                    record = _record.make_record(done, window)
                    if _record.is_idle(record) and not idle:
                        _LOG.warning(_IDLE, done)
                    idle = True
                    window = _window.told(window, due.whole)
                if validate is not None and due.validation:
                    record["validation"] = course.validation(state)
                unasked = checkpoint_every is None and due.record and saving.left()
                saves = due.checkpoint or unasked
                if len(record) > 1:
                    record.update(_epochs.done(done, per_epoch))
                    state, ended = course.follow(history, record, state)
                    saves = saves or ended
                    history.append(record)
                    if writer is not None:
                        writer.write(record, durable=saves)
                    show(record)
                if checkpoints is not None:
                    checkpoints.poll()
                if checkpoints is not None and saves:
                    at = _batches.position(batches, batch_of)
                    kept = _window.to_text(window)
                    recorded = history[-1]["step"] if history else None
                    note = _resume.note(state, program, at, kept, recorded)
                    with saving:
                        course.write(done)
                        checkpoints.save(done, state, note)
                if ended:
                    break
        return course.answer(state, history)


def _compiled(
    step: Callable[[StateT, Any], tuple[StateT, Any]], state: StateT
) -> tuple[Callable[[StateT, Any], tuple[StateT, Any]], StateT]:
    step = _first_batch.as_step(step)
    state = jax.tree.map(_trees.strong, state)
    if hasattr(step, "lower"):
        return step, _trees.separate(state)
    # The caller keeps the state that was given: only the copies are donated.
    return jax.jit(step, donate_argnums=0), jax.tree.map(jnp.copy, state)
