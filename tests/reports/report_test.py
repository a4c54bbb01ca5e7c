"""The report as a file: what it holds, whatever the folder holds."""

import base64
import hashlib
import html.parser
import json
import pathlib
import re

import numpy as np
import pytest

import headwise as hw
from headwise.reports import __main__ as command
from headwise.reports import _summary
from headwise.reports._page import _thin
from tests.reports import _studies


class Page(html.parser.HTMLParser):
    """Scripts, policy and words of a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.policy, self.words, self._inside = [], "", "", None
        self.links = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        self.links += [x for n, x in attributes if n in ("src", "href")]
        self._inside = tag
        if tag == "script" and "json" not in named.get("type", ""):
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, text):
        if self._inside == "script" and self.scripts:
            self.scripts[-1] += text
        elif self._inside != "style":
            self.words += text


def page(folder, **options):
    path = hw.reports.write_report(folder, **options)
    return path, Page(path.read_text(encoding="utf-8"))


def test_rows_are_computed_once(tmp_path, monkeypatch):
    """For words, verdict, advice and drawings together: most of a large report."""
    rows = len(hw.reports.summary(_studies.study(tmp_path)))
    row, calls = _summary._row, []
    monkeypatch.setattr(_summary, "_row", lambda group: calls.append(1) or row(group))
    page(tmp_path, higher={"dice": True, "mse": False})
    assert len(calls) == rows > 1


def test_numbers_are_those_of_the_records(tmp_path):
    records = _studies.study(tmp_path)
    path, _ = page(tmp_path, higher={"dice": True, "mse": False})
    data = _studies.data(path)
    columns = {(c["kind"], c["name"]): c for c in data["trials"]["columns"]}
    dice = columns["metric", "dice"]["values"]
    want = [r["metrics"]["dice"] for r in records]
    assert dice[-1] is want[-1] is None
    np.testing.assert_allclose(dice[:-1], want[:-1], rtol=1e-6)
    edge = columns["weight", "edge"]["values"]
    assert edge == [r["weights"]["edge"] for r in records]
    assert columns["metric", "mse"]["more"] is False
    assert data["trials"]["state"][-1] == "step 7: head edge: not finite"
    # Rows: weightings and learning rates; the mean of the first by hand.
    first = [i for i, row in enumerate(data["rows"]["of"]) if row == 0]
    mean = np.mean([want[i] for i in first])
    np.testing.assert_allclose(data["rows"]["mean"]["dice"][0], mean, rtol=1e-6)
    summary = hw.reports.summary(records)
    assert len(data["rows"]["labels"]) == len(summary)


def test_nothing_but_its_own_scripts_may_run_and_no_network(tmp_path):
    _studies.study(tmp_path)
    _, got = page(tmp_path)
    hashes = re.findall("'sha256-([^']+)'", got.policy)
    digests = [hashlib.sha256(text.encode()).digest() for text in got.scripts]
    assert [base64.b64encode(d).decode() for d in digests] == hashes
    assert "default-src 'none'" in got.policy
    assert "http" not in got.policy
    assert all(link.startswith("#") for link in got.links)
    assert len(got.scripts) == 3  # a name of the study is none of them


def test_a_command_runs_each_trial_again(tmp_path):
    records = _studies.study(tmp_path, heads=("a", "b"))
    about = {
        "metrics": {"dice": True},
        "command": "python train.py --weights={weights} --seed={seed} --set={set}",
        "set": ["lr"],
        "question": "Which way?",
    }
    (tmp_path / "report.json").write_text(json.dumps(about))
    path, got = page(tmp_path)
    command = _studies.commands(path)[4]
    weights = ",".join(f"{n}={x}" for n, x in records[4]["weights"].items())
    assert command == f"python train.py --weights={weights} --seed=1 --set=lr=0.1"
    assert "Which way?" in got.words
    shown = {
        c["name"]: c["shown"]
        for c in _studies.data(path)["trials"]["columns"]
        if c["kind"] == "metric"
    }
    assert shown == {"dice": True, "mse": False}


def test_curves_and_heads_of_a_real_study_and_run(tmp_path):
    folder = _studies.trained()
    path, got = page(folder, output=tmp_path / "page.html")
    data = _studies.data(path)
    records = hw.sweeps.read(folder)
    # A trial holds at least its state, three numbers of four bytes.
    assert all(record["memory"] >= 12 for record in records)
    (memory,) = [c for c in data["trials"]["columns"] if c["name"] == "MB"]
    told = [record["memory"] / 1e6 for record in records]
    assert memory["values"] == pytest.approx(told)
    assert f"Memory: {np.median(told):.3g} MB a trial" in got.words
    for i, record in enumerate(records):
        curve = hw.sweeps.curves(folder, record)
        shown = data["curves"]["trials"][str(i)]
        places = np.searchsorted(curve["t"], shown["t"])
        want = curve["values"]["a"][places]
        np.testing.assert_allclose(shown["values"]["a"], want, rtol=1e-4)
    (run,) = data["runs"]
    assert run["name"] == "one"
    assert run["heads"] == run["movers"] == ["a", "b"]
    moments = run["moments"]
    last = hw.training.read_metrics(f"{folder}/one/metrics.jsonl")[-1]
    for m, module in enumerate(run["modules"]):
        for h, head in enumerate(run["movers"]):
            entry = last["contributions"][module][head]
            np.testing.assert_allclose(
                moments["norm"][-1][m][h], entry["norm"], rtol=1e-3
            )
    trunk = run["modules"].index("trunk")
    assert moments["pairs"] == ["a | b"]
    assert moments["cosine"][0][-1][trunk] < 0  # they pull apart
    assert "What was run" in got.words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: None, "Nothing to show"),
        (lambda f: (f / "trials.jsonl").write_text("{torn"), "Nothing to show"),
        (lambda f: (f / "study.json").write_text("{torn"), "study.json"),
        (lambda f: (f / "metrics.jsonl").write_text(""), "holds no record"),
        (lambda f: (f / "report.json").write_text("[1]"), "report.json"),
        (lambda f: _studies.study(f, trials=1), "What was run"),
        (lambda f: _studies.study(f, trials=1, broken=True), "not finite"),
        (lambda f: _studies.study(f, heads=("one",)), "12 trials"),
        (lambda f: _studies.study(f, heads=[f"h{i}" for i in range(50)]), "12 trials"),
    ],
)
def test_a_page_whatever_is_there(tmp_path, make, words):
    make(tmp_path)
    _, got = page(tmp_path)
    assert words in got.words


def test_several_studies_are_compared_at_equal_budget(tmp_path):
    folders = [tmp_path / "small" / "grid", tmp_path / "large" / "grid"]
    for folder, values in zip(folders, ([0.5, 0.9], [0.7, 0.6, 1.0]), strict=True):
        for seed, x in enumerate(values):
            record = hw.sweeps.record({"a": 1.0}, seed, {"up": x, "down": 1 - x / 2})
            hw.sweeps.append(folder, record)
    path, got = page(folders, higher={"up": True, "down": False})
    assert path == folders[0] / "comparison.html"
    # 1.0 is the third trial of the larger. Both metrics scaled by [0.5, 0.9] and
    # [0.55, 0.75]: 0.9 spans all, 0.7 half of each side.
    first = "small/grid, its first 2 trials: best up 0.9, down 0.55; hypervolume 1 of 1"
    second = "large/grid, its first 2 trials: best up 0.7, down 0.65; hypervolume 0.25"
    assert first in got.words
    assert second in got.words
    assert "small/grid, large/grid" in got.words
    columns = _studies.data(path)["trials"]["columns"]
    (study,) = [c["values"] for c in columns if c["name"] == "study"]
    assert study == ["small/grid"] * 2 + ["large/grid"] * 3


def test_peaks_stay_in_thinned_curves():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5000, 3))
    values[1234, 1] = 99.0
    values[17, 2] = np.nan
    kept = _thin.rows(values, 120)
    assert len(kept) <= 122
    assert {0, 1234, 4999} <= set(kept.tolist())
    assert np.nanmin(values[kept]) == np.nanmin(values)
    np.testing.assert_array_equal(_thin.rows(values[:100], 120), np.arange(100))


def test_the_command(tmp_path, capsys):
    _studies.study(tmp_path)
    assert command.main([str(tmp_path), "--higher=dice", "--lower=mse"]) == 0
    assert f"{tmp_path}/report.html" in capsys.readouterr().out
    assert command.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: folder: expected that of a study")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert command.main([str(tmp_path), f"--output={blocked}/page.html"]) == 1


def test_ten_thousand_trials_are_few_bytes_and_linear(tmp_path):
    sizes = {}
    for trials in (200, 400):
        folder = pathlib.Path(tmp_path, str(trials))
        folder.mkdir()
        _studies.study(folder, trials=trials)
        sizes[trials] = len(json.dumps(_studies.data(page(folder)[0])))
    assert sizes[400] < 2.2 * sizes[200]
    assert (sizes[400] - sizes[200]) / 200 < 1000  # bytes a trial
