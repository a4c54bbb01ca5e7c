"""What a command line asks for, checked before any data is read or file written."""

import importlib.util
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from types import ModuleType
from typing import Any
from typing import NamedTuple

from absl import flags

import headwise as hw
from experiments.harness import balancers
from experiments.harness import command
from experiments.harness import find
from experiments.harness import text
from experiments.harness.spec import Spec
from experiments.harness.text import STATIC
from experiments.harness.text import UsageError

TRACKERS: dict[str, Callable[[], Any]] = {
    "mlflow": hw.training.mlflow_tracker,
    "wandb": hw.training.wandb_tracker,
}
"""Where `--track` sends records."""


class Request(NamedTuple):
    """One run of an experiment."""

    experiment: str
    """A name, or the absolute path of a file."""
    task: ModuleType
    spec: Spec
    settings: dict[str, Any]
    """All of the experiment's, typed."""
    weights: dict[str, float] | None
    """Static weights; None where a balancer finds them."""
    balancer: str
    """Its text: `cagrad:c=0.4`."""
    steps: int
    seed: int
    smoke: bool
    workdir: pathlib.Path
    dtype: str | None = None
    """What the model computes in; None: float32."""
    mesh: dict[str, int] | None = None
    """Devices along each axis; None: one device."""
    profile: int | tuple[int, int] | None = None
    """Which steps of the run a profiler traces."""
    track: tuple[str, ...] = ()
    """Where records also go: of `TRACKERS`."""

    def make_balancer(self) -> hw.balancers.Balancer:
        """The balancer that the text, or the weights, stand for."""
        if self.weights is not None:
            return hw.balancers.constant(self.weights)
        return balancers.make(self.balancer, self.spec.heads)

    def recorded(self) -> dict[str, Any]:
        """The settings of a record: all that decides what comes out, but the weights.

        A static run's balancer is named too: tables tell it from the others by that.
        """
        smoke = {"smoke": True} if self.smoke else {}
        dtype = {"dtype": self.dtype} if self.dtype else {}
        return {
            "experiment": self.experiment,
            "balancer": self.balancer,
            "steps": self.steps,
            **self.settings,
            **smoke,
            **dtype,
        }

    def told(self) -> dict[str, str]:
        """What may change in between, but not without a word."""
        return {
            f"the file of {self.experiment}": find.source(self.task),
            "headwise": hw.__version__,
            # The same numbers, up to the order in which they are summed.
            "the mesh": text.mesh_text(self.mesh),
        }

    def config(self) -> dict[str, Any]:
        """What identifies the work: the folder belongs to it."""
        config: dict[str, Any] = {
            "experiment": self.experiment,
            "settings": self.settings,
            "sweep": False,  # folders of former sweeps have True here
            "smoke": self.smoke,
            "steps": self.steps,
            # A patch leaves the numbers as they are: it is told.
            "version": ".".join([*hw.__version__.split(".")[:2], "0"]),
        }
        if self.dtype:
            config["dtype"] = self.dtype
        config |= {"balancer": self.balancer, "seed": self.seed}
        if self.weights is not None:
            config["weights"] = self.weights
        return config


def define(values: flags.FlagValues) -> None:
    """The flags of a run."""
    text_flags = {
        "experiment": f"one of {', '.join(find.names())}, or a file: path/to/mine.py",
        "weights": "static weights, as left=1,right=0.3",
        "balancer": "NAME or NAME:ARGUMENT=VALUE,... of hw.balancers: cagrad:c=0.4",
        "set": "the experiment's settings, as lr=3e-3,width=16",
        "workdir": "folder; runs/NAME if not given",
        "dtype": text.DTYPE,
        "mesh": "devices, as data:4 or data:2,model:2: examples are split over data, "
        "large parameters over model (else data); one device if not given",
        "profile": "trace steps with a profiler: how many, or START:STOP",
        "track": "records also go to mlflow, wandb, or mlflow,wandb, as these are set "
        "(MLFLOW_TRACKING_URI, WANDB_MODE and so on)",
    }
    command.define(values, str, text_flags)
    numbers = {
        "seed": "of one run; 0 if not given",
        "steps": "of training; else the experiment's own",
    }
    command.define(values, int, numbers)
    switches = {
        "sweep": "train many weightings, a study: --sweep --help shows its flags",
        "smoke": "a version of a few seconds",
        "retry": "goes with --sweep",
    }
    command.define(values, bool, switches)


def read(argv: Sequence[str], help_text: str | None = None) -> Request:
    """The request of a command line.

    Raises:
        UsageError: a flag that cannot be understood, or that does nothing here.
    """
    given = command.parse(argv, define, help_text)
    task = find.load(given.experiment)
    text.whole("--steps", given.steps, 1)
    text.whole("--seed", given.seed, 0)
    if given.sweep:
        raise UsageError("--sweep: expected one run, got a study of many")
    if given.retry:
        raise UsageError("--retry goes with --sweep: a single run is always tried")
    static = given.weights is not None
    balancer = STATIC if given.balancer is None else given.balancer
    if static and balancer != STATIC:
        raise UsageError("--weights are static: they go with --balancer=constant alone")
    spec = task.SPEC.smoke() if given.smoke else task.SPEC
    weights = None
    if static:
        weights = text.weights(given.weights, spec.heads)
    elif balancer == STATIC:
        weights = dict.fromkeys(sorted(spec.heads), 1.0)
    experiment = given.experiment
    if find.is_path(experiment):
        experiment = str(pathlib.Path(experiment).resolve())
    place = f"runs/{find.title(experiment)}"
    request = Request(
        experiment=experiment,
        task=task,
        spec=spec,
        settings=text.settings(given.set, spec.defaults),
        weights=weights,
        balancer=balancer,
        steps=given.steps or spec.steps,
        seed=given.seed or 0,
        smoke=given.smoke,
        workdir=text.folder("--workdir", given.workdir, place),
        dtype=text.dtype(given.dtype),
        mesh=text.mesh(given.mesh),
        profile=text.steps("--profile", given.profile),
        track=_trackers(given.track),
    )
    request.make_balancer()
    return request


def _trackers(given: str | None) -> tuple[str, ...]:
    """The names in `--track`, of packages that are there."""
    names = tuple(given.split(",")) if given else ()
    for name in names:
        if name not in TRACKERS or names.count(name) > 1:
            raise UsageError(f"--track: expected {' or '.join(TRACKERS)}, got {given}")
        if importlib.util.find_spec(name) is None:
            raise UsageError(f'--track={name}: pip install "headwise[{name}]"')
    return names
