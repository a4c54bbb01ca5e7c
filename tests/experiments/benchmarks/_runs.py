"""Runs a benchmark small, as a user does, and reads what it leaves."""

import contextlib
import io
import pathlib
import subprocess
import sys

from absl.testing import flagsaver

from experiments.benchmarks import results
from experiments.benchmarks import tables

ROOT = pathlib.Path(__file__).parents[3]


def command(name, *arguments):
    """The finished process of `python -m experiments.benchmarks.NAME`."""
    words = [sys.executable, "-m", f"experiments.benchmarks.{name}", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


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
