"""A training loop: progress, metrics, checkpoints, exact resume, stop on NaN."""

import contextlib
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from headwise import _checks
from headwise import _records
from headwise import _trees
from headwise.training import _batches
from headwise.training import _bilevel
from headwise.training import _checkpoints
from headwise.training import _fingerprint
from headwise.training import _first_batch
from headwise.training import _metrics
from headwise.training import _record
from headwise.training import _resume
from headwise.training import _step
from headwise.training import _workdir

StateT = TypeVar("StateT", _step.TrainState, _bilevel.BilevelState)


def fit(
    step: Callable[[StateT, Any], tuple[StateT, Any]],
    state: StateT,
    batches: Callable[[int], Any] | Iterable[Any],
    steps: int,
    *,
    workdir: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    validate: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    validate_every: int | None = None,
    log_every: int = 10,
    checkpoint_every: int | None = None,
    report: Callable[[StateT, Any], tuple[StateT, Any]] | None = None,
    report_every: int | None = None,
    progress: bool = True,
    label: str = "training",
    check: bool = True,
) -> tuple[StateT, list[dict[str, Any]]]:
    """Trains until `steps` steps are done; goes on from a checkpoint in `workdir`.

    The host looks at results only every `log_every` steps, so the device never
    waits for it in between. An interrupted and resumed run ends with the same state
    and the same metrics file as an uninterrupted one.

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
            an iterator that cannot be restarted (a generator): one that `fit` has
            read before, in this process, goes on where it stands.
        steps: the state's step at the end.
        workdir: folder for `metrics.jsonl`, `tensorboard/` (if tensorboardX is
            installed) and `checkpoints/`, held (`hold_workdir`) until `fit` is done;
            None keeps nothing.
        settings: {name: value} that JSON can hold, of all else that decides what comes
            out (flags): kept in the workdir's `run.json`, where other ones are an
            error, as in `claim_workdir`. None looks at none.
        validate: `(params, rest) -> {name: scalar}`, run at the end and when due.
        validate_every: every so many steps; None means at the end alone.
        log_every: a record a so many steps: means of values and weights over those in
            which a head has data, of values Σ count * value / Σ count (`hw.Means`);
            None if it has none.
        checkpoint_every: a multiple of `log_every`; the end is always kept.
        report: like `step`, made with `contributions=True`: takes the place of `step`
            every so many steps, so that the metrics say what each head contributed to
            every module.
        report_every: how many; None means never.
        progress: show a bar (on a terminal).
        label: of the bar.
        check: look at the first batch once, before the first step: preds and targets
            that make no sense to their losses (`hw.losses.checked`) are an error. It
            costs a forward pass and its compilation.

    Returns:
        (state, history): history holds the records of the metrics file, dicts with
        `step`, `values`, `weights`, `grad_norm` and, where they were made,
        `validation`, `contributions`, and `broken`: {head: number of steps} that a
        balancer left out for a value or gradient that is not finite.

    Raises:
        NonFiniteError: a value of a head with a weight, or the gradient, is not
            finite; or, where a balancer leaves such heads out, every head that has data
            is broken in a step, or a head in all steps (two or more) of a record in
            which it has data. It names step and heads. Nothing of that is checkpointed.
        ValueError: a period is no positive int, or `checkpoint_every` no multiple of
            `log_every`; the batches end too early; more than `steps` are done; values
            of the first batch make no sense.
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
    for name, period in (
        ("log_every", log_every),
        ("validate_every", validate_every),
        ("checkpoint_every", checkpoint_every),
        ("report_every", report_every),
    ):
        if period is not None:
            _checks.positive_int(name, period)
    if checkpoint_every is not None and checkpoint_every % log_every:
        raise ValueError(
            f"checkpoint_every: expected a multiple of log_every={log_every}, got "
            f"{checkpoint_every}"
        )
    step, state = _compiled(step, state)
    report = None if report is None else _compiled(report, state)[0]
    checkpoints = writer = program = None
    ahead: list[Any] = []
    changed: list[str] = []
    given = int(state.step)
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
            writer = _metrics.MetricsWriter(path, first, given)
            opened.enter_context(writer)
        history = [] if writer is None else list(writer.history)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[shown]}"),
        )
        with rich.progress.Progress(*columns, disable=not progress) as bar:
            task = bar.add_task(label, total=steps, completed=first, shown="")
            window: list[_record.Info] = []
            for t in range(first, steps):
                take = step
                if report is not None and report_every and t % report_every == 0:
                    take = report
                batch = ahead.pop() if ahead else batch_of(t)
                if check and t == first:
                    _first_batch.check_first_batch(step, state, batch)
                state, info = take(state, batch)
                window.append(info)
                done = t + 1
                last = done == steps
                if done % log_every and not last:
                    continue
                record = _record.make_record(done, window)
                window = []
                if changed:
                    record["changed"], changed = changed, []
                if validate is not None and (
                    last or (validate_every and done % validate_every == 0)
                ):
                    metrics = jax.device_get(validate(state.params, state.rest))
                    record["validation"] = _record.plain(metrics)
                history.append(record)
                kept = last or (checkpoint_every and done % checkpoint_every == 0)
                if writer is not None:
                    writer.write(record, durable=bool(kept))
                if checkpoints is not None:
                    checkpoints.poll()
                if checkpoints is not None and kept:
                    at = _batches.position(batches, batch_of)
                    checkpoints.save(done, state, _resume.note(state, program, at))
                shown = " ".join(
                    f"{n} {np.nan if v is None else v:.3g}"
                    for n, v in record["values"].items()
                )
                bar.update(task, completed=done, shown=shown)
        return state, history


def _compiled(
    step: Callable[[StateT, Any], tuple[StateT, Any]], state: StateT
) -> tuple[Callable[[StateT, Any], tuple[StateT, Any]], StateT]:
    state = jax.tree.map(_trees.strong, state)
    if hasattr(step, "lower"):
        return step, _trees.separate(state)
    # The caller keeps the state that was given: only the copies are donated.
    return jax.jit(step, donate_argnums=0), jax.tree.map(jnp.copy, state)
