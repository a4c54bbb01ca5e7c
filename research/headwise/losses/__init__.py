"""Losses: pure functions from predictions and targets to unreduced values.

All take `loss(preds, targets, *, where=None, ...)`, are channel-last with the batch
first, and work for any number of spatial axes. Reduction is done once, elsewhere
(`hw.Objective`), so any optax loss or own callable whose result has the batch as its
leading axis serves as a head's loss as well.
"""

from headwise.losses._generalized_dice import generalized_dice
from headwise.losses._mix import mix
from headwise.losses._region import dice
from headwise.losses._region import iou
from headwise.losses._region import tversky

__all__ = (
    "dice",
    "generalized_dice",
    "iou",
    "mix",
    "tversky",
)
