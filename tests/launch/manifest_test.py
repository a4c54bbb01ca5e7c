"""Manifests: valid by the published schema, and exit codes that do what they say."""

import json
import pathlib
import shlex

import jsonschema
import pytest
import yaml

from experiments.harness import command
from launch import jobset
from launch import manifest

SCHEMA = pathlib.Path(__file__).parent / "jobset_v0.12.0.json"
COMMON = ["--image=hw:1", "--claim=studies", "--kind=jobset"]
STUDY = ["--experiment=digits", "--weights=left=1,right=0.1:1", "--workers=4"]
STUDY += ["--folder=/studies/a/digits"]
TRAINING = ["--experiment=seed_network", "--balancer=mgda", "--workdir=/studies/run"]
SLICE = ["--tpu=tpu-v5-lite-podslice", "--topology=4x4"]


def strict(schema):
    """As `kubectl apply` has it (`--validate=strict`): unknown fields are errors."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = "properties" in schema and "additionalProperties" not in schema
    found = {name: strict(part) for name, part in schema.items()}
    return found | ({"additionalProperties": False} if closed else {})


@pytest.fixture(scope="module")
def validator():
    schema = strict(json.loads(SCHEMA.read_text()))
    schema["properties"]["metadata"] = {"type": "object"}  # the API server's own
    return jsonschema.Draft202012Validator(schema)


def run(capsys, *words):
    """(code, what was printed, what was said)."""
    code = command.guarded(manifest.main, ["manifest", *words])
    return code, *capsys.readouterr()


def made(capsys, *words):
    code, out, err = run(capsys, *COMMON, *words)
    assert (code, err) == (0, "")
    return yaml.safe_load(out)


def pod_of(one):
    (replicated,) = one["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]["template"]["spec"]


CASES = {
    "study on CPUs": [*STUDY, "--cpus=8", "--memory=32Gi", "--env=A=1,B=x y"],
    "study on GPUs": [*STUDY, "--gpus=1", "--queue=mine", "--select=gpu=l4"],
    "study on TPUs": [*STUDY, "--tpu=tpu-v5-lite-podslice", "--topology=2x2"],
    "training on GPUs": [*TRAINING, "--mesh=data:8", "--hosts=2", "--gpus=4"],
    "training on TPUs": [*TRAINING, "--mesh=data:32", *SLICE, "--slices=2"],
    "training on CPUs": [*TRAINING, "--mesh=data:2", "--hosts=2", "--directory=/hw"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_schema_of_jobset_takes_it(case, validator, capsys):
    one = made(capsys, *CASES[case])
    assert [error.message for error in validator.iter_errors(one)] == []
    (job,) = one["spec"]["replicatedJobs"]
    (container,) = pod_of(one)["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {"/studies": "shared", "/dev/shm": "shm"}
    assert container["command"][:3] == ["python", "-m", "launch.multihost"]
    assert pod_of(one)["restartPolicy"] == "Never"  # a podFailurePolicy wants it
    longest = f"{one['metadata']['name']}-{job['name']}-0-9999-abcde"
    assert len(longest) <= 63


def test_the_schema_sees_what_is_wrong(validator, capsys):
    one = made(capsys, *CASES["study on GPUs"])
    job = one["spec"]["replicatedJobs"][0]
    job["podFailurePolicy"] = job["template"]["spec"].pop("podFailurePolicy")
    job["template"]["spec"]["completions"] = "four"
    said = [error.message for error in validator.iter_errors(one)]
    assert any("podFailurePolicy" in text for text in said)
    assert any("four" in text for text in said)


# What Kubernetes does: the first rule that fits a failed pod; none counts as a restart.
def decided(one, code, disrupted=False):
    rules = one["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]
    for rule in rules["rules"]:
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes and codes["operator"] == "In" and code in codes["values"]:
            return rule["action"]
        if conditions and disrupted:
            return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # code: 1        2          75       137 (killed), 75 of a node that is drained
        ("study on GPUs", ["FailIndex", "FailJob", "Count", "Count", "Ignore"]),
        ("training on GPUs", ["FailJob", "FailJob", "Count", "Count", "Count"]),
    ],
)
def test_exit_codes(case, expected, capsys):
    one = made(capsys, *CASES[case])
    found = [decided(one, code) for code in (1, 2, 75, 137)]
    assert [*found, decided(one, 75, disrupted=True)] == expected
    job = one["spec"]["replicatedJobs"][0]["template"]["spec"]
    failure = one["spec"]["failurePolicy"]
    if case.startswith("study"):
        assert job["backoffLimitPerIndex"] == 10  # pods begin again one by one
        assert failure == {"maxRestarts": 0}
        stops = made(capsys, *CASES[case], "--stop_on_failure")
        assert decided(stops, 1) == "FailJob"
    else:
        assert job["backoffLimit"] == 0  # one that counts fails the Job, all begin anew
        assert (failure["maxRestarts"], failure["rules"][0]["action"]) == (
            10,
            "FailJobSet",
        )
        assert failure["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_pods_find_each_other_without_asking_the_cluster(capsys):
    gpus = made(capsys, *CASES["training on GPUs"])
    (container,) = pod_of(gpus)["containers"]
    assert container["command"][-3:] == [
        "--coordinator=seed-network-process-0-0.seed-network:55527",
        "--processes=2",
        "--process=$(PROCESS)",
    ]
    (which,) = [one for one in container["env"] if one["name"] == "PROCESS"]
    path = which["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert {"name": "JAX_PLATFORMS", "value": "cuda"} in container["env"]
    tpus = made(capsys, *CASES["training on TPUs"])
    assert not [w for w in pod_of(tpus)["containers"][0]["command"] if "--coord" in w]
    job = tpus["spec"]["replicatedJobs"][0]
    assert (job["replicas"], job["template"]["spec"]["parallelism"]) == (2, 4)
    assert pod_of(tpus)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert "exclusive-topology" in next(iter(tpus["metadata"]["annotations"]))


def test_time_to_save(capsys):
    one = made(capsys, *STUDY, "--chunk_seconds=60", "--checkpoint_seconds=90")
    assert pod_of(one)["terminationGracePeriodSeconds"] == 60 + 90 + 30


@pytest.mark.parametrize(
    ("case", "device", "expected"),
    [
        ("study on TPUs", "v5litepod-4", ["--tpu-type=v5litepod-4", "--num-slices=4"]),
        (
            "training on GPUs",
            "h100-80gb-8",
            [
                "--device-type=h100-80gb-8",
                "--num-nodes=2",
                "--process=$NODE_RANK",
                "--coordinator=$JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT",
            ],
        ),
    ],
)
def test_xpk(case, device, expected, capsys, tmp_path):
    output = tmp_path / "create.sh"
    words = [*CASES[case], f"--device={device}", "--cluster=c", f"--output={output}"]
    code, out, err = run(capsys, *COMMON, *words, "--kind=xpk")
    assert (code, out, err) == (0, "", "")
    words = shlex.split(output.read_text())
    assert words[:3] == ["xpk", "workload", "create"]
    (inner,) = [w.partition("=")[2] for w in words if w.startswith("--command=")]
    assert '"' not in inner  # xpk puts it between such
    assert {"--restart-on-exit-codes=75", "--max-restarts=10"} <= {*words}
    assert {*expected} <= {*words, *inner.split()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*STUDY, "--kind=helm"], "--kind: expected one of jobset, xpk; got helm"),
        ([*STUDY, "--image="], "--image: expected of the container"),
        ([*STUDY, "--folder=studies/a"], "--folder: expected a path in the pods"),
        ([*STUDY, "--mount=/data"], "--folder: expected a folder in --mount=/data"),
        ([*STUDY, "--folder=/a"], "--folder: expected a folder in --mount=/a, got /a"),
        ([*STUDY, "--name=My_Study"], "--name: expected at most 40 small letters"),
        ([*STUDY, *SLICE], "--topology: a worker of a study has one host; 4x4"),
        ([*STUDY, "--tpu=v4"], "expected --tpu and --topology together"),
        ([*STUDY, "--gpus=1", *SLICE[:1], "--topology=2x2"], "one of --gpus and --tpu"),
        ([*STUDY, "--gpus=0"], "--gpus: expected 1 or more, got 0"),
        ([*STUDY, "--cpus=many"], "--cpus: expected an amount as Kubernetes writes"),
        ([*STUDY, "--hosts=2"], "--hosts: goes with --mesh"),
        ([*STUDY, "--cluster=c"], "--cluster: goes with --kind=xpk"),
        ([*STUDY, "--weights=left=1"], "--weights: expected the heads left, right"),
        ([*TRAINING, "--mesh=data:2"], "--hosts: expected how many hosts train"),
        ([*TRAINING, "--mesh=data:2", "--hosts=4"], "--mesh: expected all devices, 4"),
        ([*TRAINING, "--mesh=data:9", *SLICE], "--mesh: expected all devices, 4 hosts"),
        ([*TRAINING, "--mesh=data:2", "--seeds=0:2", "--hosts=2"], "Unknown command"),
    ],
)
def test_wrong_flags_are_one_line(words, said, capsys):
    code, out, err = run(capsys, *COMMON, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_table_is_not_seen_by_pods(tmp_path, capsys):
    table = tmp_path / "design.csv"
    table.write_text("left,right\n1,0.5\n")
    words = [word for word in STUDY if not word.startswith("--weights")]
    code, _, err = run(capsys, *COMMON, *words, f"--design={table}")
    assert (code, err.startswith("error: --design: the pods do not see")) == (2, True)


def test_the_pure_part_needs_no_flags():
    pods = jobset.Pods("a", "i", ["c"], 2, False, "v", "/v", {})
    spec = jobset.jobset(pods)["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert "nodeSelector" not in spec["template"]["spec"]
