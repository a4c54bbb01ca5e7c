// Any two metrics against each other: trials, means over the seeds, what nothing beats.
function logarithmic(c) {
  const known = c.values.filter((v) => v !== null);
  const [low, high] = known.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  return low > 0 && high / low >= 10;
}

function undominated(xs, ys, moreX, moreY) {
  // Indices on the front of two metrics, from left to right.
  const order = [...xs.keys()].filter((i) => xs[i] !== null && ys[i] !== null && xs[i] !== undefined);
  const x = (i) => (moreX ? -xs[i] : xs[i]), y = (i) => (moreY ? -ys[i] : ys[i]);
  order.sort((a, b) => x(a) - x(b) || y(a) - y(b));
  const found = [];
  let best = Infinity, at = NaN;
  for (const i of order) {
    if (y(i) < best) { found.push(i); best = y(i); at = x(i); } else if (y(i) === best && x(i) === at) found.push(i);
  }
  return found.sort((a, b) => xs[a] - xs[b]);
}

function attained(x, y) {
  // Corners of what half of the seeds reach (the median attainment surface).
  const seeds = new Map();
  column.get("seed seed").values.forEach((seed, i) => {
    if (x.values[i] === null || y.values[i] === null) return;
    if (!seeds.has(seed)) seeds.set(seed, []);
    seeds.get(seed).push([x.more ? -x.values[i] : x.values[i], y.more ? -y.values[i] : y.values[i]]);
  });
  const count = Math.ceil(seeds.size / 2), runs = [...seeds.values()].map((points) => points.sort((a, b) => a[0] - b[0]));
  const places = [...new Set(runs.flat().map(([at]) => at))].sort((a, b) => a - b);
  const least = runs.map(() => Infinity), next = runs.map(() => 0), corners = [];
  let level = Infinity;
  for (const at of places) {
    runs.forEach((points, r) => { while (next[r] < points.length && points[next[r]][0] <= at) least[r] = Math.min(least[r], points[next[r]++][1]); });
    const now = [...least].sort((a, b) => a - b)[count - 1];
    if (now < level) { corners.push([at, now]); level = now; }
  }
  return corners.map(([a, b]) => [x.more ? -a : a, y.more ? -b : b]);
}

function turned(x, y, head) {
  // Arrows: where a trial would go, to first order, with a weight larger by a quarter.
  const xs = [], ys = [], by = Math.log(1.25);
  trials.slopes.forEach((slopes, i) => {
    const dx = slopes?.[x.name]?.[head], dy = slopes?.[y.name]?.[head];
    if (typeof dx !== "number" || typeof dy !== "number" || x.values[i] === null || y.values[i] === null) return;
    xs.push(x.values[i], x.values[i] + by * dx, null);
    ys.push(y.values[i], y.values[i] + by * dy, null);
  });
  return [xs, ys];
}

// Of very many trials a few are drawn at first, without WebGL, which takes its time to start.
let sketched = many;
const few = (places) => places.filter((_, i) => i % Math.ceil(places.length / 500) === 0);
function sketch(x, y) {
  const ends = [x, y].flatMap(({ values }) => {
    const known = [...values.keys()].filter((i) => values[i] !== null);
    const pick = (better) => known.reduce((best, i) => (better(values[i], values[best]) ? i : best), known[0] ?? 0);
    return [pick((a, b) => a < b), pick((a, b) => a > b)];
  });
  return [...new Set([...few(part), ...ends])];
}

function finishFront() {
  sketched = false;
  redraw("front-chart");
}

function frontChart() {
  const pick = (id) => column.get(element(id).value);
  const [x, y] = [pick("front-x"), pick("front-y")];
  const colour = column.get(element("front-colour").value);
  const traces = [];
  const seeds = element("front-seeds").checked, means = element("front-means").checked && rows.mean[x.name] && rows.mean[y.name];
  const kept = state.kept && { selectedpoints: [...state.kept] };
  const all = [...Array(trials.n).keys()], shown = sketched ? sketch(x, y) : all;
  const names = shown.map((i) => plain(nameOf(i)) + (trials.state[i] ? `<br>${plain(trials.state[i])}` : ""));
  const log = colour && numeric(colour) && logarithmic(colour);
  const shade = colour && numeric(colour)
    ? { color: shown.map((i) => colour.values[i]).map((v) => v === null ? NaN : log ? Math.log10(v) : v), colorscale: "Viridis", showscale: true,
      colorbar: { title: { text: plain(log ? `log10 ${colour.name}` : colour.name), side: "right" }, thickness: 12 } }
    : { color: colour ? codes(shown.map((i) => colour.values[i])).map(colourOf) : lead() };
  traces.push({
    type: many && shown === all ? "scattergl" : "scatter", mode: "markers", name: "trials", text: names,
    x: shown.map((i) => x.values[i]), y: shown.map((i) => y.values[i]), customdata: shown,
    hovertemplate: `%{text}<br>${plain(x.name)} %{x:.4g}<br>${plain(y.name)} %{y:.4g}<extra></extra>`, visible: seeds,
    marker: { size: means ? 6 : 8, opacity: means ? 0.55 : 0.85, ...shade }, unselected: { marker: { opacity: 0.06 } }, ...(kept ?? { selectedpoints: null }),
  });
  const mx = rows.mean[x.name] ?? [], my = rows.mean[y.name] ?? [];
  const line = undominated(mx, my, x.more, y.more), every = [...mx.keys()];
  const some = sketched ? [...new Set([...few(every), ...line])] : every;
  traces.push({
    type: "scatter", mode: "lines", name: "front of the means", x: line.map((i) => mx[i]), y: line.map((i) => my[i]),
    line: { color: css("--faint"), width: 2, shape: "linear" }, hoverinfo: "skip", visible: means ? true : false,
  });
  traces.push({
    type: many && !sketched ? "scattergl" : "scatter", mode: "markers", name: "means (filled: front of all metrics)", visible: means ? true : false,
    x: some.map((i) => mx[i]), y: some.map((i) => my[i]), customdata: some,
    text: some.map((i) => `${plain(rows.labels[i])}<br>mean of ${rows.count[i]}${rows.diverged[i] ? `, ${rows.diverged[i]} diverged` : ""}`),
    hovertemplate: `%{text}<br>${plain(x.name)} %{x:.4g}<br>${plain(y.name)} %{y:.4g}<extra></extra>`,
    marker: { size: 12, symbol: some.map((i) => (rows.front[i] ? "circle" : "circle-open")), color: css("--ink"), line: { width: 2, color: css("--ink") } },
  });
  const half = element("front-half").checked ? attained(x, y) : [];
  traces.push({
    type: "scatter", mode: "lines", name: "half of the seeds reach this", x: half.map((p) => p[0]), y: half.map((p) => p[1]),
    line: { shape: x.more ? "vh" : "hv", dash: "dot", width: 2, color: okabeIto[2] }, hoverinfo: "skip", visible: half.length > 0,
  });
  const [ax, ay] = element("front-turn").value ? turned(x, y, element("front-turn").value) : [[], []];
  traces.push({
    type: "scatter", mode: "lines+markers", name: `with ${plain(element("front-turn").value)} a quarter larger (slopes)`, x: ax, y: ay, hoverinfo: "skip",
    line: { color: okabeIto[3], width: 1.5 }, marker: { symbol: "arrow", angleref: "previous", color: okabeIto[3], size: ax.map((_, i) => (i % 3 === 1 ? 11 : 0)) }, visible: ax.length > 0,
  });
  const better = (c) => `${c.name} (${c.more ? "more" : "less"} is better)`;
  element("front-note").textContent = line.length ? `On the front of these two: ${line.map((i) => rows.labels[i]).slice(0, 12).join("; ")}${line.length > 12 ? "; …" : ""}.` : "";
  element("front-chart").setAttribute("aria-label", `Scatter of ${trials.n} trials: ${better(x)} across, ${better(y)} up. ${element("front-note").textContent}`);
  draw("front-chart", traces, { xaxis: axis(better(x)), yaxis: axis(better(y)), hovermode: "closest", dragmode: "zoom", shapes: ring() });
}

function ring() {
  // Around the marked trial: a shape, since a trace would have all of them computed anew.
  const [x, y] = ["front-x", "front-y"].map((id) => column.get(element(id).value).values[state.marked] ?? null);
  if (x === null || y === null) return [];
  const sized = { xsizemode: "pixel", ysizemode: "pixel", x0: -10, x1: 10, y0: -10, y1: 10 };
  return [{ type: "circle", name: "marked", xanchor: x, yanchor: y, ...sized, line: { width: 4, color: css("--mark") } }];
}

function codes(values) {
  const known = new Map([...new Set(values)].map((v, i) => [v, i]));
  return values.map((v) => known.get(v));
}

function startFront() {
  const known = metrics.filter((c) => c.values.some((v) => v !== null));
  if (!known.length || trials.n < 2) return;
  const options = known.map((c) => [`metric ${c.name}`, c.name]);
  const [x, y] = data.front ?? [];
  fill(element("front-x"), options, `metric ${x ?? known[0].name}`);
  fill(element("front-y"), options, `metric ${y ?? (known[1] ?? known[0]).name}`);
  fill(element("front-colour"), [["", "one"], ...[...weights, ...settings, column.get("seed seed"), ...known].map((c) => [`${c.kind} ${c.name}`, c.name])]);
  for (const id of ["front-x", "front-y", "front-colour", "front-means", "front-seeds", "front-half", "front-turn"]) element(id).addEventListener("change", () => redraw("front-chart"));
  const turns = weights.filter((c) => trials.slopes.some((slopes) => Object.values(slopes ?? {}).some((of) => c.name in of)));
  element("front-turn-label").hidden = !turns.length;
  fill(element("front-turn"), [["", "no weight"], ...turns.map((c) => [c.name, c.name])]);
  show("front-chart", "front", frontChart, frontEvents);
  listeners.mark.push(() => {
    if (drawn.has("front-chart")) Plotly.relayout("front-chart", { shapes: ring() });
  });
  listeners.keep.push((kept) => {
    if (drawn.has("front-chart")) Plotly.restyle("front-chart", { selectedpoints: [kept ? [...kept] : null] }, [0]);
  });
}

function frontEvents(chart) {
  chart.on("plotly_click", ({ points }) => {
    const point = points.find((p) => p.data.name === "trials");
    if (point) return mark(point.customdata, "front");
    const mean = points.find((p) => p.data.name?.startsWith("means"));
    if (mean) mark(rows.of.indexOf(mean.customdata), "front");
  });
  chart.on("plotly_selected", (event) => {
    if (event) keep(new Set(event.points.filter((p) => p.data.name === "trials").map((p) => p.customdata)), "front");
  });
}
