# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0"]
# ///
"""PyTorch's loop over the steps of one trial, as it is written for speed.

The data lie in memory as tensors and batches are rows of them; Adam is the fused one,
gradients are set to None. A request's data: `steps` of a call, `threads`, numbers of
threads of which the fastest counts, and for `tabular` `fused`: whether the heads are
one layer of as many outputs, in place of a module each.
"""

import functools
import time

import torch
from _serve import serve
from torch import nn
from torch.nn import functional


def tabular(fused):
    """Two layers of 64 and 14 heads of one number on 103 features, batches of 128."""
    trunk = [nn.Linear(103, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    heads = [nn.Linear(64, n) for n in ([14] if fused else [1] * 14)]
    inputs = torch.randn(1500, 103)
    targets = torch.randint(0, 2, (1500, 14)).float()
    loss = functional.binary_cross_entropy_with_logits

    def total(features, targets, weights):
        if fused:
            losses = loss(heads[0](features), targets, reduction="none")
            return losses.mean(0) @ torch.tensor(weights)
        return sum(
            weights[h] * loss(head(features), targets[:, h : h + 1])
            for h, head in enumerate(heads)
        )

    return nn.Sequential(*trunk), heads, inputs, targets, total, 128, 1e-3


def digits(fused):
    """Two 5x5 convolutions, a layer of 50 and two heads of ten classes, 64 images."""
    del fused
    trunk = [nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU()]
    trunk += [nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU()]
    trunk += [nn.Flatten(), nn.Linear(720, 50), nn.ReLU()]
    heads = [nn.Linear(50, 10) for _ in range(2)]
    inputs = torch.rand(4000, 1, 36, 36)
    targets = torch.randint(0, 10, (4000, 2))

    def total(features, targets, weights):
        return sum(
            weights[h] * functional.cross_entropy(head(features), targets[:, h])
            for h, head in enumerate(heads)
        )

    return nn.Sequential(*trunk), heads, inputs, targets, total, 64, 3e-3


MODELS = {"tabular": tabular, "digits": digits}


def _train(case, steps):
    """Seconds of so many steps of a new training, without making it."""
    trunk, heads, inputs, targets, total_of, size, rate = case
    weights = torch.rand(targets.shape[1]).tolist()
    parameters = [*trunk.parameters(), *nn.ModuleList(heads).parameters()]
    optimizer = torch.optim.Adam(parameters, rate, fused=True)
    schedule = None
    if len(heads) == 2:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    for _ in range(steps):
        rows = torch.randint(0, len(inputs), (size,))
        total = total_of(trunk(inputs[rows]), targets[rows], weights)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return time.perf_counter() - start


@functools.lru_cache(maxsize=4)
def _case(name, fused, threads):
    """The model, with the number of threads that a few of its steps like best."""
    case = MODELS[name](fused)

    def tried(number):
        torch.set_num_threads(number)
        _train(case, 3)
        return min(_train(case, 20) for _ in range(2))

    return case, min(threads, key=tried)


def measure(name, calls, steps, threads, fused=False):
    """Seconds of so many calls."""
    case, best = _case(name, fused, tuple(threads))
    torch.set_num_threads(best)
    return [_train(case, steps) for _ in range(calls)]


if __name__ == "__main__":
    serve(measure, MODELS, ["torch"])
