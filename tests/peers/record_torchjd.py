"""Records TorchJD's nine examples on small data, for coming_from_torchjd.md.

Run where they are installed; the tests need only the file that it writes:

    pip install "torchjd==0.18.*" "quadprog==0.1.*" "lightning==2.6.*" torch
    python -m tests.peers.record_torchjd

Everything is computed in float64, but for mixed precision, and follows from a formula:
nothing is random. UPGrad runs twice, with TorchJD's defaults and with a ridge that is
next to nothing, since the ridge of 1e-4 alone moves the numbers.
"""

import functools
import importlib.metadata
import itertools
import json
import logging
import pathlib
import warnings

import numpy as np

from tests.peers import record_keras

waves, lists = record_keras.waves, record_keras.lists
TARGET = pathlib.Path(__file__).with_name("torchjd.json")
PEERS = ("torchjd", "torch", "quadprog", "lightning")
BATCHES, EXAMPLES, RATE = 8, 4, 0.1


def weights(*sizes, phase=0.0):
    """Kernels [in, out] and biases of a stack of dense layers."""
    return [
        (waves(shape, phase + i), 0.1 * waves(shape[1:], phase + i + 0.5))
        for i, shape in enumerate(itertools.pairwise(sizes))
    ]


def data():
    """Inputs [8, 4, 5] and two targets [8, 4] that pull apart."""
    x = waves((BATCHES, EXAMPLES, 5), 5.0)
    left = np.sin(3 * x[..., 0]) + x[..., 1]
    right = x[..., 2] * x[..., 3] - left
    return x, left, right


def linears(layers, last=True):
    """The torch modules of `weights`; tanh after each, of the last if not `last`."""
    import torch
    from torch import nn

    modules = []
    for kernel, bias in layers:
        linear = nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(kernel.T))
            linear.bias.copy_(torch.tensor(bias))
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*(modules[:-1] if last else modules))


def tensors():
    import torch

    return [torch.tensor(a, dtype=torch.get_default_dtype()) for a in data()]


def two_tasks():
    """A trunk 5-4-3 with two decoders, as the examples of multi-task learning have."""
    trunk = linears(weights(5, 4, 3), last=False)
    return trunk, linears(weights(3, 1, phase=2.0)), linears(weights(3, 1, phase=3.0))


def state(*modules):
    """All parameters of modules in order, kernels as [in, out]."""
    return [
        lists(p.detach().double().numpy().T) for m in modules for p in m.parameters()
    ]


def squared(outputs, targets):
    return (outputs.squeeze(-1) - targets) ** 2


def basic(upgrad):
    import torch
    from torchjd import autojac

    model = linears(weights(5, 4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    told = []
    for x, left, right in zip(*tensors(), strict=True):
        output = model(x)
        losses = [
            squared(output[:, :1], left).mean(),
            squared(output[:, 1:], right).mean(),
        ]
        autojac.backward(losses)
        autojac.jac_to_grad(model.parameters(), upgrad())
        optimizer.step()
        optimizer.zero_grad()
        told.append([float(loss) for loss in losses])
    return {"losses": told, "final": state(model)}


def instance_wise(upgrad, first=0):
    """IWRM; with `first`, the Gramian is that of the layers from there on (partial)."""
    import torch
    from torchjd import autogram

    model = linears(weights(5, 4, 1) if not first else weights(5, 4, 3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    engine = autogram.Engine(model[2 * first :], batch_dim=0)
    told = []
    for x, left, _ in zip(*tensors(), strict=True):
        losses = squared(model(x), left)
        chosen = upgrad().gramian_weighting(engine.compute_gramian(losses))
        losses.backward(chosen)
        optimizer.step()
        optimizer.zero_grad()
        told.append(lists(losses.detach().numpy()))
    return {"losses": told, "final": state(model)}


def multi_task(upgrad, monitored=None):
    import torch
    from torch.nn.functional import cosine_similarity
    from torchjd import autojac

    trunk, *heads = two_tasks()
    every = [p for module in (trunk, *heads) for p in module.parameters()]
    optimizer = torch.optim.SGD(every, lr=RATE)
    aggregator = upgrad()
    if monitored is not None:

        def watch(_, inputs, direction):
            mean = inputs[0].mean(dim=0)
            monitored.append(float(cosine_similarity(direction, mean, dim=0)))

        aggregator.register_forward_hook(watch)
    told, chosen = [], []
    for x, *targets in zip(*tensors(), strict=True):
        features = trunk(x)
        losses = [
            squared(head(features), target).mean()
            for head, target in zip(heads, targets, strict=True)
        ]
        autojac.mtl_backward(losses, features=features)
        chosen.append(autojac.jac_to_grad(trunk.parameters(), aggregator))
        optimizer.step()
        optimizer.zero_grad()
        told.append([float(loss) for loss in losses])
    chosen = [lists(row.numpy()) for row in chosen]
    return {"losses": told, "weights": chosen, "final": state(trunk, *heads)}


def instance_wise_multi_task(upgrad):
    import torch
    from torchjd import autogram

    trunk, *heads = two_tasks()
    every = [p for module in (trunk, *heads) for p in module.parameters()]
    optimizer = torch.optim.SGD(every, lr=RATE)
    engine = autogram.Engine(trunk, batch_dim=0)
    told = []
    for x, *targets in zip(*tensors(), strict=True):
        features = trunk(x)
        rows = [squared(h(features), t) for h, t in zip(heads, targets, strict=True)]
        losses = torch.stack(rows, dim=1)
        gramian = engine.compute_gramian(losses)  # [8, 8]
        chosen = upgrad().gramian_weighting(gramian).reshape(losses.shape)
        losses.backward(chosen)
        optimizer.step()
        optimizer.zero_grad()
        told.append(lists(losses.detach().numpy()))
    return {"losses": told, "final": state(trunk, *heads)}


def rnn_data():
    """Inputs [8, 4, 2, 4] and targets [8, 4, 2, 4]: 2 sequences of length 4."""
    return waves((BATCHES, 4, 2, 4), 1.0), waves((BATCHES, 4, 2, 4), 2.0)


def rnn_weights():
    """Of two layers: from the input, from the state before; one bias each."""
    return [
        {"input": waves((4, 4), i), "state": waves((4, 4), i + 4.0)} for i in range(2)
    ]


def recurrent(upgrad):
    import torch
    from torchjd import autojac

    rnn = torch.nn.RNN(4, 4, 2, bias=False)
    with torch.no_grad():
        for i, layer in enumerate(rnn_weights()):
            getattr(rnn, f"weight_ih_l{i}").copy_(torch.tensor(layer["input"].T))
            getattr(rnn, f"weight_hh_l{i}").copy_(torch.tensor(layer["state"].T))
    optimizer = torch.optim.SGD(rnn.parameters(), lr=RATE)
    dtype = torch.get_default_dtype()
    told = []
    for x, target in zip(
        *(torch.tensor(a, dtype=dtype) for a in rnn_data()), strict=True
    ):
        losses = ((rnn(x)[0] - target) ** 2).mean(dim=(1, 2))
        autojac.backward(losses, parallel_chunk_size=1)
        autojac.jac_to_grad(rnn.parameters(), upgrad())
        optimizer.step()
        optimizer.zero_grad()
        told.append(lists(losses.detach().numpy()))
    return {"losses": told, "final": state(rnn)}


def with_lightning(upgrad):
    import lightning
    import torch
    from torchjd import autojac

    told = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.trunk, self.left, self.right = two_tasks()

        def training_step(self, batch):
            x, left, right = batch
            features = self.trunk(x)
            losses = [
                squared(self.left(features), left).mean(),
                squared(self.right(features), right).mean(),
            ]
            optimizer = self.optimizers()
            autojac.mtl_backward(losses, features=features)
            autojac.jac_to_grad(self.trunk.parameters(), upgrad())
            optimizer.step()
            optimizer.zero_grad()
            told.append([float(loss) for loss in losses])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.03)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = Module().to(torch.get_default_dtype())
    data = torch.utils.data.TensorDataset(*tensors())
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, loader)
    return {"losses": told, "final": state(module.trunk, module.left, module.right)}


def mixed_precision(upgrad):
    """float32 parameters, float16 products, a scale for what goes back."""
    import torch
    from torchjd import autojac

    torch.set_default_dtype(torch.float32)
    trunk, *heads = two_tasks()
    every = [p for module in (trunk, *heads) for p in module.parameters()]
    optimizer, scaler = torch.optim.SGD(every, lr=RATE), torch.amp.GradScaler("cpu")
    told = []
    for x, *targets in zip(*tensors(), strict=True):
        with torch.autocast("cpu", dtype=torch.float16):
            features = trunk(x)
            outputs = [head(features) for head in heads]
            losses = [
                squared(output.float(), target).mean()
                for output, target in zip(outputs, targets, strict=True)
            ]
        autojac.mtl_backward(scaler.scale(losses), features=features)
        autojac.jac_to_grad(trunk.parameters(), upgrad())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        told.append([float(loss) for loss in losses])
    kinds = [str(features.dtype), str(every[0].dtype)]
    found = {"losses": told, "final": state(trunk, *heads), "types": kinds}
    torch.set_default_dtype(torch.float64)
    return found


def short_gradients():
    """What UPGrad does with gradients that conflict and are shorter than 0.01."""
    import torch
    from torchjd import aggregation

    rows = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    scales = (1.0, 1e-2, 1e-3, 1e-6)
    return {str(s): lists((aggregation.UPGrad()(s * rows) / s).numpy()) for s in scales}


def main():
    import torch
    from torchjd import aggregation
    from torchjd import linalg
    from torchjd import scalarization

    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    cosines = []
    examples = {
        "basic": basic,
        "iwrm": instance_wise,
        "partial": functools.partial(instance_wise, first=1),
        "mtl": multi_task,
        "iwmtl": instance_wise_multi_task,
        "rnn": recurrent,
        "monitoring": functools.partial(multi_task, monitored=cosines),
        "lightning": with_lightning,
        "amp": mixed_precision,
    }
    projector = linalg.QuadprogProjector(norm_eps=1e-12, reg_eps=1e-10)
    exact = functools.partial(aggregation.UPGrad, projector=projector)
    record = {
        "versions": {name: importlib.metadata.version(name) for name in PEERS},
        "names": sorted({*aggregation.__all__, *scalarization.__all__}),
        "exact": {name: example(exact) for name, example in examples.items()},
        "cosines": list(cosines),
        "defaults": {
            name: example(aggregation.UPGrad)["losses"]
            for name, example in examples.items()
        },
        "short gradients": short_gradients(),
    }
    TARGET.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
