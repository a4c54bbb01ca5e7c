"""Training: the only place that composes objective, gradients and balancers.

A pure `step(state, batch)`, and a loop with progress, metrics, checkpoints and exact
resume on top. Neither is needed to use the rest.
"""

from headwise.training._balanced_grad import balanced_grad
from headwise.training._bilevel import BilevelDecision
from headwise.training._bilevel import BilevelInfo
from headwise.training._bilevel import BilevelMethod
from headwise.training._bilevel import BilevelProblem
from headwise.training._bilevel import BilevelState
from headwise.training._bilevel import init_bilevel_state
from headwise.training._bilevel_forum import forum
from headwise.training._bilevel_methods import auto_lambda
from headwise.training._bilevel_methods import moml
from headwise.training._bilevel_step import make_bilevel_step
from headwise.training._checkpoints import Checkpoints
from headwise.training._evaluate import evaluate
from headwise.training._extra_args import hold_absent
from headwise.training._fit import fit
from headwise.training._info import Info
from headwise.training._loss_scale import dynamic_loss_scale
from headwise.training._loss_scale import LossScale
from headwise.training._loss_scale import LossScaleState
from headwise.training._metrics import read_metrics
from headwise.training._predict import predict
from headwise.training._record import NonFiniteError
from headwise.training._sharding import fsdp_shardings
from headwise.training._sharding import shard_batch
from headwise.training._state import init_state
from headwise.training._state import StepInfo
from headwise.training._state import TrainState
from headwise.training._step import make_step
from headwise.training._workdir import claim_workdir
from headwise.training._workdir import hold_workdir
from headwise.training._workdir import WorkdirError

__all__ = (
    "BilevelDecision",
    "BilevelInfo",
    "BilevelMethod",
    "BilevelProblem",
    "BilevelState",
    "Checkpoints",
    "Info",
    "LossScale",
    "LossScaleState",
    "NonFiniteError",
    "StepInfo",
    "TrainState",
    "WorkdirError",
    "auto_lambda",
    "balanced_grad",
    "claim_workdir",
    "dynamic_loss_scale",
    "evaluate",
    "fit",
    "forum",
    "fsdp_shardings",
    "hold_absent",
    "hold_workdir",
    "init_bilevel_state",
    "init_state",
    "make_bilevel_step",
    "make_step",
    "moml",
    "predict",
    "read_metrics",
    "shard_batch",
)
