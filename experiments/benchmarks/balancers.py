"""What balancing costs beside a step: the update of every gramian-based balancer.

    python -m experiments.benchmarks.balancers
    python -m experiments.benchmarks.balancers --peer=/path/to/python

Each update is compiled and timed alone, on random gramians with conflicts. `x quadprog`
compares UPGrad and DualProj with the same programs solved by quadprog (compiled, on the
host, without the way there and back). `--peer` names a Python for
peers/torchjd_weightings.py: its weightings are timed on the same matrices, each right
after ours. `% of a step`: of a step with static weights of a small convolutional net
(the digits experiment's), 64 pictures.

Updates take microseconds: calls follow each other, as in a loop of training on a device
that is busy with nothing else, the median counts, and no bar moves meanwhile.
"""

import contextlib
import functools
import importlib.metadata
import inspect
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import quadprog
from absl import app
from absl import flags
from flax import nnx

import headwise as hw
from experiments.benchmarks import harness
from experiments.benchmarks import views

_HEADS = flags.DEFINE_list("heads", "2,8,32", "Numbers of heads.")
_PEER = flags.DEFINE_string("peer", None, "A Python with torchjd 0.18.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Calls that are timed.", lower_bound=1)


def factories() -> dict[str, Any]:
    """Of balancers that look at the gramian, those that can do without arguments."""
    known = {name: getattr(hw.balancers, name) for name in hw.balancers.FROM_GRAMIAN}
    return {
        name: factory
        for name, factory in known.items()
        if all(
            parameter.default is not inspect.Parameter.empty
            for parameter in inspect.signature(factory).parameters.values()
        )
    }


def gramian(heads: int) -> np.ndarray:
    """Of gradients that conflict: Gaussian, a few more parameters than heads."""
    rows = np.random.default_rng(heads).normal(size=(heads, heads + 4))
    return (rows @ rows.T).astype(np.float32)


def update(name: str, gram: np.ndarray) -> harness.Compiled:
    """One balancer's update, compiled for a gramian."""
    balancer = factories()[name]()
    state = balancer.init([f"h{i:02}" for i in range(len(gram))])
    signals = hw.Signals(
        values=jnp.ones(len(gram)), gram=jnp.asarray(gram), key=jax.random.key(0)
    )
    return harness.compiled(balancer.update, signals, state)


def by_quadprog(gram: np.ndarray, single: bool) -> None:
    """DualProj's program, or UPGrad's H programs."""
    heads = len(gram)
    matrix = gram.astype(np.float64) / np.trace(gram) + 1e-4 * np.eye(heads)
    u = np.full(heads, 1 / heads)
    rows = [u] if single else u[:, None] * np.eye(heads)
    for bound in rows:
        quadprog.solve_qp(matrix, np.zeros(heads), np.eye(heads), bound)


def small_step() -> harness.Compiled:
    """A step with static weights of the digits' convolutional net."""
    pictures = jax.random.normal(jax.random.key(0), (64, 36, 36, 1))

    def build(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        heads = {name: nnx.Linear(50, 10, rngs=rngs) for name in ("left", "right")}
        return hw.nn.MultiHead(hw.nn.ConvNet(rngs=rngs), heads)

    apply, params, rest = hw.nn.functional(build(jax.random.key(0)))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    objective = hw.Objective({"left": loss, "right": loss})
    labels = dict.fromkeys(objective.names, jnp.zeros(64, jnp.int32))

    def values_fn(params: Any, x: jax.Array) -> dict[str, jax.Array]:
        return objective.values(apply(params, rest, x)[0], labels)

    optimizer, balancer = optax.adam(1e-3), hw.balancers.equal()
    state = hw.training.init_state(objective.names, params, optimizer, balancer)
    step = hw.training.make_step(values_fn, optimizer, balancer)
    return harness.compiled(step, state, pictures)


def measure(
    name: str, gram: np.ndarray, step_seconds: float, peer: harness.Peer | None
) -> dict[str, Any]:
    """The row of one balancer."""
    compiled, rounds = update(name, gram), _ROUNDS.value

    def median(way: harness.Way, calls: int = rounds) -> float:
        return statistics.median(harness.turns({"": way}, calls=calls)[""])

    host = torchjd = None
    seconds = median(harness.way(compiled.call))
    if name in ("upgrad", "dualproj"):
        call = functools.partial(by_quadprog, gram, name == "dualproj")
        host = median(harness.way(call))
    if peer is not None and name in peer.names:
        # Some of its solvers take a fifth of a second.
        calls = max(5, rounds // (20 if len(gram) > 8 else 1))
        torchjd = median(peer.way(name, gramian=gram.tolist()), calls)
    return {
        "balancer": name,
        "heads": len(gram),
        "seconds": seconds,
        "step_seconds": step_seconds,
        "compile_seconds": compiled.seconds,
        "quadprog_seconds": host,
        "torchjd_seconds": torchjd,
    }


def main(argv: list[str]) -> None:
    """Times every method for every number of heads."""
    harness.begin(argv)
    heads = [int(h) for h in _HEADS.value]
    step = harness.turns({"": harness.way(small_step().call)}, calls=30)
    step_seconds = statistics.median(step[""])
    with contextlib.ExitStack() as stack:
        peer = None
        if _PEER.value:
            started = harness.Peer(_PEER.value, "torchjd_weightings.py")
            peer = stack.enter_context(started)
        rows = [
            measure(name, gramian(h), step_seconds, peer)
            for h in heads
            for name in factories()
        ]
    versions = {"quadprog": importlib.metadata.version("quadprog")}
    versions |= peer.versions if peer else {}
    harness.finish("balancers", rows, views.balancers, versions)


if __name__ == "__main__":
    app.run(main)
