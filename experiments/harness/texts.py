"""The text of a study in its folder, and the code that is to work on it.

`flags/HASH.json` holds the flags, the table of a `--design` and what the launcher's
code is: all that a worker needs to know. Its name follows from what it holds, so it is
written once and never changed; a second grid in the same folder has its own. Every
command that trains a study leaves one, so that workers can join it.
"""

import hashlib
import json
import os
import pathlib
import secrets
import tempfile
from collections.abc import Mapping
from typing import Any

import jax

import headwise as hw
from experiments.harness import command
from experiments.harness import find
from experiments.harness import plan as plans
from experiments.harness import study as studies
from experiments.harness.plan import Plan
from experiments.harness.study import Study
from experiments.harness.text import UsageError

FOLDER = "flags"


def code(task: Any) -> dict[str, str]:
    """What decides the numbers beside the flags: versions, and hashes of sources."""
    library = pathlib.Path(hw.__file__).parent
    harness = pathlib.Path(find.__file__).parent
    digest = hashlib.sha256()
    for root in (library, harness):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return {
        "headwise": hw.__version__,
        "jax": jax.__version__,
        "the sources of headwise": digest.hexdigest()[:16],
        "the file of the experiment": find.source(task)[:16],
    }


def draft(plan: Plan) -> tuple[str, str]:
    """The name and the text of a study; nothing is written."""
    design = plan.study.design
    absolute = plan.study._replace(experiment=plan.experiment, design=None)
    text = {
        "flags": studies.words(absolute),
        "design": design and pathlib.Path(design).read_text(encoding="utf-8-sig"),
        "code": code(plan.task),
    }
    data = json.dumps(text, indent=1, sort_keys=True) + "\n"
    return hashlib.sha256(data.rstrip().encode()).hexdigest()[:16], data


def write(plan: Plan) -> str:
    """Keeps a study's text in its folder, which is there; its name."""
    name, data = draft(plan)
    path = plan.study.folder / FOLDER / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{secrets.token_hex(8)}.part")
        part.write_text(data, encoding="utf-8")
        os.replace(part, path)  # whoever is faster wrote the same
    return name


def read(folder: pathlib.Path, name: str | None = None) -> dict[str, dict[str, Any]]:
    """{name: text} of a study's folder, the older first; one, or all of them.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    paths = [folder / FOLDER / f"{name}.json"]
    if name is None:
        found = (folder / FOLDER).glob("*.json")
        paths = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    texts = {}
    for path in paths:
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            texts[path.stem] = {n: text[n] for n in ("flags", "design", "code")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"--folder: {path}: is no text of a study ({error})"
            ) from None
    if not texts:
        raise UsageError(f"--folder: {folder} holds no launched study")
    return texts


def study(text: Mapping[str, Any], folder: pathlib.Path) -> Study:
    """The study that a text stands for, in its folder."""
    words = [word for word in text["flags"] if not word.startswith("--design=")]
    given = command.parse(["study", *words], studies.define, None)
    return studies.read(given)._replace(folder=folder)


def plan(text: Mapping[str, Any], folder: pathlib.Path) -> Plan:
    """The study with its trials.

    Raises:
        UsageError: as `plans.make`.
    """
    found = study(text, folder)
    if text["design"] is None:
        return plans.make(found)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
        file.write(text["design"])
        file.flush()
        return plans.make(found._replace(design=file.name))


def check_code(text: Mapping[str, Any], task: Any) -> None:
    """A UsageError that names what differs between a study's code and this one."""
    before, now = text["code"], code(task)
    names = sorted({*before, *now})
    lines = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if lines:
        raise UsageError(
            f"this worker is of another version of the code than the study's launcher: "
            f"{'; '.join(lines)} (launch the study again with this code, or start the "
            "worker from the launcher's)"
        )
