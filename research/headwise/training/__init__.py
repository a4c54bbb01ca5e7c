"""Training: the only place that composes objective, gradients and balancers.

A pure `step(state, batch)`, and a loop with progress, metrics, checkpoints and exact
resume on top. Neither is needed to use the rest.
"""

from headwise.training._balanced_grad import balanced_grad
from headwise.training._best import Best
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
from headwise.training._ema import averaged_params
from headwise.training._ema import ema
from headwise.training._evaluate import evaluate
from headwise.training._extra_args import hold_absent
from headwise.training._fit import fit
from headwise.training._info import Info
from headwise.training._loss_scale import dynamic_loss_scale
from headwise.training._loss_scale import LossScale
from headwise.training._loss_scale import LossScaleState
from headwise.training._metrics import read_metrics
from headwise.training._mlflow import mlflow_tracker
from headwise.training._plateau import plateau
from headwise.training._predict import predict
from headwise.training._program import program
from headwise.training._record import NonFiniteError
from headwise.training._sharding import fsdp_shardings
from headwise.training._sharding import shard_batch
from headwise.training._state import init_state
from headwise.training._state import StepInfo
from headwise.training._state import TrainState
from headwise.training._step import make_step
from headwise.training._stop import any_of
from headwise.training._stop import out_of_time
from headwise.training._stop import patience
from headwise.training._stop import reached
from headwise.training._tracker import Tracker
from headwise.training._wandb import wandb_tracker
from headwise.training._workdir import claim_workdir
from headwise.training._workdir import hold_workdir
from headwise.training._workdir import WorkdirError

__all__ = (
    "Best",
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
    "Tracker",
    "TrainState",
    "WorkdirError",
    "any_of",
    "auto_lambda",
    "averaged_params",
    "balanced_grad",
    "claim_workdir",
    "dynamic_loss_scale",
    "ema",
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
    "mlflow_tracker",
    "moml",
    "out_of_time",
    "patience",
    "plateau",
    "predict",
    "program",
    "reached",
    "read_metrics",
    "shard_batch",
    "wandb_tracker",
)
