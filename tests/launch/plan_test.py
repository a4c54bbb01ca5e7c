"""Flags -> trials -> command lines, without JAX and without surprises."""

import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from experiments.harness import command
from experiments.harness import request as requests
from experiments.harness.text import UsageError
from launch import local
from launch import plan

ROOT = pathlib.Path(plan.__file__).parents[1]
DEFAULTS = {"lr": 1e-2, "width": 16, "batch_size": 64, "delta": 0.1}


def planned(*words):
    given = command.parse(
        ["plan", "--experiment=seed_network", *words], plan.define, ""
    )
    study = plan.read(given)
    return study, plan.trials(study, plan.grid(study.grid or {}), DEFAULTS)


def test_seeds_are_innermost_and_weights_cross():
    _, trials = planned("--weights=loss1=1,loss2=0.1:1", "--seeds=0:2")
    assert [(t.weights, t.seed) for t in trials] == [
        ({"loss1": 1.0, "loss2": w}, seed) for w in (0.1, 1.0) for seed in (0, 1)
    ]
    assert {t.balancer for t in trials} == {"constant"}


def test_weights_go_with_constant_alone():
    words = "--balancers=constant,mgda,cagrad:c=0.4"
    _, trials = planned("--weights=loss1=1,loss2=0:1", words, "--set=lr=1e-3:1e-2")
    assert [
        (t.settings, t.balancer, (t.weights or {}).get("loss2")) for t in trials
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


def test_names_are_plain_readable_and_tell_all_digits_apart():
    trial = plan.Trial({"b/../x": 0.25, "a": 1.0}, "constant", 3, {"lr": 1e-3})
    name, _, digest = trial.name.rpartition("_")
    assert name == "a-1_b..x-0.25_lr-0.001_seed-3"
    assert len(digest) == 8
    near = [
        plan.Trial({"a": w}, "constant", 0, {}).name for w in (0.1234561, 0.1234564)
    ]
    assert near[0] != near[1]
    assert near[0].rpartition("_")[0] == near[1].rpartition("_")[0]
    words = "every:k=5,balancer=(cagrad:c=0.4)"
    name = plan.Trial(None, words, 0, {}).name.rpartition("_")[0]
    assert name == "every-k-5-balancer-cagrad-c-0.4_seed-0"
    many = {f"head{i:03}": 0.5 for i in range(100)}
    assert len(plan.Trial(many, "constant", 0, {}).name) < 150


def test_a_default_or_a_level_that_is_given_twice_is_no_other_trial():
    weights = "--weights=loss1=1:1,loss2=1"
    (plain,) = planned("--weights=loss1=1,loss2=1")[1]
    (other,) = planned(weights, "--set=width=16,lr=0.01:1e-2")[1]
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
def test_main_reads_back_what_was_planned(words):
    study, (trial,) = planned(*words)
    request = requests.read(["main", *plan.argv(study, trial)])
    assert (request.weights, request.balancer) == (trial.weights, trial.balancer)
    assert (request.seed, request.smoke) == (trial.seed, study.smoke)
    assert request.dtype == study.dtype
    assert request.settings == DEFAULTS | trial.settings
    assert request.steps == (study.steps or (12 if study.smoke else 300))
    assert request.workdir == study.folder / "trials" / trial.name


def test_flags_from_a_file(tmp_path):
    file = tmp_path / "study.flags"
    file.write_text("# a grid\n--weights=loss1=1,loss2=1\n--seeds=0:3\n")
    assert len(planned(f"--flagfile={file}")[1]) == 3


def test_more_trials_than_anyone_means_are_not_listed():
    levels = ":".join(["1", "2", "3"])
    words = ",".join(f"head{i}={levels}" for i in range(30))
    given = command.parse(
        ["plan", "--experiment=x", f"--weights={words}"], plan.define, ""
    )
    with pytest.raises(UsageError, match=f"at most 100000 trials, got {3**30}$"):
        plan.check_count(plan.read(given), 30)
    words = ["--simplex=1000000", "--set=lr=1:2", "--balancers=constant,mgda"]
    study = plan.read(
        command.parse(["plan", "--experiment=x", *words], plan.define, "")
    )
    with pytest.raises(UsageError, match=f"got {2 * (1000001 + 1)}$"):
        plan.check_count(study, 2)


def test_default_folder_is_named_after_the_file():
    study, _ = planned("--weights=loss1=1,loss2=1", "--experiment=a/mine.py")
    assert study.folder == pathlib.Path("studies/mine_launched")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected one of --weights and --simplex"),
        (["--weights=a=1", "--simplex=2"], "expected one of --weights and --simplex"),
        (["--simplex=0"], "--simplex: expected 1 or more"),
        (["--balancers=mgda", "--simplex=2"], "expected constant in --balancers"),
        (["--balancers=mgda", "--set=rate=1"], "--set: expected some of lr, width"),
        (["--balancers=mgda", "--set=width=8:x"], "a whole number for 'width'"),
        (["--balancers=mgda", "--seeds=a"], "--seeds: expected numbers, got a"),
        (["--balancers=mgda", "--seed=7"], "flag 'seed'. Did you mean: seeds"),
        (["--balancer=mgda"], "flag 'balancer'. Did you mean: balancers"),
        (["--balancers=mgda", "--dtype=half"], "--dtype: expected one of float32"),
        (["--balancers=mgda", "--mesh=data:4"], "--mesh: the trials of a study are"),
        (["--balancers=mgda", "more"], "expected flags only, got 'more'"),
    ],
)
def test_wrong_flags(words, said):
    with pytest.raises(UsageError) as error:
        planned(*words)
    assert said in str(error.value)


def test_a_plan_needs_no_jax_no_experiment_and_no_data():
    code = f"""
import json, sys
from experiments.harness import command
from launch import plan
words = ["plan", "--experiment=seed_network", "--weights=loss1=1,loss2=0.1:1",
         "--balancers=constant,mgda", "--set=lr=1e-3", "--seeds=0:2"]
study = plan.read(command.parse(words, plan.define, ""))
trials = plan.trials(study, plan.grid(study.grid), {DEFAULTS!r})
lines = [plan.argv(study, trial) for trial in trials]
heavy = ("jax", "numpy", "headwise", "flax", "optax", "experiments.tasks")
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
    assert json.loads(done.stdout) == [6, []]


def test_a_launcher_has_its_own_flags_and_no_others():
    values = flags.FlagValues()
    local.define(values)
    assert set(values) == {
        "balancers",
        "dtype",
        "experiment",
        "folder",
        "mesh",
        "processes",
        "retry",
        "seeds",
        "set",
        "simplex",
        "smoke",
        "steps",
        "weights",
    }
    assert "experiment" not in flags.FLAGS
