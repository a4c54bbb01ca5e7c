"""docs/launching.md: its commands run, those of engines as dry runs."""

import importlib
import pathlib
import re
import shlex

import pytest

import headwise as hw
from experiments.harness import command
from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "launching.md"
TEXT = PAGE.read_text(encoding="utf-8")
FLAGFILE = re.search(r"`study.flags`:\n\n((?:    .*\n)+)", TEXT)[1]


def commands():
    """The lines that begin with `python -m`, or with what starts it on each host."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n *", " ", block).splitlines()
        for line in lines:
            words = shlex.split(line, comments=True)
            if "python" in words and "-m" in words:
                yield words[words.index("-m") + 1 :]


REAL = ("experiments.main", "launch.local", "launch.status", "launch.worker")
ENGINES = [words for words in commands() if words[0] not in REAL]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with the page's flagfile, and with few steps."""
    monkeypatch.chdir(tmp_path)
    flags = [*(line.strip() for line in FLAGFILE.splitlines()), "--smoke"]
    pathlib.Path("study.flags").write_text("\n".join(flags))
    return tmp_path


def go(words):
    name, *argv = words
    return command.guarded(importlib.import_module(name).main, [name, *argv])


@pytest.mark.parametrize("words", ENGINES, ids=" ".join)
def test_a_dry_run_of_a_command_of_the_page(words, study, capsys):
    manifest = words[0] == "launch.manifest"  # it starts nothing by itself
    assert go([*words, *([] if manifest else ["--dry_run"])]) == 0
    assert capsys.readouterr().out or manifest
    assert {path.name for path in study.iterdir()} <= {"study.flags", "study.yaml"}


@pytest.mark.slow
def test_the_commands_that_need_no_engine(study, capsys):
    """In the order of the page: what the first did the others find."""
    real = [words for words in commands() if words[0] in REAL]
    assert {words[0] for words in real} == set(REAL)
    for words in real:
        assert go(words) == 0, (words, capsys.readouterr().err)
    records = hw.sweeps.read(study / "studies/digits")
    assert len(records) == 20  # three weightings and mgda, five seeds
    assert {record["seed"] for record in records} == set(range(5))


def test_links():
    for link in _pages.links(TEXT):
        assert (PAGE.parent / link).exists(), link
