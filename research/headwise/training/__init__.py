"""Training: the only place that composes objective, gradients and balancers.

A pure `step(state, batch)`, and a loop with progress, metrics, checkpoints and exact
resume on top. Neither is needed to use the rest.
"""

from headwise.training._balanced_grad import balanced_grad
from headwise.training._balanced_grad import Info
from headwise.training._checkpoints import Checkpoints
from headwise.training._fit import fit
from headwise.training._fit import NonFiniteError
from headwise.training._metrics import read_metrics
from headwise.training._step import init_state
from headwise.training._step import make_step
from headwise.training._step import StepInfo
from headwise.training._step import TrainState
from headwise.training._workdir import claim_workdir
from headwise.training._workdir import WorkdirError

__all__ = (
    "Checkpoints",
    "Info",
    "NonFiniteError",
    "StepInfo",
    "TrainState",
    "WorkdirError",
    "balanced_grad",
    "claim_workdir",
    "fit",
    "init_state",
    "make_step",
    "read_metrics",
)
