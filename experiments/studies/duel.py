"""What is trained and drawn in the duel of balancers. Used by `balancer_duel.py`."""

import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import rich.table
import scipy.stats
from flax import nnx

import headwise as hw
from experiments.harness import balancers

NAMES = ("first", "second")
SHARES = np.linspace(0.1, 0.9, 9)
STATIC = "static, tuned"


class Problem(NamedTuple):
    """What is trained, from several starts at once, and how it is judged."""

    values_fn: Callable[[Any, Any], dict[str, jax.Array]]
    starts: Any
    """Parameters with a leading axis of starts."""
    batch: Callable[[jax.Array], Any]
    """`batch(key)`: arrays with a leading axis that 6 divides."""
    optimizer: optax.GradientTransformation
    steps: int
    score: Callable[[Any], jax.Array]
    """Parameters of one start -> scalar, less is better."""
    front: np.ndarray | None = None
    """[N, 2] points of the Pareto front."""


def methods() -> dict[str, str]:
    """{name: text for `balancers.make`}: every balancer, by its defaults if it can."""
    both = "first:1;second:1"
    arguments = {
        "cosmos": f"penalty=1,preferences={both}",
        "epo": f"preferences={both}",
        "krum": "faulty=0",
        "p_norm": "p=2",
        "pbi": "theta=1",
        "pcd": "primary=first",
        "pmgda": f"preferences={both}",
        "stch": "smoothness=0.1",
        "trimmed_mean": "trim=0",
    }
    # Static weights are tuned instead; of one model stch_set is stch.
    left_out = {"constant", "scheduled", "scalarization", "stch_set"}
    names = set(balancers.names()) - set(hw.balancers.WRAPPERS) - left_out
    texts = {n: f"{n}:{arguments[n]}" if n in arguments else n for n in names}
    texts["cr_mogm (mgda)"] = "cr_mogm:balancer=mgda"
    return dict(sorted(texts.items()))


def quadratics(smoke: bool) -> Problem:
    """Values |x - a|² / 2 and 50 |x - b|²; the front is the segment from a to b."""
    a, b = jnp.zeros(10), jnp.full(10, 1 / np.sqrt(10))

    def values_fn(x: jax.Array, batch: jax.Array) -> dict[str, jax.Array]:
        del batch
        first = 0.5 * jnp.sum(jnp.square(x - a))
        second = 50.0 * jnp.sum(jnp.square(x - b))
        return {"first": first, "second": second}

    t = np.linspace(0, 1, 2001)
    front = np.stack([0.5 * t**2, 50 * (1 - t) ** 2], axis=1)
    starts = jax.random.normal(jax.random.key(0), (8, 10)) * 2
    steps = 20 if smoke else 2000
    return _synthetic(values_fn, starts, 2e-2, steps, front)


def toy(smoke: bool) -> Problem:
    """Liu et al. 2021, appendix B, with Nash-MTL's factor 0.1 on the first loss."""

    def values_fn(x: jax.Array, batch: jax.Array) -> dict[str, jax.Array]:
        del batch
        u, v = x[0], x[1]
        tiny = 5e-6
        f1 = jnp.log(jnp.maximum(jnp.abs(0.5 * (-u - 7) - jnp.tanh(-v)), tiny)) + 6
        f2 = jnp.log(jnp.maximum(jnp.abs(0.5 * (-u + 3) - jnp.tanh(-v) + 2), tiny)) + 6
        g1 = ((-u + 7) ** 2 + 0.1 * (-v - 8) ** 2) / 10 - 20
        g2 = ((-u - 7) ** 2 + 0.1 * (-v - 8) ** 2) / 10 - 20
        up = jnp.maximum(jnp.tanh(0.5 * v), 0.0)
        down = jnp.maximum(jnp.tanh(-0.5 * v), 0.0)
        return {"first": 0.1 * (up * f1 + down * g1), "second": up * f2 + down * g2}

    # On the front the first coordinate goes from -7 to 7; the second one solves a
    # problem of its own, here on a fine grid.
    u, v = np.linspace(-7, 7, 561), np.linspace(-12, -4, 1601)
    points = jnp.stack(jnp.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = jax.vmap(lambda p: values_fn(p, jnp.zeros(6)))(points)
    table = np.stack([np.asarray(grid[name]) for name in NAMES], axis=1)
    best = np.argmin((10 * table[:, 0] + table[:, 1]).reshape(len(u), len(v)), axis=1)
    front = table.reshape(len(u), len(v), 2)[np.arange(len(u)), best]
    starts = jnp.array([[-8.5, 7.5], [0.0, 0.0], [9.0, 9.0], [-7.5, -0.5], [9.0, -1.0]])
    return _synthetic(values_fn, starts, 5e-3, 20 if smoke else 20000, front)


def vlmop2(smoke: bool) -> Problem:
    """1 - exp(-|x -+ 1 / √n|²); the front is between the two centres."""
    centre = jnp.full(10, 1 / np.sqrt(10))

    def values_fn(x: jax.Array, batch: jax.Array) -> dict[str, jax.Array]:
        del batch
        first = 1 - jnp.exp(-jnp.sum(jnp.square(x - centre)))
        second = 1 - jnp.exp(-jnp.sum(jnp.square(x + centre)))
        return {"first": first, "second": second}

    t = np.linspace(-1, 1, 2001)
    front = 1 - np.exp(-np.stack([(t - 1) ** 2, (t + 1) ** 2], axis=1))
    starts = jax.random.normal(jax.random.key(0), (8, 10)) * 0.4
    return _synthetic(values_fn, starts, 1e-2, 20 if smoke else 2000, front)


def _synthetic(
    values_fn: Callable, starts: jax.Array, rate: float, steps: int, front: np.ndarray
) -> Problem:
    extent = np.ptp(front, axis=0)
    points = jnp.asarray(front / extent, jnp.float32)

    def score(x: jax.Array) -> jax.Array:
        values = values_fn(x, None)
        here = jnp.stack([values[name] for name in NAMES]) / extent
        return jnp.min(jnp.linalg.norm(points - here[None], axis=1))

    schedule = optax.cosine_decay_schedule(rate, steps)
    empty = jnp.zeros(6)
    return Problem(
        values_fn, starts, lambda key: empty, optax.adam(schedule), steps, score, front
    )


def digits(smoke: bool) -> Problem:
    """MultiMNIST with an MLP: 784 pixels to two shared layers, two linear heads."""
    seen, unseen = hw.data.split_digits(hw.data.load_digits(), jax.random.key(0))
    train = hw.data.multi_mnist(seen, jax.random.key(1), 600 if smoke else 10000)
    test = hw.data.multi_mnist(unseen, jax.random.key(2), 200 if smoke else 2000)
    size = int(np.prod(train.inputs.shape[1:]))

    def build(key: jax.Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        trunk = hw.nn.Mlp((size, 128, 64), activate_last=True, rngs=rngs)
        heads = {name: nnx.Linear(64, 10, rngs=rngs) for name in NAMES}
        return hw.nn.MultiHead(trunk, heads)

    apply, *_ = hw.nn.functional(build(jax.random.key(0)))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    objective = hw.Objective(dict.fromkeys(NAMES, loss))

    def outputs_of(params: Any, pictures: Any) -> dict[str, jax.Array]:
        flat = pictures.inputs.reshape(len(pictures.inputs), -1)
        return apply(params, {}, flat)[0]

    def values_fn(params: Any, batch: Any) -> dict[str, jax.Array]:
        labels = {"first": batch.left, "second": batch.right}
        return objective.values(outputs_of(params, batch), labels)

    def score(params: Any) -> jax.Array:
        outputs = outputs_of(params, test)
        wrong = [
            jnp.mean(jnp.argmax(outputs[name], axis=-1) != labels)
            for name, labels in zip(NAMES, (test.left, test.right), strict=True)
        ]
        return jnp.mean(jnp.stack(wrong))

    def start(key: jax.Array) -> Any:
        return hw.nn.functional(build(key))[1]

    seeds = 2 if smoke else 5
    starts = [start(jax.random.key(100 + seed)) for seed in range(seeds)]
    steps = 12 if smoke else 600
    return Problem(
        values_fn,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts),
        lambda key: hw.data.sample(train, key, batch_size=96),
        optax.adam(optax.cosine_decay_schedule(3e-3, steps)),
        steps,
        score,
    )


PROBLEMS = {"quadratics": quadratics, "toy": toy, "vlmop2": vlmop2, "digits": digits}


def train(
    problem: Problem, balancer: hw.balancers.Balancer, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores [starts], and for a known front the way [starts, points, 2] of the values.

    One compiled program: a scan over steps, vmapped over starts (and static weights).
    """
    step = hw.training.make_step(problem.values_fn, problem.optimizer, balancer)
    known = problem.front is not None
    often = max(1, problem.steps // 200)

    def one(params: Any, seed: jax.Array, static: jax.Array | None) -> tuple:
        key = jax.random.key(seed)
        state = hw.training.init_state(
            NAMES, params, problem.optimizer, balancer, key=key
        )
        if static is not None:
            state = state._replace(balancer=state.balancer._replace(weights=static))

        def body(state: Any, t: jax.Array) -> tuple:
            batch = problem.batch(jax.random.fold_in(jax.random.fold_in(key, 1), t))
            state, info = step(state, batch)
            values = jnp.stack([info.values[name] for name in NAMES])
            return state, values if known else None

        state, way = jax.lax.scan(body, state, jnp.arange(problem.steps))  # type: ignore[var-annotated]
        return problem.score(state.params), way[::often] if known else None

    count = len(jax.tree.leaves(problem.starts)[0])
    every = jax.vmap(one, in_axes=(0, 0, None))
    seeds = jnp.arange(count)
    if weights is None:
        scores, way = jax.jit(every)(problem.starts, seeds, None)
        return np.asarray(scores), None if way is None else np.asarray(way)
    table = jax.vmap(every, in_axes=(None, None, 0))
    scores, way = jax.jit(table)(problem.starts, seeds, jnp.asarray(weights))
    best = int(np.argmin(np.mean(scores, axis=1)))
    return np.asarray(scores[best]), None if way is None else np.asarray(way[best])


def interval(scores: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval of the mean (Student's t)."""
    known = np.asarray(scores, np.float64)
    if not np.isfinite(known).all():
        return float("nan"), float("nan")
    spread = scipy.stats.sem(known) * scipy.stats.t.ppf(0.975, len(known) - 1)
    return float(np.mean(known)), float(spread)


def show(results: Mapping[str, Mapping[str, list]], console: rich.console.Console):
    """Methods by problems; the best mean of each problem is bold."""
    problems = list(results)
    table = rich.table.Table(box=None, title="less is better: mean ± 95 % interval")
    table.add_column("method", no_wrap=True)
    for problem in problems:
        table.add_column(problem, justify="right", no_wrap=True)
    names = sorted({name for rows in results.values() for name in rows})
    least = {p: min(interval(r)[0] for r in results[p].values()) for p in problems}
    first = problems[-1]
    names.sort(key=lambda n: np.nan_to_num(interval(results[first][n])[0], nan=np.inf))
    for name in names:
        cells = []
        for problem in problems:
            mean, half = interval(results[problem][name])
            cell = f"{mean:.4f} ± {half:.4f}"
            cells.append(f"[bold]{cell}[/bold]" if mean == least[problem] else cell)
        table.add_row(name, *cells)
    console.print(table)


def draw_scores(results: Mapping[str, Mapping[str, list]], path: pathlib.Path) -> None:
    """A dot and an interval for every method, a column for every problem."""
    import matplotlib.pyplot as plt

    names = sorted({name for rows in results.values() for name in rows}, reverse=True)
    size = (3.2 * len(results) + 2, 0.22 * len(names) + 1.2)
    figure, axes = plt.subplots(
        1, len(results), figsize=size, sharey=True, layout="constrained", squeeze=False
    )
    for ax, (problem, rows) in zip(axes[0], results.items(), strict=True):
        for y, name in enumerate(names):
            mean, half = interval(rows[name])
            color = "C3" if name == STATIC else "C1" if name == "equal" else "C0"
            if np.isfinite(mean):
                ax.errorbar(mean, y, xerr=half, fmt="o", color=color, ms=4, lw=1)
            else:
                ax.text(
                    0.5, y, "diverged", transform=ax.get_yaxis_transform(), fontsize=6
                )
        ax.axvline(interval(rows[STATIC])[0], color="C3", lw=0.6)
        ax.set_title(problem, fontsize=10)
        ax.set_xlabel("test error" if problem == "digits" else "distance to the front")
        if problem != "digits":
            ax.set_xscale("symlog", linthresh=1e-3)
            ax.set_xlim(0, max(1e-2, 1.1 * ax.get_xlim()[1]))
        else:
            ax.xaxis.set_major_locator(plt.MaxNLocator(3))
        ax.grid(axis="y", lw=0.3)
        ax.set_ylim(-1, len(names))
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_ways(
    front: np.ndarray, ways: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
    """The toy problem's five ways in the plane of the two losses, a panel a method."""
    import matplotlib.pyplot as plt

    columns = min(6, len(ways))
    rows = -(-len(ways) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.1 * columns, 2.0 * rows),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(ways) :]:
        ax.set_axis_off()
    for ax, (name, way) in zip(axes.flat, ways.items(), strict=False):
        ax.plot(*front.T, color="0.6", lw=3, solid_capstyle="round")
        for i, path_of_one in enumerate(way):
            ax.plot(*path_of_one.T, color=f"C{i}", lw=0.8)
            ax.plot(*path_of_one[0], "o", color=f"C{i}", ms=3, mfc="none")
            ax.plot(*path_of_one[-1], "*", color=f"C{i}", ms=7)
        ax.set_title(name, fontsize=8)
        ax.tick_params(labelsize=6)
    figure.supxlabel("first loss", fontsize=9)
    figure.supylabel("second loss", fontsize=9)
    figure.suptitle(
        "Liu's toy: circles are starts, stars are ends, the front is grey", fontsize=10
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
