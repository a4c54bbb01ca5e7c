"""Records LibMTL's weightings at work, for coming_from_libmtl.md and its test.

Run where it is installed; the tests need only the file that it writes:

    pip install torch scipy && pip install --no-deps "LibMTL==1.1.5"
    python -m tests.peers.record_libmtl

What runs is LibMTL's own: `HPS`, the weightings, `count_improvement`. Its `Trainer` is
tied to `cuda:0` and calls `.next()` of a loader's iterator, which torch has no more;
the few lines of its loop that matter are written out in `train`. Its ResNets, for which
it wants torchvision, are not used.
"""

import importlib.metadata
import json
import pathlib
import sys
import types
import warnings

import numpy as np

from tests.peers import record_keras

waves, lists = record_keras.waves, record_keras.lists
TARGET = pathlib.Path(__file__).with_name("libmtl.json")
EPOCHS, BATCHES, EXAMPLES, RATE = 4, 4, 6, 0.1
TASKS = ("a", "b", "c")
ARGUMENTS = {
    "EW": {},
    "UW": {},
    "DWA": {"T": 2.0},
    "GLS": {},
    "MGDA": {"mgda_gn": "none"},
    "CAGrad": {"calpha": 0.5, "rescale": 1},
    "IMTL": {},
}


def weights():
    """Kernels [in, out] and biases: a trunk 5-4-3, and three decoders 3-1."""
    trunk = [
        (waves((5, 4), 0.0), 0.1 * waves((4,), 0.5)),
        (waves((4, 3), 1.0), 0.1 * waves((3,), 1.5)),
    ]
    heads = {
        task: (waves((3, 1), 2.0 + i), 0.1 * waves((1,), 2.5 + i))
        for i, task in enumerate(TASKS)
    }
    return trunk, heads


def data():
    """Inputs [4, 6, 5] and three targets [4, 6] that pull apart."""
    x = waves((BATCHES, EXAMPLES, 5), 5.0)
    a = np.sin(3 * x[..., 0]) + x[..., 1]
    return x, {"a": a, "b": x[..., 2] * x[..., 3] - a, "c": 1 + x[..., 4]}


def imported():
    """LibMTL without its ResNets."""
    sys.modules["LibMTL.model"] = types.ModuleType("LibMTL.model")
    import LibMTL
    from LibMTL import utils

    return LibMTL, utils


def linear(kernel, bias):
    import torch

    layer = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel.T))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def train(library, name):
    """Values before every step, weights that are logged, parameters after the last."""
    import torch
    from torch import nn

    trunk, heads = weights()

    def encoder():
        first, second = (linear(*layer) for layer in trunk)
        return nn.Sequential(first, nn.Tanh(), second, nn.Tanh())

    class Model(library.architecture.HPS, getattr(library.weighting, name)):
        """As its trainer makes one."""

        def zero_grad_share_params(self):
            # Torch 2 sets gradients to None, for which its gradient methods fail.
            self.encoder.zero_grad(set_to_none=False)

    decoders = nn.ModuleDict({task: linear(*heads[task]) for task in TASKS})
    model = Model(list(TASKS), encoder, decoders, False, False, torch.device("cpu"))
    model.init_param()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    model.train_loss_buffer = np.zeros([len(TASKS), EPOCHS])
    x, targets = data()
    values, logged = [], []
    for epoch in range(EPOCHS):
        model.epoch = epoch
        for i in range(BATCHES):
            outputs = model(torch.tensor(x[i]))
            losses = torch.stack(
                [
                    torch.mean(
                        (outputs[t].squeeze(1) - torch.tensor(targets[t][i])) ** 2
                    )
                    for t in TASKS
                ]
            )
            values.append(lists(losses.detach().numpy()))
            optimizer.zero_grad()
            logged.append(lists(model.backward(losses, **ARGUMENTS[name])))
            optimizer.step()
        model.train_loss_buffer[:, epoch] = np.mean(values[-BATCHES:], axis=0)
    final = {
        "trunk": [lists(p.detach().numpy().T) for p in model.encoder.parameters()],
        **{
            t: [lists(p.detach().numpy().T) for p in decoders[t].parameters()]
            for t in TASKS
        },
    }
    return {"values": values, "weights": logged, "final": final}


def two_tasks_of_cagrad(library):
    """CAGrad has a 3 in its source; the error with two tasks."""
    import torch
    from torch import nn

    class Model(library.architecture.HPS, library.weighting.CAGrad):
        pass

    decoders = nn.ModuleDict({t: nn.Linear(2, 1) for t in "ab"})
    model = Model(
        list("ab"), lambda: nn.Linear(2, 2), decoders, False, False, torch.device("cpu")
    )
    outputs = model(torch.ones(1, 2))
    losses = torch.stack([outputs[t].mean() ** 2 for t in "ab"])
    try:
        model.backward(losses, **ARGUMENTS["CAGrad"])
    except ValueError as error:
        return f"ValueError: {error}"
    return "no error"


# IoU and accuracy of segmentation are better high, the errors of depth low.
BASE = {"seg": [0.40, 0.80], "depth": [0.5, 0.2]}
NEW = {"seg": [0.44, 0.80], "depth": [0.45, 0.25]}
HIGHER = {"seg": [1, 1], "depth": [0, 0]}


def main():
    warnings.simplefilter("ignore")
    library, utils = imported()
    record = {
        "versions": {n: importlib.metadata.version(n) for n in ("LibMTL", "torch")},
        "names": sorted(set(library.weighting.__all__) - {"AbsWeighting"}),
        "architectures": sorted(
            set(library.architecture.__all__) - {"AbsArchitecture"}
        ),
        "training": {name: train(library, name) for name in ARGUMENTS},
        "CAGrad of two tasks": two_tasks_of_cagrad(library),
        "improvement": float(utils.count_improvement(BASE, NEW, HIGHER)),
    }
    TARGET.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
