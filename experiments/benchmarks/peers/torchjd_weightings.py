# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "torchjd[full]==0.18.0"]
# ///
"""TorchJD's weightings of a gramian.

A request's data: `gramian`, a list of rows.
"""

import functools
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from _serve import seconds  # noqa: E402
from _serve import serve  # noqa: E402
from torchjd import aggregation  # noqa: E402

WEIGHTINGS = {
    "mgda": aggregation.MGDAWeighting,
    "upgrad": aggregation.UPGradWeighting,
    "dualproj": aggregation.DualProjWeighting,
    "cagrad": functools.partial(aggregation.CAGradWeighting, c=0.5),
    "pcgrad": aggregation.PCGradWeighting,
    "gradvac": aggregation.GradVacWeighting,
    "imtl_g": aggregation.IMTLGWeighting,
    "nash_mtl": aggregation.NashMTL,
    "fairgrad": functools.partial(aggregation.FairGradWeighting, alpha=1.0),
    "aligned_mtl": aggregation.AlignedMTLWeighting,
}


def measure(name, calls, gramian):
    """Seconds of so many calls, after one that is not counted."""
    matrix = torch.tensor(gramian)
    if name == "nash_mtl":  # takes gradients: a square root has the same gramian
        weighting = aggregation.NashMTL(n_tasks=len(gramian))
        matrix = torch.linalg.cholesky(matrix + 1e-6 * torch.eye(len(gramian)))
    else:
        weighting = WEIGHTINGS[name]()
    call = functools.partial(weighting, matrix)
    call()
    taken = []
    for _ in range(calls):
        if hasattr(weighting, "reset"):  # what it keeps would make the next call easy
            weighting.reset()
        taken.append(seconds(call))
    return taken


if __name__ == "__main__":
    serve(measure, WEIGHTINGS, ["torch", "torchjd"])
