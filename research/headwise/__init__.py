"""Headwise: multi-task training for JAX.

A model has heads, heads have losses, losses have weights, and every head's gradient can
be seen. From the bottom up:

========================= ==========================================================
`hw.losses`, `hw.metrics` arrays to unreduced values; to sums over a stream
`hw.Objective`            named heads to raw values and the weighted total
`hw.head_grads`, ...      what each head does to every parameter (`hw.gradients`)
`hw.balancers`            `(init, update)` pairs that weigh the heads
`hw.balanced_grad`        the gradient to apply, as a balancer decides
`hw.training`             the compiled step, and a loop on top of it
`hw.sweeps`               a training for every weighting and seed
`hw.pareto`, `hw.reports` fronts; tables and pictures
`hw.nn`, `hw.data`        Flax NNX parts; data sets from inside pip packages
`hw.solvers`              small convex programs inside the compiled step
========================= ==========================================================

`help(hw.head_grads)` and so on: every public name has shapes, formula and an example.
"""

import importlib as _importlib
import types as _types
import typing as _typing

from headwise import balancers as balancers
from headwise import data as data
from headwise import gradients as gradients
from headwise import losses as losses
from headwise import metrics as metrics
from headwise import objective as objective
from headwise import pareto as pareto
from headwise import reports as reports
from headwise import solvers as solvers
from headwise import sweeps as sweeps
from headwise import training as training
from headwise._version import __version__ as __version__
from headwise.balancers import Balancer as Balancer
from headwise.balancers import Decision as Decision
from headwise.balancers import Signals as Signals
from headwise.gradients import affinity as affinity
from headwise.gradients import contributions as contributions
from headwise.gradients import cosines as cosines
from headwise.gradients import gramian as gramian
from headwise.gradients import group_heads as group_heads
from headwise.gradients import head_grads as head_grads
from headwise.gradients import head_gramian as head_gramian
from headwise.gradients import routing as routing
from headwise.objective import Means as Means
from headwise.objective import named as named
from headwise.objective import Objective as Objective
from headwise.training import balanced_grad as balanced_grad

if _typing.TYPE_CHECKING:
    from headwise import nn as nn

__all__ = (
    "Balancer",
    "Decision",
    "Means",
    "Objective",
    "Signals",
    "__version__",
    "affinity",
    "balanced_grad",
    "balancers",
    "contributions",
    "cosines",
    "data",
    "gradients",
    "gramian",
    "group_heads",
    "head_grads",
    "head_gramian",
    "losses",
    "metrics",
    "named",
    "nn",
    "objective",
    "pareto",
    "reports",
    "routing",
    "solvers",
    "sweeps",
    "training",
)


def __getattr__(name: str) -> _types.ModuleType:
    """`hw.nn` at its first use: Flax is a sixth of the time of an import."""
    if name == "nn":
        return _importlib.import_module("headwise.nn")
    raise AttributeError(f"module 'headwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "nn"})
