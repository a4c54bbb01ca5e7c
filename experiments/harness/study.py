"""A study as flags: one text for `experiments.main --sweep` and for every launcher.

Plain Python: nothing here imports JAX, an experiment or its data.
"""

import itertools
import math
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import flags

from experiments.harness import command
from experiments.harness import text
from experiments.harness.text import STATIC
from experiments.harness.text import UsageError

MODES = ("auto", "vmap", "scan", "loop", "threads", "shard")
"""How trials run: chosen by measurement, or forced."""


class Study(NamedTuple):
    """What the flags of a study say."""

    experiment: str
    grid: dict[str, list[float]] | None
    """Levels of every weight."""
    simplex: int | None
    """Weightings that sum to 1, in so many steps."""
    seeds: list[int] | None
    """None: those of the design, or of the experiment, or 0."""
    balancers: list[str]
    settings: dict[str, list[str]]
    """Levels of every setting that is given, as text."""
    steps: int | None
    smoke: bool
    folder: pathlib.Path
    retry: bool = False
    """Whether trials that ended without a result are tried again."""
    dtype: str | None = None
    """What the models compute in; None: float32."""
    design: str | None = None
    """The file that lists the trials."""
    mode: str = "auto"
    size: int | None = None
    """The most trials that run as one program."""
    stop_on_failure: bool = False
    verify: str | None = None
    """The trial that is run again, and compared."""
    mesh: dict[str, int] | None = None

    @property
    def own_design(self) -> bool:
        """Whether the static weights are those that the experiment comes with."""
        given = self.grid, self.simplex, self.design
        return STATIC in self.balancers and given == (None, None, None)


def define(values: flags.FlagValues) -> None:
    """The flags of a study, the same for every command."""
    text_flags = {
        "experiment": "a name (python -m experiments.main lists them) or a file",
        "weights": "static weights and their levels, as left=1,right=0.1:0.3:1",
        "design": "a file that lists the trials, CSV or JSON Lines: columns named like "
        "heads are weights; others are seed, balancer and settings",
        "seeds": "as 0:5 or 0,1,7; else those of the design or, where the weights are "
        "the experiment's own, its own; else 0",
        "balancers": "NAME or NAME:ARGUMENT=VALUE,... as mgda,cagrad:c=0.4,famo",
        "set": "settings and their levels, as lr=1e-3:3e-3,width=16",
        "folder": "of the study; studies/NAME... if not given",
        "dtype": text.DTYPE,
        "mesh": "goes with experiments.main alone",
        "verify": "run this trial of the folder (its key, or how that begins) again, "
        "alone, for its first steps, and compare",
    }
    command.define(values, str, text_flags)
    numbers = {
        "simplex": "weightings that sum to 1, in so many steps",
        "steps": "of training; else the experiment's own",
        "size": "the most trials that run as one program; else as memory allows",
    }
    command.define(values, int, numbers)
    modes = f"how trials run: {', '.join(MODES)} (auto measures)"
    command.define(values, str, {"mode": modes}, MODES[0])
    switches = {
        "smoke": "a version of a few seconds",
        "retry": text.RETRY,
        "stop_on_failure": "end the study with the first trial that has no result",
    }
    command.define(values, bool, switches)


def read(given: flags.FlagValues, place: str = "studies/{}") -> Study:
    """The study that parsed flags ask for.

    Args:
        given: of `define`.
        place: the folder if none is given; {} stands for the experiment's name.

    Raises:
        UsageError: a text that cannot be understood, or weights that nothing would use.
    """
    if given.experiment is None:
        raise UsageError("--experiment: expected a name or a file, got none")
    balancers = [STATIC]
    if given.balancers is not None:
        balancers = text.balancers(given.balancers)
    names = ("weights", "simplex", "design")
    static = [f"--{name}" for name in names if getattr(given, name) is not None]
    if len(static) > 1:
        raise UsageError(
            f"expected one of --weights, --simplex and --design, got "
            f"{' and '.join(static)}"
        )
    if STATIC not in balancers and static and static != ["--design"]:
        raise UsageError(f"--weights and --simplex: expected {STATIC} in --balancers")
    levels = {} if given.set is None else text.pairs("--set", given.set)
    name = pathlib.Path(given.experiment).stem
    return Study(
        experiment=given.experiment,
        grid=None if given.weights is None else text.grid(given.weights),
        simplex=text.whole("--simplex", given.simplex, 1),
        seeds=None if given.seeds is None else text.seeds(given.seeds),
        balancers=balancers,
        settings={setting: words.split(":") for setting, words in levels.items()},
        steps=text.whole("--steps", given.steps, 1),
        smoke=given.smoke,
        folder=text.folder("--folder", given.folder, place.format(name)),
        retry=given.retry,
        dtype=text.dtype(given.dtype),
        design=_file("--design", given.design),
        mode=text.choice("--mode", MODES, given.mode),
        size=text.whole("--size", given.size, 1),
        stop_on_failure=given.stop_on_failure,
        verify=given.verify,
        mesh=text.mesh(given.mesh),
    )


def grid(levels: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the levels; the last name varies fastest.

    Example:
        >>> grid({"a": [1], "b": [0.5, 2]})
        [{'a': 1, 'b': 0.5}, {'a': 1, 'b': 2}]
    """
    return [
        dict(zip(levels, row, strict=True))
        for row in itertools.product(*levels.values())
    ]


def check_count(study: Study, heads: int) -> None:
    """A UsageError for more trials than anyone means, before they are listed."""
    static = 1
    if study.simplex is not None:
        static = math.comb(study.simplex + heads - 1, heads - 1)
    elif study.grid is not None:
        static = math.prod(map(len, study.grid.values()))
    others = [name for name in study.balancers if name != STATIC]
    count = len(study.seeds or [0]) * math.prod(map(len, study.settings.values()))
    count *= len(others) + static * (STATIC in study.balancers)
    if count > text.MANY:
        raise UsageError(f"expected at most {text.MANY} trials, got {count}")


def settings(study: Study, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the settings' levels, whole and typed as the defaults.

    Raises:
        UsageError: an unknown setting, or a level that has not its type.
    """
    text.known_names("--set", study.settings, defaults)
    typed = {
        name: [text.typed("--set", name, level, defaults[name]) for level in levels]
        for name, levels in study.settings.items()
    }
    return [dict(defaults) | row for row in grid(typed)]


def words(study: Study) -> list[str]:
    """The study as flags again: what decides its trials and how they run.

    Not where it lies nor what is done once (`--folder`, `--retry`, `--verify`, ...).

    Example:
        >>> given = flags.FlagValues()
        >>> define(given)
        >>> _ = given(["", "--experiment=digits", "--simplex=2", "--seeds=0:3"])
        >>> words(read(given))
        ['--experiment=digits', '--simplex=2', '--seeds=0,1,2', '--mode=auto']
    """
    texts: dict[str, Any] = {
        "experiment": study.experiment,
        "weights": study.grid and _levels(study.grid),
        "simplex": study.simplex,
        "design": study.design,
        "seeds": study.seeds and ",".join(map(str, study.seeds)),
        "balancers": ",".join(study.balancers),
        "set": _levels(study.settings),
        "steps": study.steps,
        "dtype": study.dtype,
        "mode": study.mode,
        "size": study.size,
    }
    if study.balancers == [STATIC]:
        del texts["balancers"]
    given = [f"--{n}={x}" for n, x in texts.items() if x not in (None, "")]
    return given + ["--smoke"] * study.smoke


def _levels(levels: Mapping[str, Sequence[Any]]) -> str:
    """Text that is read back as the same values, to the last digit."""
    return ",".join(f"{n}={':'.join(map(str, row))}" for n, row in levels.items())


def _file(flag: str, name: str | None) -> str | None:
    """A file that is there, by its whole path: other processes read it, too."""
    if name is None:
        return None
    path = text.folder(flag, name)
    if not path.is_file():
        raise UsageError(f"{flag}: no such file: {name}")
    return str(path.resolve())
