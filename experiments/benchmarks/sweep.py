"""What a step of a trial costs in a sweep: every mode, beside `fit` and PyTorch's loop.

    python -m experiments.benchmarks.sweep
    python -m experiments.benchmarks.sweep --models=tabular --trials=32
    python -m experiments.benchmarks.sweep --peer=/tmp/peer/bin/python   # has PyTorch

So many trials of an experiment, which differ in weights and seed, go some steps in each
mode; `auto` is what the library chooses for trials of --steps steps. `fit` and PyTorch
train one trial after the other, so that one stands for all. PyTorch's loop has the same
model, optimiser and batches, with the heads as modules (`heads as one`: all in a single
layer, where that is the same) and the number of threads that is the fastest. All forms
take turns in one process; the fastest call counts, divided by steps and trials. Nothing
of that is compiling; how often a mode's step was compiled is counted.
"""

import functools
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments.benchmarks import harness
from experiments.benchmarks import results
from experiments.benchmarks import views
from experiments.harness import programs
from experiments.harness import run
from experiments.tasks import digits
from experiments.tasks import tabular
from headwise.sweeps._cohort import _choice
from headwise.sweeps._cohort import _memory
from headwise.sweeps._cohort import _modes

MODELS = {"tabular": tabular, "digits": digits}
FORMS = [*_modes.MODES, "auto", "fit"]
COMPILED = "/headwise/sweeps/compiled"
"""The event of `jax.monitoring` that cohorts tell their compiling by."""

_MODELS = flags.DEFINE_list("models", [*MODELS], "Which experiments.")
_TRIALS = flags.DEFINE_list("trials", None, "Numbers of trials; else a model's own.")
_FORMS = flags.DEFINE_list("forms", FORMS, "Which modes, auto, fit.")
_STEPS = flags.DEFINE_integer(
    "steps", 10_000, "Of a trial, for which auto chooses.", lower_bound=1
)
_SECONDS = flags.DEFINE_float("seconds", 0.3, "Of a call, about.", lower_bound=0)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Calls of each form.", lower_bound=1)
_PEER = flags.DEFINE_string("peer", None, "A Python that has PyTorch, see peers/.")

_PEERS: dict[str, dict[str, dict]] = {
    "tabular": {"PyTorch": {"fused": False}, "PyTorch, heads as one": {"fused": True}},
    "digits": {"PyTorch": {}},
}
_TRIALS_OF = {"tabular": [32, 256], "digits": [16]}
"""What is measured where nothing is said."""
_LEAST = {"tabular": 50, "digits": 1}
"""Steps of a call of many trials at least: what a call costs is little beside them."""
_ALONE = {"tabular": 1000, "digits": 100}
"""Steps of a call of `fit` and of PyTorch: so many that what a call costs beside them
is little."""
_compilations: list[dict] = []


class Form(NamedTuple):
    """A way to go some steps of all trials, that knows how many it goes."""

    call: Callable[[int], None]
    """(steps) -> when they are gone."""
    trials: int
    """That a call is of."""
    detail: str = ""


class Case(NamedTuple):
    """An experiment, ready for trials."""

    heads: tuple[str, ...]
    experiment: Any
    program: hw.sweeps.Program
    steps: int


def _case(model: str) -> Case:
    spec = MODELS[model].SPEC
    experiment = MODELS[model].build({**spec.defaults, "smoke": False})
    program = programs.program(experiment, _STEPS.value)
    return Case(spec.heads, experiment, program, _STEPS.value)


def _trials(heads: Sequence[str], number: int) -> dict[str, Any]:
    """Weights from 0.1 to 10 and seeds, each its own."""
    rng = np.random.default_rng(0)
    draw = np.exp(rng.uniform(-math.log(10), math.log(10), (len(heads), number)))
    weights = dict(zip(heads, draw.astype(np.float32), strict=True))
    return {"weights": weights, "seed": np.arange(number, dtype=np.int32)}


def _of_mode(case: Case, mode: str, trials: Any, size: int, detail: str = "") -> Form:
    """So many trials at a time, the last of the equal pieces filled up."""
    number = len(trials["seed"])
    pieces: list[list[Any]] = []
    for start in range(0, number, size):
        rows = np.minimum(np.arange(start, start + size), number - 1)
        part = jax.tree.map(lambda x: x[rows], trials)  # noqa: B023
        cohort = _modes.cohort(case.program, mode, part)
        pieces.append([cohort, cohort.start(part)])

    def call(steps: int) -> None:
        for piece in pieces:
            cohort, members = piece
            piece[1], _ = cohort.advance(members, steps)
            jax.block_until_ready(piece[1])

    return Form(call, number, detail)


def _of_fit(case: Case) -> Form:
    """One trial in `fit`, whose program is compiled once for all."""
    experiment, balancer = case.experiment, hw.balancers.constant()
    optimizer = experiment.optimizer(case.steps)
    step = jax.jit(
        hw.training.make_step(experiment.values_fn, optimizer, balancer, stateful=True)
    )
    balancer = hw.balancers.constant(dict.fromkeys(case.heads, 1.0))
    state = run.first_state(experiment, case.heads, optimizer, balancer, 0)
    batches = run.batches(experiment, 0)

    def call(steps: int) -> None:
        hw.training.fit(
            step, state, batches, steps, log_every=100, progress=False, check=False
        )

    return Form(call, 1)


def _steps(form: Form, least: int, most: int) -> int:
    """How many steps a call needs to last as long as is wanted."""
    number = least = least if _SECONDS.value else 1
    form.call(1)  # the first meets cold memory, and may compile
    while True:
        (taken,) = harness.way(lambda: form.call(number))(1)  # noqa: B023
        if taken >= _SECONDS.value / 2 or number >= most:
            ratio = _SECONDS.value / max(taken, 1e-9)
            return max(least, min(round(number * ratio), most))
        number *= 4


def _forms(case: Case, number: int) -> dict[str, tuple[Form, int]]:
    """{form: (itself, how often its step was compiled)}."""
    trials, made = _trials(case.heads, number), {}
    devices = len(jax.devices())
    for name in FORMS:
        if name not in _FORMS.value or (name == "shard" and devices == 1):
            continue
        before = len(_compilations)
        if name == "fit":
            form = _of_fit(case)
        elif name == "auto":
            choice = _choice.choose(case.program, trials, case.steps)
            at_once = "" if choice.size == number else f", {choice.size} at a time"
            form = _of_mode(
                case, choice.mode, trials, choice.size, choice.mode + at_once
            )
        else:
            part = jax.tree.map(lambda x: x[:number], trials)
            cohort = _modes.cohort(case.program, name, part)
            if _memory.needed(cohort) > (_memory.free() or math.inf):
                continue
            form = _of_mode(case, name, trials, number)
        new = [told for told in _compilations[before:] if told["program"] == "advance"]
        made[name] = form, len(new)
    return made


def measure(
    model: str, case: Case, number: int, peer: harness.Peer | None
) -> list[dict[str, Any]]:
    """A row a form of so many trials of one model, all forms side by side."""
    forms = _forms(case, number)
    ways, divisors, details, counts = {}, {}, {}, {}
    alone = max(2, round(_ALONE[model] * _SECONDS.value / _SECONDS.default))
    for name, (form, count) in forms.items():
        steps = alone if name == "fit" else _steps(form, _LEAST[model], case.steps)
        ways[name] = harness.way(functools.partial(form.call, steps))
        divisors[name] = steps * form.trials
        details[name], counts[name] = form.detail, None if name == "fit" else count
    if peer is not None:
        threads = sorted({1, results.cores()})
        for name, options in _PEERS[model].items():
            ways[name] = peer.way(model, steps=alone, threads=threads, **options)
            divisors[name], details[name], counts[name] = alone, "", None
    title = str(MODELS[model].__doc__).partition("\n")[0].removeprefix("Question: ")
    before = len(_compilations)
    best = harness.best(harness.turns(ways, rounds=_ROUNDS.value))
    assert len(_compilations) == before, "a cohort compiled while it ran"
    return [
        {
            "model": model,
            "title": title,
            "trials": number,
            "form": name,
            "detail": details[name],
            "seconds": seconds / divisors[name],
            "compilations": counts[name],
        }
        for name, seconds in best.items()
    ]


def _note(event: str, duration_secs: float, **of_event: Any) -> None:
    del duration_secs
    if event == COMPILED:
        _compilations.append(of_event)


def main(argv: list[str]) -> None:
    """Measures every model with every number of trials."""
    harness.begin(argv, models=(_MODELS.value, MODELS), forms=(_FORMS.value, FORMS))
    jax.monitoring.register_event_duration_secs_listener(_note)
    wanted = [
        (model, int(number))
        for model in _MODELS.value
        for number in _TRIALS.value or _TRIALS_OF[model]
    ]
    cases = {model: _case(model) for model in _MODELS.value}
    rows: list[dict[str, Any]] = []
    peer = harness.Peer(_PEER.value, "torch_sweep.py") if _PEER.value else None
    with rich.progress.Progress(transient=True) as bar:
        task = bar.add_task("measuring", total=len(wanted))
        for model, number in wanted:
            rows += measure(model, cases[model], number, peer)
            bar.advance(task)
    if peer is not None:
        peer.__exit__()
    versions = {} if peer is None else peer.versions
    harness.finish("sweep", rows, views.sweep, versions)


if __name__ == "__main__":
    app.run(main)
