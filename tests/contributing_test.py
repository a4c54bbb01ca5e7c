"""The map and the recipes: what they name is there, and what they say works."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests import _pages
from tests import _recipes
from tests import layering_test

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = ROOT / "research" / "headwise"
PAGE = ROOT / "CONTRIBUTING.md"
MAP = ROOT / "docs" / "architecture.md"
PLACES = (
    ROOT,
    LIBRARY,
    LIBRARY / "balancers",
    LIBRARY / "balancers/_gramian",
    LIBRARY / "reports/_page",
    ROOT / "experiments/benchmarks",
    ROOT / "experiments/tasks",
)
RECIPES = _recipes.recipes(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [PAGE, MAP])
def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in _pages.links(text):
        assert (page.parent / link).exists(), link
    named = set(re.findall(r"`([\w./]+/[\w.]*|_?\w+\.(?:py|cfg|json))`", text))
    assert len(named) > 5
    for name in (name for name in named if "NAME" not in name):
        assert any((place / name).exists() for place in PLACES), name


@pytest.mark.parametrize("page", [PAGE, MAP])
def test_pages_run_as_written(page):
    _pages.run_page(page)


def floors():
    """{layer: what it may import} as the map's tables say."""
    rows = {}
    for line in MAP.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            rows[cells[0].strip("`")] = set(
                re.findall(r"`([\w/]+)(?:\.py)?`", cells[2])
            )
    return rows


def test_the_map_says_who_may_import_whom():
    allowed = dict(layering_test.ALLOWED)
    for folder, others in layering_test.PORCH.items():
        if not folder.endswith(".py"):
            allowed[folder] = {other.replace(".", "/") for other in others}
    assert floors() == allowed


def test_there_is_a_recipe_for_each_kind():
    kinds = ["loss", "metric", "balancer", "experiment", "launcher"]
    assert [re.sub("Add an? ", "", title) for title in RECIPES] == kinds


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_recipe_works_on_a_copy(title, tmp_path):
    _recipes.copy(ROOT, tmp_path)
    commands = _recipes.follow(RECIPES[title], tmp_path)
    assert commands
    paths = [str(tmp_path / "research"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "python", command
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr}"


def test_a_recipe_that_does_not_fit_is_noticed(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    _recipes.follow("```diff\n+++ a.py\n x = 1\n+z = 3\n```\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1\nz = 3\ny = 2\n"
    with pytest.raises(AssertionError, match="stands there 0 times"):
        _recipes.follow("```diff\n+++ a.py\n w = 1\n+z = 3\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="is there already"):
        _recipes.follow("```python a.py\nx = 1\n```\n", tmp_path)
