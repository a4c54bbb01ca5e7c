"""The pages' tables are what the results say, and a wrong result is refused."""

import json
import re

import pytest

from experiments.benchmarks import overview
from experiments.benchmarks import results
from experiments.benchmarks import tables
from experiments.benchmarks import views
from experiments.benchmarks.results import Result
from tests.experiments.benchmarks import _runs

PAGES = tables.pages(_runs.ROOT)
FILES = sorted(results.FOLDER.glob("*.json"))
PART = re.compile(r"<!-- (table|runs): (.+?) -->")


def parts():
    """[(kind, words)] of all pages."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return [(m[1], m[2].split()) for text in texts for m in PART.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_is_what_the_results_say(page):
    text = page.read_text(encoding="utf-8")
    assert tables.page_with_results(text, results.FOLDER) == text
    assert text.count("<!-- end -->") == len(PART.findall(text))


def test_every_result_is_on_a_page_with_its_command():
    in_tables = {n for kind, words in parts() if kind == "table" for n in words[1:]}
    in_runs = {name for kind, words in parts() if kind == "runs" for name in words}
    assert in_tables == in_runs == {path.stem for path in FILES}


def test_command_line():
    done = _runs.command("tables", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_says_which_view_is_unknown():
    with pytest.raises(ValueError, match="expected a view of"):
        tables.page_with_results(
            "<!-- table: losess x -->\n<!-- end -->\n", results.FOLDER
        )


ROW = {
    "balancer": "mgda",
    "heads": 2,
    "seconds": 2e-5,
    "step_seconds": 1e-2,
    "compile_seconds": 0.5,
    "quadprog_seconds": None,
    "torchjd_seconds": 4e-3,
}
MADE = Result(
    benchmark="balancers",
    command="python -m experiments.benchmarks.balancers --peer=PYTHON",
    date="2026-01-31",
    machine={"processor": "abacus", "cores": 2, "memory": 2**34},
    device="cpu",
    revision="0123456789abcdef+",
    versions={"python": "3.11.7", "jax": "0.10.2"},
    variables={"XLA_FLAGS": "--fast"},
    rows=[ROW, ROW | {"heads": 8, "torchjd_seconds": None}],
)


def test_cells_by_hand():
    (table,) = views.balancers([MADE])
    assert views.markdown(table) == [
        "| H | balancer | update | % of a step | compile | x quadprog "
        "| TorchJD | x TorchJD |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 2 | mgda | 20 us | 0.20 | 0.50 s |  | 4000 us | 0.005 |",
        "| 8 | mgda | 20 us | 0.20 | 0.50 s |  |  |  |",
    ]


def test_the_overview_by_hand():
    """The first result with both sides speaks, and the quickest of theirs counts."""
    step = {"model": "mlp", "title": "", "steps": 10}
    keras = [(f"Keras, {n}", s) for n, s in ((1, 5e-4), (10, 3e-4), (50, 4e-4))]
    rows = [step | {"form": form, "seconds": s} for form, s in [("fit", 1e-4), *keras]]
    whole = [*rows, step | {"form": "Keras, 200", "seconds": 6e-4}]
    alone, both = (MADE._replace(benchmark="loop", rows=r) for r in (rows, whole))
    case = overview.CASES[0]
    line = overview.line(case, [MADE, alone, both])
    assert line == (
        "[a step of training, two heads](docs/guides/fit.md#how-fast)",
        1e-4,
    ) + (
        "Keras `fit`, its best",
        3e-4,
    )
    with pytest.raises(ValueError, match="both sides of 'a step of training, two"):
        overview.line(case, [MADE, alone])


def test_runs_that_agree_in_all_share_a_line(tmp_path):
    for name in ("one", "two"):
        results.write(MADE, tmp_path / f"{name}.json")
    text = tables.page_with_results("<!-- runs: one two -->\n<!-- end -->", tmp_path)
    command = "XLA_FLAGS=--fast python -m experiments.benchmarks.balancers"
    for name in ("one", "two"):
        file = f"--json=experiments/benchmarks/results/{name}.json"
        assert f"    {command} --peer=PYTHON {file}\n" in text
    assert (
        "\n- `one`, `two`: abacus, 2 cores, 16 GiB; JAX on cpu; python 3.11.7, "
        "jax 0.10.2; 2026-01-31.\n" in text
    )


def test_a_result_goes_through_its_file(tmp_path):
    path = tmp_path / "one.json"
    results.write(MADE, path)
    assert results.read(path) == MADE
    assert len([line for line in path.read_text().splitlines() if "mgda" in line]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"benchmark": "balancer"}, "benchmark: expected one of"),
        ({"rows": []}, "rows: is empty"),
        ({"rows": [{"balancer": "mgda"}]}, "row 0: expected"),
        ({"rows": [ROW | {"seconds": None}]}, "row 0, seconds: expected"),
    ],
)
def test_a_result_that_is_not_as_it_should_be_is_refused(change, words, tmp_path):
    wrong, path = MADE._replace(**change), tmp_path / "one.json"
    with pytest.raises(ValueError, match=words):
        results.write(wrong, path)
    assert not path.exists()
    path.write_text(json.dumps(wrong._asdict()))
    with pytest.raises(ValueError, match=f"one.json: .*{words}"):
        results.read(path)
