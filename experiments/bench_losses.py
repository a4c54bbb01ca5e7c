"""What a loss of volumes costs: value and gradient, beside plain code and the floor.

    python -m experiments.bench_losses
    python -m experiments.bench_losses --losses=dice,ce --channels=2,4,16
    python -m experiments.bench_losses --peer=/path/to/python

Logits [B, X, Y, Z, C] and integer labels [B, X, Y, Z], softmax, then the loss; the
time of one call of the compiled value and gradient. `plain` is the same formula written
in jax.numpy with one-hot labels, `optax` its loss where it has one. `--peer` names a
Python that has torch and MONAI 1.6: its losses are timed on arrays of the same size
(channels first, as it wants them) on the same threads. All ways take turns, round after
round, and the best round counts, so that ratios hold on a busy machine.

`floor` is the time to read logits and labels for the value, read them again for the
gradient and write it, at the bandwidth of a copy measured in the same rounds; `temp` is
the memory that XLA allocates beside inputs and outputs, in units of the logits.
"""

import functools
import os
import subprocess
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import rich.progress
import rich.table
from absl import app
from absl import flags

import headwise as hw

_LOSSES = flags.DEFINE_list(
    "losses", "dice,generalized_dice,ce,focal,dice_ce", "Which losses."
)
_SHAPE = flags.DEFINE_list("shape", "2,96,96,96", "Batch and space.")
_CHANNELS = flags.DEFINE_list("channels", "4", "Numbers of classes.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of the logits."
)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Calls of each way.", lower_bound=1)
_PEER = flags.DEFINE_string("peer", None, "A Python with torch and MONAI 1.6.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print a Markdown table.")

PEER_CODE = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss
batch, *space, channels, threads = map(int, sys.argv[1].split(","))
torch.set_num_threads(threads)
logits = torch.randn(batch, channels, *space, requires_grad=True)
labels = torch.randint(0, channels, (batch, 1, *space))
both = dict(softmax=True, to_onehot_y=True)
cross = torch.nn.CrossEntropyLoss()
losses = {
    "dice": DiceLoss(**both),
    "generalized_dice": GeneralizedDiceLoss(**both),
    "ce": lambda z, y: cross(z, y[:, 0]),
    "focal": FocalLoss(use_softmax=True, to_onehot_y=True),
    "dice_ce": DiceCELoss(**both),
}
print("ready", flush=True)
for line in sys.stdin:
    loss = losses[line.strip()]
    start = time.perf_counter()
    loss(logits, labels).backward()
    print(time.perf_counter() - start, flush=True)
    logits.grad = None
"""


def _sums(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
    p = jax.nn.softmax(logits.astype(jnp.float32))
    t = jax.nn.one_hot(labels, logits.shape[-1])
    space = tuple(range(1, labels.ndim))
    return jnp.sum(p * t, space), jnp.sum(p, space), jnp.sum(t, space)


def plain_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Dice of one-hot labels."""
    both, preds, volume = _sums(logits, labels)
    return 1 - (2 * both + 1e-5) / (preds + volume + 1e-5)


def plain_generalized_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Generalized Dice of one-hot labels, all classes present."""
    both, preds, volume = _sums(logits, labels)
    w = 1 / volume**2
    return 1 - 2 * jnp.sum(w * both, -1) / jnp.sum(w * (preds + volume), -1)


def plain_ce(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of one-hot labels."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(jax.nn.one_hot(labels, logits.shape[-1]) * log_p, -1)


def plain_focal(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Focal loss of one-hot labels."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    values = -((1 - jnp.exp(log_p)) ** 2) * log_p
    return jnp.sum(jax.nn.one_hot(labels, logits.shape[-1]) * values, -1)


def plain_dice_ce(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The sum of the means."""
    return jnp.mean(plain_dice(logits, labels)) + jnp.mean(plain_ce(logits, labels))


_optax_ce = optax.losses.softmax_cross_entropy_with_integer_labels
WAYS: Mapping[str, Mapping[str, Callable[..., jax.Array]]] = {
    "dice": {
        "headwise": functools.partial(hw.losses.dice, activation=jax.nn.softmax),
        "plain": plain_dice,
    },
    "generalized_dice": {
        "headwise": functools.partial(
            hw.losses.generalized_dice, activation=jax.nn.softmax
        ),
        "plain": plain_generalized_dice,
    },
    "ce": {
        "headwise": hw.losses.cross_entropy,
        "plain": plain_ce,
        "optax": _optax_ce,
    },
    "focal": {"headwise": hw.losses.focal, "plain": plain_focal},
    "dice_ce": {"headwise": hw.losses.dice_ce, "plain": plain_dice_ce},
}


def compiled(loss: Callable[..., jax.Array], *arrays: jax.Array) -> Any:
    """The mean of the values with its gradient."""

    def mean(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.mean(loss(logits, labels).astype(jnp.float32))

    return jax.jit(jax.value_and_grad(mean)).lower(*arrays).compile()


def seconds(call: Callable[..., Any], *arrays: jax.Array) -> float:
    """Of one call, waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call(*arrays))
    return time.perf_counter() - start


class Peer:
    """A process that runs one call of a loss for each line that it reads."""

    def __init__(self, python: str, shape: tuple[int, ...]):
        threads = len(os.sched_getaffinity(0))
        sizes = ",".join(map(str, (*shape, threads)))
        self._process = subprocess.Popen(
            [python, "-c", PEER_CODE, sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._read() != "ready":
            raise RuntimeError(f"--peer: {python} cannot run torch and MONAI")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def seconds(self, name: str) -> float:
        """Of one call."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def measure(shape: tuple[int, ...], peer: Peer | None) -> list[list[str]]:
    """The rows of one shape [B, *S, C]."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=shape), _DTYPE.value)
    labels = jnp.asarray(rng.integers(0, shape[-1], shape[:-1]), jnp.int32)
    copy = jax.jit(lambda x: x + 1).lower(logits).compile()
    moved = 2 * logits.nbytes
    rows = []
    for name in rich.progress.track(_LOSSES.value, "losses", transient=True):
        ways = {way: compiled(f, logits, labels) for way, f in WAYS[name].items()}
        calls = {way: functools.partial(seconds, run) for way, run in ways.items()}
        taken: dict[str, list[float]] = {way: [] for way in (*calls, "copy", "MONAI")}
        for call in calls.values():
            call(logits, labels)
        for _ in range(_ROUNDS.value):
            taken["copy"].append(seconds(copy, logits))
            for way, call in calls.items():
                taken[way].append(call(logits, labels))
            if peer is not None:
                taken["MONAI"].append(peer.seconds(name))
        best = {way: min(times) for way, times in taken.items() if times}
        floor = best["copy"] * (3 * logits.nbytes + 2 * labels.nbytes) / moved
        for way in ("headwise", "plain", "optax", "MONAI"):
            if way not in best:
                continue
            temp = ""
            if way in ways:
                used = ways[way].memory_analysis().temp_size_in_bytes
                temp = f"{used / logits.nbytes:.2f}"
            rows.append(
                [
                    str(shape[-1]),
                    name,
                    way,
                    f"{1e3 * best[way]:.1f} ms",
                    f"{best[way] / best['headwise']:.2f}",
                    f"{best[way] / floor:.1f}",
                    temp,
                ]
            )
    print(f"copy {moved / best['copy'] / 1e9:.1f} GB/s, floor {1e3 * floor:.1f} ms")
    return rows


def main(argv: list[str]) -> None:
    """Times every loss for every number of channels."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    unknown = sorted(set(_LOSSES.value) - set(WAYS))
    if unknown:
        raise app.UsageError(
            f"--losses: expected some of {', '.join(WAYS)}; got {unknown}"
        )
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")
    rows = []
    for channels in _CHANNELS.value:
        shape = (*map(int, _SHAPE.value), int(channels))
        print(f"logits {list(shape)} {_DTYPE.value}")
        peer = Peer(_PEER.value, shape) if _PEER.value else None
        rows += measure(shape, peer)
        if peer is not None:
            peer.close()
    columns = ["C", "loss", "way", "time", "x headwise", "x floor", "temp"]
    if _MARKDOWN.value:
        for row in [columns, ["---:", "---", "---"] + ["---:"] * 4, *rows]:
            print("| " + " | ".join(row) + " |")
        return
    table = rich.table.Table(box=None)
    for column in columns:
        left = column in ("loss", "way")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    rich.console.Console(width=100).print(table)


if __name__ == "__main__":
    app.run(main)
