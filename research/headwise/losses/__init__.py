"""Losses: pure functions from predictions and targets to unreduced values.

All take `loss(preds, targets, *, where=None, ...)`, are channel-last with the batch
first, and work for any number of spatial axes. Reduction is done once, elsewhere
(`hw.Objective`), so any optax loss or own callable whose result has the batch as its
leading axis serves as a head's loss as well.
"""

from headwise._distance import distance_transform
from headwise.losses._boundary import boundary
from headwise.losses._boundary import hausdorff
from headwise.losses._compound import dice_ce
from headwise.losses._compound import dice_focal
from headwise.losses._compound import generalized_dice_focal
from headwise.losses._cross_entropy import binary_cross_entropy
from headwise.losses._cross_entropy import cross_entropy
from headwise.losses._cross_entropy import poly
from headwise.losses._deep_supervision import deep_supervision
from headwise.losses._focal import binary_focal
from headwise.losses._focal import focal
from headwise.losses._generalized_dice import generalized_dice
from headwise.losses._mix import mix
from headwise.losses._region import dice
from headwise.losses._region import iou
from headwise.losses._region import tversky

__all__ = (
    "binary_cross_entropy",
    "binary_focal",
    "boundary",
    "cross_entropy",
    "deep_supervision",
    "dice",
    "dice_ce",
    "dice_focal",
    "distance_transform",
    "focal",
    "generalized_dice",
    "generalized_dice_focal",
    "hausdorff",
    "iou",
    "mix",
    "poly",
    "tversky",
)
