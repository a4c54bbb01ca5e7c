"""Trials: every combination once, what tells them apart, what becomes an array."""

import hashlib
import itertools
import json
import math

import numpy as np
import pytest

import headwise as hw
from headwise.sweeps import Trial
from headwise.sweeps._design import _product
from headwise.sweeps._design import _trials

DESIGN = {"b": [0.5, 1.0], "a": [1.0, 2.0]}


def test_every_combination_once_in_a_fixed_order():
    vary = {"lr": np.geomspace(1e-3, 1e-1, 3), "balancer": ["mgda", "famo"]}
    found = hw.sweeps.trials(DESIGN, (3, 4), vary=vary)
    assert [(t.varied, t.weights, t.seed) for t in found] == [
        ({"lr": lr, "balancer": balancer}, {"a": a, "b": b}, seed)
        for lr, balancer, (a, b), seed in itertools.product(
            vary["lr"], vary["balancer"], [(1.0, 0.5), (2.0, 1.0)], (3, 4)
        )
    ]
    assert len({trial.key for trial in found}) == len(set(found)) == 24
    plain = {type(value) for trial in found for value in trial.varied.values()}
    assert plain == {float, str}


def test_lists_add_and_are_crossed_again():
    static = hw.sweeps.trials(DESIGN, vary={"balancer": ["static"]})
    found = static + hw.sweeps.trials(None, vary={"balancer": ["mgda"]})
    assert [trial.weights for trial in found] == [*hw.sweeps.rows(DESIGN), {}]
    assert [trial.seed for trial in found] == [0, 0, 0]
    crossed = hw.sweeps.trials(found, vary={"lr": [0.1, 0.2]})
    assert [t.varied["lr"] for t in crossed] == [0.1] * 3 + [0.2] * 3
    assert hw.sweeps.trials(found) == found
    # Seeds that are given take the place of those that are there.
    both = hw.sweeps.trials(hw.sweeps.trials(found, (0, 1)), (5, 6))
    assert [t.seed for t in both] == [5, 6] * 3
    assert [t.weights for t in both[::2]] == [t.weights for t in found]


def test_a_trial_is_a_line_of_json_and_back():
    trial = hw.sweeps.trials(
        {"a": np.array([0.1], np.float32)},
        np.arange(1),
        vary={"lr": [np.float32(0.1)], "n": [np.int64(3)], "on": [np.True_]},
    )[0]
    line = json.dumps(trial._asdict(), sort_keys=True)
    assert line == (
        '{"seed": 0, "varied": {"lr": 0.1, "n": 3, "on": true}, "weights": {"a": 0.1}}'
    )
    again = Trial(**json.loads(line))
    assert again == trial
    assert again.key == trial.key


def test_the_key_is_the_hash_of_what_the_record_says():
    """Worked out from the text that identity has had since there are records."""
    trial = Trial({"b": 1.0, "a": 0.1}, 2, {"lr": 0.003})
    text = '[{"a": 0.1, "b": 1}, 2, {"lr": 0.003, "steps": 800}]'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert _trials.key(trial, {"steps": 800}) == expected
    # What varies wins over the setting of that name: so does the record's.
    assert _trials.key(trial, {"lr": 0.1, "steps": 800.0}) == expected
    record = hw.sweeps.record(
        trial.weights, trial.seed, {"m": 0.5}, settings={"steps": 800} | trial.varied
    )
    assert hw.sweeps.identity(record) == text


NEAR = [
    Trial({"a": 0.1234561}, 0, {}),
    Trial({"a": 0.1234564}, 0, {}),
    Trial({"a": 0.12345640000000001}, 0, {}),  # float64 has 16 digits
    Trial({"b": 0.1234561}, 0, {}),
    Trial({"a": 0.1234561}, 1, {}),
    Trial({"a": 0.1234561}, 0, {"lr": 0.1}),
    Trial({"a": 0.1234561}, 0, {"lr": "0.1"}),
    Trial({"a": 0.1234561}, 0, {"lr": 1}),
    Trial({"a": 0.1234561}, 0, {"lr": True}),
    Trial({}, 0, {"a": 0.1234561}),
]


def test_what_is_another_trial_has_another_key():
    assert len({trial.key for trial in NEAR}) == len(NEAR)
    assert hw.sweeps.trials(NEAR) == NEAR


def test_groups_are_programs_in_order():
    found = (
        hw.sweeps.trials(DESIGN, vary={"lr": [0.1, 1], "width": [8, 16]})
        + hw.sweeps.trials(None, vary={"lr": [0.5], "balancer": ["mgda"]})
        + hw.sweeps.trials({"a": [3.0]}, vary={"lr": [0.5], "width": [8]})
    )
    groups = _trials.groups(found, static=["width"])
    assert [(values, len(group)) for values, group in groups] == [
        ({"width": 8}, 4),
        ({"width": 16}, 4),
        ({"balancer": "mgda"}, 1),
        ({"width": 8}, 1),  # other heads: another program
    ]
    assert [trial.varied["lr"] for trial in groups[0][1]] == [0.1, 0.1, 1, 1]
    # 1 and True are equal in Python, and yet other programs.
    mixed = [
        Trial({}, 0, {"on": True}),
        Trial({}, 0, {"on": 1}),
        Trial({}, 1, {"on": 0}),
    ]
    assert [len(group) for _, group in _trials.groups(mixed)] == [1, 2]


def test_stacked_are_arrays_of_float32_and_int32():
    found = hw.sweeps.trials(DESIGN, (7,), vary={"lr": [0.1, 1], "width": [8]})
    arrays = _trials.stacked(found, static=["width"])
    assert list(arrays) == ["weights", "seed", "lr"]
    expected = {
        "weights": {"a": [1, 2, 1, 2], "b": [0.5, 1, 0.5, 1]},
        "seed": [7, 7, 7, 7],
        "lr": np.float32([0.1, 0.1, 1, 1]),
    }
    for name, column in expected["weights"].items():
        np.testing.assert_array_equal(arrays["weights"][name], np.float32(column))
    np.testing.assert_array_equal(arrays["seed"], expected["seed"])
    np.testing.assert_array_equal(arrays["lr"], expected["lr"])
    assert arrays["seed"].dtype == np.int32
    assert {arrays["lr"].dtype, arrays["weights"]["a"].dtype} == {np.dtype("f4")}


@pytest.mark.parametrize("number", [1e39, 1e-39, 2**24 + 1, 10**400])
def test_a_number_that_no_float32_is_must_be_static(number):
    trial = Trial({"a": 1.0}, 0, {"n": number})
    words = r"n: expected a number that a program can take \(float32\).*static=\['n'\]"
    with pytest.raises(ValueError, match=words):
        _trials.groups([trial])
    assert _trials.groups([trial], static=["n"])[0][0] == {"n": number}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t({}), "design: expected at least one head, got none"),
        (lambda t: t({"a": []}), "design: expected one or more"),
        (lambda t: t([]), "design: expected one or more trials, got none"),
        (lambda t: t("a"), "design: expected {head: weights}, trials or None"),
        (lambda t: t([({"a": 1}, 0, {})]), r"design\[0\]: expected a Trial, got tuple"),
        (lambda t: t({"a": [1, -1]}), r"design\['a'\]\[1\]: expected 0, or .*got -1"),
        (lambda t: t({"a": [math.nan]}), r"design\['a'\]\[0\]: expected 0.*got nan"),
        (lambda t: t({"a": [1, 1.0]}), "the same at 0 and 1: a=1.0, seed=0"),
        (
            lambda t: t({"a": [1]}, vary={"lr": [0.1, 0.2, 0.1]}),
            "the same at 0 and 2: a=1.0, seed=0, lr=0.1",
        ),
        (
            lambda t: t({"a": [1]}, heads=["a", "b"]),
            r"design: expected the names \['a', 'b'\], got \['a'\]; missing \['b'\]",
        ),
        (lambda t: t({"a": [1]}, [0, 0]), "seeds: expected one or more distinct"),
        (lambda t: t({"a": [1]}, []), "seeds: expected one or more distinct"),
        (lambda t: t({"a": [1]}, [-1]), r"seeds\[0\]: expected 0 <= seed < 2\*\*31"),
        (lambda t: t({"a": [1]}, 3), "seeds: expected a sequence of ints"),
        (lambda t: t({"a": [1]}, vary=["lr"]), r"vary: expected {name: levels}"),
        (lambda t: t({"a": [1]}, vary={"lr": 0.1}), r"vary\['lr'\]: expected a list"),
        (lambda t: t({"a": [1]}, vary={"lr": "12"}), r"vary\['lr'\]: expected a list"),
        (lambda t: t({"a": [1]}, vary={"lr": []}), r"vary\['lr'\]: expected one or"),
        (
            lambda t: t({"a": [1]}, vary={"lr": [0.1, math.inf]}),
            r"vary\['lr'\]\[1\]: expected a finite number, got inf",
        ),
        (
            lambda t: t({"a": [1]}, vary={"lr": [None]}),
            r"vary\['lr'\]\[0\]: expected a number, a text or a bool, got None",
        ),
        (
            lambda t: t({"a": [1]}, vary={"seed": [1]}),
            "vary: expected names other than",
        ),
        (
            lambda t: t([Trial({"a": 1.0}, 0, {"lr": 1})], vary={"lr": [1]}),
            r"vary: expected names that the design does not vary, got \['lr'\]",
        ),
        (
            lambda t: t([Trial({"a": -1.0}, 0, {})]),
            r"design\[0\].weights\['a'\]: expected 0, or a number .*got -1.0",
        ),
        (lambda t: t([Trial({"a": 1.0}, -1, {})]), r"design\[0\].seed: expected 0 <="),
        (
            lambda t: _trials.groups(t({"a": [1]}), static=["widht"]),
            "static: unknown names",
        ),
    ],
)
def test_what_is_no_design_is_one_line(call, words):
    with pytest.raises((TypeError, ValueError), match=words) as raised:
        call(hw.sweeps.trials)
    assert len(str(raised.value).splitlines()) == 1


def test_product_may_hold_a_trial_twice():
    assert len(_product.product({"a": [1, 1]}, (0, 1))) == 4
