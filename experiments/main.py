"""Runs or sweeps one experiment. Each of `experiments/*.py` says what to expect.

python -m experiments.main --experiment=digits --weights=left=1,right=0.3
python -m experiments.main --experiment=digits --balancer=mgda
python -m experiments.main --experiment=brain --sweep --workdir=studies/brain
"""

import pathlib
import sys
from collections.abc import Callable
from collections.abc import Sequence

from absl import app
from absl import flags
from absl import logging

import headwise as hw
from experiments import brain
from experiments import digits
from experiments import experiment as experiments
from experiments import seed_network
from experiments import tabular
from experiments.experiment import BALANCERS

EXPERIMENTS = {
    "brain": brain,
    "digits": digits,
    "seed_network": seed_network,
    "tabular": tabular,
}
FLAGS = flags.FLAGS
flags.DEFINE_string("experiment", None, f"one of {', '.join(EXPERIMENTS)}")
flags.DEFINE_string("weights", None, "static weights, as left=1,right=0.3")
flags.DEFINE_string("balancer", None, f"one of {', '.join(BALANCERS)}")
flags.DEFINE_integer("steps", None, "training steps; the experiment's own if not given")
flags.DEFINE_integer("seed", 0, "of one run")
flags.DEFINE_bool("sweep", False, "train the experiment's weightings with its seeds")
flags.DEFINE_string("workdir", None, "folder; runs/NAME or studies/NAME if not given")
flags.DEFINE_bool("smoke", False, "a version of a few seconds")


class UsageError(ValueError):
    """A flag says something that cannot be done."""


def parse_weights(text: str, names: Sequence[str]) -> dict[str, float]:
    """`left=1,right=0.3` as {"left": 1.0, "right": 0.3}; checks the names."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise UsageError(f"--weights: expected NAME=NUMBER,..., got {part!r}")
        try:
            weight = float(number)
        except ValueError:
            raise UsageError(
                f"--weights: expected a number for {name!r}, got {number!r}"
            ) from None
        if not 0 <= weight < float("inf"):
            raise UsageError(
                f"--weights: expected 0 or more for {name!r}, got {number}"
            )
        if name in weights:
            raise UsageError(f"--weights: {name!r} is given twice")
        weights[name] = weight
    if sorted(weights) != sorted(names):
        raise UsageError(
            f"--weights: expected the heads {', '.join(sorted(names))}; got "
            f"{', '.join(sorted(weights))}"
        )
    return weights


def choose(flag: str, options: dict, name: str | None):
    """The option of that name, or a UsageError that lists them."""
    if name not in options:
        raise UsageError(f"--{flag}: expected one of {', '.join(options)}; got {name}")
    return options[name]


def main(argv: Sequence[str]) -> None:
    """Checks the flags, claims the folder, then runs or sweeps."""
    logging.set_verbosity(logging.WARNING)  # orbax tells every file it writes
    if len(argv) > 1:
        raise UsageError(f"expected flags only, got {argv[1]!r}")
    module = choose("experiment", EXPERIMENTS, FLAGS.experiment)
    if FLAGS.steps is not None and FLAGS.steps < 1:
        raise UsageError(f"--steps: expected 1 or more, got {FLAGS.steps}")
    if FLAGS.sweep and (FLAGS.weights or FLAGS.balancer):
        raise UsageError("--sweep has its own weights: drop --weights and --balancer")
    name = FLAGS.balancer or "constant"
    make_balancer = choose("balancer", BALANCERS, name)
    if FLAGS.weights and name != "constant":
        raise UsageError("--weights are static: they go with --balancer=constant alone")
    experiment = module.make(FLAGS.smoke)
    weights = dict.fromkeys(experiment.names, 1.0)
    if FLAGS.weights:
        weights = parse_weights(FLAGS.weights, experiment.names)
    steps = FLAGS.steps or experiment.steps
    folder = "studies" if FLAGS.sweep else "runs"
    config = {
        "experiment": FLAGS.experiment,
        "sweep": FLAGS.sweep,
        "smoke": FLAGS.smoke,
        "steps": steps,
        "version": hw.__version__,
    }
    if not FLAGS.sweep:
        config |= {"balancer": name, "seed": FLAGS.seed}
        if name == "constant":
            config["weights"] = weights
    workdir = hw.training.claim_workdir(
        FLAGS.workdir or f"{folder}/{FLAGS.experiment}", config
    )
    print((module.__doc__ or "").split("\n\n")[0])
    if FLAGS.sweep:
        sweep(experiment, steps, workdir)
    else:
        balancer = make_balancer(weights) if name == "constant" else make_balancer()
        metrics = experiments.run(experiment, balancer, steps, FLAGS.seed, workdir)
        print("\n" + "  ".join(f"{n} {value:.4f}" for n, value in metrics.items()))
    print(f"\neverything is in {workdir}/")


def sweep(experiment, steps: int, workdir: pathlib.Path) -> None:
    """All trials, then one watched run at the best weights."""
    records = experiments.sweep(experiment, steps, experiment.seeds, workdir)
    experiments.show_sweep(experiment, records, workdir)
    best = experiments.best_weights(experiment, records)
    experiments.run(
        experiment,
        hw.balancers.constant(best),
        steps,
        experiment.seeds[0],
        workdir / "best",
        label="best weights",
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Absl's parsing, with its errors as one line and exit code 2."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        raise SystemExit(fail(error)) from None


def fail(error: Exception) -> int:
    """Prints one line; returns the exit code of a usage error."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def guarded(
    argv: Sequence[str], entry: Callable[[Sequence[str]], int | None] | None = None
) -> int | None:
    """`entry` (`main`), with what a user can mend as one line, not a traceback."""
    try:
        return (entry or main)(argv)
    except (UsageError, hw.training.WorkdirError, ModuleNotFoundError) as error:
        return fail(error)
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run() -> None:
    """The entry point."""
    app.run(guarded, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
