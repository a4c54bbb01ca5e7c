"""Sweeps: designs of loss weights, and trials that share one compiled program."""

from headwise.sweeps._designs import dirichlet
from headwise.sweeps._designs import grid
from headwise.sweeps._designs import log_grid
from headwise.sweeps._designs import rows
from headwise.sweeps._designs import simplex
from headwise.sweeps._designs import sobol
from headwise.sweeps._run import read_trials
from headwise.sweeps._run import run

__all__ = (
    "dirichlet",
    "grid",
    "log_grid",
    "read_trials",
    "rows",
    "run",
    "simplex",
    "sobol",
)
