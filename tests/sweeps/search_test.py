"""Search: a batch is a function of the search and of what came before it, no more."""

import itertools
import json
import math
import random
import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest

import headwise as hw
from headwise.sweeps._search import _space

SPACE = {"a": (1, 1), "b": (0.01, 10)}
VARY = {
    "lr": (1e-4, 1e-1),
    "drop": (-0.5, 0.5, "linear"),
    "layers": (1, 4),
    "balancer": ["mgda", "famo"],
}
BOTH = {"near": "min", "far/away": "max"}
MADE = {"time": "2026-11-29T08:00:00+00:00"}


def plan(sampler="tpe", **others):
    settings = {"metrics": BOTH, "vary": VARY, "batch": 4, "budget": 64}
    return hw.sweeps.search(SPACE, sampler=sampler, **settings | others)


def record(trial, **metrics):
    """The best is b = 1, lr = 0.01, drop = 0 and mgda."""
    b, lr = math.log10(trial.weights.get("b", 1)), trial.varied.get("lr", 0.01)
    loss = b**2 + math.log10(lr / 0.01) ** 2 + abs(trial.varied.get("drop", 0))
    loss += 0.5 * (trial.varied.get("balancer") == "famo")
    return hw.sweeps.record(
        trial.weights,
        trial.seed,
        {"near": loss, "far": {"away": 1 - loss + b + 0.01 * trial.seed}} | metrics,
        settings={"steps": 10} | trial.varied,
        made_with=MADE,
    )


def played(search, batches, end=record):
    """What is asked and what came out, batch after batch."""
    asked, records = [], []
    for b in range(batches):
        asked.append(search.ask(records, b, asked))
        records += [end(trial) for trial in asked[-1]]
    return asked, records


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "random"])
@pytest.mark.parametrize("lag", [0, 1])
def test_anyone_at_any_time_gets_the_same_batch(sampler, lag):
    """Whatever is known beside it, in any order, from the store or worked out again."""
    search = plan(sampler, lag=lag)
    asked, records = played(search, 6)
    keys = [[trial.key for trial in batch] for batch in asked]
    assert len({key for batch in keys for key in batch}) == 24
    shuffled = records.copy()
    random.Random(1).shuffle(shuffled)
    by_key = {str(i): one for i, one in enumerate(shuffled)}
    other = hw.sweeps.record({"a": 1.0, "b": 2.0}, 7, {"x": 0.0}, made_with={})
    for b in (0, 3, 5):
        for known in (shuffled, by_key, [other, *shuffled]):
            assert plan(sampler, lag=lag).ask(known, b) == asked[b]
        # Results of this batch and of later ones are not looked at, and may be missing.
        enough = records[: 4 * max(0, b - lag)]
        assert search.ask(enough, b, asked[:b]) == asked[b]
        assert search.ask(shuffled, b, asked) == asked[b]
        if b - lag > 0:
            assert search.ask(enough[:-1], b, asked) is None
            assert search.ask([], b) is None


def test_another_process_gets_the_same_batch():
    asked, records = played(plan(), 4)
    text = (
        "import sys, json\n"
        "from tests.sweeps.search_test import plan\n"
        "records = json.load(sys.stdin)\n"
        "print(json.dumps([t._asdict() for t in plan().ask(records[::-1], 3)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        input=json.dumps(records),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [hw.sweeps.Trial(**line) for line in json.loads(done.stdout)] == asked[3]


def test_what_is_asked_lies_in_the_space():
    asked, _ = played(plan(), 6)
    trials = [trial for batch in asked for trial in batch]
    assert hw.sweeps.trials(trials) == trials
    for trial in trials:
        assert trial.weights["a"] == 1.0
        assert 0.01 <= trial.weights["b"] <= 10
        assert trial.weights["b"] == float(f"{trial.weights['b']:.7g}")
        varied = trial.varied
        assert list(varied) == ["balancer", "drop", "layers", "lr"]
        assert -0.5 <= varied["drop"] <= 0.5
        assert 1e-4 <= varied["lr"] <= 1e-1
        assert type(varied["layers"]) is int
        assert varied["layers"] in (1, 2, 3, 4)
    assert {trial.varied["balancer"] for trial in trials} == {"mgda", "famo"}
    logs = np.log10([trial.varied["lr"] for trial in trials])
    assert logs.min() < -3 < -2 < logs.max()  # in the logarithm


def test_rounding_stays_inside():
    low, high = 0.123456749, 0.123456751
    given = _space.Range(True, low, high, log=True)
    assert _space.rounded(given, low) == low
    assert _space.rounded(given, high) == high
    assert low <= _space.rounded(given, 0.12345675) <= high


def test_a_batch_is_of_its_seed_and_number():
    first = plan().ask([], 0)
    assert plan(seed=1).ask([], 0) != first
    assert plan(lag=1).ask([], 1) != plan(lag=1).ask([], 0)
    # A larger budget is the same search: what was asked stays.
    assert plan(budget=6).ask([], 0) == first == plan(budget=1000).ask([], 0)
    short = plan(budget=6)
    asked, records = played(short, 2)
    assert [len(batch) for batch in asked] == [4, 2]
    assert short.ask(records, 2) == []
    assert short.ask(records, 9, asked) == []
    assert plan().ask(records, 1)[:2] == asked[1]
    assert short.text == plan().text
    assert json.loads(json.dumps(short.text)) == short.text
    # A range of two ints is no list of two levels.
    one, other = (plan(vary={"n": among}).text for among in ((1, 2), [1, 2]))
    assert one["vary"] != other["vary"]


def test_every_point_is_trained_with_every_seed_and_their_mean_counts():
    """The best point is the worst by its first seed."""
    search = hw.sweeps.search(
        {"a": (1, 1)},
        vary={"x": [0.0, 1.0]},
        metrics={"m": True},
        seeds=(3, 4),
        batch=16,
        budget=48,
    )

    def end(trial):
        noise = {3: -10 * trial.varied["x"], 4: 12 * trial.varied["x"]}[trial.seed]
        return hw.sweeps.record(
            trial.weights, trial.seed, {"m": noise}, settings=trial.varied, made_with={}
        )

    asked, records = played(search, 3, end)
    assert [(t.varied["x"], t.seed) for t in asked[0]] in (
        [(0.0, 3), (0.0, 4), (1.0, 3), (1.0, 4)],
        [(1.0, 3), (1.0, 4), (0.0, 3), (0.0, 4)],
    )  # two points are all that there are
    assert asked[1:] == [[], []]
    assert search.ask(records[:3], 1, asked[:1]) is None


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_it_finds_what_chance_does_not(sampler):
    """The last batches are far better than the first, which is chance."""
    search = hw.sweeps.search(
        SPACE, vary={"lr": VARY["lr"]}, metrics={"near": "min"}, sampler=sampler,
        batch=8, budget=80,
    )  # fmt: skip
    _, records = played(search, 10)
    losses = np.array([one["metrics"]["near"] for one in records])
    assert np.median(losses[-24:]) < np.median(losses[:8]) / 2


def test_generations_descend_from_each_other():
    """Crossover hands values down as they are; chance never draws one again."""
    asked, _ = played(plan("nsga2", batch=8), 4)
    lrs = set()
    for older, younger in itertools.pairwise(asked):
        lrs |= {trial.varied["lr"] for trial in older}
        assert sum(trial.varied["lr"] in lrs for trial in younger) >= 4


def test_what_failed_is_the_worst_and_is_not_asked_for_again():
    """Half of the space breaks, in three ways; the search leaves it."""
    edge = 0.4

    def end(trial):
        broken = trial.weights["b"] < edge
        ways = [{"near": math.nan}, {"near": None}, {}]
        made = record(
            trial, **(ways[len(str(trial.weights["b"])) % 3] if broken else {})
        )
        if broken and made["finite"]:
            return made | {"finite": False, "stopped": 5, "metrics": {"near": -99.0}}
        return made

    for metrics in ({"near": "min"}, {"near": "min", "far/away": "max"}):
        search = hw.sweeps.search(SPACE, metrics=metrics, batch=8, budget=64)
        asked, _ = played(search, 8, end)
        broken = [[trial.weights["b"] < edge for trial in batch] for batch in asked]
        assert sum(broken[0]) >= 2
        assert np.mean(broken[4:]) < 0.2, metrics


def test_nothing_but_failures_is_no_end():
    def end(trial):
        return record(trial, near=math.nan)

    for sampler in ("tpe", "nsga2"):
        asked, records = played(plan(sampler), 4, end)
        assert len({trial.key for batch in asked for trial in batch}) == 16
        after = plan(sampler).ask(
            [*records[:-16], *map(record, asked[-1])], 3, asked[:3]
        )
        assert after is None or len(after) == 4


def test_constraints_keep_the_search_where_they_are_met():
    """The best without it is b = 1; it must be below 0.1."""

    def small(metrics):
        return metrics["far"]["away"] - 1 + metrics["near"] + 1  # log10(b) + 1

    free, bound = (
        hw.sweeps.search(
            {"a": (1, 1), "b": (0.001, 10)},
            metrics={"near": "min"},
            batch=8,
            budget=64,
            constraints=constraints,
        )
        for constraints in (None, {"small": small})
    )
    ends = [
        np.array([t.weights["b"] for batch in played(search, 8)[0][5:] for t in batch])
        for search in (free, bound)
    ]
    assert np.median(ends[0]) > 0.3
    assert 0.03 < np.median(ends[1]) < 0.1
    assert bound.text["constraints"]["small"]["source"] is not None
    assert bound.text != free.text


def test_optuna_is_left_as_it_was(capfd):
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        played(plan(), 3)
    assert optuna.logging.get_verbosity() == before
    assert told == []
    assert capfd.readouterr() == ("", "")


def test_the_dashboard_shows_it(tmp_path):
    search = plan(constraints={"c": lambda metrics: metrics["near"] - 1}, seeds=(0, 1))

    def end(trial):
        early = {"finite": False, "stopped": 5}
        ends = {"mgda": {}, "famo": early}[trial.varied["balancer"]]
        broken = {"error": "loss is NaN"} if trial.varied["layers"] == 4 else {}
        return record(trial) | ends | broken | ({"finite": False} if broken else {})

    asked, records = played(search, 4, end)
    path = tmp_path / "optuna.log"
    search.project(path, records[:-1], asked)
    search.project(path, records[:-1], asked)  # again: the same study, once
    assert [file.name for file in tmp_path.iterdir()] == ["optuna.log"]
    journal = optuna.storages.journal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = optuna.storages.JournalStorage(
            journal.JournalFileBackend(
                str(path), journal.JournalFileOpenLock(str(path))
            )
        )
        (name,) = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=name, storage=storage)
        assert study.metric_names == list(BOTH)
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    points = [trial for batch in asked for trial in batch[::2]]
    assert len(study.trials) == len(points) == 16
    for i, (shown, trial) in enumerate(zip(study.trials, points, strict=True)):
        assert shown.params == trial.weights | trial.varied
        state = "RUNNING" if i == 15 else "COMPLETE"
        if i < 15 and trial.varied["layers"] == 4:
            state = "FAIL"
        elif i < 15 and trial.varied["balancer"] == "famo":
            state = "PRUNED"
        assert shown.state.name == state
        if state == "COMPLETE":
            metrics = record(trial)["metrics"]
            away = metrics["far"]["away"] + 0.005  # the mean of both seeds
            assert shown.values == pytest.approx([metrics["near"], away])
            assert shown.constraints == pytest.approx({"c": metrics["near"] - 1})
    assert {trial.state.name for trial in study.trials} >= {"COMPLETE", "RUNNING"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {}, "vary": None}, "space: expected something to search"),
        ({"space": {"a": (0, 1)}}, r"space\['a'\]\[0\]: expected a positive number"),
        ({"space": {"a": 1.0}}, r"space\['a'\]: expected \(lowest, highest\)"),
        ({"space": {"lr": (1, 2)}}, r"vary: expected names that are no heads.*'lr'"),
        ({"vary": {"lr": (0.0, 1.0)}}, r"vary\['lr'\]: expected 0 < lowest <= highest"),
        ({"vary": {"lr": (2.0, 1.0)}}, r"vary\['lr'\]: expected 0 < lowest <= highest"),
        ({"vary": {"lr": (1, 2, "log")}}, r"vary\['lr'\]: expected \(lowest, highest"),
        ({"vary": {"lr": 0.1}}, r"vary\['lr'\]: expected \(lowest, highest\)"),
        ({"vary": {"lr": ("1", "2")}}, r"vary\['lr'\]\[0\]: expected a number"),
        ({"vary": {"lr": []}}, r"vary\['lr'\]: expected one or more distinct levels"),
        ({"vary": {"lr": [1, 1]}}, r"vary\['lr'\]: expected one or more distinct"),
        ({"vary": {"seed": [1]}}, "vary: expected names other than weights, seed"),
        ({"metrics": {}}, "metrics: expected {metric: 'max' or 'min'}, got {}"),
        ({"metrics": {"m": "up"}}, r"metrics\['m'\]: expected one of .*got 'up'"),
        ({"sampler": "cma"}, "sampler: expected one of .*got 'cma'"),
        ({"sampler": "nsga2", "batch": 1}, "batch: expected 2 or more for nsga2"),
        ({"batch": 0}, "batch: expected a positive int"),
        ({"budget": 0}, "budget: expected a positive int"),
        ({"lag": -1}, "lag: expected an int >= 0"),
        ({"seeds": [0, 0]}, "seeds: expected one or more distinct ints"),
        ({"constraints": {"c": 1}}, r"constraints\['c'\]: expected a callable"),
        ({"constraints": [len]}, "constraints: expected {name: function of the met"),
    ],
)  # fmt: skip
def test_what_is_no_search_is_one_line(change, words):
    given = {"space": SPACE, "metrics": BOTH, "vary": VARY} | change
    with pytest.raises((TypeError, ValueError), match=words) as raised:
        hw.sweeps.search(given.pop("space"), **given)
    assert len(str(raised.value).splitlines()) == 1


def test_a_metric_that_no_trial_left_is_named():
    search = plan(metrics={"dice": "max"})
    records = [record(trial) for trial in search.ask([], 0)]
    with pytest.raises(ValueError, match=r"metrics: .*'near'\], got 'dice'"):
        search.ask(records, 1)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"'gp' needs torch.*pip install torch"):
        plan("gp")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"expected Optuna.*headwise\[search\]"):
        plan()
