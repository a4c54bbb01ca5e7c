"""Balancers: `(init, update)` pairs from signals about the heads to their weights.

A balancer says by `needs` what it must be shown, so that a step computes no more: the
values, their gradients' gramian, or the gradients themselves. That is also the folder
that it is in; what goes around another balancer is in `_wrappers`, what they are all
made of in `_core`.
"""

from headwise.balancers import _gradients
from headwise.balancers import _gramian
from headwise.balancers import _values
from headwise.balancers import _wrappers
from headwise.balancers._core import Balancer as Balancer
from headwise.balancers._core import Decision as Decision
from headwise.balancers._core import Names as Names
from headwise.balancers._core import presence as presence
from headwise.balancers._core import Signals as Signals
from headwise.balancers._gradients import db_mtl as db_mtl
from headwise.balancers._gradients import excess_mtl as excess_mtl
from headwise.balancers._gradients import graddrop as graddrop
from headwise.balancers._gradients import moco as moco
from headwise.balancers._gradients import trimmed_mean as trimmed_mean
from headwise.balancers._gramian import aligned_mtl as aligned_mtl
from headwise.balancers._gramian import cagrad as cagrad
from headwise.balancers._gramian import config as config
from headwise.balancers._gramian import dualproj as dualproj
from headwise.balancers._gramian import epo as epo
from headwise.balancers._gramian import fairgrad as fairgrad
from headwise.balancers._gramian import gradnorm as gradnorm
from headwise.balancers._gramian import gradvac as gradvac
from headwise.balancers._gramian import imtl as imtl
from headwise.balancers._gramian import imtl_g as imtl_g
from headwise.balancers._gramian import krum as krum
from headwise.balancers._gramian import mgda as mgda
from headwise.balancers._gramian import modo as modo
from headwise.balancers._gramian import nash_mtl as nash_mtl
from headwise.balancers._gramian import pcd as pcd
from headwise.balancers._gramian import pcgrad as pcgrad
from headwise.balancers._gramian import pmgda as pmgda
from headwise.balancers._gramian import sdmgrad as sdmgrad
from headwise.balancers._gramian import upgrad as upgrad
from headwise.balancers._values import constant as constant
from headwise.balancers._values import cosmos as cosmos
from headwise.balancers._values import dwa as dwa
from headwise.balancers._values import equal as equal
from headwise.balancers._values import famo as famo
from headwise.balancers._values import gls as gls
from headwise.balancers._values import go4align as go4align
from headwise.balancers._values import imtl_l as imtl_l
from headwise.balancers._values import ldc as ldc
from headwise.balancers._values import p_norm as p_norm
from headwise.balancers._values import pbi as pbi
from headwise.balancers._values import random_weighting as random_weighting
from headwise.balancers._values import relobralo as relobralo
from headwise.balancers._values import scalarization as scalarization
from headwise.balancers._values import scheduled as scheduled
from headwise.balancers._values import softadapt as softadapt
from headwise.balancers._values import stch as stch
from headwise.balancers._values import stch_set as stch_set
from headwise.balancers._values import tchebycheff as tchebycheff
from headwise.balancers._values import uncertainty as uncertainty
from headwise.balancers._values import uw_so as uw_so
from headwise.balancers._wrappers import clip_heads as clip_heads
from headwise.balancers._wrappers import clipped as clipped
from headwise.balancers._wrappers import cr_mogm as cr_mogm
from headwise.balancers._wrappers import every as every
from headwise.balancers._wrappers import fallback as fallback
from headwise.balancers._wrappers import rescaled as rescaled
from headwise.balancers._wrappers import smoothed as smoothed
from headwise.balancers._wrappers import warm_up as warm_up
from headwise.balancers._wrappers import with_preferences as with_preferences

FROM_VALUES = _values.__all__
"""Names of the factories of balancers that look at the values alone."""

FROM_GRAMIAN = _gramian.__all__
"""Names of those that look at the gradients' inner products."""

FROM_GRADIENTS = _gradients.__all__
"""Names of those that look at the gradients themselves."""

WRAPPERS = _wrappers.__all__
"""Names of the factories that change what another balancer answers."""

__all__ = (
    "FROM_GRADIENTS",
    "FROM_GRAMIAN",
    "FROM_VALUES",
    "WRAPPERS",
    "Balancer",
    "Decision",
    "Names",
    "Signals",
    "presence",
    *FROM_GRADIENTS,
    *FROM_GRAMIAN,
    *FROM_VALUES,
    *WRAPPERS,
)
