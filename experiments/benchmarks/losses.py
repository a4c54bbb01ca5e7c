"""What a loss of volumes costs: value and gradient, beside plain code and the floor.

    python -m experiments.benchmarks.losses
    python -m experiments.benchmarks.losses --losses=dice,ce --channels=2,4,16
    python -m experiments.benchmarks.losses --peer=/path/to/python

Logits [B, X, Y, Z, C] and integer labels [B, X, Y, Z], softmax, then the loss; the
time of one call of the compiled value and gradient. `plain` is the same formula written
in jax.numpy with one-hot labels, `optax` its loss where it has one. `--peer` names a
Python for peers/monai_losses.py: MONAI's losses are timed on arrays of the same size
(channels first, as it wants them) on the same threads. All ways take turns, round after
round, and the best round counts, so that ratios hold on a busy machine.

`floor` is the time to read logits and labels for the value, read them again for the
gradient and write it, at the bandwidth of a copy measured in the same rounds; `temp` is
the memory that XLA allocates beside inputs and outputs, in units of the logits.
"""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments.benchmarks import harness
from experiments.benchmarks import results
from experiments.benchmarks import views

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


def compiled(loss: Callable[..., jax.Array], *arrays: jax.Array) -> harness.Compiled:
    """The mean of the values with its gradient."""

    def mean(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.mean(loss(logits, labels).astype(jnp.float32))

    return harness.compiled(jax.value_and_grad(mean), *arrays)


def measure(
    name: str, shape: tuple[int, ...], peer: harness.Peer | None
) -> list[dict[str, Any]]:
    """The rows of one loss on one shape [B, *S, C], all ways side by side."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=shape), _DTYPE.value)
    labels = jnp.asarray(rng.integers(0, shape[-1], shape[:-1]), jnp.int32)
    programs = {way: compiled(f, logits, labels) for way, f in WAYS[name].items()}
    copy = harness.compiled(lambda x: x + 1, logits)
    ways = {"copy": harness.way(copy.call)}
    ways |= {way: harness.way(program.call) for way, program in programs.items()}
    if peer is not None:
        ways["MONAI"] = peer.way(name, shape=shape, threads=results.cores())
    best = harness.best(harness.turns(ways, rounds=_ROUNDS.value))
    moved = 2 * logits.nbytes
    floor = best.pop("copy") * (3 * logits.nbytes + 2 * labels.nbytes) / moved
    temporary = {way: program.temporary for way, program in programs.items()}
    return [
        {
            "loss": name,
            "classes": shape[-1],
            "dtype": _DTYPE.value,
            "way": way,
            "seconds": seconds,
            "floor_seconds": floor,
            "logits_bytes": logits.nbytes,
            "temporary_bytes": temporary.get(way),
        }
        for way, seconds in best.items()
    ]


def main(argv: list[str]) -> None:
    """Times every loss for every number of channels."""
    harness.begin(argv, losses=(_LOSSES.value, WAYS))
    space = tuple(map(int, _SHAPE.value))
    shapes = [(*space, int(channels)) for channels in _CHANNELS.value]
    cases = [(name, shape) for shape in shapes for name in _LOSSES.value]
    with contextlib.ExitStack() as stack:
        peer = None
        if _PEER.value:
            started = harness.Peer(_PEER.value, "monai_losses.py")
            peer = stack.enter_context(started)
        rows: list[dict[str, Any]] = []
        for name, shape in rich.progress.track(cases, "losses", transient=True):
            rows += measure(name, shape, peer)
    versions = peer.versions if peer else None
    harness.finish("losses", rows, views.loss_ways, versions)


if __name__ == "__main__":
    app.run(main)
