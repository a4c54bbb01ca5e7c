"""The page on losses runs as written, and its table says what is so."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise import _reduction
from tests import _pages
from tests.losses import _compiled

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "losses.md"
COLUMNS = ("what", "returns", "takes", "perfect", "absent", "0.001", "masked")

# What makes losses of losses, or is none.
OTHERS = {"checked", "deep_supervision", "distance_transform", "mix"}
SHAPES = {
    "[B]": (1,),
    "[B, C]": (1, 3),
    "[B, *S]": (1, 16, 16),
    "[B, *S, C]": (1, 16, 16, 3),
}
LAYOUTS = dict(zip(("example", "class", "position", "entry"), SHAPES, strict=True))
LABELS = jnp.zeros((1, 16, 16), int).at[:, 4:12, 4:12].set(1)
NOWHERE = jnp.zeros(1, bool)
# exp(-50) is 0 beside 1 in float32, as softmax of logits cut there.
LEAST = -50.0


def table():
    """{name: {column: cell}} of the table of losses."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        cells = [cell.strip("`") for cell in cells]
        name = re.fullmatch(r"`(\w+)`", first)
        if name and len(cells) == len(COLUMNS):
            rows[name[1]] = dict(zip(COLUMNS, cells, strict=True))
    return rows


ROWS = table()


def of_probabilities(name, p, where=None):
    """The values for probabilities [1, 16, 16, C], given in the form it takes."""
    loss, takes = getattr(hw.losses, name), ROWS[name]["takes"]
    options = {"where": where}
    if "distances" in inspect.signature(loss).parameters:
        options["distances"] = 1 - jnp.eye(p.shape[-1])
    loss = _compiled.whole(loss)
    log = jnp.maximum(jnp.log(p), LEAST)
    if takes == "p":
        return loss(p, LABELS, **options)
    if takes == "z":
        return loss(log, LABELS, **options)
    assert takes == "z each", takes
    targets = jax.nn.one_hot(LABELS, p.shape[-1])
    return loss(log - jnp.maximum(jnp.log1p(-p), LEAST), targets, **options)


def edges(name):
    """{column: value}, as the page defines them."""
    if ROWS[name]["takes"] == "v":
        # Depth, pictures and vectors alike: no entry is 0.
        v = jnp.linspace(0.5, 1.0, 16 * 16 * 3).reshape(1, 16, 16, 3)
        loss = _compiled.whole(getattr(hw.losses, name))
        values = {"perfect": loss(v, v), "masked": loss(v, v[:, ::-1], where=NOWHERE)}
        return {column: float(jnp.mean(value)) for column, value in values.items()}
    with_classes = "C" in ROWS[name]["returns"]

    def of_class(c, p, where=None):
        values = of_probabilities(name, p, where)
        return float(jnp.mean(values[..., c] if with_classes else values))

    there, absent = jax.nn.one_hot(LABELS, 2), jax.nn.one_hot(LABELS, 3)
    some = jnp.full(3, 0.001) * jnp.array([0.0, 0.0, 1.0])
    little = 0.999 * absent + jnp.broadcast_to(some, absent.shape)
    return {
        "perfect": of_class(1, there),
        "absent": of_class(2, absent),
        "0.001": of_class(2, little),
        "masked": of_class(2, little, NOWHERE),
    }


def written(value):
    """With three digits; what is below the smallest of the losses shown is 0."""
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def test_page_runs_as_written():
    namespace = _pages.run_page(PAGE)
    assert set(namespace["values"]) == {"organs"}


def test_links_lead_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {
        "#" + re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings
    }
    for target in _pages.links(text):
        assert target in anchors or (PAGE.parent / target).exists(), target


def test_every_loss_is_on_the_page():
    wrong = set(ROWS) ^ (set(hw.losses.__all__) - OTHERS)
    assert not wrong, f"rows of the table in docs/guides/losses.md: {sorted(wrong)}"
    text = PAGE.read_text(encoding="utf-8")
    for name in OTHERS:
        assert f"`{name}(" in text, name


def test_every_metric_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    types = {"Ratio", "DepthErrors", "AngleHistogram"}
    for name in set(hw.metrics.__all__) - types:
        assert f"`{name}`" in text or f"`hw.metrics.{name}`" in text, name


def test_names_on_the_page_exist():
    text = PAGE.read_text(encoding="utf-8")
    for layer, name in re.findall(r"hw\.(losses|metrics)\.(\w+)", text):
        assert hasattr(getattr(hw, layer), name), name


@pytest.mark.parametrize("name", sorted(ROWS))
def test_edges_are_what_the_library_computes(name):
    values = edges(name)
    shown = {column: ROWS[name][column] for column in COLUMNS[3:]}
    shown = {column: float(cell) for column, cell in shown.items() if cell}
    assert set(shown) == set(values)
    for column, value in values.items():
        # Three digits are written. A 0 may be off by the rounding of 1 in float32.
        np.testing.assert_allclose(
            value, shown[column], rtol=5e-3, atol=0 if shown[column] else 2e-7
        )


@pytest.mark.parametrize("name", sorted(ROWS))
def test_shapes_are_what_the_library_returns(name):
    if ROWS[name]["takes"] == "v":
        v = jnp.ones((1, 16, 16, 3))
        result = jax.eval_shape(getattr(hw.losses, name), v, v)
    else:
        p = jax.nn.one_hot(LABELS, 3)
        result = jax.eval_shape(lambda p: of_probabilities(name, p), p)
    assert result.shape == SHAPES[ROWS[name]["returns"]]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_shapes_are_what_the_losses_declare(name):
    layout = _reduction.layout_of(getattr(hw.losses, name))
    assert ROWS[name]["returns"] == LAYOUTS[layout]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_options_that_the_page_says_all_have(name):
    parameters = inspect.signature(getattr(hw.losses, name)).parameters
    assert "where" in parameters
    if ROWS[name]["takes"] != "v":
        assert "ignore" in parameters
    # Those that take probabilities take logits with an activation.
    if ROWS[name]["takes"] == "p":
        assert parameters["activation"].default is None
