"""Records what MONAI's losses, metrics and a small training come to.

Run where it is installed; the tests of coming_from_monai.md need only the file
that it writes:

    pip install "monai==1.6.*" torch
    python -m tests.peers.record_monai

Two volumes of 6 x 5 x 4, three classes; nothing is random. Here arrays are
channel-first.
"""

import importlib.metadata
import json
import pathlib
import warnings

import numpy as np

from tests.peers import record_keras

waves, lists = record_keras.waves, record_keras.lists
TARGET = pathlib.Path(__file__).with_name("monai.json")
STEPS, RATE = 20, 0.2


def volumes():
    """Images [2, 6, 5, 4, 1] and labels [2, 6, 5, 4], channel-last."""
    image = waves((2, 6, 5, 4, 1), 2.0)
    z, y, x = np.meshgrid(np.arange(6), np.arange(5), np.arange(4), indexing="ij")
    inner = (z - 2.5) ** 2 + (y - 2) ** 2 + (x - 1.5) ** 2
    labels = np.stack([1 * (inner < 6) + (inner < 2), 1 * (z > 2) + 1 * (x > 2)])
    image = image + labels[..., None]
    return image.astype(np.float32), labels.astype(np.int32)


def first(array):
    """Channel-first, as a tensor."""
    import torch

    return torch.tensor(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def losses():
    """By name: the class, its arguments. What they are called with is in `main`."""
    softmax = {"to_onehot_y": True, "softmax": True}
    return {
        "dice": ("DiceLoss", softmax),
        "dice, no background": ("DiceLoss", softmax | {"include_background": False}),
        "dice, sigmoid": ("DiceLoss", {"to_onehot_y": True, "sigmoid": True}),
        "dice, squared": ("DiceLoss", softmax | {"squared_pred": True}),
        "dice, batch": ("DiceLoss", softmax | {"batch": True}),
        "dice, smooth": ("DiceLoss", softmax | {"smooth_nr": 0.0, "smooth_dr": 1.0}),
        "dice, weight": ("DiceLoss", softmax | {"weight": [0.2, 0.3, 0.5]}),
        "jaccard": ("DiceLoss", softmax | {"jaccard": True}),
        "tversky": ("TverskyLoss", softmax | {"alpha": 0.3, "beta": 0.7}),
        "generalized dice": (
            "GeneralizedDiceLoss",
            softmax | {"smooth_nr": 0.0, "smooth_dr": 0.0},
        ),
        "dice and ce": ("DiceCELoss", softmax),
        "dice and ce, parts": (
            "DiceCELoss",
            softmax
            | {"include_background": False, "lambda_dice": 0.7, "lambda_ce": 0.3},
        ),
        "dice and ce, sigmoid": ("DiceCELoss", {"to_onehot_y": True, "sigmoid": True}),
        "focal": ("FocalLoss", {"to_onehot_y": True, "gamma": 2.0, "alpha": 0.25}),
        "focal, softmax": ("FocalLoss", {"to_onehot_y": True, "use_softmax": True}),
        "dice and focal, sigmoid": (
            "DiceFocalLoss",
            {"to_onehot_y": True, "sigmoid": True},
        ),
        "dice and focal": ("DiceFocalLoss", softmax),
        "hausdorff": ("HausdorffDTLoss", softmax | {"include_background": True}),
    }


def loss_values(logits, labels):
    import torch
    from monai import losses as monai

    found = {}
    for name, (kind, arguments) in losses().items():
        if "weight" in arguments:
            arguments = arguments | {"weight": torch.tensor(arguments["weight"])}
        found[name] = float(getattr(monai, kind)(**arguments)(logits, labels))
    dice = monai.DiceLoss(to_onehot_y=True, softmax=True)
    low = logits[:, :, ::2, :, ::2]
    found["deep supervision"] = float(
        monai.DeepSupervisionLoss(dice)([logits, low.contiguous()], labels.float())
    )
    return found


def traps():
    """Values that surprise, of one channel or two."""
    import torch
    from monai import losses as monai

    empty, faint = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 1e-3)
    two = torch.tensor([[[2.0, -1.0], [0.5, 3.0]], [[-2.0, 1.0], [0.0, -3.0]]])[None]
    hard = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])[None]
    weight = torch.tensor([1.0, 2.0, 3.0])
    zeros, ones = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    found = {
        "empty target, p = 0.001": monai.DiceLoss()(faint, empty),
        "the same, smooth_nr=0": monai.DiceLoss(smooth_nr=0.0)(faint, empty),
        "both empty": monai.DiceLoss()(empty, empty),
        "both empty, no smooth": monai.DiceLoss(smooth_nr=0.0, smooth_dr=0.0)(
            empty, empty
        ),
        "weights 1, 2, 3, all wrong": monai.DiceLoss(weight=weight)(zeros, ones),
        "ce of sigmoid=True": monai.DiceCELoss(sigmoid=True, lambda_dice=0.0)(
            two, hard
        ),
        "binary ce": torch.nn.functional.binary_cross_entropy_with_logits(two, hard),
        "softmax ce": -(torch.log_softmax(two, 1) * hard).sum(1).mean(),
        "focal, sum": monai.FocalLoss(reduction="sum")(two, hard),
        "focal, none": monai.FocalLoss(reduction="none")(two, hard).sum(),
    }
    return {
        name: "NaN" if torch.isnan(value) else float(value)
        for name, value in found.items()
    }


def metrics(logits, labels):
    """One-hot predictions and labels, foreground classes; [B, C] or [C]."""
    from monai import metrics as monai
    from monai.networks.utils import one_hot

    hard = one_hot(logits.argmax(1, keepdim=True), 3)
    true = one_hot(labels, 3)
    rows = {
        "dice": monai.compute_dice(hard, true, include_background=False),
        "iou": monai.compute_iou(hard, true, include_background=False),
        "hausdorff": monai.compute_hausdorff_distance(
            hard, true, include_background=False
        ),
        "hausdorff 95": monai.compute_hausdorff_distance(
            hard, true, include_background=False, percentile=95
        ),
        "surface dice": monai.compute_surface_dice(
            hard, true, [1.0, 1.0], include_background=False
        ),
    }
    mean = monai.DiceMetric(include_background=False)
    mean(hard, true)
    found = {name: lists(row.numpy()) for name, row in rows.items()}
    return found | {"dice metric": float(mean.aggregate())}


def network():
    """Kernels [3, 3, 3, 1, 4] and [1, 1, 1, 4, 3], in the order of JAX; biases."""
    return {
        "body": (0.3 * waves((3, 3, 3, 1, 4), 1.0), 0.1 * waves((4,), 2.0)),
        "last": (waves((1, 1, 1, 4, 3), 3.0), 0.1 * waves((3,), 4.0)),
    }


def train():
    """A 3-D segmentation: DiceCE on the logits of two convolutions, and its Dice."""
    import torch
    from monai import losses as monai
    from monai import metrics as monai_metrics
    from monai.networks.utils import one_hot
    from torch import nn

    weights = network()
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, kernel_size=1)
    )
    for layer, (kernel, bias) in zip(
        (model[0], model[2]), weights.values(), strict=True
    ):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel.transpose(4, 3, 0, 1, 2).copy()))
            layer.bias.copy_(torch.tensor(bias))
    image, labels = volumes()
    image, labels = first(image), torch.tensor(labels)[:, None]
    loss_function = monai.DiceCELoss(
        to_onehot_y=True, softmax=True, include_background=False
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    told = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_function(model(image), labels)
        loss.backward()
        optimizer.step()
        told.append(float(loss.detach()))
    with torch.no_grad():
        hard = one_hot(model(image).argmax(1, keepdim=True), 3)
    mean = monai_metrics.DiceMetric(include_background=False)
    mean(hard, one_hot(labels, 3))
    return {"losses": told, "dice": float(mean.aggregate())}


def main():
    import torch

    warnings.simplefilter("ignore")
    _, labels = volumes()
    logits = 2 * waves((*labels.shape, 3), 1.0) + np.eye(3, dtype=np.float32)[labels]
    logits, labels = first(logits), torch.tensor(labels)[:, None]
    record = {
        "versions": {
            name: importlib.metadata.version(name) for name in ("monai", "torch")
        },
        "losses": loss_values(logits, labels),
        "traps": traps(),
        "metrics": metrics(logits, labels),
        "training": train(),
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
