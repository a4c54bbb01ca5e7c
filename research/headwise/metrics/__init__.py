"""Metrics: pure functions from predictions and targets to sums that add up.

All take `metric(preds, targets, *, where=None, ...)` and return sums over what counts
(`Ratio` for the most part), so that a metric over a stream of uneven batches, or over
devices, is the one over all data: add the sums, and take `.value` at the end.
"""

from headwise.metrics._depth import depth_errors
from headwise.metrics._depth import DepthErrors
from headwise.metrics._normals import AngleHistogram
from headwise.metrics._normals import normal_angles
from headwise.metrics._ratio import add
from headwise.metrics._ratio import Ratio
from headwise.metrics._segmentation import dice
from headwise.metrics._segmentation import iou
from headwise.metrics._segmentation import pixel_accuracy
from headwise.metrics._surface import hausdorff_distance
from headwise.metrics._surface import surface_dice

__all__ = (
    "AngleHistogram",
    "DepthErrors",
    "Ratio",
    "add",
    "depth_errors",
    "dice",
    "hausdorff_distance",
    "iou",
    "normal_angles",
    "pixel_accuracy",
    "surface_dice",
)
