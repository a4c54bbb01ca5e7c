"""What head gradients cost: time, compile time and memory, beside the floor.

    python -m experiments.benchmarks.gradients
    python -m experiments.benchmarks.gradients --heads=8 --forms=sequential,batched

The floor is the arithmetic that no exact method can avoid: one forward pass, and for
each head one backward pass over exactly the path that leads to it. It is counted by XLA
on programs that do just that. All forms of a block take turns of two calls, round after
round, and the best call counts: what a form that takes 2 GB leaves in the caches is not
charged to the next. Freed memory stays with the process (`harness.keep_memory`).
"""

import functools
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments.benchmarks import harness
from experiments.benchmarks import models
from experiments.benchmarks import views
from experiments.benchmarks.models import Model

_MODELS = flags.DEFINE_list("models", "mlp,conv2d,conv3d,transformer", "Which models.")
_HEADS = flags.DEFINE_list("heads", "1,8,16", "Numbers of heads.")
_FORMS = flags.DEFINE_list(
    "forms",
    "plain backward,jacrev,head_grads,head_gramian,step mgda",
    "Which forms.",
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Of measurement for each H.")

FORMS = [
    "plain backward",
    "jacrev",
    "head_grads",
    "sequential",
    "batched",
    "gramian of rows",
    "head_gramian",
    "step static",
    "step mgda",
    "step contributions",
]


def forms(model: Model, wanted: list[str]) -> dict[str, harness.Compiled]:
    """The wanted ways, compiled, on the same model."""
    f = functools.partial(models.values_fn, model)
    params, x = model.params, model.inputs
    names = sorted(params.keys() - {"trunk"})

    def stacked(params: dict, x: jax.Array) -> jax.Array:
        return jnp.stack(list(f(params, x).values()))

    def total(params: dict, x: jax.Array) -> jax.Array:
        return jnp.sum(stacked(params, x))

    def step(balancer: Any, **options: Any) -> tuple:
        optimizer = optax.sgd(1e-3)
        make = hw.training.make_step(f, optimizer, balancer, **options)
        return make, hw.training.init_state(names, params, optimizer, balancer), x

    def gramian_of_rows(params: dict, x: jax.Array) -> jax.Array:
        return hw.gramian(hw.head_grads(f)(params, x)[1])

    equal, mgda = hw.balancers.equal(), hw.balancers.mgda()
    ways: dict[str, tuple] = {
        "plain backward": (jax.grad(total), params, x),
        "jacrev": (jax.jacrev(stacked), params, x),
        "head_grads": (hw.head_grads(f), params, x),
        "sequential": (hw.head_grads(f, method="sequential"), params, x),
        "batched": (hw.head_grads(f, method="batched"), params, x),
        "gramian of rows": (gramian_of_rows, params, x),
        "head_gramian": (hw.head_gramian(f), params, x),
        "step static": step(equal),
        "step mgda": step(mgda),
        "step contributions": step(mgda, contributions=True),
    }
    return {name: harness.compiled(*ways[name]) for name in ways if name in wanted}


class Floor(NamedTuple):
    """What cannot be avoided."""

    operations: float
    bytes: int
    """Parameters and inputs read once, gradients written where they are not zero."""


def floors(make: Callable[[int], Model]) -> Callable[[int], Floor]:
    """One forward pass and one backward pass a head along its own path, for any H.

    The heads are alike, so that the count is linear in H: the forward passes of one and
    of two heads and the backward pass of one tell it.
    """
    one, two = make(1), make(2)

    def total(model: Model, params: dict, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.stack([*models.values_fn(model, params, x).values()]))

    def count(function: Callable, model: Model) -> float:
        bound = functools.partial(function, model)
        return harness.compiled(bound, model.params, model.inputs).operations

    def both(model: Model, params: dict, x: jax.Array) -> tuple:
        return jax.value_and_grad(functools.partial(total, model))(params, x)

    forward = count(total, one)
    decoder = count(total, two) - forward
    backward = count(both, one) - forward
    trunk_bytes = sum(a.nbytes for a in jax.tree.leaves(one.params["trunk"]))
    all_bytes = sum(a.nbytes for a in jax.tree.leaves(one.params))
    decoder_bytes = all_bytes - trunk_bytes

    def floor(heads: int) -> Floor:
        operations = forward + (heads - 1) * decoder + heads * backward
        read = trunk_bytes + heads * decoder_bytes + one.inputs.nbytes
        return Floor(operations, read + heads * all_bytes)

    return floor


def measure(name: str, heads: int, floor: Floor) -> list[dict[str, Any]]:
    """A row a form of one model, all forms side by side."""
    compiled = forms(models.MODELS[name](heads), _FORMS.value)
    ways = {form: harness.way(program.call) for form, program in compiled.items()}
    taken = harness.turns(ways, calls=2, rounds=3, seconds=_SECONDS.value)
    best = harness.best(taken)
    return [
        {
            "model": name,
            "title": models.MODELS[name].__doc__,
            "heads": heads,
            "form": form,
            "seconds": best[form],
            "operations": program.operations,
            "floor_operations": floor.operations,
            "floor_bytes": floor.bytes,
            "compile_seconds": program.seconds,
            "temporary_bytes": program.temporary,
        }
        for form, program in compiled.items()
    ]


def main(argv: list[str]) -> None:
    """Measures every model with every number of heads."""
    harness.begin(
        argv,
        models=(_MODELS.value, models.MODELS),
        forms=(_FORMS.value, FORMS),
    )
    harness.keep_memory()
    heads = [int(h) for h in _HEADS.value]
    rows: list[dict[str, Any]] = []
    with rich.progress.Progress(transient=True) as bar:
        task = bar.add_task("measuring", total=len(heads) * len(_MODELS.value))
        for name in _MODELS.value:
            floor = floors(models.MODELS[name])
            for h in heads:
                rows += measure(name, h, floor(h))
                bar.advance(task)
    harness.finish("gradients", rows, views.gradients)


if __name__ == "__main__":
    app.run(main)
