"""Balancers: `(init, update)` pairs from signals about the heads to their weights.

A balancer says by `needs` what it must be shown, so that a step computes no more:
the values, their gradients' gramian, or the gradients themselves.
"""

from headwise.balancers._aligned_mtl import aligned_mtl
from headwise.balancers._bounded import clipped
from headwise.balancers._bounded import rescaled
from headwise.balancers._cagrad import cagrad
from headwise.balancers._config import config
from headwise.balancers._constant import constant
from headwise.balancers._constant import equal
from headwise.balancers._db_mtl import db_mtl
from headwise.balancers._dwa import dwa
from headwise.balancers._epo import epo
from headwise.balancers._every import every
from headwise.balancers._excess_mtl import excess_mtl
from headwise.balancers._fairgrad import fairgrad
from headwise.balancers._fairgrad import nash_mtl
from headwise.balancers._fallback import fallback
from headwise.balancers._famo import famo
from headwise.balancers._go4align import go4align
from headwise.balancers._graddrop import graddrop
from headwise.balancers._gradnorm import gradnorm
from headwise.balancers._gradvac import gradvac
from headwise.balancers._imtl import imtl
from headwise.balancers._imtl import imtl_g
from headwise.balancers._imtl_l import imtl_l
from headwise.balancers._krum import krum
from headwise.balancers._ldc import ldc
from headwise.balancers._mgda import mgda
from headwise.balancers._moco import moco
from headwise.balancers._norms import cosmos
from headwise.balancers._norms import gls
from headwise.balancers._norms import p_norm
from headwise.balancers._norms import pbi
from headwise.balancers._pcd import pcd
from headwise.balancers._pcgrad import pcgrad
from headwise.balancers._pmgda import pmgda
from headwise.balancers._preferences import with_preferences
from headwise.balancers._random import random_weighting
from headwise.balancers._relative import relobralo
from headwise.balancers._relative import softadapt
from headwise.balancers._scalarization import scalarization
from headwise.balancers._scheduled import scheduled
from headwise.balancers._smoothed import cr_mogm
from headwise.balancers._smoothed import smoothed
from headwise.balancers._stch_set import stch_set
from headwise.balancers._stochastic import modo
from headwise.balancers._stochastic import sdmgrad
from headwise.balancers._tchebycheff import stch
from headwise.balancers._tchebycheff import tchebycheff
from headwise.balancers._trimmed_mean import trimmed_mean
from headwise.balancers._types import Balancer
from headwise.balancers._types import Decision
from headwise.balancers._types import presence
from headwise.balancers._types import Signals
from headwise.balancers._uncertainty import uncertainty
from headwise.balancers._upgrad import dualproj
from headwise.balancers._upgrad import upgrad
from headwise.balancers._uw_so import uw_so
from headwise.balancers._warm_up import warm_up

FROM_VALUES = (
    "constant",
    "cosmos",
    "dwa",
    "equal",
    "famo",
    "gls",
    "go4align",
    "imtl_l",
    "ldc",
    "p_norm",
    "pbi",
    "random_weighting",
    "relobralo",
    "scalarization",
    "scheduled",
    "softadapt",
    "stch",
    "stch_set",
    "tchebycheff",
    "uncertainty",
    "uw_so",
)
"""Factories of balancers that look at the values alone."""

FROM_GRAMIAN = (
    "aligned_mtl",
    "cagrad",
    "config",
    "dualproj",
    "epo",
    "fairgrad",
    "gradnorm",
    "gradvac",
    "imtl",
    "imtl_g",
    "krum",
    "mgda",
    "modo",
    "nash_mtl",
    "pcd",
    "pcgrad",
    "pmgda",
    "sdmgrad",
    "upgrad",
)
"""Factories of balancers that look at the gradients' inner products."""

FROM_GRADIENTS = (
    "db_mtl",
    "excess_mtl",
    "graddrop",
    "moco",
    "trimmed_mean",
)
"""Factories of balancers that look at the gradients themselves."""

WRAPPERS = (
    "clipped",
    "cr_mogm",
    "every",
    "fallback",
    "rescaled",
    "smoothed",
    "warm_up",
    "with_preferences",
)
"""Factories that change what another balancer answers."""

__all__ = (
    "FROM_GRADIENTS",
    "FROM_GRAMIAN",
    "FROM_VALUES",
    "WRAPPERS",
    "Balancer",
    "Decision",
    "Signals",
    "aligned_mtl",
    "cagrad",
    "clipped",
    "config",
    "constant",
    "cosmos",
    "cr_mogm",
    "db_mtl",
    "dualproj",
    "dwa",
    "epo",
    "equal",
    "every",
    "excess_mtl",
    "fairgrad",
    "fallback",
    "famo",
    "gls",
    "go4align",
    "graddrop",
    "gradnorm",
    "gradvac",
    "imtl",
    "imtl_g",
    "imtl_l",
    "krum",
    "ldc",
    "mgda",
    "moco",
    "modo",
    "nash_mtl",
    "p_norm",
    "pbi",
    "pcd",
    "pcgrad",
    "pmgda",
    "presence",
    "random_weighting",
    "relobralo",
    "rescaled",
    "scalarization",
    "scheduled",
    "sdmgrad",
    "smoothed",
    "softadapt",
    "stch",
    "stch_set",
    "tchebycheff",
    "trimmed_mean",
    "uncertainty",
    "upgrad",
    "uw_so",
    "warm_up",
    "with_preferences",
)
