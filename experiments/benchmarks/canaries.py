"""Do the tricks that are played on compilers still help? Each with and without.

    python -m experiments.benchmarks.canaries
    python -m experiments.benchmarks.canaries --tricks=elimination,"sums in one loop"

The tricks are those of the table in `headwise._xla`, in its words. One is left out by
replacing what decides it there while the same program is traced; the rest of the
program is the library's own. Prints for each what it costs with and without: time (the
best of some calls, taken in turns), temporary memory, or time to compile. Ends with 1
and names those that gain less than they must: such a trick is to go, or its threshold
is to move. The figures are for CPU; elsewhere most of the tricks are not played.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from absl import flags
from flax import nnx
from jax import lax

import headwise as hw
from experiments.benchmarks import crowds
from experiments.benchmarks import harness
from headwise import _numerics
from headwise import _xla

_TRICKS = flags.DEFINE_list("tricks", None, "Which ones; all by default.")
_CALLS = flags.DEFINE_integer(
    "calls", 12, "Timed calls of each program.", lower_bound=1
)
_JUDGE = flags.DEFINE_bool("judge", True, "End with 1 if a trick no longer helps.")
_TINY = flags.DEFINE_bool("tiny", False, "Programs so small that they show nothing.")


class Canary(NamedTuple):
    """A program that a trick makes cheaper."""

    build: Callable[[bool], tuple[Callable, tuple]]
    """Tiny or not -> a function and its arguments."""
    without: Mapping[str, Any]
    """What stands in `_xla` where the trick is not played."""
    cost: str
    """"ms", "MB" or "s to compile"."""
    least: float = 1.05
    """What it must gain: cost without over cost with."""
    plain: Callable | None = None
    """The function without the trick, where nothing in `_xla` decides."""
    options: Callable[[], Mapping[str, Any]] = dict
    """Of the compiler."""


def _normal(*shape: int, seed: int = 0) -> jax.Array:
    scale = np.sqrt(np.prod(shape[:-1], dtype=float)) if len(shape) > 1 else 1.0
    rows = np.random.default_rng(seed).normal(size=shape) / scale
    return jnp.asarray(rows, jnp.float32)


def _mlp(
    transform: Callable, heads: int = 8, width: int = 512, batch: int = 256
) -> Callable[[bool], tuple[Callable, tuple]]:
    """A transform of a trunk of four layers with linear heads."""

    def build(tiny: bool) -> tuple[Callable, tuple]:
        n, rows = (8, 4) if tiny else (width, batch)
        params = {
            "heads": [_normal(n, 4, seed=h) for h in range(heads)],
            "trunk": [_normal(n, n, seed=10 + i) for i in range(4)],
        }

        def values_fn(params: dict, x: jax.Array) -> dict:
            for w in params["trunk"]:
                x = jnp.tanh(x @ w)
            return {
                f"y{h}": jnp.mean((x @ w) ** 2) for h, w in enumerate(params["heads"])
            }

        return transform(values_fn), (params, _normal(rows, n))

    return build


def _attention(width: int) -> Callable[[bool], tuple[Callable, tuple]]:
    """Head gradients of one block of attention, 8 sequences of 64."""

    def build(tiny: bool) -> tuple[Callable, tuple]:
        n, rows = (8, 4) if tiny else (width, 64)
        params = {name: _normal(n, n, seed=ord(name)) for name in "qkvo"}
        params["w"] = _normal(n, 4 * n)
        params["heads"] = _normal(n, 8)

        def values_fn(p: dict, x: jax.Array) -> dict:
            q, k, v = ((x @ p[name]).reshape(8, rows, 4, n // 4) for name in "qkv")
            scores = jax.nn.softmax(jnp.einsum("bihd,bjhd->bhij", q, k))
            mixed = jnp.einsum("bhij,bjhd->bihd", scores, v).reshape(8, rows, n)
            y = jax.nn.gelu((x + mixed @ p["o"]) @ p["w"]) @ p["w"].T
            out = y @ p["heads"]
            return {f"y{h}": jnp.mean(out[..., h] ** 2) for h in range(8)}

        return hw.head_grads(values_fn), (params, _normal(8, rows, n))

    return build


def _columns(tiny: bool) -> tuple[Callable, tuple]:
    """The gramian of the columns of one output of a GNN."""
    values_fn, params, batch = crowds.mlp(12) if tiny else crowds.gnn(32)
    return hw.head_gramian(values_fn), (params, batch)


def _rows(tiny: bool) -> tuple[Callable, tuple]:
    """The head gradients of the columns of one output, each an array of its own."""
    values_fn, params, batch = crowds.mlp(12 if tiny else 48)
    return hw.head_grads(values_fn), (params, batch)


def _gramian(tiny: bool) -> tuple[Callable, tuple]:
    grads = {f"y{h}": _normal(2**17 if tiny else 2**21, seed=h) for h in range(4)}
    return hw.gramian, (grads,)


def _contributions(tiny: bool) -> tuple[Callable, tuple]:
    rows = [_normal(256 if tiny else 2048, 512, seed=h) for h in range(9)]
    grads = {f"y{h}": {"w": row} for h, row in enumerate(rows[:8])}

    def shares(grads: dict, x: jax.Array) -> jax.Array:
        # An update has more in it than an array that is read.
        update = {"w": x / (jnp.sqrt(x**2) + 1e-8)}
        return hw.contributions(grads, update=update).share

    return shares, (grads, rows[8])


def _weighted_sum(tiny: bool) -> tuple[Callable, tuple]:
    def total(weights: jax.Array, rows: list) -> jax.Array:
        pairs = zip(weights, rows, strict=True)
        terms = [_numerics.drop_zero_weight(w, row) for w, row in pairs]
        return sum(terms[1:], terms[0])

    size = 64 if tiny else 2**20
    return total, (jnp.ones(8), [_normal(size, seed=h) for h in range(8)])


def _plain_weighted_sum(weights: jax.Array, rows: list) -> jax.Array:
    pairs = zip(weights, rows, strict=True)
    terms = [jnp.where(w == 0, 0.0, w * row) for w, row in pairs]
    return sum(terms[1:], terms[0])


def _loss(classes: int) -> Callable[[bool], tuple[Callable, tuple]]:
    """Gradient of Dice and cross entropy of integer labels."""

    def build(tiny: bool) -> tuple[Callable, tuple]:
        side = 4 if tiny else 256
        logits = _normal(4, side, side, classes) * side
        labels = jnp.argmax(_normal(4, side, side, classes, seed=1), -1)

        def total(logits: jax.Array, labels: jax.Array) -> jax.Array:
            return jnp.mean(hw.losses.dice_ce(logits, labels))

        return jax.grad(total), (logits, labels)

    return build


def _convolution(tiny: bool) -> tuple[Callable, tuple]:
    side = 4 if tiny else 24
    numbers = ("NDHWC", "DHWIO", "NDHWC")

    def total(kernel: jax.Array, x: jax.Array) -> jax.Array:
        y = hw.nn.matmul_convolution(
            x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
        )
        return jnp.sum(jnp.tanh(y))

    return jax.grad(total), (_normal(3, 3, 3, 8, 8), _normal(2, side, side, side, 8))


def _min_norm(tiny: bool) -> tuple[Callable, tuple]:
    rows = _normal(2 if tiny else 256, 8, 12)
    return jax.vmap(hw.solvers.min_norm), (rows @ rows.swapaxes(-1, -2),)


def _conv_steps(tiny: bool) -> tuple[Callable, tuple]:
    """Steps down the gradient of two convolutions: a loop of them, or a copy each."""
    side, steps = (4, 2) if tiny else (16, 8)

    def step(kernels: list, x: jax.Array) -> list:
        def total(kernels: list) -> jax.Array:
            h, numbers = x, ("NHWC", "HWIO", "NHWC")
            for kernel in kernels:
                h = lax.conv_general_dilated(
                    h, kernel, (1, 1), "SAME", dimension_numbers=numbers
                )
            return jnp.mean(h**2)

        grads = jax.grad(total)(kernels)
        return [k - 0.01 * g for k, g in zip(kernels, grads, strict=True)]

    def run(kernels: list, x: jax.Array) -> list:
        if not _xla.slow_in_loops(jax.make_jaxpr(step)(kernels, x)):
            return lax.fori_loop(0, steps, lambda _, k: step(k, x), kernels)
        for _ in range(steps):
            kernels = step(kernels, x)
        return kernels

    kernels = [_normal(3, 3, 4, 4), _normal(3, 3, 4, 4, seed=1)]
    return run, (kernels, _normal(16, side, side, 4))


def _kernels(tiny: bool) -> tuple[Callable, tuple]:
    def draw(seed: jax.Array) -> list:
        keys = jax.random.split(jax.random.key(seed), 2 if tiny else 6)
        draw_one = jax.nn.initializers.lecun_normal()
        return [draw_one(key, (3, 3, 4, 4 + i)) for i, key in enumerate(keys)]

    return draw, (jnp.int32(0),)


def _convolution_kernels(tiny: bool) -> tuple[Callable, tuple]:
    """Those that a U-Net of three levels begins with; or one small one."""
    widths = (2,) if tiny else (4, 8, 16)

    def draw(seed: jax.Array) -> Any:
        rngs = nnx.Rngs(jax.random.key(seed))
        return nnx.state(hw.nn.UNet3D(1, widths, rngs=rngs), nnx.Param)

    return draw, (jnp.int32(0),)


def _once() -> dict[str, Any]:
    return _xla.once_options()


def _upgrad(tiny: bool) -> tuple[Callable, tuple]:
    heads = 18 if tiny else 96
    rows = _normal(heads, 2 * heads)
    balancer = hw.balancers.upgrad()
    state = balancer.init([f"y{h:02}" for h in range(heads)])

    def weights(gram: jax.Array) -> jax.Array:
        signals = hw.balancers.Signals(values=jnp.ones(heads), gram=gram)
        return balancer.update(signals, state)[0].weights

    return weights, (rows @ rows.T,)


def _balanced(values_fn: Callable) -> Callable:
    balancer = hw.balancers.mgda()
    state = balancer.init([f"y{h}" for h in range(8)])
    transform = hw.balanced_grad(values_fn, balancer)
    return lambda params, x: transform(params, state, x)[0]


_lockstep = _mlp(lambda f: hw.head_gramian(f, method="lockstep"), width=256, batch=64)
_sequential = _mlp(lambda f: hw.head_grads(f, method="sequential"))

CANARIES = {
    "turned activations": Canary(
        _sequential, {"turns_activations": lambda: False}, "ms"
    ),
    "stacked heads": Canary(_attention(64), {"stacks_heads": lambda *_: False}, "ms"),
    "heads one by one": Canary(_attention(512), {"STACKED_SIZE": 2**62}, "ms"),
    "heads that are alike": Canary(_columns, {"ALIKE_HEADS": 2**62}, "s to compile"),
    "some heads at a time": Canary(
        _columns, {"heads_at_once": lambda heads, _: heads}, "ms"
    ),
    "stacks cut by reductions": Canary(_rows, {"apart": list}, "s to compile"),
    "ordered heads": Canary(
        _mlp(hw.head_grads, width=64, batch=4096), {"after": lambda x, _: x}, "MB"
    ),
    "gradients let go": Canary(_lockstep, {"hold": lambda *both: both}, "MB"),
    "parts at large params": Canary(_lockstep, {"LARGE_PART": 1e-9}, "MB"),
    "long arrays pair by pair": Canary(_gramian, {"PAIRWISE_SIZE": 2**62}, "ms"),
    "sums in one loop": Canary(_contributions, {"TOGETHER_ROWS": (1, 0)}, "ms"),
    "bits of a flag": Canary(
        _weighted_sum, {}, "s to compile", plain=_plain_weighted_sum
    ),
    "kept gradients": Canary(_mlp(_balanced), {"KEPT_BYTES": 0}, "ms"),
    "exponentials kept": Canary(_loss(4), {"keeps_arrays": lambda _: False}, "ms"),
    "sums as products": Canary(_loss(32), {"sums_by_products": lambda _: False}, "ms"),
    "channels written out": Canary(_loss(4), {"WRITTEN_OUT": 0}, "ms"),
    "convolution as products": Canary(
        _convolution, {"convolves_by_products": lambda: False}, "ms"
    ),
    "neighbours in a row": Canary(_convolution, {"CONVOLUTION_BLOCK": 1}, "ms"),
    "problems in turn": Canary(_upgrad, {"solves_in_turn": lambda _: False}, "ms"),
    # For safety, not for speed: LAPACK calls may wait for each other for ever.
    "elimination": Canary(_min_norm, {"SWEPT_HEADS": 0}, "ms", least=0.0),
    "steps one by one": Canary(_conv_steps, {"slow_in_loops": lambda _: False}, "ms"),
    "kernels by few axes": Canary(
        _convolution_kernels,
        {"drawn_as": lambda shape, axes: tuple(shape)},
        "s to compile",
    ),
    "haste of what runs once": Canary(
        _kernels, {"once_options": dict}, "s to compile", options=_once
    ),
}


def _compiled(canary: Canary, trick: bool, tiny: bool) -> harness.Compiled:
    """The program with or without its trick."""
    with harness.replaced({} if trick else canary.without):
        function, args = canary.build(tiny)
        if not trick and canary.plain is not None:
            function = canary.plain
        options = canary.options()
        return harness.compiled(lambda *args: function(*args), *args, options=options)


def measured(canary: Canary, calls: int, tiny: bool) -> tuple[float, float]:
    """The cost with the trick and without it."""
    both = [_compiled(canary, trick, tiny) for trick in (True, False)]
    if canary.cost == "MB":
        with_it, without = (program.temporary / 1e6 for program in both)
    elif canary.cost == "s to compile":
        with_it, without = (program.seconds for program in both)
    else:
        ways = {str(i): harness.way(program.call) for i, program in enumerate(both)}
        taken = harness.best(harness.turns(ways, rounds=calls))
        with_it, without = (1e3 * seconds for seconds in taken.values())
    return with_it, without


def main(argv: list[str]) -> None:
    """Prints the table; raises SystemExit(1) with the names of tricks that fail."""
    harness.begin(argv, tricks=(_TRICKS.value or (), CANARIES))
    print(f"{'trick':26}{'with':>10}{'without':>10}  {'':13}{'ratio':>6}{'least':>7}")
    failed = []
    for trick in _TRICKS.value or CANARIES:
        canary = CANARIES[trick]
        with_it, without = measured(canary, _CALLS.value, _TINY.value)
        ratio = without / with_it if with_it else np.inf
        row = f"{trick:26}{with_it:10.3f}{without:10.3f}  {canary.cost:13}"
        print(f"{row}{ratio:6.2f}{canary.least:7.2f}", flush=True)
        if ratio < canary.least:
            failed.append(trick)
    if failed and _JUDGE.value:
        print("no longer helps: " + ", ".join(failed))
        raise SystemExit(1)


if __name__ == "__main__":
    app.run(main)
