"""Flags or a flagfile -> trials -> command lines of `experiments.main`. Pure.

Nothing here imports JAX, an experiment or its data: a plan can be made anywhere.
"""

import hashlib
import itertools
import json
import math
import pathlib
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import flags

from experiments.harness import text
from experiments.harness.text import STATIC
from experiments.harness.text import UsageError


class Study(NamedTuple):
    """What the flags of a study say."""

    experiment: str
    grid: dict[str, list[float]] | None
    """Levels of every weight."""
    simplex: int | None
    """Weightings that sum to 1, in so many steps."""
    seeds: list[int]
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


class Trial(NamedTuple):
    """One run of a study."""

    weights: dict[str, float] | None
    """None where a balancer finds them."""
    balancer: str
    seed: int
    settings: dict[str, Any]
    """Those that differ from the experiment's defaults."""

    @property
    def name(self) -> str:
        """A folder name with a hash of all digits: `left-1_seed-0_5c5ee7b1`."""
        words = re.sub("[:=,;()]+", "-", self.balancer).strip("-")
        parts = [] if self.balancer == STATIC else [words]
        for values in (self.weights or {}, self.settings, {"seed": self.seed}):
            parts += [f"{name}-{_short(x)}" for name, x in sorted(values.items())]
        shown = re.sub(r"[^\w.+-]", "", "_".join(parts))
        exact = json.dumps(self._asdict(), sort_keys=True)
        return f"{shown[:120]}_{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def define(values: flags.FlagValues) -> None:
    """The flags of a study, the same for every launcher."""
    text_flags = {
        "experiment": "a name (python -m experiments.main lists them) or a file",
        "weights": "static weights and their levels, as left=1,right=0.1:0.3:1",
        "balancers": "NAME or NAME:ARGUMENT=VALUE,... as mgda,cagrad:c=0.4,famo",
        "set": "settings and their levels, as lr=1e-3:3e-3,width=16",
        "folder": "of the study; studies/NAME_launched if not given",
        "dtype": text.DTYPE,
        "mesh": "goes with experiments.main alone",
    }
    for name, meaning in text_flags.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_string("seeds", "0", "as 0:5 or 0,1,7", flag_values=values)
    flags.DEFINE_integer(
        "simplex",
        None,
        "weightings that sum to 1, in so many steps",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps", None, "of training; else the experiment's own", flag_values=values
    )
    flags.DEFINE_bool("smoke", False, "a version of a few seconds", flag_values=values)
    flags.DEFINE_bool("retry", False, text.RETRY, flag_values=values)


def read(given: flags.FlagValues) -> Study:
    """The study that parsed flags ask for.

    Raises:
        UsageError: a text that cannot be understood, or weights that nothing would use.
    """
    if given.experiment is None:
        raise UsageError("--experiment: expected a name or a file, got none")
    if given.mesh is not None:
        raise UsageError(
            "--mesh: the trials of a study are processes that run at the same time, "
            "each on a device of its own; a mesh goes with experiments.main, also with "
            "its --sweep"
        )
    balancers = [STATIC]
    if given.balancers is not None:
        balancers = text.balancers(given.balancers)
    static = given.weights is not None, given.simplex is not None
    if STATIC in balancers and sum(static) != 1:
        raise UsageError("expected one of --weights and --simplex")
    if STATIC not in balancers and any(static):
        raise UsageError(f"--weights and --simplex: expected {STATIC} in --balancers")
    text.whole("--simplex", given.simplex, 1)
    levels = {} if given.set is None else text.pairs("--set", given.set)
    name = pathlib.Path(given.experiment).stem
    return Study(
        experiment=given.experiment,
        grid=None if given.weights is None else text.grid(given.weights),
        simplex=given.simplex,
        seeds=text.seeds(given.seeds),
        balancers=balancers,
        settings={setting: words.split(":") for setting, words in levels.items()},
        steps=text.whole("--steps", given.steps, 1),
        smoke=given.smoke,
        folder=text.folder("--folder", given.folder, f"studies/{name}_launched"),
        retry=given.retry,
        dtype=text.dtype(given.dtype),
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
    count = len(study.seeds) * math.prod(map(len, study.settings.values()))
    count *= len(others) + static * (STATIC in study.balancers)
    if count > text.MANY:
        raise UsageError(f"expected at most {text.MANY} trials, got {count}")


def trials(
    study: Study,
    weightings: Sequence[dict[str, float]],
    defaults: Mapping[str, Any],
) -> list[Trial]:
    """Settings x balancers x weightings x seeds, the seeds innermost.

    Args:
        study: of `read`.
        weightings: for the static weights; `grid(study.grid)`, say.
        defaults: of the experiment's settings, which give them their types.

    Raises:
        UsageError: an unknown setting, or a level that has not its type.
    """
    text.known_names("--set", study.settings, defaults)
    typed = {
        name: [text.typed("--set", name, level, defaults[name]) for level in levels]
        for name, levels in study.settings.items()
    }
    rows = []
    for settings in grid(typed):
        changed = {n: x for n, x in settings.items() if x != defaults[n]}
        for balancer in study.balancers:
            for weights in weightings if balancer == STATIC else [None]:
                rows += [Trial(weights, balancer, s, changed) for s in study.seeds]
    # A level that is given twice, or is the default, is the same trial.
    return list({trial.name: trial for trial in rows}.values())


def argv(study: Study, trial: Trial) -> list[str]:
    """The flags of `experiments.main` for one trial."""
    words = [
        f"--experiment={study.experiment}",
        f"--balancer={trial.balancer}",
        f"--seed={trial.seed}",
        f"--workdir={study.folder / 'trials' / trial.name}",
    ]
    if trial.weights is not None:
        words.append(f"--weights={_pairs(trial.weights)}")
    if trial.settings:
        words.append(f"--set={_pairs(trial.settings)}")
    if study.steps is not None:
        words.append(f"--steps={study.steps}")
    if study.smoke:
        words.append("--smoke")
    if study.dtype is not None:
        words.append(f"--dtype={study.dtype}")
    return words


def _pairs(values: Mapping[str, Any]) -> str:
    """Text that `experiments.main` reads back as the same values, to the last digit."""
    return ",".join(
        f"{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in values.items()
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
