"""Uses what an extra of an installed headwise is for, where only that extra is.

python -I .ci/use_extras.py CHECKOUT EXTRA
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

HIGHER = {"far": False, "near": False}


def study(folder: pathlib.Path) -> list:
    """Four trials of a plain function, kept in a folder."""
    return hw.sweeps.run(
        lambda weights, seed: {
            "far": 1 / (1 + weights["b"]) + 0.01 * seed,
            "near": weights["b"] + 0.01 * seed,
        },
        hw.sweeps.grid({"a": [1.0], "b": [0.1, 1.0]}),
        seeds=range(2),
        folder=folder / "study",
        progress=False,
    )


def data(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """Every data set is read, and grain streams one of them."""
    brain = hw.data.brain_volumes(size=16)
    digits, yeast = hw.data.load_digits(), hw.data.load_yeast()
    batches = iter(hw.data.stream({"x": yeast.inputs}, batch_size=8, seed=0))
    assert next(batches)["x"].shape == (8, 103)
    return f"{brain.t1.shape} {digits.images.shape} {yeast.inputs.shape}"


def plots(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """A picture is drawn and saved."""
    axes = hw.reports.front_picture(study(folder), "far", "near", HIGHER)
    axes.figure.savefig(folder / "front.png")
    return f"{(folder / 'front.png').stat().st_size} bytes"


def trained(folder: pathlib.Path, **options) -> None:
    """A run of two steps."""
    optimizer, params = optax.sgd(0.1), {"w": jnp.ones(2)}
    step = hw.training.make_step(
        lambda p, batch: {"a": jnp.sum(p["w"] ** 2)}, optimizer
    )
    state = hw.training.init_state(["a"], params, optimizer)
    batches = lambda t: {}  # noqa: E731
    hw.training.fit(
        step, state, batches, 2, workdir=folder / "run", progress=False, **options
    )


def tensorboard(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """A run leaves its events."""
    trained(folder)
    found = list((folder / "run").rglob("events*"))
    assert found
    return found[0].name


def mlflow(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """What logs to a server is there; a database beside it wants all of MLflow."""
    import mlflow

    hw.training.mlflow_tracker("http://localhost:5000")
    return f"mlflow {mlflow.__version__}"


def wandb(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """A run is kept for Weights & Biases, offline."""
    trained(folder, track=hw.training.wandb_tracker(mode="offline"))
    (found,) = folder.rglob("run-*.wandb")
    return found.name


def pareto(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """The volume of a front of three objectives: 1 of the unit cube."""
    points = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    volume = float(hw.pareto.hypervolume(points, np.ones(3)))
    assert abs(volume - 1) < 1e-6, volume
    return f"{volume:.1f}"


def report(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """A study becomes a page."""
    study(folder)
    page = hw.reports.write_report(folder / "study", higher=HIGHER)
    assert page.stat().st_size > 1e6
    return f"{page.name} of {page.stat().st_size} bytes"


def tables(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """Records become a data frame and a Parquet file."""
    records = study(folder)
    frame = hw.sweeps.to_pandas(records)
    hw.sweeps.to_parquet(records, folder / "study.parquet")
    return f"{frame.shape}, {(folder / 'study.parquet').stat().st_size} bytes"


def search(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """Optuna asks for trials."""
    plan = hw.sweeps.search(
        {"a": (1, 1), "b": (0.01, 1)}, metrics={"far": "min"}, batch=2, budget=4
    )
    asked = plan.ask([], 0)
    assert asked is not None
    return f"{len(asked)} trials asked for"


def ray(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """A task of Ray computes with the library."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    norm = ray.remote(lambda: float(hw.cosines(jnp.eye(2))[0, 0]))
    value = ray.get(norm.remote())
    ray.shutdown()
    assert value == 1
    return f"ray {ray.__version__}"


def demo(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """An experiment runs as a command, with the installed library."""
    copy = folder / "demo"
    copy.mkdir()
    for name in ("experiments", "launch"):
        (copy / name).symlink_to(checkout / name)
    words = ["-m", "experiments.main", "--experiment=seed_network", "--smoke"]
    command = [sys.executable, *words, f"--workdir={folder / 'run'}"]
    subprocess.run(command, cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return "experiments.main"


def docs(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """The site is built."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet"]
    site = folder / "site"
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(
        [*command, f"--site-dir={site}"], cwd=checkout, check=True, env=environment
    )
    assert (site / "index.html").exists()
    return "index.html"


def none(checkout: pathlib.Path, folder: pathlib.Path) -> str:
    """Without an extra: the README's code, which needs none."""
    path = checkout / ".ci/use_wheel.py"
    subprocess.run([sys.executable, "-I", path, checkout], check=True)
    return "README.md"


USES = {
    f.__name__: f
    for f in (
        none,
        data,
        plots,
        tensorboard,
        mlflow,
        wandb,
        pareto,
        report,
        tables,
        search,
        ray,
        demo,
        docs,
    )
}
"""What is tried of each extra; `make test` is what is tried of [dev]."""

if __name__ == "__main__":
    extra = sys.argv[2]
    with tempfile.TemporaryDirectory() as made:
        said = USES[extra](pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(made))
    version = ".".join(map(str, sys.version_info[:2]))
    assert importlib.util.find_spec("pytest") is None, "not a bare environment"
    print(f"python {version}, jax {jax.__version__}, [{extra}]: {said}")
