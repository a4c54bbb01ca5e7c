"""What every launcher does before it starts workers: checks a study, signs its folder.

`launches/TOKEN.json` says who launched what, when and how. A worker that is given the
token and finds the file sees the very folder that its launcher saw.
"""

import datetime
import getpass
import json
import os
import pathlib
import platform
import secrets
import shlex
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
from absl import flags

from experiments.harness import command
from experiments.harness import find
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import signals
from experiments.harness import sweep
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.study import Study
from experiments.harness.text import UsageError
from launch import plan as places

FOLDER = "launches"


class Launch(NamedTuple):
    """A study whose folder is ready for workers."""

    plan: Plan
    name: str
    """Of the study's text in its folder."""
    token: str
    """New for every launch."""


def define(values: flags.FlagValues) -> None:
    """The flags that every launcher has: those of a study, and `--dry_run`."""
    places.define(values)
    dry = "print the exact commands and files; write nothing, start nothing"
    command.define(values, bool, {"dry_run": dry})


def begin(
    study: Study,
    engine: str,
    *,
    dry_run: bool = False,
    workers: int = 1,
    here: bool = False,
) -> Launch:
    """Makes the plan, says what it is, and puts all that workers need into its folder.

    Args:
        study: of `launch.plan.read`.
        engine: what starts the workers, as `slurm`.
        dry_run: whether to write nothing; the token is then "TOKEN".
        workers: how many share the study, about.
        here: whether on the CPUs of this machine: `--size` is compared with its memory.

    Raises:
        UsageError: as `plans.make` and `sweep.ready`; a study that no launcher runs.
        WorkdirError: the folder is of other work.
        OSError: it cannot be written, or does not give back what was written.
    """
    if study.verify is not None:
        raise UsageError("--verify: goes with launch.local, and with --sweep")
    jax.config.update("jax_platforms", "cpu")  # the accelerators are for the workers
    plan = plans.make(study)
    sized = here and study.size is not None  # else a worker will measure it
    sweep.ready(plan, workers=workers, here=sized)
    name, _ = texts.draft(plan)
    token = "TOKEN"
    if not dry_run:
        plan.claim()
        texts.write(plan)
        token = _sign(plan, name, engine)
    print(find.question(plan.task.__doc__))
    outcome.tell_before(plan)
    return Launch(plan, name, token)


def worker(
    launch: Launch,
    *,
    workers: int,
    workers_here: int | None = None,
    devices: int | None = None,
    cohorts: int | None = None,
    cpus: Sequence[int] = (),
) -> list[str]:
    """The flags of `launch.worker`: what follows `python -m launch.worker`.

    Args:
        launch: of `begin`.
        workers: how many share the study, about.
        workers_here: how many of them its machine has; None: it may be all.
        devices: that each must find.
        cohorts: after how many it ends; None: when no trial is left.
        cpus: that it keeps to; () for all.
    """
    study = launch.plan.study
    numbers = {"workers": workers, "workers_here": workers_here}
    numbers |= {"devices": devices, "cohorts": cohorts}
    words = [f"--folder={study.folder.absolute()}", f"--study={launch.name}"]
    words += [f"--launch={launch.token}"]
    words += [f"--{name}={n}" for name, n in numbers.items() if n is not None]
    words += [f"--cpus={','.join(map(str, cpus))}"] if cpus else []
    words += ["--retry"] if study.retry else []
    return words + (["--stop_on_failure"] if study.stop_on_failure else [])


def end(launch: Launch, work: Callable[[], int], *, alone: bool = True) -> int:
    """Waits for the workers of a launch, and shows what came of them; its exit code.

    Args:
        launch: of `begin`.
        work: waits; returns 0, or the exit code that is to be told of the workers'.
        alone: whether no launcher of the same kind ends at the same time; else the
            first that finds nothing left shows it.
    """
    plan = launch.plan
    try:
        code = work()
    except KeyboardInterrupt:
        outcome.show_so_far(plan)
        raise
    if code in (2, signals.CODE) or (code and not alone):
        outcome.show_so_far(plan)
        return code
    if alone or first(plan.study.folder):
        code = outcome.finish(plan) or code
    print(f"everything is in {plan.study.folder}/")
    return 1 if code else 0


def files(launch: Launch) -> dict[pathlib.Path, str]:
    """What `begin` writes for workers, but for the signature: {path: text}."""
    name, text = texts.draft(launch.plan)
    return {launch.plan.study.folder / texts.FOLDER / f"{name}.json": text}


def tell(
    commands: Iterable[Sequence[str]], files: Mapping[pathlib.Path, str] | None = None
) -> None:
    r"""Prints what `--dry_run` promises: each file with its text, each command.

    Example:
        >>> tell([["python", "-c", "print(1)"]], {pathlib.Path("a/job.sh"): "date\n"})
        # a/job.sh
        date
        <BLANKLINE>
        python -c 'print(1)'
    """
    for path, text in (files or {}).items():
        print(f"# {path}", text.rstrip("\n"), "", sep="\n")
    for words in commands:
        print(shlex.join(words))


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """All launches of a study, the older first; those that cannot be read are left out.

    Returns:
        [{"token", "engine", "study", "command", "host", "user", "time", "versions"}].
    """
    found = []
    for path in (folder / FOLDER).glob("*.json"):
        try:
            found.append({"token": path.stem} | json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda one: str(one.get("time")))


def is_there(folder: pathlib.Path, token: str) -> bool:
    """Whether the folder is the one that a launcher signed with this token."""
    return (folder / FOLDER / f"{token}.json").is_file()


def first(folder: pathlib.Path) -> bool:
    """Whether this is the first process to say so since the newest launch.

    Of launchers that end at the same time one shows the table.
    """
    newest = max(read(folder), key=lambda one: (str(one.get("time")), one["token"]))
    try:
        (folder / FOLDER / f"{newest['token']}.shown").open("x").close()
    except FileExistsError:
        return False
    return True


def forget(launch: Launch) -> None:
    """Takes the signature of a launch that did not come to be out of the folder."""
    where = launch.plan.study.folder / FOLDER
    for path in where.glob(f"{launch.token}*"):
        path.unlink(missing_ok=True)


def _sign(plan: Plan, name: str, engine: str) -> str:
    """Writes down this launch, and reads it back; its token."""
    token = secrets.token_hex(8)
    said = {
        "engine": engine,
        "study": name,
        "command": shlex.join(sys.orig_argv),
        "directory": os.getcwd(),
        "host": platform.node(),
        "user": _user(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": texts.code(plan.task),
    }
    path = plan.study.folder / FOLDER / f"{token}.json"
    path.parent.mkdir(exist_ok=True)
    data = json.dumps(said, indent=1) + "\n"
    part = path.with_suffix(".part")
    part.write_text(data, encoding="utf-8")
    os.replace(part, path)
    if path.read_text(encoding="utf-8") != data:
        raise OSError(f"{path}: does not hold what was written into it")
    return token


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, in a container
        return None
