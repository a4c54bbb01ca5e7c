"""The report in a browser: what a click, a drag, a key does. One browser for all."""

import csv
import pathlib

import numpy as np
import pytest

import headwise as hw
from tests.reports import _browser
from tests.reports import _studies

pytestmark = pytest.mark.slow
MARKED = "#table tr.marked td:first-child"


@pytest.fixture(scope="module")
def chromium():
    with _browser.browser() as one:
        yield one


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "page.html"
    return hw.reports.write_report(_studies.trained(), output)


@pytest.fixture(scope="module")
def opened(chromium, trained):
    """Drawing takes seconds of software: most tests use the page of one opening."""
    with _browser.opened(chromium, trained) as one:
        yield one


@pytest.fixture
def page(opened):
    """That page, at its top, nothing focused; each test leaves it as it was."""
    opened.evaluate("scrollTo(0, 0)")
    opened.mouse.click(1, 1)
    yield opened
    assert opened.locator("#marked").is_hidden()
    assert len(opened.locator("#table tbody tr").all()) == 6


def seen(page, chart):
    """Brings a chart into view, and waits until it is drawn."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#{chart} .main-svg")


def traces(page, chart, read):
    return page.evaluate(f"() => document.getElementById('{chart}').data.map({read})")


def draws_all(page, width):
    """Every chart, and nothing is too wide. The colour behind them."""
    for chart in ("front", "parallel", "response", "curves"):
        seen(page, f"{chart}-chart")
    for chart in ("heads-map", "heads-time"):
        seen(page, chart)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_all_is_drawn_and_nothing_is_too_wide(page, chromium, trained):
    assert draws_all(page, 1280) == "rgb(255, 255, 255)"
    with _browser.opened(chromium, trained, 390, "dark") as small:
        assert draws_all(small, 390) != "rgb(255, 255, 255)"


def test_a_click_on_the_front_marks_the_trial_everywhere(page):
    seen(page, "front-chart")
    page.locator("#front-means").uncheck()
    place = page.evaluate(
        """() => {
          const chart = document.getElementById("front-chart");
          const layout = chart._fullLayout;
          const box = chart.querySelector(".nsewdrag").getBoundingClientRect();
          const { x, y } = chart.data[0];
          return [box.x + layout.xaxis.d2p(x[2]), box.y + layout.yaxis.d2p(y[2])];
        }"""
    )
    page.mouse.move(*place)
    page.wait_for_function("document.getElementById('front-chart')._hoverdata?.length")
    page.mouse.click(*place)
    page.wait_for_selector("#marked:not([hidden])")
    trial = int(page.locator(MARKED).inner_text())
    assert f"Trial {trial}" in page.locator("#marked").inner_text()
    assert f"trial {trial}" in page.locator("#announce").inner_text()
    seen(page, "curves-chart")
    widths = traces(page, "curves-chart", "t => [t.meta, t.line.width]")
    assert [meta for meta, width in widths if width > 3] == [trial]
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#front-means").check()


def test_front_surface_and_arrows_are_those_of_the_library(chromium, tmp_path):
    rng, ways = np.random.default_rng(3), [True, False]
    records = []
    for i in range(24):
        up, down = rng.uniform(size=2).round(3)
        record = hw.sweeps.record(
            {"a": float(1 + i // 4), "b": 1.0}, i % 4, {"up": up, "down": down}
        )
        slopes = {"up": {"a": 0.1 * i}, "down": {"a": -0.2}}
        records.append({**record, "slopes": slopes})
    hw.sweeps.append(tmp_path, *records)
    path = hw.reports.write_report(tmp_path, higher={"up": True, "down": False})
    points = np.array([[r["metrics"]["up"], r["metrics"]["down"]] for r in records])
    means = points.reshape(6, 4, 2).mean(axis=1)
    with _browser.opened(chromium, path) as page:
        seen(page, "front-chart")
        page.locator("#front-half").check()
        page.locator("#front-turn").select_option("a")
        lines = traces(page, "front-chart", "t => [t.name, t.x, t.y]")
        drawn = {name: np.array([x, y], float).T for name, x, y in lines if len(x)}
    front = means[hw.pareto.front(means, ways)]
    front = front[np.argsort(front[:, 0])]
    np.testing.assert_allclose(drawn["front of the means"], front, rtol=1e-6)
    want = hw.pareto.attainment([points[s::4] for s in range(4)], 0.5, ways)
    got = drawn["half of the seeds reach this"]
    np.testing.assert_allclose(got[np.argsort(got[:, 0])], want[np.argsort(want[:, 0])])
    arrows = drawn["with a a quarter larger (slopes)"]
    np.testing.assert_allclose(arrows[0::3], points)
    log = np.log(1.25)  # a slope is in the logarithm of the weight
    ends = points + log * np.array([[0.1 * i, -0.2] for i in range(24)])
    np.testing.assert_allclose(arrows[1::3], ends, rtol=1e-6)


def test_the_keyboard_alone_reaches_every_trial(page):
    page.keyboard.press("Tab")  # the first thing to reach is the way to the table
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.trial !== undefined"):
            break
    assert page.locator(MARKED).inner_text() == "0"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator(MARKED).inner_text() == "2"
    page.keyboard.press("ArrowUp")
    assert page.locator(MARKED).inner_text() == "1"
    page.keyboard.press("Enter")
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == "Copy the command"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.trial") == "1"
    page.keyboard.press("Escape")
    assert page.locator("#marked").is_hidden()
    named = page.evaluate(
        "[...document.querySelectorAll('select, input, button')]"
        ".filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim()"
        " || e.closest('label'))).length"
    )
    assert named == 0


def test_a_range_on_an_axis_keeps_its_trials(page, trained, tmp_path):
    seen(page, "parallel-chart")
    seen(page, "front-chart")
    page.evaluate(
        """() => Plotly.restyle("parallel-chart",
             { "dimensions[0].constraintrange": [[-1.2, -0.8]] })"""
    )  # the logarithm of a weight of 0.1
    data = _studies.data(trained)
    column = data["trials"]["columns"][0]
    want = [i for i, x in enumerate(column["values"]) if x == 0.1]
    page.wait_for_function("document.getElementById('brush-said').textContent")
    assert page.locator("#brush-said").inner_text().startswith(f"{len(want)} of 6")
    shown = page.locator("#table tbody td:first-child").all_inner_texts()
    assert sorted(map(int, shown)) == want
    chosen = traces(page, "front-chart", "t => t.selectedpoints")[0]
    assert sorted(chosen) == want
    page.evaluate("() => { URL.revokeObjectURL = () => { window.freed = true } }")
    with page.expect_download() as download:
        page.locator("#csv").click()
        # What is freed before the browser has read it is never downloaded.
        assert page.evaluate("window.freed") is None
    download.value.save_as(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["weight a"]) for line in lines] == [0.1] * len(want)
    page.locator("#brush-clear").click()
    assert len(page.locator("#table tbody tr").all()) == 6
    # The keyboard's way to the same range, and back.
    page.locator("#range-high").focus()
    page.keyboard.type("0.15")
    page.keyboard.press("Tab")
    shown = page.locator("#table tbody td:first-child").all_inner_texts()
    assert sorted(map(int, shown)) == want
    page.locator("#range-high").fill("")
    page.keyboard.press("Tab")
    assert len(page.locator("#table tbody tr").all()) == 6


def test_the_slider_moves_through_the_run(page, trained):
    seen(page, "heads-map")
    moments = _studies.data(trained)["runs"][0]["moments"]
    assert page.locator("#heads-at").inner_text() == str(moments["t"][-1])
    what = page.locator("#heads-what").input_value()
    page.locator("#heads-what").select_option("norm")
    page.locator("#heads-step").focus()
    page.keyboard.press("Home")
    assert page.locator("#heads-at").inner_text() == str(moments["t"][0])
    text = traces(page, "heads-map", "t => t.text")[0]
    norms = moments["norm"][0]
    for row, norm in zip(text, norms, strict=True):
        got = [0.0 if x == "–" else float(x) for x in row]
        assert got == pytest.approx(norm, rel=1e-3)
    page.keyboard.press("End")
    page.locator("#heads-what").select_option(what)


def test_names_are_names_and_ten_thousand_trials_are_usable(chromium, tmp_path):
    folder = pathlib.Path(tmp_path)
    _studies.study(folder, trials=10_000, seeds=5)
    path = hw.reports.write_report(folder)
    with _browser.opened(chromium, path) as page:  # no dialog: no name is a script
        assert _studies.HOSTILE in page.locator("#table thead").inner_text()
        seen(page, "front-chart")
        first = page.evaluate("performance.now()")
        kept = page.evaluate(
            """async () => {
              const start = performance.now();
              const box = document.querySelector("input[type=search]");
              box.value = "not finite"; box.dispatchEvent(new Event("input"));
              await new Promise(requestAnimationFrame);
              return performance.now() - start;
            }"""
        )
        print(f"first view {first:.0f} ms, search {kept:.0f} ms")
        seen(page, "parallel-chart")
        drawn = traces(page, "parallel-chart", "t => t.dimensions[0].values.length")
        assert drawn[0] <= 2000
        page.locator("input[type=search]").fill("")
        # A range: the next frame is there before all that follows from it.
        brushed = page.evaluate(
            """async () => {
              const frame = new Promise((next) => requestAnimationFrame(
                () => setTimeout(() => next(performance.now()))));
              const start = performance.now();
              const chart = document.getElementById("parallel-chart");
              chart.data[0].dimensions[1].constraintrange = [0, 1];
              chart.emit("plotly_restyle", [{ "dimensions[1].constraintrange": 0 }]);
              const said = document.getElementById("brush-said");
              return [await frame - start, said.textContent];
            }"""
        )
        print(f"range {brushed[0]:.0f} ms: {brushed[1]}")
        kept = brushed[1].split()[0]
        assert 0 < int(kept) < 10_000
        page.wait_for_function(
            "document.querySelector('.dt-info').textContent.replace(/,/g, '')"
            f".includes(' {kept} ')"
        )
        chosen = traces(page, "front-chart", "t => t.selectedpoints?.length")
        assert chosen[0] == int(kept)
        assert (
            "2,000 of 10,000 trials are drawn"
            in page.locator("#parallel-note").inner_text()
        )
