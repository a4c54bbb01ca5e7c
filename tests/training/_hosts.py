"""What each of several processes does: `python -m tests.training._hosts FOLDER SCENE`.

With one process it is the reference. What a process has to say it prints as JSON.
"""

import functools
import gc
import json
import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import experiments.harness.command
import experiments.main
import headwise as hw
import tests.launch._line

B, T = hw.balancers, hw.training
NAMES, ROWS = ("a", "b"), 8
_RNG = np.random.default_rng(0)
SHAPES = {"trunk": (4, 32), "a": (32, 2), "b": (32, 1)}
PARAMS = {n: np.float32(_RNG.normal(size=s) / 4) for n, s in SHAPES.items()}
DATA = {"x": np.float32(_RNG.normal(size=(21, 4)))}
BALANCERS = {
    "gramian": (B.mgda(), {"contributions": True}),
    "values": (B.uncertainty(), {}),
    "gradients": (B.pcgrad(), {}),
    "two batches": (B.modo(batches=2), {}),
}


def values_fn(params, batch):
    h = jnp.tanh(batch["x"] @ params["trunk"])
    a = jnp.mean((h @ params["a"] - 1) ** 2)
    return {"a": a, "b": jnp.mean(jnp.abs(h @ params["b"]))}


def make_mesh():
    """All devices of all processes; one device alone."""
    devices = jax.devices()[: None if share()[1] > 1 else 1]
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), ("data",), axis_types=auto, devices=devices)


def share():
    return jax.process_index(), jax.process_count()


def stream():
    """Each process reads its rows of every batch."""
    return hw.data.stream(DATA, batch_size=ROWS, seed=1, share=share())


def placed(mesh):
    places = T.fsdp_shardings(PARAMS, mesh, least=16)
    return jax.device_put(PARAMS, places)


def fit(name="gramian", workdir=None, steps=6, batches=None, **options):
    balancer, more = BALANCERS[name]
    optimizer, mesh = optax.adam(0.01), make_mesh()
    parts = placed(mesh), optimizer, balancer
    state = T.init_state(NAMES, *parts, key=jax.random.key(3))
    step = T.make_step(values_fn, optimizer, balancer, **more)
    if batches is None:
        batches = stream().map(lambda batch: T.shard_batch(batch, mesh))
    options = {"log_every": 2, "checkpoint_every": 2} | options
    return T.fit(step, state, batches, steps, workdir=workdir, **options)


def told(state):
    """The parameters whole, on the host, as lists."""
    mesh = make_mesh()
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params = jax.jit(lambda x: x, out_shardings=whole)(state.params)
    return {name: np.asarray(x).tolist() for name, x in params.items()}


def train(folder):
    """Every kind of balancer; batches that are made on the device; evaluation."""
    found = {}
    for name in BALANCERS:
        # A look at the first batch is a program: it is taken once.
        state, history = fit(name, check=name == "gramian")
        found[name] = told(state), history
    mesh = make_mesh()
    epochs = hw.data.epochs(DATA, jax.random.key(0), ROWS)
    made = functools.partial(fit, "values", check=False)
    state, history = made(batches=lambda t: T.shard_batch(epochs(t), mesh))
    found["made"] = told(state), history
    rows = {"x": DATA["x"][slice(None, 13) if share()[0] == 0 else slice(13, None)]}
    rows = DATA if share()[1] == 1 else rows
    values = T.evaluate(values_fn, state.params, rows, batch_size=4, own=True)
    found["evaluate"] = {name: float(x) for name, x in values.items()}
    return found


def keeps(folder, steps=None):
    """Checkpoints and the best; two steps more than there are, four at first."""
    more = {"validate": lambda params, rest: values_fn(params, DATA)}
    more |= {"validate_every": 2, "best": ("validation/a", "min")}
    if folder is not None:
        folder, steps = folder / "kept", 4
        if folder.exists():
            steps = T.read_metrics(folder)[-1]["step"] + 2
    state, history, best = fit("gradients", folder, steps, **more)
    return told(state), history, [best.step, told(best)]


def bilevel(folder):
    """Weights learned on validation data."""
    mesh, optimizer = make_mesh(), optax.sgd(0.1)
    method = T.auto_lambda(["a"], optimizer=optimizer)
    state = T.init_bilevel_state(NAMES, placed(mesh), optimizer, method)
    pairs = stream().map(
        lambda batch: tuple(T.shard_batch({"x": f * batch["x"]}, mesh) for f in (1, -2))
    )
    step = T.make_bilevel_step(values_fn, optimizer, method)
    state, history = T.fit(step, state, pairs, 3, log_every=1, progress=False)
    return told(state), history


def adjusted(folder, batches=None, steps=3):
    """A rate that records set."""
    mesh = make_mesh()
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    state = T.init_state(NAMES, placed(mesh), optimizer)
    if batches is None:
        batches = stream().map(lambda batch: T.shard_batch(batch, mesh))
    options = {"adjust": halved, "log_every": 1, "progress": False}
    step = T.make_step(values_fn, optimizer)
    state, history = T.fit(step, state, batches, steps, **options)
    return told(state), history


def broken(folder):
    """A value that is not finite, by what one process alone is given."""
    mesh, last = make_mesh(), share()[0] == share()[1] - 1

    def batches(t):
        factor = np.nan if last and t == 2 else 1.0
        return T.shard_batch({"x": factor * DATA["x"][:4]}, mesh)

    try:
        adjusted(folder, batches, 9)
    except T.NonFiniteError as error:
        return {"words": str(error), "step": error.step, "heads": str(error.heads)}


def outputs(folder):
    """Of data that all have; whether those of a process's own are the same rows."""

    def model(params, batch):
        return jnp.tanh(batch["x"] @ params["trunk"]) @ params["a"]

    params = placed(make_mesh())
    whole = T.predict(model, params, DATA, batch_size=8)
    mine = slice(share()[0], None, share()[1])
    rows = {"x": DATA["x"][mine]}
    own = T.predict(model, params, rows, batch_size=4, own=True)
    return whole.tolist(), bool(np.allclose(own, whole[mine], rtol=1e-5, atol=1e-6))


def halved(state, history):
    """Half the rate after every record."""
    inside = state.optimizer
    rate = {"learning_rate": inside.hyperparams["learning_rate"] / 2}
    return state._replace(optimizer=inside._replace(hyperparams=rate))


def signalled(folder):
    """The second process, or the one that is there, gets a signal in a step."""
    folder = folder / "signalled"
    if folder.exists():
        state, history = fit(workdir=folder, steps=12)
        return told(state), history
    mesh, own = make_mesh(), iter(stream())

    def batches(t):
        if t == 6 and share()[0] == share()[1] - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return T.shard_batch(next(own), mesh)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        fit(workdir=folder, steps=4000, batches=batches)
    except KeyboardInterrupt:
        return "interrupted"


def refused(folder):
    """The same error in all: another run's folder, settings, a batch, a full disk."""
    found, small = [], functools.partial(fit, "values", check=False)

    def attempt(function):
        try:
            function()
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")

    (folder / "other").mkdir(exist_ok=True)
    (folder / "other/notes.txt").write_text("mine")
    attempt(lambda: T.claim_workdir(folder / "other", {"seed": 0}))
    T.claim_workdir(folder / "mine", {"seed": 0})
    attempt(lambda: small(workdir=folder / "mine", settings={"seed": 1}))
    mesh = make_mesh()
    attempt(lambda: T.shard_batch({"x": DATA["x"][: 3 - share()[0]]}, mesh))
    for wrong in (0, 3):
        attempt(functools.partial(small, batches=damaged(wrong, mesh)))
    _, history = small(stop=lambda history: ["here", "there"][share()[0]], steps=50)
    found.append(history[-1]["stopped"])
    attempt(lambda: hw.data.stream(DATA, batch_size=7, seed=0, share=(0, 2)))
    metrics = folder / "full/metrics.jsonl"

    def remove(params, rest):
        metrics.unlink(missing_ok=True)
        return {"a": 0.0}

    attempt(lambda: small(workdir=folder / "full", validate=remove))
    attempt(lambda: T.fit(*local(), workdir=folder / "local", progress=False))
    return found


def damaged(wrong, mesh):
    """One process cannot read its part of one batch."""

    def batches(t):
        if t == wrong and share()[0] == 1:
            raise ValueError(f"file {t} is damaged")
        return T.shard_batch({"x": DATA["x"][:4]}, mesh)

    return batches


def local():
    """A state on this process's device alone."""
    state = T.init_state(NAMES, PARAMS, optax.sgd(0.1))
    return T.make_step(values_fn, optax.sgd(0.1)), state, lambda t: DATA, 3


def command(folder):
    """An experiment, twice: the second time there is nothing left to do."""
    mesh = f"--mesh=data:{jax.device_count()}"
    experiment = f"--experiment={tests.launch._line.__file__}"
    words = ["main", experiment, "--steps=6", "--balancer=mgda"]
    codes = [
        experiments.harness.command.guarded(
            experiments.main.main, [*words, *more, f"--workdir={folder / 'command'}"]
        )
        for more in ([mesh], [mesh], [])
    ]
    return codes, json.loads((folder / "command/result.json").read_text())


def main(folder, *scenes):
    gc.freeze()  # as commands do: tracing is faster
    if "RANK" in os.environ:
        jax.config.update("jax_enable_preemption_service", False)
        address = f"127.0.0.1:{os.environ['PORT']}"
        jax.distributed.initialize(address, 2, int(os.environ["RANK"]))
    found = {scene: globals()[scene](pathlib.Path(folder)) for scene in scenes}
    print(f"\nFOUND {json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
