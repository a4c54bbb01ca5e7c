"""The text of flags: what is read, and what is said of what cannot be."""

import doctest
import pathlib

import pytest

from experiments.harness import text
from launch import plan

DEFAULTS = {"lr": 0.1, "width": 16, "smooth": False, "kind": "mlp"}


def test_settings_have_the_types_of_their_defaults():
    read = text.settings("lr=3e-3,width=8,smooth=true,kind=cnn", DEFAULTS)
    assert read == {"lr": 3e-3, "width": 8, "smooth": True, "kind": "cnn"}
    assert [type(x) for x in read.values()] == [float, int, bool, str]
    assert text.settings("lr=1", DEFAULTS) == DEFAULTS | {"lr": 1.0}
    assert text.settings(None, DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rate=1", "--set: expected some of lr, width, smooth, kind; got rate"),
        (
            "widht=1",
            "--set: expected some of lr, width, smooth, kind; got widht (did you mean "
            "width?)",
        ),
        ("width=1.5", "--set: expected a whole number for 'width', got '1.5'"),
        ("lr=fast", "--set: expected a number for 'lr', got 'fast'"),
        ("lr=nan", "--set: expected a finite number for 'lr', got nan"),
        ("smooth=1", "--set: expected true or false for 'smooth', got 1"),
        ("lr=1,lr=2", "--set: 'lr' is given twice"),
        ("lr", "--set: expected NAME=VALUE,..., got 'lr'"),
        ("lr=1,", "--set: expected NAME=VALUE,..., got ''"),
    ],
)
def test_wrong_settings(words, said):
    with pytest.raises(text.UsageError) as error:
        text.settings(words, DEFAULTS)
    assert str(error.value) == said


def test_seeds():
    assert text.seeds("0:3,7") == [0, 1, 2, 7]
    assert text.seeds("5") == [5]
    assert text.seeds("2147483647") == [2147483647]
    for words, said in (
        ("a", "expected numbers, got a"),
        ("0:x", "expected numbers"),
        ("", "expected numbers"),
        ("3:3", "the range 3:3 is empty"),
        ("0:3,1", "given twice"),
        ("-1", "expected 0 or more, got -1"),
        ("2147483648", "expected at most 2147483647, got 2147483648"),
        ("5:2147483649", "got 2147483648"),
        ("0:2000000000", "expected at most 100000, got 2000000000"),
        ("1.5", "expected numbers"),
    ):
        with pytest.raises(text.UsageError, match=said):
            text.seeds(words)


def test_steps():
    assert text.steps("--profile", None) is None
    assert text.steps("--profile", "20") == 20
    assert text.steps("--profile", "0:20") == (0, 20)
    for words in ("", "x", "0", "-1", "5:5", "5:", ":5", "1:2:3", "-1:2", "1.5"):
        with pytest.raises(text.UsageError, match="--profile: "):
            text.steps("--profile", words)


def test_folders():
    assert text.folder("--workdir", None, "runs/x") == pathlib.Path("runs/x")
    assert text.folder("--workdir", "~/x", "") == pathlib.Path.home() / "x"
    assert text.folder("--workdir", "a/~b", "") == pathlib.Path("a/~b")
    for words in ("", " ", "gs://bucket/x", "s3://x", "file:///x", "~nobody-here/x"):
        with pytest.raises(text.UsageError, match="--workdir: "):
            text.folder("--workdir", words, "runs/x")


def test_grid():
    levels = text.grid("left=1,right=0.1:0.3:1")
    assert levels == {"left": [1.0], "right": [0.1, 0.3, 1.0]}
    assert text.grid("left=-0:1.1754943508222875e-38:3.4028234663852886e38") == {
        "left": [0.0, 2.0**-126, (2 - 2.0**-23) * 2.0**127]
    }
    wrong = ("left=1,right=", "left=1,right=a:b", "left", "left=-1", "left=1:")
    outside = ("left=1e39", "left=3.4028236e38", "left=1e-46", "left=1e-39", "left=nan")
    for words in wrong + outside:
        with pytest.raises(text.UsageError, match="--weights"):
            text.grid(words)


def test_lists_of_balancers():
    words = (
        "every:k=5,balancer=(cagrad:c=0.4,rescale=square),mgda,epo:preferences=a:1;b:2"
    )
    assert text.balancers(words) == [
        "every:k=5,balancer=(cagrad:c=0.4,rescale=square)",
        "mgda",
        "epo:preferences=a:1;b:2",
    ]
    with pytest.raises(text.UsageError, match="given twice"):
        text.balancers("mgda,famo,mgda")


@pytest.mark.parametrize("module", [text, plan])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
