"""The record of a window of steps: means, and an error at what is not finite."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import jax
import numpy as np

from headwise import _means
from headwise import gradients
from headwise.typing import Array


class Info(Protocol):
    """What a step tells `fit`, whatever else it tells: `StepInfo`, `BilevelInfo`."""

    @property
    def values(self) -> dict[str, Array]:
        """Raw value of each head, before the step."""

    @property
    def weights(self) -> dict[str, Array]:
        """Weight of each head."""

    @property
    def grad_norm(self) -> Array:
        """Norm of the gradient that went into the optimiser."""

    @property
    def conflicts(self) -> Array | None:
        """Number of conflicting pairs of heads; None or NaN where it is not known."""

    @property
    def contributions(self) -> gradients.Contributions | None:
        """None or NaN where they are not known."""

    @property
    def present(self) -> dict[str, Array] | None:
        """Whether each head counted; None if all did."""


class NonFiniteError(FloatingPointError):
    """A value or gradient is not finite; `step` is the first step where it is not.

    `heads` are those that are known to be at fault.
    """

    def __init__(self, step: int, what: str, heads: Sequence[str] = ()):
        super().__init__(f"step {step}: {what} is not finite")
        self.step = step
        self.what = what
        self.heads = tuple(heads)


def plain(tree: Any) -> Any:
    """Nested dicts of Python floats; what is not finite becomes None (JSON)."""
    if isinstance(tree, Mapping):
        return {name: plain(value) for name, value in tree.items()}
    value = float(tree)
    return value if math.isfinite(value) else None


def make_record(done: int, window: Sequence[Info]) -> dict[str, Any]:
    """The record of a window of steps; raises at its first step that is not finite.

    Means are over the steps in which a head was there: None if it never was.
    """
    infos = jax.device_get(window)
    first = done - len(infos)
    _refuse_non_finite(first, infos)
    _refuse_broken(first, infos)
    names = list(infos[0].values)
    record: dict[str, Any] = {
        "step": done,
        "values": {name: _mean_value(name, infos) for name in names},
        "weights": {name: _mean_weight(name, infos) for name in names},
        "grad_norm": plain(np.mean([info.grad_norm for info in infos])),
    }
    broken = _steps_broken(names, infos)
    if broken:
        record["broken"] = broken
    # Of a balancer that needs values alone, only the reporting steps know conflicts.
    # One that is refreshed now and then, and sampled contributions, are NaN between.
    conflicts = [info.conflicts for info in infos if info.conflicts is not None]
    conflicts = [count for count in conflicts if np.isfinite(count)]
    if conflicts:
        record["conflicts"] = plain(np.mean(conflicts))
    reports = [info.contributions for info in infos if info.contributions is not None]
    reports = [report for report in reports if not np.isnan(report.norm).all()]
    if reports:
        record["contributions"] = _by_module(reports[-1])
    return record


def _refuse_non_finite(first: int, infos: Sequence[Any]) -> None:
    for at, info in enumerate(infos, first):
        for name, value in info.values.items():
            if not np.isfinite(value) and info.weights[name] != 0:
                raise NonFiniteError(at, f"the value of head {name!r}", [name])
        if not np.isfinite(info.grad_norm):
            raise NonFiniteError(at, "the gradient")


def _refuse_broken(first: int, infos: Sequence[Any]) -> None:
    """Raises where nothing is left to train on, or a head never recovers.

    A balancer leaves out a head that is not finite, so that the gradient stays finite
    and nothing else would say it.
    """
    seen: dict[str, list[int]] = {}
    failed: dict[str, list[int]] = {}
    for at, info in enumerate(infos, first):
        broken = getattr(info, "broken", None)
        if broken is None:
            continue
        with_data = [n for n in broken if broken[n] or _here(n, info)]
        if with_data and all(broken[n] for n in with_data):
            heads = ", ".join(map(repr, with_data))
            what = f"the value or gradient of every head that has data ({heads})"
            raise NonFiniteError(at, what, with_data)
        for name in with_data:
            seen.setdefault(name, []).append(at)
            if broken[name]:
                failed.setdefault(name, []).append(at)
    for name, steps in failed.items():
        if len(steps) > 1 and steps == seen[name]:
            raise NonFiniteError(
                steps[0],
                f"the value or gradient of head {name!r}, there and in all "
                f"{len(steps)} steps of a record in which it has data,",
                [name],
            )


def _steps_broken(names: Sequence[str], infos: Sequence[Any]) -> dict[str, int]:
    """{name: number of steps} of heads that were left out for what is not finite."""
    flags = [info.broken for info in infos if getattr(info, "broken", None) is not None]
    numbers = {name: sum(bool(broken[name]) for broken in flags) for name in names}
    return {name: number for name, number in numbers.items() if number}


def _here(name: str, info: Any) -> bool:
    present = getattr(info, "present", None)
    return present is None or bool(present[name])


def _mean_value(name: str, infos: Sequence[Any]) -> float | None:
    """Σ count * value / Σ count; without counts a plain mean over the steps."""
    pairs = [
        (_means.tally_of(info.values).counts.get(name, 1.0), info.values[name])
        for info in infos
        if _here(name, info)
    ]
    pairs = [(count, value) for count, value in pairs if count != 0]
    if not pairs:
        return None
    counts, values = np.asarray(pairs, np.float64).T
    return plain(np.sum(counts * values) / np.sum(counts))


def _mean_weight(name: str, infos: Sequence[Any]) -> float | None:
    weights = [float(info.weights[name]) for info in infos if _here(name, info)]
    return plain(np.mean(weights)) if weights else None


def _by_module(c: Any) -> dict[str, Any]:
    """{module: {head: {norm, share, pull, "cosine": {a head after it: cosine}}}}.

    Of a head that does not move the module norm and share alone, which are 0.
    """
    modules: dict[str, Any] = {}
    for m, module in enumerate(c.modules):
        row: dict[str, Any] = {name: {"norm": 0.0, "share": 0.0} for name in c.names}
        moving = np.flatnonzero(c.norm[m])
        for i, h in enumerate(moving):
            row[c.names[h]] = {
                "norm": plain(c.norm[m, h]),
                "share": plain(c.share[m, h]),
                "pull": None if c.pull is None else plain(c.pull[m, h]),
                "cosine": {
                    c.names[k]: plain(c.cosine[m, h, k]) for k in moving[i + 1 :]
                },
            }
        modules[module] = row | _pairs(row)
    return modules


def _pairs(row: Mapping[str, Any]) -> dict[str, Any]:
    """{"cosine": {"a|b": cosine}}, as in 0.2.0, unless a head has that name.

    Deprecated: names may hold a "|".
    """
    if "cosine" in row:
        return {}
    cosines = {name: entry.get("cosine", {}) for name, entry in row.items()}
    pairs = {f"{a}|{b}": x for a, others in cosines.items() for b, x in others.items()}
    return {"cosine": pairs}
