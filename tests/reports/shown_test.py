"""How numbers, names and crowds look: digits, escapes, columns that line up, labels."""

import itertools

import matplotlib.pyplot as plt
import pytest
import rich.cells

import headwise as hw

HIGHER = {"m": True, "n": False}
NAMES = [
    "[/x]",
    "[bold]",
    r"$\frac$",
    r"$a$ and \$",
    "a\nb",
    "\x1b[31mred",
    "日本語",
    "🧠x",
    "_x",
    "\udc80",
    "e\u0301\u202e",
    ":smile:",
    "x" * 150,
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def record(w, seed=0, head="a", **metrics):
    return {"weights": {head: w}, "seed": seed, "finite": True, "metrics": metrics}


@pytest.mark.parametrize(
    ("means", "noise", "written"),
    [
        ([1e-5, 2e-5], None, ["0.000010", "* 0.000020"]),
        ([1.0, 1e-5], None, ["* 1.000000", "0.000010"]),
        ([1e-9, 2e-9, 0.0], None, ["1.00e-09", "* 2.00e-09", "0.00e+00"]),
        ([0.003, 0.0012], None, ["* 0.0030", "0.0012"]),
        ([0.5, 12.5], None, ["0.500", "* 12.500"]),
        ([3e9, 1.0], None, ["* 3.00e+09", "1.00e+00"]),
        # a deviation that covers the mean needs one digit, a small one is shown
        ([0.0001, 0.5], 0.1, ["0.000 ± 0.100", "* 0.500 ± 0.100"]),
        ([0.5, 0.6], 2e-4, ["0.5000 ± 0.0002", "* 0.6000 ± 0.0002"]),
        ([0.5, 0.6], 2e-9, ["0.50000 ± 0.00000", "* 0.60000 ± 0.00000"]),
        # all that are written alike are best
        ([0.497, 0.497, 0.4], None, ["* 0.497", "* 0.497", "0.400"]),
        ([0.4971, 0.4972], None, ["* 0.497", "* 0.497"]),
    ],
)
def test_digits_tell_means_apart(means, noise, written):
    offsets = [0.0] if noise is None else [-noise, 0.0, noise]
    records = [
        record(float(i), s, m=mean + offset)
        for i, mean in enumerate(means, 1)
        for s, offset in enumerate(offsets)
    ]
    lines = hw.reports.sweep_table(records, {"m": True}).splitlines()[2:]
    assert [
        " ".join(line.split()[1:]).replace(" front", "") for line in lines
    ] == written


@pytest.mark.parametrize("name", NAMES)
def test_names_are_written_out_and_line_up(name):
    records = [
        record(w, s, name) | {"metrics": {name: w + s, "n": w - s}}
        for w in (1.0, 20.0)
        for s in (0, 1)
    ]
    higher = {name: True, "n": False}
    table = hw.reports.sweep_table(records, higher)
    verdict = hw.reports.verdict(records, higher)
    for line in [*table.splitlines(), *verdict.splitlines()]:
        assert line.isprintable()
    line.encode()
    assert len(verdict.splitlines()) == 2
    ends = {
        rich.cells.cell_len(line.rpartition("±")[0]) for line in table.splitlines()[-2:]
    }
    assert len(ends) == 1
    assert max(map(rich.cells.cell_len, table.splitlines())) <= 100


@pytest.mark.parametrize("names", [NAMES[:6], NAMES[6:]])
def test_names_are_drawn(names):
    """What matplotlib cannot draw it says in warnings, and of mathematics in errors."""
    records = [
        record(1.0, **dict.fromkeys(names, i)) | {"settings": {"balancer": name}}
        for i, name in enumerate(names[:6])
    ]
    higher = dict.fromkeys(names, True)
    for x, y in itertools.pairwise(names[-2:] + names[:1]):
        ax = hw.reports.front_picture(records, x, y, higher)
        ax.figure.canvas.draw()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == 2 + len(records)
    assert len(set(labels)) == len(labels)
    hw.reports.weights_picture(records, higher).canvas.draw()


def test_a_dollar_is_a_dollar():
    records = [record(w, head=r"$\frac$", m=w, n=w) for w in (1.0, 2.0)]
    ax = hw.reports.front_picture(records, "m", "n", HIGHER)
    assert ax.get_legend().get_texts()[1].get_text() == r"\$\frac\$=1"


def crowd(count):
    """Points of which every third lies on the front of m and n."""
    return [
        record(float(i), s, m=i + 0.01 * s, n=i + (2 * count if i % 3 else 0), k=-i)
        for i in range(count)
        for s in range(2)
    ]


@pytest.mark.parametrize(("count", "named"), [(3, 3), (10, 10), (16, 6), (61, 15)])
def test_points_have_colours_and_names_of_their_own(count, named):
    ax = hw.reports.front_picture(crowd(count), "m", "n", HIGHER)
    legend = ax.get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    if count <= 10:
        assert labels == ["front", *(f"a={i}" for i in range(count))]
        assert not ax.texts
    else:
        assert labels[:2] == ["front", f"{count - named} others"]
        numbers = [label.partition(": ") for label in labels[2:]]
        assert [number for number, _, _ in numbers] == [t.get_text() for t in ax.texts]
        # the first and the last of the front, and others evenly between
        assert numbers[0][2] == "a=0"
        assert numbers[-1][2] == f"a={count - 1}"
        assert all(int(name[2:]) % 3 == 0 for _, _, name in numbers)
    shown = ax.containers[-named:]
    colours = {container.lines[0].get_color() for container in shown}
    assert len(colours) == named


def test_filled_points_are_on_the_tables_front():
    higher = {"m": True, "n": False, "k": True}
    ax = hw.reports.front_picture(crowd(6), "m", "n", higher)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:2] == ["front of these two", "filled: front of all 3"]
    filled = [c.lines[0].get_markerfacecolor() != "white" for c in ax.containers]
    lines = hw.reports.sweep_table(crowd(6), higher).splitlines()[2:]
    assert filled == [line.endswith("front") for line in lines]
    two = hw.reports.sweep_table(crowd(6), HIGHER).splitlines()[2:]
    assert sum(line.endswith("front") for line in two) == len(ax.lines[0].get_xdata())
    assert sum(filled) > len(ax.lines[0].get_xdata())


def test_best_in_colour_are_those_with_a_star():
    records = [record(float(w), m=m, n=1.0) for w, m in enumerate((0.497, 0.497, 0.4))]
    figure = hw.reports.weights_picture(records, HIGHER)
    best = [
        [c.lines[0].get_color() == "#009E73" for c in ax.containers]
        for ax in figure.axes
    ]
    assert best == [[True, True, False], [True] * 3]
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["a=0", "a=1", "a=2"]
