// Parallel coordinates from weights to metrics; ranges on axes keep trials everywhere.
let axes = [];

function startParallel() {
  const shown = [...weights, ...settings, ...metrics.filter((c) => c.shown)].filter((c) => c.values.some((v) => v !== null)).slice(0, 14);
  if (shown.length < 2 || trials.n < 2) return;
  element("parallel-note").textContent = partSaid;
  show("parallel-chart", "parallel", () => parallelChart(shown), (chart) => chart.on("plotly_restyle", ([change]) => {
    if (Object.keys(change).some((name) => name.includes("constraintrange"))) readRanges(chart);
  }));
  fill(element("range-axis"), shown.map((c, i) => [i, c.name]).filter(([i]) => numeric(shown[i])));
  element("range").hidden = !shown.some(numeric);
  for (const id of ["range-low", "range-high"]) element(id).addEventListener("change", typedRange);
  element("range-axis").addEventListener("change", emptyRange);
  element("brush-clear").addEventListener("click", () => {
    for (const one of axes) delete one.dimension.constraintrange;
    emptyRange();
    redraw("parallel-chart");
    keep(null, "clear");
  });
  listeners.keep.unshift((kept) => {
    element("brush-clear").hidden = !kept;
    element("brush-said").textContent = kept ? `${kept.size} of ${trials.n} trials kept` : "";
  });
  listeners.mark.push(() => {
    // Colouring anew draws all lines: of many it would take longer than a key is held.
    if (drawn.has("parallel-chart") && part.length <= 500) Plotly.restyle("parallel-chart", { "line.color": [lineColours()] }, [0]);
  });
}

function axisOf(c) {
  const known = c.values.filter((v) => v !== null);
  const label = plain(short(c.name, 18));
  if (!numeric(c) || known.length === 0) {
    const texts = [...new Set(c.values.map(write))];
    const values = c.values.map((v) => texts.indexOf(write(v)));
    return { c, dimension: { label, values, tickvals: [...texts.keys()], ticktext: texts.map((t) => plain(short(t, 14))), range: [-0.5, texts.length - 0.5] } };
  }
  const log = c.kind === "weight" && logarithmic(c);
  const to = (v) => (log ? Math.log10(v) : v);
  let low = known.reduce((a, v) => Math.min(a, to(v)), Infinity), high = known.reduce((a, v) => Math.max(a, to(v)), -Infinity);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const missing = low - 0.08 * (high - low); // trials without a value lie below the axis
  const lacks = c.values.some((v) => v === null);
  const dimension = { label, values: c.values.map((v) => (v === null ? missing : to(v))), range: [lacks ? missing : low, high] };
  const levels = [...new Set(known)].sort((a, b) => a - b);
  const ticks = levels.length <= 6 ? levels : [0, 0.25, 0.5, 0.75, 1].map((f) => (log ? 10 ** (low + f * (high - low)) : low + f * (high - low)));
  dimension.tickvals = ticks.map(to);
  dimension.ticktext = ticks.map((v) => write(Number(v.toPrecision(3))));
  if (lacks) { dimension.tickvals.unshift(missing); dimension.ticktext.unshift("none"); }
  return { c, to, ends: [low, high], dimension };
}

function emptyRange() {
  for (const id of ["range-low", "range-high"]) element(id).value = "";
}

function typedRange() {
  // The keyboard's way to a range: what a drag along the axis does.
  const one = axes[Number(element("range-axis").value)];
  if (!one) return;
  const typed = ["range-low", "range-high"].map((id) => element(id).value).map((text) => (text === "" ? NaN : one.to(Number(text))));
  const range = typed.map((v, i) => (Number.isNaN(v) ? one.ends[i] : v));
  if (typed.every(Number.isNaN)) delete one.dimension.constraintrange; else one.dimension.constraintrange = range;
  redraw("parallel-chart");
  readRanges(element("parallel-chart"));
}

function lineColours() {
  const last = axes[axes.length - 1].dimension;
  const [low, high] = last.range;
  return part.map((i) => (i === state.marked ? 1 : 0.9 * (last.values[i] - low) / (high - low)));
}

function parallelChart(shown) {
  if (!axes.length) axes = shown.map(axisOf);
  const blues = dark.matches ? [[0, "#31507a"], [0.45, "#5aa5dd"], [0.9, "#d9f0ff"]] : [[0, "#b9d4ea"], [0.45, "#4b93c8"], [0.9, "#08306b"]];
  const chart = element("parallel-chart");
  chart.setAttribute("aria-label", `Parallel coordinates of ${trials.n} trials over ${axes.map((a) => a.c.name).join(", ")}. The table below holds the same numbers.`);
  draw("parallel-chart", [{
    type: "parcoords", dimensions: axes.map(({ dimension }) => ({ ...dimension, values: part.map((i) => dimension.values[i]) })), labelangle: axes.length > 7 ? -20 : 0,
    line: { color: lineColours(), cmin: 0, cmax: 1, colorscale: [...blues, [0.95, css("--mark")], [1, css("--mark")]] },
    unselected: { line: { color: css("--line"), opacity: 0.25 } }, labelfont: { size: 13 }, tickfont: { size: 11 },
  }], { margin: { l: 60, r: 50, t: axes.length > 7 ? 80 : 50, b: 24 } });
}

function readRanges(chart) {
  const ranges = chart.data[0].dimensions.map((d) => {
    const range = d.constraintrange;
    return !range?.length ? null : Array.isArray(range[0]) ? range : [range];
  });
  chart.data[0].dimensions.forEach((d, i) => { if (d.constraintrange) axes[i].dimension.constraintrange = d.constraintrange; else delete axes[i].dimension.constraintrange; });
  if (ranges.every((r) => r === null)) return keep(null, "parallel");
  const kept = new Set();
  for (let i = 0; i < trials.n; i++) {
    if (ranges.every((range, k) => range === null || range.some(([a, b]) => axes[k].dimension.values[i] >= a && axes[k].dimension.values[i] <= b))) kept.add(i);
  }
  keep(kept, "parallel");
}
