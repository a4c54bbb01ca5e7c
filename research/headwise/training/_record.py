"""The record of a window of steps: means of what its steps told."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np

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


def make_record(done: int, window: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a window that ends with step `done`.

    Means are over the steps in which a head was there: None if it never was.

    Args:
        done: number of steps done.
        window: sums, as in `_window`.
    """
    heads = window["heads"]
    record: dict[str, Any] = {
        "step": done,
        "values": {n: _mean(head["total"], head["count"]) for n, head in heads.items()},
        "weights": {
            n: _mean(head["weight"], head["there"]) for n, head in heads.items()
        },
        "grad_norm": _mean(window["grad_norm"], window["steps"]),
    }
    broken = {n: head["broken"] for n, head in heads.items() if head["broken"]}
    if broken:
        record["broken"] = broken
    if window["pairs"]:
        record["conflicts"] = _mean(window["conflicts"], window["pairs"])
    for name in ("contributions", "changed", "skipped", "loss_scale"):
        if window[name]:
            record[name] = window[name]
    return record


def is_idle(record: Mapping[str, Any]) -> bool:
    """Whether all weights and gradients of the window were 0: nothing was trained."""
    return record["grad_norm"] == 0 and not any(record["weights"].values())


def contributions(report: gradients.Contributions | None) -> dict[str, Any] | None:
    """What a step reported, by module; None between two samples and without any."""
    if report is None or np.isnan(report.norm).all():
        return None
    return _by_module(report)


def _mean(total: float, count: float) -> float | None:
    mean = total / count if count else math.nan
    return mean if math.isfinite(mean) else None


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
