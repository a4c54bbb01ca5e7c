"""Sweeps the loss weights of an experiment, a process a trial, on this machine.

    python -m launch.sweep --experiment=digits --weights=left=1,right=0.1:0.3:1 \
        --seeds=0,1 --processes=2 --folder=studies/digits_grid
    python -m launch.sweep --experiment=digits --simplex=4 --folder=studies/simplex

Every trial is `python -m experiments.main` with its own workdir, so that a trial that
dies harms no other. Run the same command again to go on: finished trials are kept,
interrupted ones resume from their checkpoint. Where trials are small, the `--sweep` of
`experiments.main` is faster: it compiles one program for all.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments import experiment as experiments
from experiments import main as one

FLAGS = flags.FLAGS
flags.DEFINE_integer("simplex", None, "weightings that sum to 1, in so many steps")
flags.DEFINE_list("seeds", ["0"], "seeds of every weighting")
flags.DEFINE_integer("processes", 2, "trials at a time")
flags.DEFINE_string("folder", None, "of the study; studies/NAME_launched if not given")


def parse_grid(text: str, names: Sequence[str]) -> dict[str, list[float]]:
    """`left=1,right=0.1:0.3:1` as {"left": [1.0], "right": [0.1, 0.3, 1.0]}."""
    levels: dict[str, list[float]] = {}
    for part in text.split(","):
        name, _, numbers = part.partition("=")
        for number in numbers.split(":"):
            found = one.parse_weights(f"{name}={number}", [name.strip()])
            levels.setdefault(name.strip(), []).extend(found.values())
    if sorted(levels) != sorted(names):
        raise one.UsageError(
            f"--weights: expected the heads {', '.join(sorted(names))}; got "
            f"{', '.join(sorted(levels))}"
        )
    return levels


def trial_name(weights: dict[str, float], seed: int) -> str:
    """A folder name: `left-1_right-0.3_seed-0`."""
    parts = [f"{name}-{weight:g}" for name, weight in sorted(weights.items())]
    return re.sub(r"[^\w.+-]", "", "_".join([*parts, f"seed-{seed}"]))


def run_trial(
    weights: dict[str, float], seed: int, folder: pathlib.Path
) -> dict[str, Any]:
    """Runs one trial to its end, or takes the result that it left."""
    workdir = folder / "trials" / trial_name(weights, seed)
    text = ",".join(f"{name}={weight!r}" for name, weight in weights.items())
    command = [
        sys.executable,
        "-m",
        "experiments.main",
        f"--experiment={FLAGS.experiment}",
        f"--weights={text}",
        f"--seed={seed}",
        f"--workdir={workdir}",
        f"--smoke={FLAGS.smoke}",
    ]
    if FLAGS.steps:
        command.append(f"--steps={FLAGS.steps}")
    record = {"weights": weights, "seed": seed, "finite": False, "metrics": {}}
    result = workdir / "result.json"
    if not result.exists():
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder.absolute() / "cache")}
        done = subprocess.run(
            command,
            env=cache | dict(os.environ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if workdir.is_dir():
            (workdir / "log.txt").write_text(done.stdout)
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            return record | {"error": last}
    metrics = json.loads(result.read_text())
    finite = all(value is not None for value in metrics.values())
    return record | {"finite": finite, "metrics": metrics, "error": None}


def main(argv: Sequence[str]) -> int | None:
    """Checks the flags, runs the trials, prints and draws the study."""
    if len(argv) > 1:
        raise one.UsageError(f"expected flags only, got {argv[1]!r}")
    module = one.choose("experiment", one.EXPERIMENTS, FLAGS.experiment)
    if (FLAGS.weights is None) == (FLAGS.simplex is None):
        raise one.UsageError("expected one of --weights and --simplex")
    if FLAGS.processes < 1:
        raise one.UsageError(f"--processes: expected 1 or more, got {FLAGS.processes}")
    try:
        seeds = [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        raise one.UsageError(
            f"--seeds: expected numbers, got {','.join(FLAGS.seeds)}"
        ) from None
    experiment = module.make(FLAGS.smoke)
    if FLAGS.weights is not None:
        design = hw.sweeps.grid(parse_grid(FLAGS.weights, experiment.names))
    elif FLAGS.simplex < 1:
        raise one.UsageError(f"--simplex: expected 1 or more, got {FLAGS.simplex}")
    else:
        design = hw.sweeps.simplex(experiment.names, FLAGS.simplex)
    folder = hw.training.claim_workdir(
        FLAGS.folder or f"studies/{FLAGS.experiment}_launched",
        {
            "experiment": FLAGS.experiment,
            "smoke": FLAGS.smoke,
            "steps": FLAGS.steps or experiment.steps,
            "launched": True,
        },
    )
    trials = [(w, seed) for w in hw.sweeps.rows(design) for seed in seeds]
    with concurrent.futures.ThreadPoolExecutor(FLAGS.processes) as pool:
        futures = [pool.submit(run_trial, *trial, folder) for trial in trials]
        for _ in rich.progress.track(
            concurrent.futures.as_completed(futures), "trials", len(futures)
        ):
            pass
    records = [future.result() for future in futures]
    for record in records:
        if record["error"]:
            name = trial_name(record["weights"], record["seed"])
            print(f"{name}: {record['error']}", file=sys.stderr)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "trials.jsonl").write_text(lines)
    if not any(record["finite"] for record in records):
        print("error: no trial came to a finite end", file=sys.stderr)
        return 1
    experiments.show_sweep(experiment, records, folder)
    print(f"everything is in {folder}/")
    return None


def run() -> None:
    """The entry point."""
    app.run(lambda argv: one.guarded(argv, main), flags_parser=one.parse_flags)


if __name__ == "__main__":
    run()
