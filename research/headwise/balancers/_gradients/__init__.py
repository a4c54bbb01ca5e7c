"""Balancers that look at the head gradients themselves, and answer with a direction.

They act on every coordinate (`graddrop`, `trimmed_mean`), or keep averages or sums of
the gradients of every head (`db_mtl`, `moco`, `excess_mtl`), H times the parameters.

One factory a file, which has its name; a file without a factory is shared by several.
"""

from headwise.balancers._gradients._db_mtl import db_mtl
from headwise.balancers._gradients._excess_mtl import excess_mtl
from headwise.balancers._gradients._graddrop import graddrop
from headwise.balancers._gradients._moco import moco
from headwise.balancers._gradients._trimmed_mean import trimmed_mean

__all__ = (
    "db_mtl",
    "excess_mtl",
    "graddrop",
    "moco",
    "trimmed_mean",
)
