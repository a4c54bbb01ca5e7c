# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "monai==1.6.1"]
# ///
"""MONAI's losses, and torch's cross entropy: value and gradient of a volume.

A request's data: `shape` [B, *S, C] (made channels first, as MONAI wants it) and
`threads`.
"""

import functools
import warnings

import torch
from _serve import seconds
from _serve import serve

warnings.filterwarnings("ignore")
from monai.losses import DiceCELoss  # noqa: E402
from monai.losses import DiceLoss  # noqa: E402
from monai.losses import FocalLoss  # noqa: E402
from monai.losses import GeneralizedDiceLoss  # noqa: E402

_BOTH = {"softmax": True, "to_onehot_y": True}
_CROSS = torch.nn.CrossEntropyLoss()
LOSSES = {
    "dice": DiceLoss(**_BOTH),
    "generalized_dice": GeneralizedDiceLoss(**_BOTH),
    "ce": lambda z, y: _CROSS(z, y[:, 0]),
    "focal": FocalLoss(use_softmax=True, to_onehot_y=True),
    "dice_ce": DiceCELoss(**_BOTH),
}


@functools.lru_cache(maxsize=1)
def _arrays(shape):
    batch, *space, channels = shape
    logits = torch.randn(batch, channels, *space, requires_grad=True)
    return logits, torch.randint(0, channels, (batch, 1, *space))


def measure(name, calls, shape, threads):
    """Seconds of so many calls."""
    torch.set_num_threads(threads)
    logits, labels = _arrays(tuple(shape))
    loss, taken = LOSSES[name], []
    for _ in range(calls):
        taken.append(seconds(lambda: loss(logits, labels).backward()))
        logits.grad = None
    return taken


if __name__ == "__main__":
    serve(measure, LOSSES, ["torch", "monai"])
