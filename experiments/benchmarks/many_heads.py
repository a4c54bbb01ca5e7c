"""What many equal heads cost: to trace, to compile and to run, beside a plain step.

    python -m experiments.benchmarks.many_heads
    python -m experiments.benchmarks.many_heads --heads=128 --models=gnn --copies=

Heads that differ in data alone go through one program. The forms in --copies are also
measured without that, with a copy of the program for each head. Tracing and compiling
are told apart, and nothing comes from a cache. All forms of a block take turns, and the
best call counts. Plain is `jax.value_and_grad` of the weighted total.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments.benchmarks import crowds
from experiments.benchmarks import harness
from experiments.benchmarks import views

FORMS = ["plain", "jacrev", "head_grads", "head_gramian", "step static", "step upgrad"]

_MODELS = flags.DEFINE_list("models", [*crowds.CROWDS], "Which models.")
_HEADS = flags.DEFINE_list("heads", "16,64,128", "Numbers of heads.")
_FORMS = flags.DEFINE_list("forms", FORMS, "Which forms.")
_COPIES = flags.DEFINE_list(
    "copies", "head_grads,head_gramian", "Forms to measure with a copy a head, too."
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Of measurement for each H.")


def _ways(crowd: crowds.Crowd) -> dict[str, tuple]:
    """{form: (function, its arguments)}."""
    f, params, batch = crowd
    names = sorted(jax.eval_shape(f, params, batch))
    weights = jnp.linspace(0.5, 1.5, len(names))

    def stacked(params: Any, batch: Any) -> jax.Array:
        values = f(params, batch)
        return jnp.stack([values[name] for name in names])

    def total(params: Any, batch: Any, weights: jax.Array) -> jax.Array:
        values = f(params, batch)
        terms = [weights[i] * values[name] for i, name in enumerate(names)]
        return sum(terms[1:], terms[0])

    def step(balancer: Any) -> tuple:
        optimizer = optax.sgd(1e-3)
        make = hw.training.make_step(f, optimizer, balancer)
        return make, hw.training.init_state(names, params, optimizer, balancer), batch

    return {
        "plain": (jax.value_and_grad(total), params, batch, weights),
        "jacrev": (jax.jacrev(stacked), params, batch),
        "head_grads": (hw.head_grads(f), params, batch),
        "head_gramian": (hw.head_gramian(f), params, batch),
        "step static": step(hw.balancers.equal()),
        "step upgrad": step(hw.balancers.upgrad()),
    }


def measure(model: str, heads: int) -> list[dict[str, Any]]:
    """A row a form of one model, all forms side by side."""
    make: Callable[[int], crowds.Crowd] = crowds.CROWDS[model]
    ways = _ways(make(heads))
    compiled = {}
    for form in ways:
        if form in _FORMS.value:
            compiled[form] = harness.compiled(*ways[form])
        if form in _COPIES.value:
            with harness.replaced({"ALIKE_HEADS": 2**62}):
                function, *args = ways[form]
                # A function of its own: JAX remembers traces by function.
                copy = functools.partial(lambda f, *args: f(*args), function)
                compiled[f"{form}, copies"] = harness.compiled(copy, *args)
    taken = harness.turns(
        {form: harness.way(program.call) for form, program in compiled.items()},
        calls=2,
        rounds=2,
        seconds=_SECONDS.value,
    )
    best = harness.best(taken)
    return [
        {
            "model": model,
            "title": make.__doc__,
            "heads": heads,
            "form": form,
            "seconds": best[form],
            "trace_seconds": program.tracing,
            "compile_seconds": program.seconds - program.tracing,
            "temporary_bytes": program.temporary,
        }
        for form, program in compiled.items()
    ]


def main(argv: list[str]) -> None:
    """Measures every model with every number of heads."""
    harness.begin(
        argv,
        models=(_MODELS.value, crowds.CROWDS),
        forms=(_FORMS.value, FORMS),
        copies=(_COPIES.value, FORMS),
    )
    harness.keep_memory()
    heads = [int(h) for h in _HEADS.value]
    rows: list[dict[str, Any]] = []
    with rich.progress.Progress(transient=True) as bar:
        task = bar.add_task("measuring", total=len(heads) * len(_MODELS.value))
        for model in _MODELS.value:
            for h in heads:
                rows += measure(model, h)
                bar.advance(task)
    harness.finish("many_heads", rows, views.many_heads)


if __name__ == "__main__":
    app.run(main)
