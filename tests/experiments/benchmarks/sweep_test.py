"""The benchmark of sweeps runs small; times are not judged."""

import pytest

from experiments.benchmarks import results
from experiments.benchmarks import views
from tests.experiments.benchmarks import _runs
from tests.experiments.benchmarks import tables_test

ROW = {
    "model": "tabular",
    "title": "14 heads",
    "trials": 32,
    "form": "vmap",
    "detail": "",
    "seconds": 1.35e-4,
    "compilations": 1,
}
LONELY = {"compilations": None, "form": "fit", "seconds": 2.16e-3}


def test_cells_by_hand():
    rows = [
        ROW,
        ROW | {"form": "auto", "detail": "vmap, 16 at a time", "compilations": 0},
        ROW | LONELY,
        ROW | LONELY | {"form": "PyTorch", "seconds": 2.3e-3},
        ROW | {"trials": 1, "form": "scan", "seconds": 0.012345},
    ]
    result = tables_test.MADE._replace(benchmark="sweep", rows=rows)
    assert not results.problems(result)
    (table,) = views.sweep([result])
    assert views.markdown(table) == [
        "**tabular: 14 heads**",
        "",
        "| trials | form | a step a trial | fit | PyTorch | compiled |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
        "| 32 | vmap | 0.135 ms | 16 x | 17 x | 1 |",
        "|  | auto: vmap, 16 at a time | 0.135 ms | 16 x | 17 x | 0 |",
        "|  | fit | 2.16 ms | 1 x | 1.1 x |  |",
        "|  | PyTorch | 2.3 ms | 0.94 x | 1 x |  |",
        "| 1 | scan | 12.3 ms |  |  | 1 |",
    ]


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    flags = ["--models=digits", "--trials=1", "--forms=scan,auto", "--seconds=0"]
    result, printed = _runs.result("sweep", tmp_path, *flags, "--rounds=1")
    assert [row["form"] for row in result.rows] == ["scan", "auto"]
    for row in result.rows:
        assert row["form"] in printed
        assert row["seconds"] > 0
    # One trial is scanned; what was compiled for it is not compiled again.
    assert [row["compilations"] for row in result.rows] == [1, 0]
    assert result.rows[1]["detail"] == "scan"
    assert "| auto: scan |" in _runs.page(tmp_path, "table: sweep sweep")


def test_names_wrong_flags():
    wrong = _runs.command("sweep", "--forms=vamp")
    assert wrong.returncode != 0
    assert "--forms: expected some of vmap" in wrong.stderr + wrong.stdout
