"""Losses: pure functions from predictions and targets to unreduced values.

All take `loss(preds, targets, *, where=None, ...)`, are channel-last with the batch
first, and work for any number of spatial axes. Reduction is done once, elsewhere
(`hw.Objective`), so any optax loss or own callable whose result has the batch as its
leading axis serves as a head's loss as well.
"""

from headwise._distance import distance_transform
from headwise.losses._binary_cross_entropy import binary_cross_entropy
from headwise.losses._boundary import boundary
from headwise.losses._boundary import hausdorff
from headwise.losses._checked import checked
from headwise.losses._cldice import cldice
from headwise.losses._cldice import dice_cldice
from headwise.losses._cross_entropy import cross_entropy
from headwise.losses._cross_entropy import poly
from headwise.losses._deep_supervision import deep_supervision
from headwise.losses._depth import berhu
from headwise.losses._depth import gradient_matching
from headwise.losses._depth import scale_invariant_log
from headwise.losses._dice_ce import dice_ce
from headwise.losses._dice_focal import dice_focal
from headwise.losses._dice_focal import generalized_dice_focal
from headwise.losses._focal import binary_focal
from headwise.losses._focal import focal
from headwise.losses._generalized_dice import generalized_dice
from headwise.losses._lovasz import lovasz_hinge
from headwise.losses._lovasz import lovasz_softmax
from headwise.losses._matthews import mcc
from headwise.losses._matthews import sensitivity_specificity
from headwise.losses._mix import mix
from headwise.losses._normals import normal_cosine
from headwise.losses._region import dice
from headwise.losses._region import iou
from headwise.losses._region import tversky
from headwise.losses._regression import absolute_error
from headwise.losses._regression import huber
from headwise.losses._regression import squared_error
from headwise.losses._ssim import ssim
from headwise.losses._unified_focal import focal_tversky
from headwise.losses._unified_focal import unified_focal
from headwise.losses._wasserstein import generalized_wasserstein_dice

__all__ = (
    "absolute_error",
    "berhu",
    "binary_cross_entropy",
    "binary_focal",
    "boundary",
    "checked",
    "cldice",
    "cross_entropy",
    "deep_supervision",
    "dice",
    "dice_ce",
    "dice_cldice",
    "dice_focal",
    "distance_transform",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "generalized_dice_focal",
    "generalized_wasserstein_dice",
    "gradient_matching",
    "hausdorff",
    "huber",
    "iou",
    "lovasz_hinge",
    "lovasz_softmax",
    "mcc",
    "mix",
    "normal_cosine",
    "poly",
    "scale_invariant_log",
    "sensitivity_specificity",
    "squared_error",
    "ssim",
    "tversky",
    "unified_focal",
)
