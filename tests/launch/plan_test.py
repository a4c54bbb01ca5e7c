"""Who runs on what: CPUs and GPUs dealt to workers, without JAX."""

import pytest
from absl import flags

from experiments.harness import command
from experiments.harness.text import UsageError
from launch import local
from launch import plan

FIVE = ["0", "1", "2", "3", "4"]
DEVICES = "--xla_force_host_platform_device_count"


@pytest.mark.parametrize(
    ("asked", "cpus", "gpus", "env", "expected"),
    [
        ((None, None), 4, [], {}, [((), {})]),
        ((2, None), 5, [], {}, [((0, 1), {}), ((2, 3, 4), {})]),
        ((3, None), 2, [], {}, [((), {})] * 3),
        ((None, 2), 2, [], {}, [((), {"XLA_FLAGS": f"{DEVICES}=2"})]),
        (
            (None, 2),
            2,
            [],
            {"XLA_FLAGS": "--x=1"},
            [((), {"XLA_FLAGS": f"--x=1 {DEVICES}=2"})],
        ),
        (
            (None, 2),
            2,
            FIVE,
            {},
            [
                ((0,), {"CUDA_VISIBLE_DEVICES": "0,1"}),
                ((1,), {"CUDA_VISIBLE_DEVICES": "2,3"}),
            ],
        ),
        ((1, None), 2, ["MIG-a"], {}, [((), {"CUDA_VISIBLE_DEVICES": "MIG-a"})]),
    ],
)
def test_places(asked, cpus, gpus, env, expected):
    found = plan.places(*asked, range(cpus), gpus, env)
    assert [tuple(place) for place in found] == expected


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0, None), "--workers: expected 1 or more, got 0"),
        ((None, 0), "--devices: expected 1 or more, got 0"),
        ((6, None), "--workers: expected at most 5, as there are 5 GPUs, 1 a worker"),
        ((2, 3), "--workers: expected at most 1, as there are 5 GPUs, 3 a worker"),
        ((None, 6), "--devices: expected at most 5 GPUs, got 6"),
    ],
)
def test_more_than_there_is(asked, said):
    with pytest.raises(UsageError, match=said):
        plan.places(*asked, [0], FIVE, {})


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "1, GPU-5"}, ["1", "GPU-5"]),
        ({"JAX_PLATFORMS": "cpu"}, []),
        ({"JAX_PLATFORMS": "cuda,cpu"}, ["0", "1"]),
    ],
)
def test_the_gpus_that_the_environment_names(env, expected):
    assert plan.gpus(env, ["0", "1"]) == expected


def test_default_folder_is_named_after_the_file():
    words = ["local", "--experiment=a/mine.py", "--simplex=2"]
    study = plan.read(command.parse(words, local.define, ""))
    assert str(study.folder) == "studies/mine_launched"


def test_a_launcher_has_the_flags_of_a_study_and_its_own():
    values, study = flags.FlagValues(), flags.FlagValues()
    local.define(values)
    plan.define(study)
    own = {"devices", "dry_run", "processes", "workers"}
    assert set(values) - set(study) == own
    assert set(study) == {
        "balancers",
        "design",
        "dtype",
        "experiment",
        "folder",
        "mesh",
        "mode",
        "retry",
        "seeds",
        "set",
        "simplex",
        "size",
        "smoke",
        "steps",
        "stop_on_failure",
        "verify",
        "weights",
    }
    assert "experiment" not in flags.FLAGS
