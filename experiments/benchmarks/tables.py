"""Writes the measured tables into README and docs/, from the results' JSON.

    python -m experiments.benchmarks.tables            # after a new run
    python -m experiments.benchmarks.tables --check    # says what is stale, exit code 1

A page marks what is made; the words after the colon are a view of `views.VIEWS` and
files of results/, or files alone, for the commands, machine and versions:

    <!-- table: losses losses_cpu losses_118 -->
    <!-- end -->
    <!-- runs: losses_cpu losses_118 -->
    <!-- end -->
"""

import pathlib
import re
from collections.abc import Mapping

from absl import app
from absl import flags

from experiments.benchmarks import results
from experiments.benchmarks import views
from experiments.benchmarks.results import Result

_CHECK = flags.DEFINE_bool("check", False, "Write nothing, compare.")
_PAGES = flags.DEFINE_string(
    "pages",
    str(pathlib.Path(__file__).parents[2]),
    "Folder of README.md and docs/.",
)
_RESULTS = flags.DEFINE_string("results", str(results.FOLDER), "Folder of the results.")

_PART = re.compile(r"(<!-- (table|runs): (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _table(words: list[str], folder: pathlib.Path) -> list[str]:
    view, *names = words
    if view not in views.VIEWS:
        raise ValueError(f"expected a view of {list(views.VIEWS)}, got {view!r}")
    shown = [results.read(folder / f"{name}.json") for name in names]
    lines: list[str] = []
    for table in views.VIEWS[view](shown):
        lines += ["", *views.markdown(table)] if lines else views.markdown(table)
    return lines


def _command(name: str, result: Result) -> str:
    """What makes this file anew."""
    variables = [f"{key}={value}" for key, value in result.variables.items()]
    file = f"--json=experiments/benchmarks/results/{name}.json"
    return " ".join([*variables, result.command, file])


def _made_with(result: Result) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {it}" for name, it in result.versions.items())
    memory = f"{machine['memory'] / 2**30:.0f} GiB"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {memory}; JAX on "
        f"{result.device}; {versions}; {result.date}."
    )


def _runs(names: list[str], folder: pathlib.Path) -> list[str]:
    """The commands, and what they ran on: a line for those that agree in it."""
    shown = {name: results.read(folder / f"{name}.json") for name in names}
    commands = [f"    {_command(name, result)}" for name, result in shown.items()]
    alike: dict[str, list[str]] = {}
    for name, result in shown.items():
        alike.setdefault(_made_with(result), []).append(f"`{name}`")
    return [*commands, ""] + [
        f"- {', '.join(files)}: {text}" for text, files in alike.items()
    ]


def page_with_results(text: str, folder: pathlib.Path) -> str:
    """A page's text with every marked part made anew from the results in a folder."""
    makers: Mapping = {"table": _table, "runs": _runs}

    def made(part: re.Match) -> str:
        lines = makers[part[2]](part[3].split(), folder)
        return part[1] + "\n" + "\n".join(lines) + "\n\n" + part[5]

    return _PART.sub(made, text)


def pages(root: pathlib.Path) -> list[pathlib.Path]:
    """The files that may have marked parts."""
    return [*root.glob("README.md"), *sorted((root / "docs").rglob("*.md"))]


def main(argv: list[str]) -> int:
    """Rewrites or compares every page that has marked parts."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    stale = 0
    for path in pages(pathlib.Path(_PAGES.value)):
        old = path.read_text(encoding="utf-8")
        new = page_with_results(old, pathlib.Path(_RESULTS.value))
        if new == old:
            continue
        stale += 1
        if _CHECK.value:
            print(f"{path.name}: is not what the results say")
        else:
            path.write_text(new, encoding="utf-8")
            print(f"{path.name}: written")
    return int(_CHECK.value and stale > 0)


if __name__ == "__main__":
    app.run(main)
