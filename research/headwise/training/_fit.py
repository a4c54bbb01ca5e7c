"""A training loop: progress, metrics, checkpoints, exact resume, stop on NaN."""

import itertools
import math
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress

from headwise.training import _checkpoints
from headwise.training import _metrics
from headwise.training import _step

Step = Callable[[_step.TrainState, Any], tuple[_step.TrainState, _step.StepInfo]]


class NonFiniteError(FloatingPointError):
    """A value or gradient is not finite; `step` is the first step where it is not."""

    def __init__(self, step: int, what: str):
        super().__init__(f"step {step}: {what} is not finite")
        self.step = step
        self.what = what


def fit(
    step: Step,
    state: _step.TrainState,
    batches: Callable[[int], Any] | Iterable[Any],
    steps: int,
    *,
    workdir: str | os.PathLike | None = None,
    validate: Callable[[Any, Any], Mapping[str, Any]] | None = None,
    validate_every: int | None = None,
    log_every: int = 10,
    checkpoint_every: int | None = None,
    report: Step | None = None,
    report_every: int | None = None,
    progress: bool = True,
    label: str = "training",
) -> tuple[_step.TrainState, list[dict[str, Any]]]:
    """Trains until `steps` steps are done; goes on from a checkpoint in `workdir`.

    The host looks at results only every `log_every` steps, so the device never
    waits for it in between. An interrupted and resumed run ends with the same state
    and the same metrics file as an uninterrupted one.

    Args:
        step: of `make_step`. If it is not jitted, it is, and its state donated.
        state: the first state (`init_state`); replaced by the newest checkpoint.
        batches: `batches(t)` -> the batch of step t (best: resumes exactly, no
            state), or an iterable. On resume a grain iterator's own state is
            restored; any other iterable is read forward to where it was.
        steps: the state's step at the end.
        workdir: folder for `metrics.jsonl`, `tensorboard/` (if tensorboardX is
            installed) and `checkpoints/`; None keeps nothing.
        validate: `(params, rest) -> {name: scalar}`, run every `validate_every` steps
            and at the end.
        log_every: a record a so many steps: means of values and weights over them.
        checkpoint_every: a multiple of `log_every`; the end is always kept.
        report: like `step`, of `make_step(..., contributions=True)`: takes the place
            of `step` every `report_every` steps, so that the metrics say what each
            head contributed to every module.
        progress: show a bar (on a terminal).
        label: of the bar.

    Returns:
        (state, history): history holds the records of the metrics file, dicts with
        `step`, `values`, `weights`, `grad_norm` and, where they were made,
        `validation` and `contributions`.

    Raises:
        NonFiniteError: a value of a head with a weight, or the gradient, is not
            finite; it names the step. Nothing of that is checkpointed.
        ValueError: a period is not positive, or `checkpoint_every` no multiple of
            `log_every`; the batches end too early.

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
        if period is not None and period < 1:
            raise ValueError(f"{name}: expected a positive number, got {period}")
    if checkpoint_every is not None and checkpoint_every % log_every:
        raise ValueError(
            f"checkpoint_every: expected a multiple of log_every={log_every}, got "
            f"{checkpoint_every}"
        )
    step, state = _compiled(step, state)
    report = None if report is None else _compiled(report, state)[0]
    checkpoints = writer = None
    try:
        if workdir is not None:
            path = pathlib.Path(workdir)
            path.mkdir(parents=True, exist_ok=True)
            checkpoints = _checkpoints.Checkpoints(path / "checkpoints")
            if checkpoints.latest is not None:
                state = checkpoints.restore(state)
            writer = _metrics.MetricsWriter(path, int(state.step))
        history = [] if writer is None else list(writer.history)
        first = int(state.step)
        batch_of = _batches(batches, first, checkpoints)
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[shown]}"),
        )
        with rich.progress.Progress(*columns, disable=not progress) as bar:
            task = bar.add_task(label, total=steps, completed=first, shown="")
            window: list[_step.StepInfo] = []
            for t in range(first, steps):
                take = step
                if report is not None and report_every and t % report_every == 0:
                    take = report
                state, info = take(state, batch_of(t))
                window.append(info)
                done = t + 1
                last = done == steps
                if done % log_every and not last:
                    continue
                record = _record(done, window)
                window = []
                if validate is not None and (
                    last or (validate_every and done % validate_every == 0)
                ):
                    metrics = jax.device_get(validate(state.params, state.rest))
                    record["validation"] = _plain(metrics)
                history.append(record)
                if writer is not None:
                    writer.write(record)
                if checkpoints is not None and (
                    last or (checkpoint_every and done % checkpoint_every == 0)
                ):
                    checkpoints.save(done, state, _data_state(batches, batch_of))
                shown = " ".join(
                    f"{n} {np.nan if v is None else v:.3g}"
                    for n, v in record["values"].items()
                )
                bar.update(task, completed=done, shown=shown)
        return state, history
    finally:
        if checkpoints is not None:
            checkpoints.__exit__()
        if writer is not None:
            writer.close()


def _compiled(step: Step, state: _step.TrainState) -> tuple[Step, _step.TrainState]:
    if hasattr(step, "lower"):
        return step, state
    # The caller keeps the state that was given: only the copies are donated.
    return jax.jit(step, donate_argnums=0), jax.tree.map(jnp.copy, state)


class _Reader:
    """Batches of an iterable, one a step."""

    def __init__(self, iterator: Iterator[Any]):
        self.iterator = iterator

    def __call__(self, t: int) -> Any:
        try:
            return next(self.iterator)
        except StopIteration:
            raise ValueError(
                f"batches: expected a batch for step {t}, but the iterable has ended"
            ) from None


def _batches(
    batches: Callable[[int], Any] | Iterable[Any],
    first: int,
    checkpoints: _checkpoints.Checkpoints | None,
) -> Callable[[int], Any]:
    if callable(batches):
        return batches
    reader = _Reader(iter(batches))
    if first:
        note = None if checkpoints is None else checkpoints.note
        if note is not None and hasattr(reader.iterator, "set_state"):
            reader.iterator.set_state(note)
        else:
            for _ in itertools.islice(reader.iterator, first):
                pass
    return reader


def _data_state(batches: Any, batch_of: Any) -> Any:
    if callable(batches) or not hasattr(batch_of.iterator, "get_state"):
        return None
    return batch_of.iterator.get_state()


def _plain(tree: Any) -> Any:
    """Nested dicts of Python floats; what is not finite becomes None (JSON)."""
    if isinstance(tree, Mapping):
        return {name: _plain(value) for name, value in tree.items()}
    value = float(tree)
    return value if math.isfinite(value) else None


def _record(done: int, window: list[_step.StepInfo]) -> dict[str, Any]:
    """The record of a window of steps; raises at its first step that is not finite."""
    infos = jax.device_get(window)
    for i, info in enumerate(infos):
        at = done - len(infos) + i
        for name, value in info.values.items():
            if not np.isfinite(value) and info.weights[name] != 0:
                raise NonFiniteError(at, f"the value of head {name!r}")
        if not np.isfinite(info.grad_norm):
            raise NonFiniteError(at, "the gradient")
    record = {
        "step": done,
        "values": _mean([info.values for info in infos]),
        "weights": _mean([info.weights for info in infos]),
        "grad_norm": _plain(np.mean([info.grad_norm for info in infos])),
    }
    # Of a balancer that needs values alone, only the reporting steps know conflicts.
    # One that is refreshed now and then, and sampled contributions, are NaN between.
    conflicts = [info.conflicts for info in infos if info.conflicts is not None]
    known = [found for found in conflicts if np.isfinite(found)]
    if known:
        record["conflicts"] = _plain(np.mean(known))
    reports = [info.contributions for info in infos if info.contributions is not None]
    reports = [found for found in reports if not np.isnan(found.norm).all()]
    if reports:
        record["contributions"] = _by_module(reports[-1])
    return record


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: _plain(np.mean([row[name] for row in rows])) for name in rows[0]}


def _by_module(c: Any) -> dict[str, Any]:
    """{module: {head: {norm, share}, "cosine": {"a|b": cosine}}}."""
    found: dict[str, Any] = {}
    for m, module in enumerate(c.modules):
        found[module] = {
            name: {"norm": _plain(c.norm[m, h]), "share": _plain(c.share[m, h])}
            for h, name in enumerate(c.names)
        }
        found[module]["cosine"] = {
            f"{a}|{b}": _plain(c.cosine[m, i, j])
            for i, a in enumerate(c.names)
            for j, b in enumerate(c.names)
            if i < j
        }
    return found
