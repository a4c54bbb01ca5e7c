"""What a step costs in `fit`, beside the loops that people write, and Keras' `fit`.

    python -m experiments.benchmarks.loop
    python -m experiments.benchmarks.loop --models=mlp --steps=2000
    python -m experiments.benchmarks.loop --peer=/tmp/peer/bin/python   # has Keras

Each form trains the same model for the same number of steps, from the same state, all
forms taking turns in one process; the fastest run counts. `scan` is a compiled scan of
the step and its batches, the floor; `loop` a loop of Python over the jitted step and
the jitted batches, which looks at nothing; `fit` makes a record every ten steps. `fit,
NumPy` reads its batches from a generator of arrays of NumPy. Nothing of that is
compiling: every form has run before.
"""

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.progress
from absl import app
from absl import flags
from jax import lax

import headwise as hw
from experiments.benchmarks import harness
from experiments.benchmarks import views
from experiments.harness import run
from experiments.tasks import tabular

FORMS = ["scan", "loop", "fit", "fit, NumPy"]
EXECUTIONS = (1, 10, 50, 200)
"""Steps that Keras runs as one program."""

_FORMS = flags.DEFINE_list("forms", FORMS, "Which forms.")
_STEPS = flags.DEFINE_integer("steps", 10_000, "Of one run.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each form.", lower_bound=1)
_PEER = flags.DEFINE_string("peer", None, "A Python that has Keras, see peers/.")


class Case(NamedTuple):
    """A training."""

    step: Callable
    state: hw.training.TrainState
    batch: Callable[[Any], Any]
    """Of step t; traceable."""
    rows: dict[str, np.ndarray]
    """What batches are drawn from."""
    size: int
    """Of a batch."""
    keras: dict[str, Any] | None
    """What the peer has to know to train the same model; None: it does not."""


def _case(
    forward: Callable, params: dict, shape: tuple[int, ...], size: int, keras: Any
) -> Case:
    """Two heads on noise, by Adam; batches are drawn from 4096 examples."""
    rng = np.random.default_rng(0)
    rows = {
        "x": rng.normal(size=(4096, *shape)).astype(np.float32),
        "a": rng.normal(size=(4096, 1)).astype(np.float32),
        "b": rng.normal(size=(4096, 1)).astype(np.float32),
    }
    objective = hw.Objective(dict.fromkeys("ab", optax.losses.squared_error))

    def values_fn(params: dict, batch: dict) -> Any:
        outputs = forward(params, batch["x"])
        return objective.values(outputs, {name: batch[name] for name in "ab"})

    optimizer, on_device = optax.adam(1e-3), jax.tree.map(jnp.asarray, rows)
    draw = functools.partial(hw.data.sample, on_device, batch_size=size)
    return Case(
        hw.training.make_step(values_fn, optimizer),
        hw.training.init_state("ab", params, optimizer),
        lambda t: draw(jax.random.fold_in(jax.random.key(0), t)),
        rows,
        size,
        keras,
    )


def _weights(*shape: int) -> jax.Array:
    scale = np.sqrt(np.prod(shape[:-1]))
    rows = np.random.default_rng(sum(shape)).normal(size=shape) / scale
    return jnp.asarray(rows, jnp.float32)


def mlp() -> Case:
    """Two layers of 64 and two heads, batches of 128."""
    params = {"w1": _weights(32, 64), "w2": _weights(64, 64)}
    params |= {"a": _weights(64, 1), "b": _weights(64, 1)}

    def forward(p: dict, x: jax.Array) -> dict:
        h = jnp.tanh(jnp.tanh(x @ p["w1"]) @ p["w2"])
        return {name: h @ p[name] for name in "ab"}

    return _case(forward, params, (32,), 128, {"width": 64, "layers": 2, "loss": "mse"})


def conv() -> Case:
    """Two 3x3 convolutions of 16 channels and two heads, 16 images of 16^2."""
    params = {"w1": _weights(3, 3, 3, 16), "w2": _weights(3, 3, 16, 16)}
    params |= {"a": _weights(16, 1), "b": _weights(16, 1)}
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

    def forward(p: dict, x: jax.Array) -> dict:
        h = jax.nn.relu(convolve(jax.nn.relu(convolve(x, p["w1"])), p["w2"]))
        return {name: jnp.mean(h, (1, 2)) @ p[name] for name in "ab"}

    return _case(forward, params, (16, 16, 3), 16, None)


def tabular_() -> Case:
    """The experiment `tabular`: two layers of 64 and 14 heads, batches of 128."""
    spec = tabular.SPEC
    experiment = tabular.build({**spec.defaults, "smoke": False})
    optimizer, balancer = experiment.optimizer(spec.steps), hw.balancers.equal()
    genes = hw.data.load_yeast()
    return Case(
        hw.training.make_step(
            experiment.values_fn, optimizer, balancer, stateful=True
        ),
        run.first_state(experiment, spec.heads, optimizer, balancer, 0),
        run.batches(experiment, 0),
        {"inputs": genes.inputs, "targets": genes.targets},
        spec.defaults["batch_size"],
        {"width": 64, "layers": 2, "loss": "bce"},
    )


MODELS = {"mlp": mlp, "tabular": tabular_, "conv": conv}
_MODELS = flags.DEFINE_list("models", [*MODELS], "Which models.")


def _batches(case: Case) -> Iterator[dict]:
    """Epochs in a new order each, as arrays of NumPy."""
    number = len(next(iter(case.rows.values())))
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(number)
        for i in range(0, number - case.size + 1, case.size):
            rows = order[i : i + case.size]
            yield {name: x[rows] for name, x in case.rows.items()}


def _ways(case: Case, steps: int) -> dict[str, Callable[[], Any]]:
    """{form: a run of so many steps}."""
    step, batch = jax.jit(case.step), jax.jit(case.batch)
    options = {"progress": False, "check": False}

    @jax.jit
    def scanned(state: Any, ts: jax.Array) -> Any:
        return lax.scan(lambda state, t: case.step(state, case.batch(t)), state, ts)

    def loop() -> Any:
        state = case.state
        for t in range(steps):
            state, _ = step(state, batch(t))
        return jax.block_until_ready(state)

    return {
        "scan": lambda: jax.block_until_ready(scanned(case.state, jnp.arange(steps))),
        "loop": loop,
        "fit": lambda: hw.training.fit(step, case.state, case.batch, steps, **options),
        "fit, NumPy": lambda: hw.training.fit(
            step, case.state, _batches(case), steps, **options
        ),
    }


def measure(model: str, peer: harness.Peer | None) -> list[dict[str, Any]]:
    """A row a form of one model, all forms side by side."""
    case, steps = MODELS[model](), _STEPS.value
    ways = {
        form: harness.way(call)
        for form, call in _ways(case, steps).items()
        if form in _FORMS.value
    }
    if peer is not None and case.keras is not None:
        heads = sorted(case.rows.keys() - {"x"})
        inputs = case.rows.get("x", case.rows.get("inputs"))
        assert inputs is not None
        outputs = 14 if "targets" in heads else 2
        for together in EXECUTIONS:
            ways[f"Keras, {together}"] = peer.way(
                "fit",
                features=inputs.shape[1],
                outputs=outputs,
                size=case.size,
                steps=steps,
                together=together,
                **case.keras,
            )
    best = harness.best(harness.turns(ways, rounds=_ROUNDS.value))
    return [
        {
            "model": model,
            "title": MODELS[model].__doc__,
            "form": form,
            "steps": steps,
            "seconds": seconds / steps,
        }
        for form, seconds in best.items()
    ]


def main(argv: list[str]) -> None:
    """Measures every model."""
    harness.begin(
        argv, models=(_MODELS.value, MODELS), forms=(_FORMS.value, FORMS)
    )
    rows: list[dict[str, Any]] = []
    peer = harness.Peer(_PEER.value, "keras_fit.py") if _PEER.value else None
    with rich.progress.Progress(transient=True) as bar:
        task = bar.add_task("measuring", total=len(_MODELS.value))
        for model in _MODELS.value:
            rows += measure(model, peer)
            bar.advance(task)
    if peer is not None:
        peer.__exit__()
    versions = {} if peer is None else peer.versions
    harness.finish("loop", rows, views.loop, versions)


if __name__ == "__main__":
    app.run(main)
