"""Runs a benchmark small, as a user does, and reads what it leaves."""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import flagsaver

from experiments.benchmarks import results
from experiments.benchmarks import tables

ROOT = pathlib.Path(__file__).parents[3]


_forks = []


def _begun():
    """The process that forks benchmarks, begun when the first is wanted."""
    if not _forks:
        words = [sys.executable, "-m", "tests.experiments.benchmarks._forks"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        _forks.append(subprocess.Popen(words, cwd=ROOT, **pipes))
    return _forks[0]


def end():
    """Ends it, if there is one."""
    for process in _forks:
        process.communicate(timeout=60)
    _forks.clear()


def command(name, *arguments):
    """The finished process of `python -m experiments.benchmarks.NAME`."""
    process, module = _begun(), f"experiments.benchmarks.{name}"
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / end for end in ("out", "err")]
        order = json.dumps([module, arguments, *map(str, files)])
        print(order, file=process.stdin, flush=True)
        code = int(process.stdout.readline())
        texts = [file.read_text() for file in files]
    return subprocess.CompletedProcess([module, *arguments], code, *texts)


def result(name, folder, *arguments):
    """(result, printed text) of a run that writes FOLDER/NAME.json.

    The file is as the schema says, and the command for tables makes a page of it.
    """
    path = folder / f"{name}.json"
    done = command(name, *arguments, f"--json={path}")
    assert done.returncode == 0, done.stderr
    made = results.read(path)  # raises if it is not as it should be
    assert made.benchmark == name
    assert "--json" not in made.command
    return made, done.stdout


def page(folder, *parts):
    """The text that the command for tables writes into a page with these parts."""
    path = folder / "docs/page.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"<!-- {part} -->\n<!-- end -->\n\n" for part in parts))
    said = io.StringIO()
    with flagsaver.flagsaver(pages=str(folder), results=str(folder)):
        with flagsaver.flagsaver(check=True), contextlib.redirect_stdout(said):
            assert tables.main(["tables"]) == 1
        assert "page.md" in said.getvalue()
        assert not tables.main(["tables"])
        with flagsaver.flagsaver(check=True):
            assert not tables.main(["tables"])
    return path.read_text()
