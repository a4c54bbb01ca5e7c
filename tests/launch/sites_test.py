"""What a site says of a process: variables as its documentation has them."""

import pytest

from experiments.harness.text import UsageError
from launch import sites
from launch.sites import Site

# srun --nodes=3 --ntasks=5, the task 3, on the second node.
STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_STEP_NODELIST": "n[1-3]",
    "SLURM_NTASKS": "5",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
ALONE = STEP | {"SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "1"}
ALONE |= {"SLURM_STEP_TASKS_PER_NODE": "1(x3)", "SLURM_LOCALID": "0"}
MPI = {f"OMPI_COMM_WORLD_{name}": n for name, n in [("SIZE", "4"), ("RANK", "3")]}
TPU = {"TPU_WORKER_HOSTNAMES": "a,b,c,d", "TPU_WORKER_ID": "2"}
SLICES = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}
BATCH = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        (BATCH, None),  # a bare python in sbatch
        (STEP, Site("SLURM", 5, 3, local=1, on_host=2)),
        (STEP | {"SLURM_NODEID": "2"}, Site("SLURM", 5, 3, local=1, on_host=1)),
        (ALONE, Site("SLURM", 3, 1)),
        (STEP | MPI, Site("Open MPI", 4, 3)),
        (TPU, Site("TPU", 4, 2)),
        (TPU | SLICES, Site("TPU", 8, 6)),
        (TPU | {"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, Site("TPU", 2, 2)),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "4"},
            Site("Kubernetes", None, 4),
        ),
    ],
)
def test_look(env, expected):
    assert sites.look(env) == expected


@pytest.mark.parametrize(
    ("env", "gpus", "expected"),
    [
        (ALONE, "0123", [0, 1, 2, 3]),  # JAX alone would take the first
        (STEP, "0123", [2, 3]),
        (STEP, "01", [1]),
        (STEP, "3", [0]),  # sees its own GPU only, whatever its number is
        (STEP | {"SLURM_GPUS_PER_TASK": "2"}, "23", [0, 1]),
        (STEP | {"JAX_LOCAL_DEVICE_IDS": "1"}, "0123", None),
        (STEP, "", None),
        ({}, "01", [0, 1]),
    ],
)
def test_devices_of_a_process(env, gpus, expected):
    assert sites.device_ids(list(gpus), sites.look(env), env) == expected


def nothing(name):
    return False


@pytest.mark.parametrize(
    ("env", "installed", "said"),
    [
        ({}, nothing, "--mesh: expected processes that SLURM, Open MPI"),
        (BATCH, nothing, "job 77 of SLURM has 2 nodes and 2 tasks, but this process"),
        (
            STEP | {"SLURM_NTASKS": "6"},
            nothing,
            "SLURM_NTASKS says 6 processes and SLURM_STEP_NUM_TASKS says 5",
        ),
        ({**STEP, "SLURM_PROCID": "x"}, nothing, "SLURM_PROCID: expected a number"),
        (MPI, nothing, "Open MPI 5 does not tell JAX where its coordinator is"),
        ({"KUBERNETES_SERVICE_HOST": "a"}, nothing, "the package kubernetes, which is"),
        ({}, "libtpu", None),
        (STEP, nothing, None),
        (TPU, "libtpu", None),
        (MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}, nothing, None),
        ({"KUBERNETES_SERVICE_HOST": "a"}, "kubernetes", None),
    ],
)
def test_what_would_lead_jax_astray(env, installed, said):
    def is_installed(name):
        return name == installed

    def run():
        sites.check(env, sites.look(env), (0, 10), is_installed)

    if said is None:
        run()
        return
    with pytest.raises(UsageError, match=said):
        run()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, None),
        (STEP, None),
        (BATCH, "start it by srun"),
        (TPU, "the hosts of a TPU slice wait for each other"),
        (TPU | {"TPU_PROCESS_BOUNDS": "1,1,1"}, None),
        (TPU | SLICES | {"TPU_WORKER_HOSTNAMES": "a"}, None),
    ],
)
def test_workers_that_would_wait_for_each_other(env, said):
    if said is None:
        sites.apart(env, sites.look(env))
        return
    with pytest.raises(UsageError, match=said):
        sites.apart(env, sites.look(env))
