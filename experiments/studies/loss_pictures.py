"""Question: what does each loss see, and where does it push?

Two pictures. loss_curves.png follows each loss, and the size of its gradient, along a
path: for losses of classes the logit inside a rare structure rises; for losses that
know positions a segment is shifted away from where it belongs; for losses of values
the error grows. loss_gradients.png shows one prediction of a disc and a thin line, and
the gradient of every loss with respect to its logits.

Command:   python -m experiments.studies.loss_pictures --output=docs
Time:      under a minute on two CPU cores, most of it compiling
Expected:  of a structure of 1 % of the positions, cross entropy has a gradient of 0.01
           at most. Dice has up to 0.23, but 0.0045 where the miss is sure, and 0.0004
           while the rest is not learnt; dice_ce has both. Dice does not see how far
           away a bar is once it overlaps no more; boundary and hausdorff do.
"""

import functools
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags
from matplotlib import ticker

import headwise as hw
from experiments.harness import command
from experiments.harness import text

Loss = Callable[..., jax.Array]

POSITIONS, INSIDE = 1000, 10
"""Of the rare structure: 1 % of the positions."""
OUTSIDE = {
    "the rest is learnt: logit -7 outside": -7.0,
    "not yet: logit -2 outside": -2.0,
}
HEIGHT, LENGTH, WIDTH, SHIFTS = 8, 64, 6, 24
SURE = 4.0
"""Logit of the shifted bar; minus that outside."""
MISSED, WRONG = "raises a missed voxel", "lowers a false one"
SIDE = 48
COLUMNS = 5
HEADINGS = {
    "region": "Losses of regions. A structure of 1 % of the positions; the logit rises",
    "position": "Losses of positions, alone and mixed. The same structure",
    "place": f"Losses that know places. A bar {WIDTH} voxels wide is shifted away",
    "value": "Losses of values. Gradient: slope along the path",
}


def _of_probabilities(loss: Loss, **options: Any) -> Loss:
    return functools.partial(loss, activation=jax.nn.softmax, **options)


def _favouring_recall(loss: Loss) -> Loss:
    return _of_probabilities(loss, alpha=0.3, beta=0.7)


REGION: Mapping[str, Loss] = {
    "dice": _of_probabilities(hw.losses.dice),
    "iou": _of_probabilities(hw.losses.iou),
    "tversky (0.3, 0.7)": _favouring_recall(hw.losses.tversky),
    "focal_tversky (0.3, 0.7)": _favouring_recall(hw.losses.focal_tversky),
    "generalized_dice": _of_probabilities(hw.losses.generalized_dice),
    "generalized_wasserstein_dice": _of_probabilities(
        hw.losses.generalized_wasserstein_dice, distances=1 - jnp.eye(2)
    ),
    "lovasz_softmax": _of_probabilities(hw.losses.lovasz_softmax),
    "lovasz_hinge": hw.losses.lovasz_hinge,
    "mcc": _of_probabilities(hw.losses.mcc),
    "sensitivity_specificity": _of_probabilities(hw.losses.sensitivity_specificity),
}
POSITION: Mapping[str, Loss] = {
    "cross_entropy": hw.losses.cross_entropy,
    "poly": hw.losses.poly,
    "focal": hw.losses.focal,
    "dice_ce": hw.losses.dice_ce,
    "unified_focal": _of_probabilities(hw.losses.unified_focal),
}
PLACE: Mapping[str, Loss] = {
    "dice": _of_probabilities(hw.losses.dice),
    "boundary": _of_probabilities(hw.losses.boundary),
    "hausdorff": _of_probabilities(hw.losses.hausdorff),
    "cldice": _of_probabilities(hw.losses.cldice),
    "dice_cldice": _of_probabilities(hw.losses.dice_cldice),
}
VALUE: Mapping[str, Loss] = {
    "absolute_error": hw.losses.absolute_error,
    "squared_error": hw.losses.squared_error,
    "huber": hw.losses.huber,
    "berhu (threshold 1)": functools.partial(hw.losses.berhu, threshold=1.0),
    "scale_invariant_log": hw.losses.scale_invariant_log,
    "gradient_matching": functools.partial(hw.losses.gradient_matching, scales=1),
    "normal_cosine": hw.losses.normal_cosine,
    "ssim": functools.partial(hw.losses.ssim, size=7),
}
MAPS: Mapping[str, Loss] = {
    **{name: REGION[name] for name in ("dice", "tversky (0.3, 0.7)")},
    **{name: REGION[name] for name in ("generalized_dice", "lovasz_softmax")},
    **{name: REGION[name] for name in ("lovasz_hinge", "mcc")},
    **POSITION,
    **{name: PLACE[name] for name in ("boundary", "hausdorff", "cldice")},
}


class Curve(NamedTuple):
    """A loss along a path."""

    values: np.ndarray
    slopes: Mapping[str, np.ndarray]
    """{which: size of the gradient}"""


class Panel(NamedTuple):
    """What a panel of loss_curves.png shows."""

    title: str
    x: np.ndarray
    label: str
    curves: Mapping[str, Curve]
    logarithmic: bool


def of_class_1(loss: Loss, z: jax.Array, labels: jax.Array) -> jax.Array:
    """The value for logits z [*S] of class 1 beside 0 of class 0: a scalar.

    Losses with a value for each class count for class 1; of positions the mean.
    """
    values = loss(jnp.stack([jnp.zeros_like(z), z], -1)[None], labels[None])[0]
    return values[1] if values.shape == (2,) else jnp.mean(values)


def of_rare_structure(title: str, loss: Loss, points: int) -> Panel:
    """The logit inside rises from -6 to 6."""
    inside = jnp.arange(POSITIONS) < INSIDE
    x = jnp.linspace(-6.0, 6.0, points)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def along(logit: jax.Array, outside: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = jnp.where(inside, logit, outside)
        value, grad = jax.value_and_grad(functools.partial(of_class_1, loss))(
            z, inside.astype(int)
        )
        return value, jnp.abs(jnp.sum(jnp.where(inside, grad, 0)))

    curves = {}
    for name, outside in OUTSIDE.items():
        values, slope = map(np.asarray, along(x, jnp.asarray(outside)))
        curves[name] = Curve(values, {name: slope})
    return Panel(title, np.asarray(x), "logit inside", curves, True)


def of_shifted_bar(title: str, loss: Loss) -> Panel:
    """A bar as high as the image is predicted further and further to the right."""
    place = jnp.broadcast_to(jnp.arange(LENGTH) - 10, (HEIGHT, LENGTH))
    target = (place >= 0) & (place < WIDTH)
    shifts = jnp.arange(SHIFTS + 1)

    @jax.jit
    @jax.vmap
    def along(shift: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = (place >= shift) & (place < shift + WIDTH)
        value, grad = jax.value_and_grad(functools.partial(of_class_1, loss))(
            jnp.where(found, SURE, -SURE), target.astype(int)
        )
        missed, wrong = target & ~found, found & ~target
        count = jnp.maximum(jnp.sum(missed), 1)
        return (
            value,
            jnp.sum(jnp.where(missed, -grad, 0)) / count,
            jnp.sum(jnp.where(wrong, grad, 0)) / count,
        )

    values, missed, wrong = map(np.asarray, along(shifts))
    curves = {"value": Curve(values, {MISSED: missed, WRONG: wrong})}
    return Panel(title, np.asarray(shifts), "shift (voxels)", curves, False)


def _path(title: str) -> tuple[np.ndarray, str, Callable[[jax.Array], jax.Array], Any]:
    """(x, its label, prediction at x, target) of a loss of values."""
    if title == "scale_invariant_log":
        target = jnp.full((1, 1), 4.0)
        x = np.linspace(-3.5, 4.0, 121)
        return x, "error (m) of a depth of 4 m", lambda e: target + e, target
    if title == "gradient_matching":
        step = jnp.arange(16)[None] >= 8
        target = step.astype(jnp.float32)
        return (
            np.linspace(-3, 3, 121),
            "error of the height of a step",
            lambda e: (1 + e) * target,
            target,
        )
    if title == "normal_cosine":
        target = jnp.array([[1.0, 0.0, 0.0]])

        def turned(degrees: jax.Array) -> jax.Array:
            a = jnp.deg2rad(degrees)
            return jnp.stack([jnp.cos(a), jnp.sin(a), jnp.zeros_like(a)])[None]

        return np.linspace(-180, 180, 121), "angle (degrees)", turned, target
    if title == "ssim":
        noise = np.random.default_rng(0).uniform(-0.25, 0.25, (1, 16, 16, 1))
        texture = jnp.asarray(noise, jnp.float32)
        return (
            np.linspace(-1, 3, 81),
            "contrast (1 is right)",
            lambda c: 0.5 + c * texture,
            0.5 + texture,
        )
    x = np.linspace(-3, 3, 121)
    return x, "error", lambda e: e.reshape(1, 1), jnp.zeros((1, 1))


def of_error(title: str, loss: Loss) -> Panel:
    """The error of a prediction grows; the slope is that along the path."""
    x, label, predict, target = _path(title)

    def at(e: jax.Array) -> jax.Array:
        return jnp.mean(loss(predict(e), target))

    run = jax.jit(jax.vmap(jax.value_and_grad(at)))
    values, slope = map(np.asarray, run(jnp.asarray(x, jnp.float32)))
    curves = {"value": Curve(values, {"slope": slope})}
    return Panel(title, x, label, curves, False)


def draw_panel(panel: Panel, upper: Any, lower: Any) -> dict[str, Any]:
    """Values above, gradients below; returns {what: its line}."""
    upper.set_title(panel.title, fontsize=8.5)
    lines: dict[str, Any] = {}
    for i, curve in enumerate(panel.curves.values()):
        upper.plot(panel.x, curve.values, color=f"C{i}", lw=1.7)
        for which, slope in curve.slopes.items():
            # Dashes over a solid line show where two lines lie on each other.
            style = (0, (3, 2)) if lines else "-"
            (lines[which],) = lower.plot(
                panel.x, slope, color=f"C{len(lines)}", lw=1.5, ls=style
            )
    if panel.logarithmic:
        lower.set_yscale("log")
        lower.set_ylim(3e-7, 5)
        lower.set_yticks([1e-6, 1e-3, 1])
        lower.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        lower.axhline(0, color="0.6", lw=0.7, zorder=0)
    lower.set_xlabel(panel.label, fontsize=8)
    upper.tick_params(labelbottom=False)
    for ax in (upper, lower):
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.25, lw=0.6)
        ax.margins(x=0.02)
        ax.set_axis_on()
    return lines


def draw_curves(groups: Mapping[str, list[Panel]], path: pathlib.Path) -> None:
    """All panels by group, each under a heading with its legend."""
    heights = [-(-len(panels) // COLUMNS) for panels in groups.values()]
    figure = plt.figure(figsize=(11, 2.3 * sum(heights)), layout="constrained")
    ratios = [height + 0.22 for height in heights]
    parts: Any = figure.subfigures(len(groups), 1, height_ratios=ratios, hspace=0.03)
    for (group, panels), part, rows in zip(groups.items(), parts, heights):
        part.suptitle(HEADINGS[group], fontsize=10.5, x=0.01, ha="left")
        grid = part.subplots(2 * rows, COLUMNS, height_ratios=[1.25, 1] * rows)
        for ax in grid.ravel():
            ax.set_axis_off()
        for i, panel in enumerate(panels):
            row, column = 2 * (i // COLUMNS), i % COLUMNS
            lines = draw_panel(panel, grid[row, column], grid[row + 1, column])
            if column == 0:
                grid[row, 0].set_ylabel("value", fontsize=8)
                slope = "|gradient|" if panel.logarithmic else "gradient"
                grid[row + 1, 0].set_ylabel(slope, fontsize=8)
        if len(lines) > 1:
            part.legend(
                lines.values(),
                lines,
                loc="upper right",
                ncols=2,
                fontsize=8.5,
                frameon=False,
            )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def scene() -> tuple[jax.Array, jax.Array]:
    """Labels with a disc and a thin line, and logits that are partly wrong.

    The disc is predicted too low and too small, half of the line is missing, and in a
    corner there is a blob that should not be.
    """
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    disc = np.hypot(y - 17, x - 16) <= 9.5
    line = (np.abs(y - 38) < 1) & (x >= 6) & (x < 42)
    logits = -4 + 8 / (1 + np.exp(np.hypot(y - 20, x - 18) - 8))
    half = np.exp(-((y - 38) ** 2) / 2) * (x >= 6) / (1 + np.exp((x - 24) / 1.5))
    blob = np.exp(-((y - 9) ** 2 + (x - 40) ** 2) / 8)
    logits = logits + 6 * half + 6 * blob
    return jnp.asarray((disc | line).astype(int)), jnp.asarray(logits, jnp.float32)


def gradient_maps(losses: Mapping[str, Loss]) -> dict[str, np.ndarray]:
    """{name: gradient [SIDE, SIDE] of the value with respect to the logits}."""
    labels, logits = scene()
    maps = {}
    for name, loss in losses.items():
        grad = jax.jit(jax.grad(functools.partial(of_class_1, loss)))
        maps[name] = np.asarray(grad(logits, labels))
    return maps


def draw_gradients(maps: Mapping[str, np.ndarray], path: pathlib.Path) -> None:
    """The scene and a map a loss, each on its own scale."""
    labels, logits = scene()
    columns = 4
    rows = -(-(len(maps) + 2) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(10, 2.7 * rows + 0.9), layout="constrained"
    )
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    first, second, *others = axes.ravel()
    first.imshow(labels, cmap="gray_r")
    first.set_title("target\n", fontsize=10)
    second.imshow(jax.nn.sigmoid(logits), cmap="gray_r", vmin=0, vmax=1)
    second.set_title("prediction\n(white: p = 0, black: 1)", fontsize=10)
    for ax, (name, grad) in zip(others, maps.items()):
        most = np.percentile(np.abs(grad), 98) or 1.0
        shown = ax.imshow(grad / most, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_title(f"{name}\n1 is {most:.1e}", fontsize=10)
    for ax in (second, *others[: len(maps)]):
        ax.contour(labels, levels=[0.5], colors="k", linewidths=0.7)
    bar = figure.colorbar(
        shown, ax=axes, location="bottom", shrink=0.6, aspect=40, extend="both"
    )
    bar.set_label(
        "derivative with respect to the logit, in units of its 98th percentile: "
        "blue raises the logit, red lowers it\n",
        fontsize=9.5,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def define(values: flags.FlagValues) -> None:
    """The flags of this study."""
    flags.DEFINE_string(
        "output", "docs/pictures", "folder of the pictures", flag_values=values
    )
    flags.DEFINE_integer(
        "points", 97, "on the path of a loss", lower_bound=2, flag_values=values
    )


def main(argv: Sequence[str]) -> None:
    """Draws both pictures."""
    given = command.parse(argv, define, __doc__)
    points = given.points
    groups = {
        "region": [of_rare_structure(*item, points) for item in REGION.items()],
        "position": [of_rare_structure(*item, points) for item in POSITION.items()],
        "place": [of_shifted_bar(*item) for item in PLACE.items()],
        "value": [of_error(*item) for item in VALUE.items()],
    }
    folder = text.folder("--output", given.output)
    folder.mkdir(parents=True, exist_ok=True)
    draw_curves(groups, folder / "loss_curves.png")
    draw_gradients(gradient_maps(MAPS), folder / "loss_gradients.png")
    print(f"{folder}/loss_curves.png and {folder}/loss_gradients.png")


if __name__ == "__main__":
    command.run(main)
