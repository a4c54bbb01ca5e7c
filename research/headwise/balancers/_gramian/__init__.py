"""Balancers that look at the inner products of the head gradients: H passes a step.

Those without memory are a function from a gramian to weights, which `_from_gram` makes
a balancer: `mgda`, `upgrad`, `dualproj`, `cagrad`, `fairgrad`, `nash_mtl`, `imtl_g`,
`aligned_mtl`, `config`, `krum`, `pcgrad`. The others keep averages (`gradvac`, `pcd`),
learned weights (`gradnorm`, `imtl`), weights that move in small steps (`modo`,
`sdmgrad`), or go by the values too (`epo`, `pmgda`).

One factory a file, which has its name; a file without a factory is shared by several.
"""

from headwise.balancers._gramian._aligned_mtl import aligned_mtl
from headwise.balancers._gramian._cagrad import cagrad
from headwise.balancers._gramian._config import config
from headwise.balancers._gramian._dualproj import dualproj
from headwise.balancers._gramian._epo import epo
from headwise.balancers._gramian._fairgrad import fairgrad
from headwise.balancers._gramian._gradnorm import gradnorm
from headwise.balancers._gramian._gradvac import gradvac
from headwise.balancers._gramian._imtl import imtl
from headwise.balancers._gramian._imtl_g import imtl_g
from headwise.balancers._gramian._krum import krum
from headwise.balancers._gramian._mgda import mgda
from headwise.balancers._gramian._modo import modo
from headwise.balancers._gramian._nash_mtl import nash_mtl
from headwise.balancers._gramian._pcd import pcd
from headwise.balancers._gramian._pcgrad import pcgrad
from headwise.balancers._gramian._pmgda import pmgda
from headwise.balancers._gramian._sdmgrad import sdmgrad
from headwise.balancers._gramian._upgrad import upgrad

__all__ = (
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
