"""What head gradients cost: time, compile time and memory, beside the floor.

    python -m experiments.bench_gradients
    python -m experiments.bench_gradients --heads=8 --forms=sequential,batched

The floor is the arithmetic that no exact method can avoid: one forward pass, and for
each head one backward pass over exactly the path that leads to it. It is counted by XLA
on programs that do just that. All forms of a block run side by side, round after round,
and the best call counts, so that ratios hold on a busy machine. Freed memory stays
with the process (`keep_memory`).
"""

import ctypes
import functools
import sys
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import rich.console
import rich.progress
import rich.table
from absl import app
from absl import flags

import headwise as hw
from experiments import bench_models
from experiments.bench_models import Model
from experiments.bench_models import MODELS

_MODELS = flags.DEFINE_list("models", "mlp,conv2d,conv3d,transformer", "Which models.")
_HEADS = flags.DEFINE_list("heads", "1,8,16", "Numbers of heads.")
_FORMS = flags.DEFINE_list(
    "forms",
    "plain backward,jacrev,head_grads,head_gramian,step mgda",
    "Which forms.",
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Of measurement for each H.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print a Markdown table.")


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


class Compiled(NamedTuple):
    """A compiled form and what compiling it showed."""

    run: Any
    args: tuple
    seconds: float
    operations: float
    temporary: int


def compiled(function: Callable, *args: Any) -> Compiled:
    """Traces and compiles, with the seconds that both take together."""
    start = time.perf_counter()
    run = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    operations = (run.cost_analysis() or {}).get("flops", float("nan"))
    temporary = getattr(run.memory_analysis(), "temp_size_in_bytes", 0)
    return Compiled(run, args, seconds, operations, temporary)


def forms(model: Model, wanted: list[str]) -> dict[str, Compiled]:
    """The wanted ways, compiled, on the same model."""
    f = functools.partial(bench_models.values_fn, model)
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
    return {name: compiled(*ways[name]) for name in ways if name in wanted}


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
        return jnp.sum(jnp.stack([*bench_models.values_fn(model, params, x).values()]))

    def count(function: Callable, model: Model) -> float:
        bound = functools.partial(function, model)
        return compiled(bound, model.params, model.inputs).operations

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


def keep_memory() -> None:
    """Tells glibc to keep freed memory instead of giving it back to the kernel.

    Otherwise large results cost page faults in every call or in none, as the sizes of
    earlier ones had it, which changes times by half.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_max = -1, -4
        ctypes.CDLL(None).mallopt(mmap_max, 0)
        ctypes.CDLL(None).mallopt(trim_threshold, 2**31 - 1)


def best_times(ways: dict[str, Compiled], seconds: float) -> dict[str, float]:
    """Seconds of the best call, the ways taking turns for so long, or three rounds.

    A way's turn is two calls: the first meets the caches as the way before left them.
    """
    best = dict.fromkeys(ways, float("inf"))
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        for name, way in ways.items():
            for _ in range(2):
                start = time.perf_counter()
                jax.block_until_ready(way.run(*way.args))
                best[name] = min(best[name], time.perf_counter() - start)
        rounds += 1
    return best


COLUMNS = ("H", "form", "time", "x plain", "Gop", "x floor", "compile", "temp")


def rows_of(
    model: Model, heads: int, least: Floor, wanted: list[str], seconds: float
) -> list[tuple[str, ...]]:
    """The floor and every form, as text."""
    ways = forms(model, wanted)
    times = best_times(ways, seconds)
    plain = times.get("plain backward", float("nan"))
    traffic = f"{least.bytes / 1e6:.1f} MB moved"
    count = f"{least.operations / 1e9:.3f}"
    rows: list[tuple[str, ...]] = [
        (str(heads), "floor", traffic, "", count, "1", "", "")
    ]
    for name, way in ways.items():
        # One backward pass in all is no way to get H gradients.
        single = name in ("plain backward", "step static")
        gap = way.operations / least.operations
        rows.append(
            (
                "",
                name,
                f"{1e3 * times[name]:.2f} ms",
                f"{times[name] / plain:.2f}",
                f"{way.operations / 1e9:.3f}",
                "" if single else f"{gap:.3f}",
                f"{way.seconds:.2f} s",
                f"{way.temporary / 1e6:.1f} MB",
            )
        )
    return rows


def show(
    title: str, rows: list[tuple[str, ...]], console: rich.console.Console
) -> None:
    """A table for the terminal, or the same in Markdown."""
    if _MARKDOWN.value:
        right = ["---:"] * (len(COLUMNS) - 2)
        lines = [COLUMNS, ("---:", "---", *right), *rows]
        print(
            f"**{title}**\n", *(f"| {' | '.join(row)} |" for row in lines), "", sep="\n"
        )
        return
    table = rich.table.Table(title=title, title_justify="left", box=None)
    for column in COLUMNS:
        if column == "form":
            table.add_column(column, no_wrap=True)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row, end_section=True)
    console.print(table, "")


def main(argv: list[str]) -> None:
    """Measures every model with every number of heads."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    for flag, given, known in (
        ("models", _MODELS.value, list(MODELS)),
        ("forms", _FORMS.value, FORMS),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise app.UsageError(f"--{flag}: expected some of {known}, got {unknown}")
    keep_memory()
    heads = [int(h) for h in _HEADS.value]
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}\n")
    console = rich.console.Console(width=100)
    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(*columns, transient=True) as bar:
        task = bar.add_task("measuring", total=len(heads) * len(_MODELS.value))
        for name in _MODELS.value:
            make = MODELS[name]
            floor = floors(make)
            rows: list[tuple[str, ...]] = []
            for h in heads:
                rows += rows_of(make(h), h, floor(h), _FORMS.value, _SECONDS.value)
                bar.advance(task)
            show(f"{name}: {make.__doc__}", rows, console)


if __name__ == "__main__":
    app.run(main)
