"""Folders for tests of the report, made by what users make them with."""

import functools
import json
import tempfile

import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

HOSTILE = "</script><script>alert(1)</script> \"q\" 'a' & $x$ <b>"
HEADS = ("edge", HOSTILE)


def study(folder, trials=12, heads=HEADS, seeds=3, broken=True):
    """A study's records without its curves: as those of older studies."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(trials):
        row = i // seeds
        scale = 10.0 ** (row % 4 - 2) * (1 + row / 1000)
        weights = {head: scale * (1 + j) for j, head in enumerate(heads)}
        metrics = {"dice": float(rng.uniform()), "mse": float(rng.uniform())}
        end = {}
        if broken and i == trials - 1:
            metrics = dict.fromkeys(metrics)
            end = {"stopped": 7, "error": f"head {heads[0]}: not finite"}
        record = hw.sweeps.record(
            weights,
            i % seeds,
            metrics,
            settings={"name": HOSTILE, "lr": 0.1 * (1 + i % 2)},
            seconds=1.0,
            mode="vmap",
            made_with={"versions": {"jax": "0.10"}, "host": "here"},
            **end,
        )
        records.append(record)
    hw.sweeps.append(folder / "trials.jsonl", *records)
    return records


def program():
    """Two quadratics that pull one number apart."""
    centres = {"a": 1.0, "b": -1.0}

    def init(trial):
        return {"x": jnp.float32(0.0), "weights": trial["weights"]}

    def step(state, t):
        values = {n: (state["x"] - c) ** 2 for n, c in centres.items()}
        slope = sum(
            2 * state["weights"][n] * (state["x"] - c) for n, c in centres.items()
        )
        report = {"values": values, "weights": state["weights"]}
        return state | {"x": state["x"] - 0.05 * slope}, report

    def evaluate(state):
        return {n: (state["x"] - c) ** 2 for n, c in centres.items()}

    return hw.sweeps.Program(init, step, evaluate)


@functools.cache
def trained():
    """The folder of a real study with curves, and of a real run in it."""
    folder = tempfile.mkdtemp(prefix="headwise-report-")
    design = hw.sweeps.grid({"a": [0.1, 1.0], "b": [0.1, 1.0, 10.0]})
    hw.sweeps.run(
        program(), design, (0,), steps=300, folder=folder, mode="vmap", progress=False
    )

    def values_fn(params, batch):
        hidden = params["trunk"] * batch[0]
        return {
            n: jnp.mean((hidden * params[n] - c) ** 2) for n, c in (("a", 1), ("b", -1))
        }

    params = {name: jnp.ones(2) for name in ("trunk", "a", "b")}
    optimizer, balancer = optax.sgd(0.01), hw.balancers.equal()
    state = hw.training.init_state(("a", "b"), params, optimizer, balancer)
    step = hw.training.make_step(values_fn, optimizer, balancer, contributions=True)
    batches = lambda t: jnp.ones((4, 2))  # noqa: E731
    hw.training.fit(
        step, state, batches, 20, log_every=2, progress=False, workdir=f"{folder}/one"
    )
    return folder


def data(path):
    """What a page draws."""
    return _held(path, "data")


def commands(path):
    """What a page says of how to run each trial again."""
    return _held(path, "commands")


def _held(path, name):
    text = path.read_text(encoding="utf-8")
    _, _, rest = text.partition(f'<script type="application/json" id="{name}">')
    return json.loads(rest.partition("</script>")[0])
