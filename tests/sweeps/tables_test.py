"""Tables: a file of trials, and where in it something is wrong."""

import json

import pytest

import headwise as hw
from headwise.sweeps import Trial

HEADS = ["left", "right"]
EXPECTED = [
    Trial({"left": 1.0, "right": 0.1234561}, 3, {"lr": 0.003, "to": "a b", "on": True}),
    Trial({"left": 0.0, "right": 0.1234564}, 4, {"lr": 1, "to": "1_0", "on": False}),
]


def write(folder, text, name="design.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(end, tmp_path):
    lines = [
        "\ufefflr,right,left,seed,to,on",
        ' 3e-3 ,0.1234561,1,3,"a b",true',
        ",,,,,",
        "1,0.1234564,0,4,1_0,False",
        "",
    ]
    file = write(tmp_path, end.join(lines))
    found = hw.sweeps.table(file, HEADS)
    assert found == EXPECTED
    assert [type(t.varied["lr"]) for t in found] == [float, int]
    assert hw.sweeps.table(str(file), iter(HEADS)) == EXPECTED


def test_json_lines(tmp_path):
    rows = [t.weights | {"seed": t.seed} | t.varied for t in EXPECTED]
    rows[1] = dict(reversed(rows[1].items()))  # by name, never by position
    text = "\n\n".join(json.dumps(row) for row in rows)
    assert hw.sweeps.table(write(tmp_path, text, "x.jsonl"), HEADS) == EXPECTED


def test_heads_and_seeds_may_be_left_out(tmp_path):
    file = write(tmp_path, "left,right\n1,2\n3,4")
    weights = [{"left": 1.0, "right": 2.0}, {"left": 3.0, "right": 4.0}]
    assert hw.sweeps.table(file) == [Trial(w, 0, {}) for w in weights]
    assert hw.sweeps.table(file, seeds=(1, 2)) == [
        Trial(w, seed, {}) for w in weights for seed in (1, 2)
    ]
    varied = hw.sweeps.table(file, ())
    assert varied[0] == Trial({}, 0, {"left": 1, "right": 2})
    assert hw.sweeps.trials(hw.sweeps.table(file), vary={"lr": [0.1]})[1] == Trial(
        weights[1], 0, {"lr": 0.1}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ": expected one or more trials, got none"),
        ("left,right\n", ": expected one or more trials, got none"),
        ("left,right\n1,2\n1,x", ":3: column 'right': expected 0, or .*got 'x'"),
        ("left,right\n1,-2", ":2: column 'right': expected 0, or .*got -2"),
        ("left,right\n1,nan", ":2: column 'right': expected 0, or .*got nan"),
        ("left,right\n1,true", ":2: column 'right': expected 0, or .*got True"),
        (
            "left,right,lr\n1,2,inf",
            ":2: column 'lr': expected a finite number, got inf",
        ),
        ("left,right,seed\n1,2,0.5", ":2: column 'seed': expected an int, got 0.5"),
        ("left,right,seed\n1,2,-1", ":2: column 'seed': expected 0 <= seed"),
        ("left,right\n1", r":2: expected 2 cells \(left, right\), got 1"),
        ("left,right\n1,", ":2: column 'right': expected a value, got nothing"),
        (
            "left,right,left\n1,2,3",
            r":1: expected distinct columns, got \['left'\] twice",
        ),
        (
            "left,right,\n1,2,3",
            ":1: expected a name for every column, got none for .* 3",
        ),
        (
            "left;right\n1;2",
            r":1: expected a column for every head, missing \['left', ",
        ),
        ("left,rihgt\n1,2", r"missing \['right'\], got \['left', 'rihgt'\]"),
        ("left,right\n1,2\n3,4\n1.0,2", ":4: the same trial as line 2"),
        ("left,right,weights\n1,2,3", ":2: columns: expected names other than weights"),
        ('left,right\n"1,2', ":2: unexpected end of data"),
        (b"left,right\n\xff,2", ": expected a text file"),
        ('{"left": 1, "right": 2', ":1: expected a line of JSON: Expecting"),
        ('{"left": 1, "right": 2}\n[1, 2]', ":2: expected an object"),
        (
            '{"left": 1, "right": 2}\n{"left": 1}',
            r":2: expected the columns.*\['right'\]",
        ),
        ('{"left": 1, "right": 2, "left": 3}', r":1: expected distinct columns"),
        ('{"left": 1, "right": NaN}', ":1: column 'right': expected 0, or .*got nan"),
        (
            '{"left": 1, "right": [1]}',
            r":1: column 'right': expected 0, or .*got \[1\]",
        ),
        (
            '{"left": 1, "right": 1, "lr": null}',
            ":1: column 'lr': expected a number, a",
        ),
        (
            '{"left": 1, "right": 1, "lr": {"a": 1}}',
            ":1: column 'lr': expected a number",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_column(text, words, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=f"design.csv{words}|{words}") as raised:
        hw.sweeps.table(file, HEADS)
    assert str(raised.value).startswith(str(file))
    assert len(str(raised.value).splitlines()) == 1


def test_seeds_are_said_once(tmp_path):
    file = write(tmp_path, "left,right,seed\n1,2,0")
    with pytest.raises(ValueError, match=r"seeds: .*design.csv has a column 'seed'"):
        hw.sweeps.table(file, HEADS, seeds=(1,))
