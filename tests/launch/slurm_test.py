"""Workers as SLURM's jobs: the script by itself, then a cluster that kills them."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

import headwise as hw
from headwise.sweeps._store import _store
from launch import local
from launch import slurm
from launch import slurm_notice
from launch import slurm_progress
from launch import slurm_queue
from launch import slurm_script
from tests.launch import _commands
from tests.launch import _slurm
from tests.launch import _tiny
from tests.launch._commands import here
from tests.launch._slurm import tool

ROOT = pathlib.Path(slurm.__file__).parents[1]
TINY = f"--experiment={_tiny.__file__}"


def begin(
    tmp_path,
    commands,
    *,
    worker,
    scontrol="echo JobState=RUNNING",
    task="3",
    start=0,
    setup=(),
):
    """The script as SLURM runs it, with a worker and an scontrol of some lines."""
    folder = tmp_path / '50%A it\'s "$HOME"'
    (folder / "launches").mkdir(parents=True, exist_ok=True)
    bin_ = tmp_path / "bin"
    python = tool(bin_, "a python", worker)
    (bin_ / "sleep").unlink(missing_ok=True)
    (bin_ / "sleep").symlink_to(shutil.which("sleep"))
    (bin_ / "scontrol").unlink(missing_ok=True)
    if scontrol is not None:
        said = 'echo "$1 $2 $3" >>"$SAID"'
        tool(bin_, "scontrol", f"{said}\n[ $1 = show ] || exit 0\n{scontrol}")
    job = slurm_script.Job(4, None, 60, 3, setup=setup, python=str(python))
    place = slurm_script.Place(folder, tmp_path, "", "TOKEN")
    script = tmp_path / "job.sh"
    script.write_text(slurm_script.script(job, place, ["--workers=4"]))
    env = {"PATH": str(bin_), "SAID": str(tmp_path / "said"), "SLURM_JOB_ID": "7"}
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": task} if task else {}
    env |= array | ({"SLURM_RESTART_COUNT": str(start)} if start else {})
    child = subprocess.Popen(
        [shutil.which("bash"), str(script)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    commands.append(child)
    return child


def asked(tmp_path):
    """What scontrol was asked to do."""
    said = tmp_path / "said"
    lines = said.read_text().splitlines() if said.exists() else []
    return [line.strip() for line in lines if not line.startswith("show")]


@pytest.mark.parametrize(
    ("worker", "scontrol", "task", "code", "requeued"),
    [
        ("exit 0", "echo JobState=RUNNING", "3", 0, []),
        ("exit 1", "echo JobState=RUNNING", "3", 1, []),
        ("exit 2", "echo JobState=RUNNING", "3", 2, []),
        ("exit 75", "echo JobState=RUNNING", "3", 75, ["requeue 5_3"]),
        ("kill -9 $$", "echo JobState=RUNNING", "3", 137, ["requeue 5_3"]),
        ("exit 75", "echo JobState=RUNNING", "", 75, ["requeue 7"]),
        ("exit 75", "echo JobState=CANCELLED", "3", 75, []),  # scancel, in this state
        ("exit 75", None, "3", 75, []),
        ("exit 255", "echo JobState=RUNNING", "3", 255, []),  # srun, ssh: not a kill
    ],
)
def test_what_follows_from_the_end_of_a_worker(
    worker, scontrol, task, code, requeued, tmp_path, commands
):
    """One element by its own id; that of the array, or of no job, is another's."""
    child = begin(tmp_path, commands, worker=worker, scontrol=scontrol, task=task)
    found, out = _commands.end(child)
    assert found == code, out
    assert asked(tmp_path) == requeued
    who = "5_3" if task else "7"
    assert f"slurm {who}, start 1: " in out
    if code == 75 and scontrol is None:
        assert "there is no scontrol here: launch.slurm --top_up goes on" in out
    # Also where it was submitted by hand the launcher finds its job.
    (folder,) = tmp_path.glob("50*")
    assert slurm_queue.jobs(folder) == ["5" if task else "7"]


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_warning_reaches_the_worker(name, tmp_path, commands):
    """As the signal that does no harm when it comes twice; its own end is told."""
    worker = """trap 'echo saves; sleep 0.3; exit 75' USR1
        echo begins; while :; do sleep 0.05; done"""
    child = begin(tmp_path, commands, worker=worker)
    assert child.stdout.readline() == "begins\n"
    child.send_signal(getattr(signal, f"SIG{name}"))
    code, out = _commands.end(child)
    assert (code, asked(tmp_path)) == (75, ["requeue 5_3"])
    assert "saves" in out


def test_a_warning_while_modules_are_loaded_is_not_lost(tmp_path, commands):
    """There is no worker yet, nor will there be one in this start."""
    loaded = tmp_path / "loaded"
    setup = ("echo loads", f"while [ ! -e {loaded} ]; do sleep 0.05; done")
    child = begin(tmp_path, commands, worker="exit 0", setup=setup)
    assert child.stdout.readline() == "loads\n"
    child.send_signal(signal.SIGUSR1)
    loaded.touch()
    code, out = _commands.end(child)
    assert (code, asked(tmp_path)) == (75, ["requeue 5_3"]), out


def test_starts_that_led_to_nothing_are_counted_before_the_next(tmp_path, commands):
    worker = """case "$*" in
        *progress*--job=5_3*--start=3) echo "given up"; exit 75 ;;
        *progress*) exit 1 ;;
        esac; exit 0"""
    for start, code in ((2, 0), (3, 75), (4, 1)):
        child = begin(tmp_path, commands, worker=worker, start=start)
        found, out = _commands.end(child)
        assert found == code, out
        assert ("given up" in out) == (start == 3)
        assert f"slurm 5_3, start {start + 1}: exit code {code}" in out
    assert asked(tmp_path) == []


def test_which_starts_were_of_use(tmp_path):
    """By a real store: a trial is committed, or a later step saved than was there."""
    rows = [{"weights": {"a": 1.0}, "seed": s, "varied": {}} for s in range(2)]

    def start(number, act, job="5"):
        engine = {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": "3"}
        engine |= {"SLURM_RESTART_COUNT": str(number)} if number else {}
        with _store.open(tmp_path, {}, worker=f"w{job}-{number}") as store:
            store.event("start", engine=engine)
            act(store)

    def saves(step):
        def act(store):
            store.compose(0, {"trials": ["k0", "k1"], "rows": rows, "mode": "scan"})
            claim = store.claim(0)
            store.save(claim, step, {"x": 1.0})
            store.wait(claim)

        return act

    record = hw.sweeps.record({"a": 1.0}, 0, {"x": 1.0})
    starts = [saves(4), saves(4), lambda s: s.commit("k0", record), lambda s: None]
    found = []
    for number, act in enumerate(starts):
        start(number, act)
        runs = list(slurm_progress.runs(tmp_path))
        saved = slurm_progress.saved(tmp_path)
        found.append(slurm_progress.fruitless(runs, saved, "5_3", number + 1))
        start(number, saves(100 + number), job="6")  # another one's do not count
    # Later than nothing; the same, or earlier than another's; a trial; nothing.
    assert found == [0, 1, 0, 1]
    assert (
        slurm_progress.fruitless(runs, saved, "5_4", 3) == 3
    )  # of it nothing is known


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sbatch=array=0-9"], "--sbatch: array is the launcher's own"),
        (["--sbatch=partition=a", "--partition=b"], "partition is given twice"),
        (["--sbatch=exclude=n1,n 2"], "expected long options of sbatch"),
        (['--sbatch=exclude="n1'], "No closing quotation"),
        (["--gpus=many"], "--gpus: expected a number as 1, or a100:1; got 'many'"),
        (["--time=1"], "--time: expected more than the 60 s"),
        (["--workers=0"], "--workers: expected 1 or more"),
        (["--folder=/tmp/a\\b"], "SLURM takes no backslash in a log's name"),
        (["--account=a\nb"], "--account: expected one line"),
        ([], "sbatch: there is no such command here"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_leaves_nothing(
    words, said, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("PATH", str(tool(tmp_path / "bin", "other", "").parent))
    if any("\n" in word for word in words):
        tool(tmp_path / "bin", "sbatch", "echo 7")
    folder = tmp_path / "study"
    code, _, err = here(capfd, slurm, TINY, f"--folder={folder}", *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not list(folder.glob("launches/*"))


def test_missing_workers_are_topped_up(tmp_path, capfd, monkeypatch):
    """SLURM knows one of three; it refuses; it cannot be asked."""
    bin_, folder = tmp_path / "bin", tmp_path / "study"
    monkeypatch.setenv("PATH", str(bin_))
    launch = (TINY, f"--folder={folder}", "--workers=3")
    refuse = "echo 'sbatch: error: Bad account' >&2; echo 'sbatch: error: No' >&2"
    tool(bin_, "sbatch", f"{refuse}; exit 1")
    code, _, err = here(capfd, slurm, *launch)
    assert (code, err) == (2, "error: sbatch: Bad account; No\n")
    assert not list((folder / "launches").iterdir())
    tool(bin_, "sbatch", "echo 'from a plugin of the site'; echo '41;cluster'")
    code, out, _ = here(capfd, slurm, *launch, "--at_once=2")
    assert code == 0
    assert "job 41: 3 workers" in out
    (script,) = (folder / "launches").glob("*.sh")
    assert "#SBATCH --array=0-2%2\n" in script.read_text()
    code, _, err = here(capfd, slurm, *launch, "--top_up")
    assert code == 2
    assert "--top_up: squeue does not answer here" in err
    tool(bin_, "squeue", 'echo "$*" >&2; echo 41; echo 77')
    tool(bin_, "sbatch", "echo 42")
    code, out, _ = here(capfd, slurm, *launch, "--top_up")
    assert code == 0
    assert "job 42: 2 workers" in out
    assert slurm_queue.jobs(folder) == ["41", "42"]
    (second,) = {*(folder / "launches").glob("*.sh")} - {script}
    assert "#SBATCH --array=0-1\n" in second.read_text()
    assert "--workers=3" in second.read_text()
    tool(bin_, "squeue", "echo 41; echo 42; echo 42")
    code, out, _ = here(capfd, slurm, *launch, "--top_up")
    assert (code, out) == (0, "3 workers are there: nothing is submitted\n")
    tool(bin_, "squeue", "echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1")
    assert slurm_queue.count(["41"]) == 0
    assert len(list((folder / "launches").glob("*.json"))) == 2


@pytest.fixture(scope="module")
def cluster():
    """Two nodes; commands of this process go there."""
    if why := _slurm.lacks():
        pytest.skip(why)
    with _slurm.cluster() as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(one.conf))
        patch.setenv("PATH", _slurm.PATH)
        yield one


def workers(folder):
    """{(task, start): (pid, worker)} of SLURM's workers of a study."""
    found = {}
    for path in folder.glob("events/*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["kind"] == "start" and event["engine"]:
                task = event["engine"]["SLURM_ARRAY_TASK_ID"]
                start = int(event["engine"].get("SLURM_RESTART_COUNT", 0))
                found[task, start] = event["pid"], path.stem
    return found


def running(folder):
    """The workers that train."""
    one = hw.sweeps.status(folder) if (folder / "study.json").exists() else {}
    return {w["worker"] for w in one.get("workers", ()) if w.get("says")}


def shown(folder):
    """What `launch.status` shows."""
    return hw.sweeps.describe(hw.sweeps.status(folder))


@pytest.fixture(scope="module")
def losing(tmp_path_factory):
    """Another cluster, of which a node is lost: its job's log, and an endless loop.

    SLURM takes half a minute to notice, and to put back what is to go on. This begins
    before the test that works meanwhile.
    """
    if why := _slurm.lacks():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("losing")
    with _slurm.cluster() as one:
        node, log = _slurm.lost_job(one, folder)
        words = f"""case "$*" in
            *launch.slurm_progress*) exec {sys.executable} "$@" ;;
            *--check) echo '{{"host": "n1", "devices": 1, "backend": "cpu"}}'; exit 0 ;;
            esac; echo "nothing gets further"; exit 75"""
        python = f"--python={tool(folder / 'bin', 'python', words)}"
        # That it is lost SLURM notices meanwhile: what goes there waits until then.
        launch = (TINY, f"--folder={folder / 'study'}", f"--sbatch=exclude={node}")
        launch += (python, "--max_fruitless=1", "--check", "--wait")
        env = _commands.ENVIRONMENT | {n: one.env[n] for n in ("PATH", "SLURM_CONF")}
        options = {"module": "launch.slurm", "environment": env}
        with (folder / "err").open("w") as err:
            loop = _commands.begin(*launch, stderr=err, **options)
        with loop:
            yield log, loop, folder
            loop.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("losing")
def test_workers_are_killed_and_every_trial_is_done_once(cluster, tmp_path, capfd):
    """One is warned, one killed, one cancelled; a launcher of another kind joins."""
    folder, alone = tmp_path / "it's 50%A", tmp_path / "alone"
    go_on = tmp_path / "go"
    study = (f"--experiment={_commands.HELD}", f"--set=until={go_on}")
    study += ("--weights=a=1,b=0.5:1:2", "--seeds=0,1", "--mode=scan", "--size=1")
    code, out, err = here(capfd, slurm, *study, f"--folder={folder}", "--workers=3")
    assert code == 0, err
    job = re.search(r"^job (\d+): 3 workers", out, re.MULTILINE)[1]
    assert "each is warned 60 s before its time ends (nothing is measured" in out
    _commands.until(lambda: len(running(folder)) == 3)
    pids = {task: pid for (task, _), (pid, _) in workers(folder).items()}
    assert set(pids) == {"0", "1", "2"}
    cluster.ask("scancel", "--signal=USR1", "--batch", f"{job}_0")
    os.kill(pids["1"], signal.SIGKILL)
    cluster.ask("scancel", f"{job}_2")
    again = [f"SLURM job {job}_{task}, restart 1" for task in (0, 1)]
    _commands.until(lambda: all(one in shown(folder) for one in again))
    go_on.touch()
    code, out, err = here(capfd, local, *study, f"--folder={folder}")
    assert code == 0, err
    _commands.until(lambda: cluster.states(job) == {})
    assert ("2", 1) not in workers(folder)  # its user ended it
    ends = {end.name: end.code for end in slurm_queue.ends(folder, [job])}
    assert ends == {f"{job}_0": 0, f"{job}_1": 0, f"{job}_2": 75}
    _commands.alone(*study, f"--folder={alone}")

    same = ("weights", "seed", "metrics", "digests")

    def found(where):
        return {
            path.stem: {n: json.loads(path.read_text())[n] for n in same}
            for path in where.glob("done/*.json")
        }

    assert len(found(folder)) == 6
    assert found(folder) == found(alone)  # bit for bit
    assert len(hw.sweeps.read(folder)) == 6
    events = "".join(p.read_text() for p in folder.glob("events/*.jsonl"))
    assert events.count('"kind": "done"') == 6
    step, _ = slurm_notice.measured(folder)
    assert 1e-6 < step < 1
    code, out, err = here(capfd, slurm, *study, f"--folder={folder}")
    assert code == 0
    assert "nothing is submitted" in out
    assert len(list(folder.glob("launches/*.sh"))) == 1


@pytest.mark.slow
def test_what_slurm_or_a_probe_refuses_is_one_line(cluster, tmp_path, capfd):
    folder = tmp_path / "study"
    code, _, err = here(capfd, slurm, TINY, f"--folder={folder}", "--partition=nope")
    assert code == 2
    assert "error: sbatch: invalid partition specified: nope; " in err
    assert err.count("\n") == 1
    few = ("--check", "--setup=export JAX_PLATFORMS=cuda")
    code, _, err = here(capfd, slurm, TINY, f"--folder={folder}", *few)
    assert code == 2
    assert re.search(r"^error: --check: job \d+: --devices: JAX finds none on", err)
    assert not list(folder.glob("launches/*"))


@pytest.mark.slow
def test_an_endless_loop_ends_and_a_lost_node_does_not_matter(losing):
    """A worker that always saves and never gets further."""
    of_lost, loop, folder = losing
    code, out = _commands.end(loop)
    assert code == 75
    assert "a worker can work there: n1 has 1 x cpu" in out
    assert "0 of 4 trials are done" in out
    (line,) = (folder / "err").read_text().splitlines()
    assert re.fullmatch(r"worker (\d+)_0: the last start of job \1_0 got .*", line)
    (log,) = folder.glob("study/logs/slurm-*_0.txt")
    assert log.read_text().count("nothing gets further") == 1
    _commands.until(lambda: "start 2: exit code 0" in of_lost.read_text())
