"""Designs of weightings."""

import math

import numpy as np
import pytest

import headwise as hw


@pytest.mark.parametrize(("heads", "levels"), [(1, 3), (2, 4), (3, 5), (4, 3)])
def test_simplex_is_the_whole_lattice(heads, levels):
    names = [f"h{i}" for i in range(heads)]
    table = np.stack(list(hw.sweeps.simplex(names, levels).values()), axis=1)
    assert len(table) == math.comb(levels + heads - 1, heads - 1)
    assert len({tuple(row) for row in np.round(table * levels)}) == len(table)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(table * levels, np.round(table * levels), atol=1e-5)
    assert (table >= 0).all()


def test_interior_drops_no_head():
    table = np.stack(
        list(hw.sweeps.simplex(["a", "b", "c"], 6, interior=True).values()), axis=1
    )
    assert len(table) == math.comb(5, 2)
    assert (table > 0).all()


def test_grid_pairs_weights_with_names_not_positions():
    rows = hw.sweeps.rows(hw.sweeps.grid({"b": [3, 4], "a": [1, 2]}))
    assert rows == [{"a": a, "b": b} for a in (1.0, 2.0) for b in (3.0, 4.0)]


def test_log_grid_is_geometric_and_fixes_equal_ends():
    design = hw.sweeps.log_grid({"a": (2, 2), "b": (0.01, 100)}, 5)
    np.testing.assert_allclose(design["b"], [0.01, 0.1, 1, 10, 100], rtol=1e-6)
    np.testing.assert_array_equal(design["a"], np.full(5, 2, np.float32))


def test_dirichlet_has_the_moments_of_the_distribution():
    table = np.stack(
        list(hw.sweeps.dirichlet(["a", "b", "c"], 4000, seed=1).values()), axis=1
    )
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-5)
    # Uniform on the simplex: mean 1/3, variance 2/36; four standard errors
    np.testing.assert_allclose(
        table.mean(axis=0), 1 / 3, atol=4 * (1 / 18 / 4000) ** 0.5
    )
    np.testing.assert_allclose(table.var(axis=0), 1 / 18, rtol=0.1)
    middle = hw.sweeps.dirichlet(["a", "b", "c"], 4000, seed=1, concentration=50.0)
    assert middle["a"].var() < 0.01
    again = hw.sweeps.dirichlet(["a", "b", "c"], 4000, seed=1)
    np.testing.assert_array_equal(again["b"], table[:, 1])


@pytest.mark.parametrize("count", [1, 7, 16])
def test_sobol_fills_every_decade(count):
    design = hw.sweeps.sobol({"a": (1e-4, 1e4), "b": (2.0, 2.0)}, count, seed=3)
    assert design["a"].shape == (count,)
    np.testing.assert_allclose(design["b"], 2.0, rtol=1e-6)
    assert ((design["a"] >= 1e-4) & (design["a"] <= 1e4)).all()
    if count == 16:  # a (0, 4, 1)-net: one point in each sixteenth of the logarithm
        cells = np.floor((np.log10(design["a"]) + 4) * 2).astype(int)
        assert sorted(cells) == list(range(16))


@pytest.mark.parametrize("count", [1, 7, 16])
def test_latin_has_a_weight_of_every_head_in_every_part(count):
    box = {"a": (1e-4, 1e4), "b": (0.5, 0.7), "c": (2.0, 2.0)}
    design = hw.sweeps.latin(box, count, seed=3)
    np.testing.assert_array_equal(design["c"], np.full(count, 2.0, np.float32))
    for head in "ab":
        low, high = np.log(box[head])
        unit = (np.log(design[head].astype(float)) - low) / (high - low)
        assert sorted(np.floor(unit * count)) == list(range(count))
    again = hw.sweeps.latin(dict(reversed(box.items())), count, seed=3)
    assert hw.sweeps.rows(again) == hw.sweeps.rows(design)
    if count == 16:  # the parts of one head meet those of another at random
        assert list(np.argsort(design["a"])) != list(np.argsort(design["b"]))
        other = hw.sweeps.latin(box, count, seed=4)
        assert hw.sweeps.rows(other) != hw.sweeps.rows(design)


def test_rows_keep_every_float32_apart_and_print_it_short():
    several = [np.float32(1.1)]
    for _ in range(50):
        several.append(np.nextafter(several[-1], np.float32(2), dtype=np.float32))
    given = [*several, np.float32(0.1), np.float32(1) / 3]
    rows = hw.sweeps.rows({"a": np.array(given), "b": given})
    assert len({row["a"] for row in rows}) == len(given)
    assert [np.float32(row["a"]) for row in rows] == given
    assert [row["b"] for row in rows] == [row["a"] for row in rows]
    assert (rows[0]["a"], rows[-2]["a"]) == (1.1, 0.1)
    # A float of Python is kept as it is: it may come back from a record.
    (row,) = hw.sweeps.rows({"a": [0.1 + 0.2]})
    assert row["a"] == 0.1 + 0.2


def test_what_is_drawn_has_seven_digits_as_records_always_had():
    for design in (
        hw.sweeps.dirichlet(["a", "b", "c"], 20, seed=1),
        hw.sweeps.sobol({"a": (1e-3, 1e3), "b": (0.1, 2)}, 20),
        hw.sweeps.latin({"a": (1e-3, 1e3), "b": (0.1, 2)}, 20),
        hw.sweeps.simplex(["a", "b", "c"], 7),
        hw.sweeps.log_grid({"a": (1e-3, 1e3)}, 8),
    ):
        for row in hw.sweeps.rows(design):
            assert all(w == float(f"{w:.7g}") for w in row.values())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: hw.sweeps.latin({"a": (0, 1)}, 4), r"ranges\['a'\].*positive"),
        (lambda: hw.sweeps.latin({"a": (1, 2)}, 0), "count: expected a positive int"),
        (lambda: hw.sweeps.grid({"a": []}), r"levels\['a'\]: expected one or more"),
        (lambda: hw.sweeps.grid([1, 2]), "levels: expected a dict"),
        (lambda: hw.sweeps.log_grid({"a": (0, 1)}, 3), r"ranges\['a'\].*positive"),
        (lambda: hw.sweeps.log_grid({"a": (1, 2)}, 1), "points: expected 2 or more"),
        (lambda: hw.sweeps.simplex(["a", "a"], 2), r"duplicate names \['a'\]"),
        (lambda: hw.sweeps.simplex(["a", "b"], 1, interior=True), "expected 2 or more"),
        (lambda: hw.sweeps.dirichlet(["a", "b"], 0), "count: expected a positive int"),
        (lambda: hw.sweeps.sobol({"a": (1, 2)}, 2.5), "count: expected a positive int"),
        (
            lambda: hw.sweeps.sobol({"a": (1, 2)}, 4, seed=-1),
            "seed: expected an int >= 0, got -1",
        ),
        (lambda: hw.sweeps.log_grid({"a": (1, 2)}, 3.0), "points: expected a positive"),
        (lambda: hw.sweeps.sobol({"a": (1, math.inf)}, 4), r"ranges\['a'\]\[1\].*inf"),
        (lambda: hw.sweeps.simplex(["a", "b"], 2.0), "levels: expected a positive int"),
        (lambda: hw.sweeps.simplex(["a"], 2, interior=1), "interior: expected True or"),
        (
            lambda: hw.sweeps.rows({"a": [1, math.nan]}),
            r"design\['a'\]\[1\]: .*got nan",
        ),
        (
            lambda: hw.sweeps.dirichlet(["a", "b"], 3, concentration=0),
            "concentration: expected a positive number, got 0",
        ),
        (lambda: hw.sweeps.sobol({"a": (-1, 1)}, 4), r"ranges\['a'\].*positive"),
        (lambda: hw.sweeps.rows({"a": [1], "b": [1, 2]}), "as many weights a head"),
        (lambda: hw.sweeps.rows({"a": "12"}), r"design\['a'\]: .*sequence.*'12'"),
        (lambda: hw.sweeps.grid({"a": "12"}), r"levels\['a'\]: .*sequence.*'12'"),
        (lambda: hw.sweeps.grid({"a": 1}), r"levels\['a'\]: .*sequence.*got 1"),
        (
            lambda: hw.sweeps.log_grid({"a": 1}, 2),
            r"ranges\['a'\]: .*\(lowest, highest",
        ),
        (lambda: hw.sweeps.sobol({"a": "12"}, 2), r"ranges\['a'\]\[0\].*got '1'"),
        (
            lambda: hw.sweeps.dirichlet(["a", "b"], 2, concentration=math.inf),
            "concentration: expected a positive number, got inf",
        ),
    ],
)
def test_bad_designs_are_refused(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


NO_WEIGHTS = (1e39, 1e-46, 1e-39, -1, math.nan, math.inf, None, "1", True, 10**400, [1])


@pytest.mark.parametrize("weight", NO_WEIGHTS)
def test_what_a_program_would_take_for_another_weight_is_refused(weight):
    """float32 ends at 3.40282347e38, and XLA takes what is below 2^-126 for 0."""
    with pytest.raises(
        ValueError, match=r"a'\]\[1\]: expected 0, or a number from 1.2"
    ):
        hw.sweeps.grid({"a": [1, weight]})
    with pytest.raises(
        ValueError, match=r"a'\]\[0\]: expected 0, or a number from 1.2"
    ):
        hw.sweeps.rows({"a": [weight]})
    if weight not in (None, "1", True, [1]):
        for design in (hw.sweeps.log_grid, hw.sweeps.sobol):
            with pytest.raises(ValueError, match=r"ranges\['a'\]\[1\]: expected"):
                design({"a": (1, weight)}, 2)


def test_the_ends_of_float32_are_weights():
    ends = [-0.0, 2.0**-126, (2 - 2.0**-23) * 2.0**127]
    (column,) = hw.sweeps.grid({"a": ends}).values()
    assert column.tolist() == ends
    assert [row["a"] for row in hw.sweeps.rows({"a": column})] == pytest.approx(ends)
    # At a corner of the simplex the draws are smaller than that: dropped, not tiny.
    table = np.stack(
        list(hw.sweeps.dirichlet(["a", "b", "c"], 50, concentration=1e-3).values())
    )
    assert set(np.unique(table[table < 2.0**-126])) == {0.0}
    np.testing.assert_allclose(table.sum(axis=0), 1)
