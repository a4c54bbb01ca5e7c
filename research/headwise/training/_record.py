"""The record of a window of steps: means, and an error at what is not finite."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import jax
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


class NonFiniteError(FloatingPointError):
    """A value or gradient is not finite; `step` is the first step where it is not."""

    def __init__(self, step: int, what: str):
        super().__init__(f"step {step}: {what} is not finite")
        self.step = step
        self.what = what


def plain(tree: Any) -> Any:
    """Nested dicts of Python floats; what is not finite becomes None (JSON)."""
    if isinstance(tree, Mapping):
        return {name: plain(value) for name, value in tree.items()}
    value = float(tree)
    return value if math.isfinite(value) else None


def make_record(done: int, window: Sequence[Info]) -> dict[str, Any]:
    """The record of a window of steps; raises at its first step that is not finite."""
    infos = jax.device_get(window)
    for i, info in enumerate(infos):
        at = done - len(infos) + i
        for name, value in info.values.items():
            if not np.isfinite(value) and info.weights[name] != 0:
                raise NonFiniteError(at, f"the value of head {name!r}")
        if not np.isfinite(info.grad_norm):
            raise NonFiniteError(at, "the gradient")
    record: dict[str, Any] = {
        "step": done,
        "values": _mean([info.values for info in infos]),
        "weights": _mean([info.weights for info in infos]),
        "grad_norm": plain(np.mean([info.grad_norm for info in infos])),
    }
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


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    # As floats: NumPy sums bfloat16 in bfloat16.
    return {
        name: plain(np.mean([float(row[name]) for row in rows])) for name in rows[0]
    }


def _by_module(c: Any) -> dict[str, Any]:
    """{module: {head: {norm, share}, "cosine": {"a|b": cosine}}}."""
    modules: dict[str, Any] = {}
    for m, module in enumerate(c.modules):
        modules[module] = {
            name: {"norm": plain(c.norm[m, h]), "share": plain(c.share[m, h])}
            for h, name in enumerate(c.names)
        }
        modules[module]["cosine"] = {
            f"{a}|{b}": plain(c.cosine[m, i, j])
            for i, a in enumerate(c.names)
            for j, b in enumerate(c.names)
            if i < j
        }
    return modules
