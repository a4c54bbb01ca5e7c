"""Balancers that look at the values of the heads alone: one backward pass a step.

Fixed weights (`constant`, `equal`, `scheduled`) and drawn ones (`random_weighting`);
weights that are learned beside the model (`uncertainty`, `imtl_l`, `famo`, `ldc`);
weights by how values develop (`dwa`, `softadapt`, `relobralo`, `go4align`) or how large
they are (`uw_so`); derivatives of one total of all values (the others), which
`_derivatives` makes.

One factory a file, which has its name; a file without a factory is shared by several.
"""

from headwise.balancers._values._constant import constant
from headwise.balancers._values._cosmos import cosmos
from headwise.balancers._values._dwa import dwa
from headwise.balancers._values._equal import equal
from headwise.balancers._values._famo import famo
from headwise.balancers._values._gls import gls
from headwise.balancers._values._go4align import go4align
from headwise.balancers._values._imtl_l import imtl_l
from headwise.balancers._values._ldc import ldc
from headwise.balancers._values._p_norm import p_norm
from headwise.balancers._values._pbi import pbi
from headwise.balancers._values._random_weighting import random_weighting
from headwise.balancers._values._relobralo import relobralo
from headwise.balancers._values._scalarization import scalarization
from headwise.balancers._values._scheduled import scheduled
from headwise.balancers._values._softadapt import softadapt
from headwise.balancers._values._stch import stch
from headwise.balancers._values._stch_set import stch_set
from headwise.balancers._values._tchebycheff import tchebycheff
from headwise.balancers._values._uncertainty import uncertainty
from headwise.balancers._values._uw_so import uw_so

__all__ = (
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
