"""Headwise: multi-task training for JAX.

Heads have losses, losses have weights, and every head's gradient can be seen.
"""

from importlib import metadata as _metadata

from headwise import balancers as balancers
from headwise import data as data
from headwise import gradients as gradients
from headwise import losses as losses
from headwise import metrics as metrics
from headwise import nn as nn
from headwise import objective as objective
from headwise import pareto as pareto
from headwise import reports as reports
from headwise import solvers as solvers
from headwise import sweeps as sweeps
from headwise import training as training
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
from headwise.objective import named as named
from headwise.objective import Objective as Objective
from headwise.training import balanced_grad as balanced_grad

try:
    __version__ = _metadata.version("headwise")
except _metadata.PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0.1.0"
