"""What balancing costs beside a step: the update of every gramian-based balancer.

    python -m experiments.bench_balancers
    python -m experiments.bench_balancers --peer=/path/to/python

Each update is compiled and timed alone, on random gramians with conflicts. `x quadprog`
compares UPGrad and DualProj with the same programs solved by quadprog (compiled, on the
host, without the way there and back). `--peer` names a Python that has TorchJD 0.18:
its weightings are timed on the same matrices, side by side. `% of a step`: of a step
with static weights of the convolutional net of experiments/digits.py, 64 pictures.
"""

import functools
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import quadprog
import rich.console
import rich.table
from absl import app
from absl import flags
from flax import nnx

import headwise as hw

_HEADS = flags.DEFINE_list("heads", "2,8,32", "Numbers of heads.")
_PEER = flags.DEFINE_string("peer", None, "A Python with torchjd 0.18.")
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Calls that are timed.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print a Markdown table.")

METHODS: dict[str, Callable[[], hw.balancers.Balancer]] = {
    "mgda": hw.balancers.mgda,
    "upgrad": hw.balancers.upgrad,
    "dualproj": hw.balancers.dualproj,
    "cagrad": hw.balancers.cagrad,
    "pcgrad": hw.balancers.pcgrad,
    "gradvac": hw.balancers.gradvac,
    "imtl_g": hw.balancers.imtl_g,
    "nash_mtl": hw.balancers.nash_mtl,
    "fairgrad": hw.balancers.fairgrad,
    "aligned_mtl": hw.balancers.aligned_mtl,
    "config": hw.balancers.config,
    "gradnorm": hw.balancers.gradnorm,
}

PEER_CODE = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from torchjd import aggregation as a
grams, rounds = json.load(sys.stdin)
found = {}
for heads, gram in grams.items():
    matrix = torch.tensor(gram)
    ways = {
        "mgda": lambda: a.MGDAWeighting(),
        "upgrad": lambda: a.UPGradWeighting(),
        "dualproj": lambda: a.DualProjWeighting(),
        "cagrad": lambda: a.CAGradWeighting(c=0.5),
        "pcgrad": lambda: a.PCGradWeighting(),
        "gradvac": lambda: a.GradVacWeighting(),
        "imtl_g": lambda: a.IMTLGWeighting(),
        "nash_mtl": lambda: a.NashMTL(n_tasks=int(heads)),
        "fairgrad": lambda: a.FairGradWeighting(alpha=1.0),
        "aligned_mtl": lambda: a.AlignedMTLWeighting(),
    }
    root = torch.linalg.cholesky(matrix + 1e-6 * torch.eye(len(gram)))
    for name, make in ways.items():
        try:
            way = make()
            shown = root if name == "nash_mtl" else matrix
            way(shown)
            times = []
            for _ in range(max(5, rounds // (20 if int(heads) > 8 else 1))):
                if hasattr(way, "reset"):
                    way.reset()
                start = time.perf_counter()
                way(shown)
                times.append(time.perf_counter() - start)
            found[heads + name] = sorted(times)[len(times) // 2]
        except Exception as error:
            print(name, heads, repr(error)[:200], file=sys.stderr)
print(json.dumps(found))
"""


def timed(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of the median call."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def finish(call: Callable[[], Any]) -> None:
    """Calls it and waits for the answer."""
    jax.block_until_ready(call())


def gramian(heads: int) -> np.ndarray:
    """Of gradients that conflict: Gaussian, a few more parameters than heads."""
    rows = np.random.default_rng(heads).normal(size=(heads, heads + 4))
    return (rows @ rows.T).astype(np.float32)


def by_quadprog(gram: np.ndarray, single: bool) -> None:
    """DualProj's program, or UPGrad's H programs."""
    heads = len(gram)
    matrix = gram.astype(np.float64) / np.trace(gram) + 1e-4 * np.eye(heads)
    u = np.full(heads, 1 / heads)
    rows = [u] if single else u[:, None] * np.eye(heads)
    for bound in rows:
        quadprog.solve_qp(matrix, np.zeros(heads), np.eye(heads), bound)


def small_step() -> float:
    """Seconds of a step with static weights of the digits' convolutional net."""
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
    step = jax.jit(hw.training.make_step(values_fn, optimizer, balancer))
    return timed(
        functools.partial(finish, functools.partial(step, state, pictures)), 30
    )


def main(argv: list[str]) -> None:
    """Times every method for every number of heads."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    heads = [int(h) for h in _HEADS.value]
    rounds = _ROUNDS.value
    peers: dict[str, float] = {}
    if _PEER.value:
        shown = json.dumps([{str(h): gramian(h).tolist() for h in heads}, rounds])
        done = subprocess.run(
            [_PEER.value, "-c", PEER_CODE], input=shown, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"--peer: {done.stderr[-2000:]}")
        print(done.stderr, end="")
        peers = json.loads(done.stdout.splitlines()[-1])
    whole = small_step()
    columns = ["H", "balancer", "update", "% of a step", "compile", "x quadprog"]
    columns += ["TorchJD", "x TorchJD"] if peers else []
    rows = []
    for h in heads:
        gram = gramian(h)
        for name, make in METHODS.items():
            balancer = make()
            state = balancer.init([f"h{i:02}" for i in range(h)])
            signals = hw.Signals(
                values=jnp.ones(h), gram=jnp.asarray(gram), key=jax.random.key(0)
            )
            start = time.perf_counter()
            run = jax.jit(balancer.update).lower(signals, state).compile()
            compiling = time.perf_counter() - start
            call = functools.partial(run, signals, state)
            ready = functools.partial(finish, call)
            seconds = timed(ready, rounds)
            host = ""
            if name in ("upgrad", "dualproj"):
                host_call = functools.partial(by_quadprog, gram, name == "dualproj")
                reference = timed(host_call, rounds)
                host = f"{seconds / reference:.2f}"
            row = [str(h), name, f"{1e6 * seconds:.0f} us"]
            row += [f"{100 * seconds / whole:.2f}", f"{compiling:.2f} s", host]
            if peers:
                other = peers.get(f"{h}{name}")
                row += ["", ""] if other is None else [f"{1e6 * other:.0f} us", ""]
                row[-1] = "" if other is None else f"{seconds / other:.3f}"
            rows.append(row)
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}\n")
    if _MARKDOWN.value:
        for row in [columns, ["---:", "---"] + ["---:"] * (len(columns) - 2), *rows]:
            print("| " + " | ".join(row) + " |")
        return
    table = rich.table.Table(box=None)
    for column in columns:
        table.add_column(column, justify="left" if column == "balancer" else "right")
    for row in rows:
        table.add_row(*row)
    rich.console.Console(width=100).print(table)


if __name__ == "__main__":
    app.run(main)
