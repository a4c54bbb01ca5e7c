"""Losses: pure functions from predictions and targets to unreduced values.

All take `loss(preds, targets, *, where=None, ...)`, are channel-last with the batch
first, and work for any number of spatial axes. Reduction is done once, elsewhere
(`hw.Objective`), so any optax loss or own callable whose result has the batch as its
leading axis serves as a head's loss as well.
"""

from headwise._distance import distance_transform
from headwise.losses._boundary import boundary
from headwise.losses._boundary import hausdorff
from headwise.losses._checked import checked
from headwise.losses._compound import dice_ce
from headwise.losses._compound import dice_focal
from headwise.losses._compound import generalized_dice_focal
from headwise.losses._cross_entropy import binary_cross_entropy
from headwise.losses._cross_entropy import cross_entropy
from headwise.losses._cross_entropy import poly
from headwise.losses._deep_supervision import deep_supervision
from headwise.losses._depth import berhu
from headwise.losses._depth import gradient_matching
from headwise.losses._depth import scale_invariant_log
from headwise.losses._focal import binary_focal
from headwise.losses._focal import focal
from headwise.losses._generalized_dice import generalized_dice
from headwise.losses._mix import mix
from headwise.losses._normals import normal_cosine
from headwise.losses._region import dice
from headwise.losses._region import iou
from headwise.losses._region import tversky
from headwise.losses._regression import absolute_error
from headwise.losses._regression import huber
from headwise.losses._regression import squared_error
from headwise.losses._ssim import ssim

__all__ = (
    "absolute_error",
    "berhu",
    "binary_cross_entropy",
    "binary_focal",
    "boundary",
    "checked",
    "cross_entropy",
    "deep_supervision",
    "dice",
    "dice_ce",
    "dice_focal",
    "distance_transform",
    "focal",
    "generalized_dice",
    "generalized_dice_focal",
    "gradient_matching",
    "hausdorff",
    "huber",
    "iou",
    "mix",
    "normal_cosine",
    "poly",
    "scale_invariant_log",
    "squared_error",
    "ssim",
    "tversky",
)
