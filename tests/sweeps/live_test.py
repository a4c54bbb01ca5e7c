"""What is shown of a study: rows and lines of snapshots, on a terminal and without."""

import io
import time

import pytest
import rich.console

import headwise as hw
from headwise.sweeps._work import _live
from headwise.sweeps._work import _watch

WHOLE = _live.Snapshot(
    trials=32,
    done=12,
    running=16,
    frozen=1,
    rate=1234.5,
    left=700.0,
    best="dice 0.8 to 0.91",
    memory=1.2e8,
    doing="cohort 3: 16 trials by vmap, step 120 of 300",
)


def test_rows_say_what_is_known():
    assert _live.rows(WHOLE) == [
        ("trials", "12 of 32 done"),
        ("running", "16"),
        ("frozen", "1"),
        ("speed", "1230 steps/s"),
        ("time left", "12 min"),
        ("best so far", "dice 0.8 to 0.91"),
        ("memory", "120 MB"),
        ("now", "cohort 3: 16 trials by vmap, step 120 of 300"),
    ]
    bare = _live.Snapshot(trials=2, done=0)
    assert _live.rows(bare) == [("trials", "0 of 2 done"), ("running", "0")]


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (
            WHOLE,
            "12/32 trials, 16 running, 1 frozen, 1230 steps/s, 12 min left, best dice "
            "0.8 to 0.91, 120 MB, cohort 3: 16 trials by vmap, step 120 of 300",
        ),
        (_live.Snapshot(2, 2), "2/2 trials"),
        (_live.Snapshot(2, 0, rate=0.0, left=float("inf")), "0/2 trials"),
        (_live.Snapshot(2, 0, left=-3.0), "0/2 trials, under 1 s left"),
        (_live.Snapshot(2, 0, doing="a\x1b[2J"), "0/2 trials, a\\x1b[2J"),
    ],
)
def test_a_line_says_the_same(snapshot, expected):
    assert _live.line(snapshot) == expected


def test_best_is_the_span_of_the_first_metric():
    ends = [{"m": 0.5, "n": 1.0}, {"m": 0.25, "n": 7.0}, {"m": float("nan"), "n": 0.0}]
    records = [hw.sweeps.record({}, seed, end) for seed, end in enumerate(ends)]
    assert _live.best(records) == "m 0.25 to 0.5"
    assert _live.best(records[:1]) == "m 0.5"
    assert _live.best(records[2:]) is None
    assert _live.best([]) is None


def shown(on, *, terminal, period=1000.0):
    """What a study of 1000 chunks shows, and how many of its steps the file is told."""
    file = io.StringIO()
    console = rich.console.Console(
        file=file,
        force_terminal=terminal,
        force_interactive=terminal,
        width=60,
        height=20,
        _environ={"TERM": "xterm"},
    )
    with _live.live(on, console=console, period=period) as view:
        view.say("32 trials, 1 cohort, [vmapped]")
        for done in range(1001):
            view.show(_live.Snapshot(trials=1000, done=done, rate=5.0))
    return file.getvalue()


def test_a_file_gets_few_lines(capsys):
    assert shown(True, terminal=False) == ""
    assert capsys.readouterr().out.splitlines() == [
        "32 trials, 1 cohort, [vmapped]",
        "0/1000 trials, 5.00 steps/s",
        "1000/1000 trials, 5.00 steps/s",
    ]


def test_a_terminal_has_one_table(capsys):
    start = time.monotonic()
    text = shown(True, terminal=True)
    passed = time.monotonic() - start
    assert capsys.readouterr().out == ""
    assert "32 trials, 1 cohort, [vmapped]" in text
    assert "1000 of 1000 done" in text
    assert text.count("best so far") == 0
    assert text.count("running") <= passed / _live.REFRESH + 5


def test_nothing_is_shown_unasked(capsys):
    assert shown(False, terminal=True) + shown(False, terminal=False) == ""
    assert capsys.readouterr().out == ""


def study(**changed):
    """A status as of two looks, of which `changed` replaces parts."""
    says = {"word": "running", "cohort": 0, "step": 50, "steps": 100, "trials": 4}
    worker = {
        "worker": "w1",
        "host": "h",
        "pid": 7,
        "alive": None,
        "heard": 2.0,
        "end": None,
        "says": {"000000.0": says | {"rate": 10.0, "memory": 2000}},
    }
    cohort = {"done": 0, "state": "open", "epoch": -1, "worker": None}
    cohorts = [
        {"number": 0, "keys": list("abcd")} | cohort | {"state": "claimed", "epoch": 1},
        {"number": 1, "keys": list("efg")} | cohort,
    ]
    found = {"trials": 8, "done": 1, "broken": 0, "plan": None, "frozen": []}
    found |= {"workers": [worker], "cohorts": cohorts, "unread": []}
    return found | changed, worker


def test_time_left_is_of_the_steps_that_nobody_made_yet():
    """(7 trials of 100 steps, of which 4 are half done) / 10 a second: 50 s."""
    found = _watch.snapshot(study()[0])
    assert (found.running, found.rate, found.left) == (4, 10.0, 50.0)
    assert (found.trials, found.done, found.memory) == (8, 1, 2000)


@pytest.mark.parametrize(
    ("state", "running", "words"),
    [
        ({"heard": 2.4}, 4, "heard 2 s ago, running cohort 0, step 50 of 100"),
        ({"heard": None}, 0, "not heard since this look began"),
        ({"heard": None, "alive": True}, 4, "there, not heard since this look began"),
        ({"heard": None, "alive": False}, 0, "gone without a word (killed)"),
        ({"end": {"code": 75, "why": "SIGTERM"}}, 0, "ended with 75 (SIGTERM)"),
    ],
)
def test_who_counts_as_working(state, running, words):
    whole, worker = study()
    whole["workers"] = [worker | state]
    assert _watch.snapshot(whole).running == running
    text = hw.sweeps.describe(whole)
    assert words in text
    assert text.splitlines()[0] == "1 of 8 trials are done"
    assert "0: 4 trials, 0 done, claimed by None, taken over 1 times" in text
    assert "1: 3 trials, 0 done, nobody's yet" in text


def test_what_froze_is_told_with_its_step_and_head():
    one = {"trial": "ab12", "weights": {"a": 0.1}, "seed": 3, "stopped": 17}
    frozen = [one | {"head": "a", "error": "not finite"}] * 25
    text = hw.sweeps.describe(study(frozen=frozen, broken=25)[0])
    assert "1 of 8 trials are done, 25 of them without a result" in text
    assert text.count("ab12 a=0.1 seed=3: step 17: head a: not finite") == 20
    assert "  and 5 more" in text


def test_who_works_comes_before_the_many_that_an_engine_has_ended():
    whole, worker = study()
    ended = worker | {"end": {"code": 75, "why": "SIGUSR1"}}
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    whole["workers"] = [*[ended] * 30, worker | {"engine": job, "heard": 1.0}]
    lines = hw.sweeps.describe(whole).splitlines()
    first = lines[lines.index("workers:") + 1]
    assert "(SLURM job 7, restart 2, " in first
    assert "heard 1 s ago" in first
    assert "  and 11 more" in lines
