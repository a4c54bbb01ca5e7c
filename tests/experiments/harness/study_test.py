"""Flags -> a study -> its trials: without JAX up to there, and without surprises."""

import json
import pathlib
import subprocess
import sys

import pytest

import headwise as hw
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import request as requests
from experiments.harness import study as studies
from experiments.harness.text import UsageError

ROOT = pathlib.Path(studies.__file__).parents[2]
DEFAULTS = {"lr": 1e-2, "width": 16, "batch_size": 64, "delta": 0.1}
ONE = "--weights=loss1=1,loss2=1"


def study(*words):
    argv = ["study", "--experiment=seed_network", *words]
    return studies.read(command.parse(argv, studies.define, ""))


def planned(*words):
    return plans.make(study(*words)).trials


def changed(trial):
    """The settings that differ from the defaults."""
    return {n: x for n, x in trial.varied.items() if DEFAULTS.get(n, x) != x}


def test_seeds_are_innermost_and_weights_cross():
    trials = planned("--weights=loss1=1,loss2=0.1:1", "--seeds=0:2")
    assert [(t.weights, t.seed) for t in trials] == [
        ({"loss1": 1.0, "loss2": w}, seed) for w in (0.1, 1.0) for seed in (0, 1)
    ]
    assert {t.varied["balancer"] for t in trials} == {"constant"}


def test_weights_go_with_constant_alone():
    words = "--balancers=constant,mgda,cagrad:c=0.4"
    trials = planned("--weights=loss1=1,loss2=0:1", words, "--set=lr=1e-3:1e-2")
    assert [
        (changed(t), t.varied["balancer"], t.weights.get("loss2")) for t in trials
    ] == [
        (settings, balancer, weight)
        for settings in ({"lr": 1e-3}, {})
        for balancer, weight in (
            ("constant", 0.0),
            ("constant", 1.0),
            ("mgda", None),
            ("cagrad:c=0.4", None),
        )
    ]


def test_a_default_or_a_level_that_is_given_twice_is_no_other_trial():
    weights = "--weights=loss1=1:1,loss2=1"
    (plain,) = planned(ONE)
    (other,) = planned(weights, "--set=width=16,lr=0.01:1e-2")
    assert plain == other


@pytest.mark.parametrize(
    "words",
    [
        (
            "--weights=loss1=0.12345678901234,loss2=1e-9",
            "--set=lr=1e-3,width=8",
            "--seeds=4",
        ),
        ("--balancers=every:k=5,balancer=(cagrad:c=0.4,rescale=square)", "--steps=7"),
        ("--balancers=epo:preferences=loss1:1;loss2:2", "--smoke", "--dtype=float16"),
    ],
)
def test_what_is_written_down_reads_back_as_the_same_trials(words):
    first = study(*words)
    argv = ["study", *studies.words(first)]
    again = studies.read(command.parse(argv, studies.define, ""))
    assert again == first
    assert plans.make(again).trials == plans.make(first).trials


def test_a_trial_is_the_run_that_a_single_command_asks_for():
    """The record of one is the record of the other."""
    plan = plans.make(study(ONE, "--set=lr=1e-3,width=8", "--seeds=4", "--smoke"))
    (trial,) = plan.trials
    words = ["--experiment=seed_network", ONE, "--set=lr=1e-3,width=8", "--smoke"]
    request = requests.read(["main", *words, "--seed=4"])
    found = plan.request(trial)._replace(workdir=request.workdir)
    assert found == request
    assert plan.recorded() | trial.varied == request.recorded()
    record = hw.sweeps.record(request.weights, 4, {}, settings=request.recorded())
    assert outcome.undone(plan, []) == [trial]
    assert outcome.undone(plan, [record]) == []


@pytest.mark.parametrize("words", [[], ["--seeds=0:3"], ["--balancers=constant"]])
def test_without_weights_they_are_those_of_the_experiment(words):
    trials = planned(*words)
    own = hw.sweeps.rows(hw.sweeps.simplex(["loss1", "loss2"], 4))
    assert [t.weights for t in trials[::3]] == own
    assert [t.seed for t in trials[:3]] == [0, 1, 2]


TABLES = {
    "weights, and what varies": (
        "loss1,loss2,lr,width\n1,0.5,1,8\n0,1,3e-3,8\n",
        ["--seeds=7"],
        [
            ({"loss1": 1.0, "loss2": 0.5}, 7, "constant", {"lr": 1.0, "width": 8}),
            ({"loss1": 0.0, "loss2": 1.0}, 7, "constant", {"lr": 3e-3, "width": 8}),
        ],
    ),
    "balancers": (
        '{"balancer": "mgda", "seed": 1}\n{"balancer": "cagrad:c=0.4", "seed": 2}\n',
        ["--set=lr=1e-3"],
        [
            ({}, 1, "mgda", {"lr": 1e-3}),
            ({}, 2, "cagrad:c=0.4", {"lr": 1e-3}),
        ],
    ),
    "rates for balancers of the flags": (
        "lr\n0.1\n0.2\n",
        ["--balancers=mgda"],
        [({}, 0, "mgda", {"lr": 0.1}), ({}, 0, "mgda", {"lr": 0.2})],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_lists_trials(case, tmp_path):
    text, words, expected = TABLES[case]
    (tmp_path / "design").write_text(text)
    trials = planned(f"--design={tmp_path / 'design'}", *words)
    found = [(t.weights, t.seed, t.varied["balancer"], changed(t)) for t in trials]
    assert found == expected
    assert all(isinstance(t.varied["lr"], float) for t in trials)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("loss1,loss2\n", [], "expected one or more trials, got none"),
        ("loss1,loss2\n1,-1\n", [], "design:2: column 'loss2': expected 0, or a"),
        (
            "loss1,loss2\n1,nan\n",
            [],
            "column 'loss2': expected a finite number, got nan",
        ),
        ("loss1,loss2\n1,1\n1,1.0\n", [], "design:3: the same trial as line 2"),
        ("loss1\n1\n", [], "missing ['loss2']"),
        ("loss1,loss2,rate\n1,1,2\n", [], "expected some of balancer, batch_size"),
        ("loss1,loss2,width\n1,1,2.5\n", [], "a whole number for 'width', got '2.5'"),
        ("lr\n1\n", [], "a column 'balancer', or --balancers"),
        ("balancer\nmgad\n", [], "did you mean mgda?"),
        ("loss1,loss2,lr\n1,1,2\n", ["--set=lr=1"], "has a column 'lr'"),
        ("loss1,loss2,seed\n1,1,2\n", ["--seeds=1"], "has a column 'seed'"),
        ("loss1,loss2\n1,1\n", ["--simplex=2"], "got --simplex and --design"),
    ],
)
def test_tables_that_are_none(text, words, said, tmp_path):
    (tmp_path / "design").write_text(text)
    with pytest.raises(UsageError) as error:
        planned(f"--design={tmp_path / 'design'}", *words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_flags_from_a_file(tmp_path):
    file = tmp_path / "study.flags"
    file.write_text("# a grid\n--weights=loss1=1,loss2=1\n--seeds=0:3\n")
    assert len(planned(f"--flagfile={file}")) == 3


def test_more_trials_than_anyone_means_are_not_listed():
    words = ",".join(f"head{i}=1:2:3" for i in range(30))
    with pytest.raises(UsageError, match=f"at most 100000 trials, got {3**30}$"):
        studies.check_count(study(f"--weights={words}"), 30)
    words = ["--simplex=1000000", "--set=lr=1:2", "--balancers=constant,mgda"]
    with pytest.raises(UsageError, match=f"got {2 * (1000001 + 1)}$"):
        studies.check_count(study(*words), 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights=a=1", "--simplex=2"], "got --weights and --simplex"),
        (["--simplex=0"], "--simplex: expected 1 or more"),
        (["--balancers=mgda", "--simplex=2"], "expected constant in --balancers"),
        (["--balancers=mgda", "--set=rate=1"], "--set: expected some of lr, width"),
        (["--balancers=mgda", "--set=width=8:x"], "a whole number for 'width'"),
        (["--balancers=mgda", "--seeds=a"], "--seeds: expected numbers, got a"),
        (["--balancers=mgda", "--seed=7"], "flag 'seed'. Did you mean: seeds"),
        (["--balancer=mgda"], "flag 'balancer'. Did you mean: balancers"),
        (["--balancers=mgda", "--dtype=half"], "--dtype: expected one of float32"),
        (["--design=/no/such.csv"], "--design: no such file: /no/such.csv"),
        (["--simplex=2", "--mode=fast"], "--mode: expected one of auto, vmap, scan"),
        (["--simplex=2", "--size=0"], "--size: expected 1 or more"),
        (["--balancers=mgda", "more"], "expected flags only, got 'more'"),
    ],
)
def test_wrong_flags(words, said):
    with pytest.raises(UsageError) as error:
        planned(*words)
    assert said in str(error.value)


def test_a_study_needs_no_jax_no_experiment_and_no_data():
    code = """
import json, sys
from experiments.harness import command
from experiments.harness import study as studies
from launch import plan
words = ["x", "--experiment=seed_network", "--weights=loss1=1,loss2=0.1:1",
         "--balancers=constant,mgda", "--set=lr=1e-3", "--seeds=0:2"]
study = plan.read(command.parse(words, plan.define, ""))
heavy = ("jax", "numpy", "headwise", "flax", "optax", "experiments.tasks")
lines = plan.places(2, 1, [], [], {})
print(json.dumps([len(lines), [name for name in heavy if name in sys.modules]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [2, []]
