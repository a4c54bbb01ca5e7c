"""Hostile command lines: one line, exit code 2 and nothing on disk, or right."""

import os

import pytest

from experiments import main
from experiments.harness import command
from experiments.harness import request as requests
from experiments.harness.text import UsageError
from headwise.sweeps._cohort import _memory
from launch import local

HUGE = "9" * 5000
WIDE = "--weights=loss1=1,loss2="
# What no command takes, for `experiments.main` and the launchers alike.
BOTH = {
    **{
        f"--steps={x}": "--steps"
        for x in ("0", "-1", "x", "1.5", "1e3", "", "nan", 2**31, 10**30, HUGE, "١.٥")
    },
    **{f"--set={x}": "--set" for x in ("", ",", "lr", "lr=", "=1", "lr==1", "lr=1=2")},
    **{f"--set={x}": "--set" for x in ("lr=nan", "lr=inf", "lr=1e999", "lr=0x1p3")},
    **{
        f"--set={x}": "--set"
        for x in ("width=1.5", "width=a", f"width={HUGE}", "lr=1,")
    },
    **{f"--set={x}": "--set" for x in ("lr=1,lr=1", "seed=1", "lr =1,lr=2", "LR=1")},
    **{
        f"--set={x}": "--set" for x in ("weights=1", "__class__=1", "lr;width=1", "λ=1")
    },
    "--smoke=maybe": "--smoke",
    "--smoke=": "--smoke",
    "--nosmoke=1": "--nosmoke: expected no value",
    "--flagfile=": "expected a file, got none",
    "--flagfile=/no/such": "/no/such",
    "--flagfile=.": "",
    "--flagfile=a\0b": "--flagfile",
    "--undefok=x": "--undefok",
    "--stderrthreshold=nope": "stderrthreshold",
    "--logtostderr": "logtostderr",
    "--v=9": "flag 'v'",
    "--jax_platforms=tpu": "jax_platforms",
    "-": "flags only",
    "---": "",
    "--=1": "",
    "-=": "",
    "train": "flags only, got 'train'",
    "": "flags only, got ''",
    "\n": "flags only",
    "--no": "flag 'no'",
    "--help=maybe": "help",
    "--set=lr=1\udcff": "UTF-8",
    "--\udcff": "UTF-8",
    "--experiment=": "--experiment",
    "--experiment=brian": "(did you mean brain?)",
    "--experiment=seed_network ": "--experiment",
    "--experiment=__init__": "--experiment",
    "--experiment=../seed_network": "no such file",
    "--experiment=/": "no such file",
    "--experiment=/etc/passwd": "FILE.py",
    "--experiment=.py": "no such file",
    "--experiment=a\0b.py": "no such file",
    f"--experiment=/{'x' * 5000}.py": "no such file",
    "--experiment=binary.py": "no Python",
    "--experiment=broken.py": "no Python",
    "--experiment=empty.py": "expected SPEC",
}
MAIN = {
    **{
        f"--seed={x}": "--seed"
        for x in ("-1", 2**31, 2**32, 2**63, HUGE, "1.5", "x", "", "0,1", "nan", "1e3")
    },
    **{
        f"{WIDE}{x}": "--weights"
        for x in ("1e39", "-1", "nan", "inf", "-inf", "1e-46", "1e-40", "1e999", "x")
    },
    **{
        f"{WIDE}{x}": "--weights"
        for x in ("", " ", "0x1", "1,", "0.1:1", "None", "1 1")
    },
    **{
        f"--weights={x}": "--weights"
        for x in ("", "=", ",", "1,2", "loss1", "loss1=1", "loss1=1,loss2", "=1,=2")
    },
    "--weights=loss1=1,loss1=1": "given twice",
    "--weights=loss1=1,loss2=1,loss3=1": "expected the heads",
    "--weights=Loss1=1,loss2=1": "expected the heads",
    "--weights=loss1==1,loss2=1": "a number",
    "--weights={'loss1': 1, 'loss2': 1}": "--weights",
    "--balancer=": "lists; got",
    "--balancer=typo": "lists; got typo",
    "--balancer=mgdaa": "did you mean mgda?",
    "--balancer=run": "lists; got run",
    "--balancer=__doc__": "lists; got",
    "--balancer=os.system": "lists; got",
    "--balancer=cagrad:c=-1": "c: expected a number >= 0, got -1",
    "--balancer=cagrad:c=nan": "c: expected",
    "--balancer=cagrad:c=inf": "c: expected",
    "--balancer=cagrad:c=": "expected NUMBER",
    "--balancer=cagrad:c=1,c=1": "given twice",
    "--balancer=cagrad:k=1": "expected some of c, rescale; got k",
    "--balancer=cagrad:rescale=cube": "rescale: expected one of",
    "--balancer=cagrad::c=1": "got :c",
    "--balancer=mgda:normalization=Loss": "normalization: expected one of",
    "--balancer=dwa:temperature=0": "temperature: expected",
    "--balancer=dwa:window=0": "window: expected",
    "--balancer=gradvac:beta=1.5": "beta: expected",
    "--balancer=graddrop:leak=2": "leak: expected",
    "--balancer=every:k=0,balancer=mgda": "k: expected",
    "--balancer=every:k=-1,balancer=(mgda)": "k: expected",
    "--balancer=every:k=2": "expected balancer=(BALANCER) as well",
    "--balancer=every:k=2,balancer=(every)": "as well",
    "--balancer=every:k=2,balancer=((mgda)": "as many (",
    "--balancer=krum:faulty=-1": "faulty: expected",
    "--balancer=pcd:primary=loss9": "loss9",
    "--balancer=epo:preferences=loss1:0;loss2:1": "expected a positive number",
    "--balancer=epo:preferences=loss1:1;loss1:1": "given twice",
    "--balancer=stch:smoothness=0": "smoothness: expected",
    "--balancer=trimmed_mean:trim=-1": "trim: expected",
    "--balancer=warm_up:balancer=mgda,steps=-1": "steps: expected",
    "--balancer=uncertainty:initial=99": "initial: expected",
    "--balancers=mgda": "Did you mean: balancer",
    "--seeds=0:2": "Did you mean: seed",
    "--folder=x": "flag 'folder'",
    "--processes=2": "flag 'processes'",
    "--retry": "--retry goes with --sweep",
    "--sweep=maybe": "--sweep",
    **{f"--workdir={x}": "--workdir" for x in ("", " ", "gs://b/x", "~no-such-user/x")},
    "--workdir=a\0b": "--workdir",
}
GRID = "--weights=loss1=1,loss2=1"
LAUNCH = {
    **{
        f"--seeds={x}": "--seeds"
        for x in (
            "",
            "-1",
            "a",
            "1.5",
            "3:3",
            "3:0",
            "0:",
            ":3",
            "0:1:2",
            "0,0",
            "0,,1",
        )
    },
    **{
        f"--seeds={x}": "--seeds" for x in (2**31, 2**63, "0:2000000000", HUGE, "0:2,1")
    },
    **{f"--processes={x}": "--" for x in ("0", "-1", "x", "1.5", "", HUGE)},
    **{
        f"--balancers={x}": "--balancer" for x in ("", ",", "mgda,mgda", "c=1", "mgda,")
    },
    "--balancers=mgda": "expected constant in --balancers",
    "--balancers=constant,typo": "lists; got typo",
    "--balancers=constant,cagrad:c=-1": "c: expected",
    "--simplex=3": "got --weights and --simplex",
    "--design=x": "got --weights and --design",
    "--mode=fast": "--mode: expected one of",
    "--size=0": "--size: expected 1 or more",
    "--workers=0": "--workers: expected 1 or more",
    "--devices=-1": "--devices: expected 1 or more",
    "--mesh=data:2": "--mesh: the workers of a study are",
    "--set=lr=1:": "a number",
    "--set=lr=1::2": "a number",
    "--balancer=mgda": "Did you mean: balancers",
    "--seed=7": "Did you mean: seeds",
    "--workdir=x": "flag 'workdir'",
    "--sweep": "flag 'sweep'",
    **{
        f"--folder={x}": "--folder" for x in ("", "gs://b/x", "~no-such-user/x", "a\0b")
    },
}
GRIDS = {
    **{
        f"{WIDE}{x}": "--weights"
        for x in ("1e39", "1:nan", "-1", "1e-46", "1:", ":", "")
    },
    "--weights=": "--weights",
    "--weights=loss1=1": "expected the heads",
    "--weights=loss1=1,loss2=1,loss2=2": "given twice",
    "--weights=" + ",".join(f"h{i}=1:2:3" for i in range(40)): "at most 100000 trials",
    **{f"--simplex={x}": "--simplex" for x in ("0", "-1", "x", "1.5", "", HUGE)},
    "--simplex=1000000": "at most 100000 trials",
}
LINES = [
    *(("main", [], *line) for line in (BOTH | MAIN).items()),
    *(("local", [GRID], *line) for line in (BOTH | LAUNCH).items()),
    *(("local", [], *line) for line in GRIDS.items()),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in, but for three files that are no experiments."""
    (tmp_path / "binary.py").write_bytes(b"\0\xff\xfe")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    """What lies there, but the byte code of experiments."""
    return sorted({*os.listdir(folder)} - {"__pycache__"})


@pytest.mark.parametrize(
    ("name", "before", "word", "said"), LINES, ids=range(len(LINES))
)
def test_refused_in_one_line_or_right(name, before, word, said, here, capsys):
    experiment = [] if "--experiment" in str(word) else ["--experiment=seed_network"]
    argv = [name, *experiment, *before, word]
    there = files(here)
    code = command.guarded({"main": main, "local": local}[name].main, argv)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert len(err) < 1500 or len(word) > 1000
    assert files(here) == there


# What is known when the model is built, or its program compiled: also before a folder.
BUILT = {
    "--set=width=-1": "--set: ",
    "--set=width=16:-1": "--set: ",
    "--set=batch_size=0": "--set: batch: expected examples, got arrays of shape (0, 4)",
    "--set=batch_size=-1": "--set: batch: expected examples, got arrays of shape (-1,",
    "--balancers=constant,modo": "--balancer=modo: batches: expected",
    "--size=2": "--size: one trial (",
    "--mode=scan --size=1": "give a smaller model or batch",
    "--mesh=data:3": "--mesh: ",
}


@pytest.mark.parametrize("word", BUILT)
@pytest.mark.parametrize("name", ["main", "local"])
def test_refused_when_it_is_built_and_nothing_is_written(
    name, word, here, capsys, monkeypatch
):
    monkeypatch.setattr(_memory, "free", lambda device=None: 100)  # bytes
    sweep = ["--sweep"] if name == "main" else []
    words = ["--experiment=seed_network", "--smoke", "--folder=study", GRID]
    argv = [name, *sweep, *words, *word.split()]
    there = files(here)
    code = command.guarded({"main": main, "local": local}[name].main, argv)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BUILT[word] in err
    assert files(here) == there


RIGHT = {
    "--weights=loss2=1e-3,loss1=+2": ("weights", {"loss1": 2.0, "loss2": 1e-3}),
    "--weights= loss1 = 1 , loss2 = 0 ": ("weights", {"loss1": 1.0, "loss2": 0.0}),
    "--weights=loss1=-0,loss2=1e-37": ("weights", {"loss1": 0.0, "loss2": 1e-37}),
    "--seed=2147483647": ("seed", 2**31 - 1),
    "--steps=2147483647": ("steps", 2**31 - 1),
    "--set=lr=1": ("settings", {"lr": 1.0}),
    "--set=lr=1e-30,width=1": ("settings", {"lr": 1e-30, "width": 1}),
    "--balancer= mgda ": ("balancer", " mgda "),
    "--nosmoke": ("smoke", False),
    "--": ("seed", 0),
}


@pytest.mark.parametrize("word", RIGHT)
def test_unusual_but_right(word, here):
    field, expected = RIGHT[word]
    request = requests.read(["main", "--experiment=seed_network", word])
    found = getattr(request, field)
    if field == "settings":
        found = {name: found[name] for name in expected}
    assert found == expected
    assert not (here / "runs").exists()


def test_the_last_of_two_flags_counts_as_everywhere(here):
    words = ["--experiment=brain", "--experiment=seed_network", "--seed=1", "--seed=2"]
    assert requests.read(["main", *words]).seed == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe--seed=1", "expected a text in UTF-8"),
        ("--seed=é".encode("latin-1"), "expected a text in UTF-8"),
        (b"--flagfile=flags", "circular"),
        (b"--seed=\n", "seed"),
        (b"--flagfile=missing", "missing"),
        (b"seed=1\n", "flags only"),
    ],
)
def test_flagfiles_that_are_none(content, said, here):
    (here / "flags").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        requests.read(["main", "--experiment=seed_network", "--flagfile=flags"])
