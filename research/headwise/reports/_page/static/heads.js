// Modules by heads at a step of a run, their cosines, and all of it over time.
const headWords = { share: "share of the update", norm: "length of the gradient" };

function startHeads() {
  if (!data.runs.length) return;
  fill(element("heads-run"), data.runs.map((run, i) => [i, run.name]));
  fill(element("heads-what"), Object.entries(headWords));
  element("heads-run").addEventListener("change", newRun);
  element("heads-what").addEventListener("change", headsMap);
  element("heads-step").addEventListener("input", headsMap);
  show("heads-map", "heads", newRun);
  element("heads-map").hidden = false;
}

const runShown = () => data.runs[Number(element("heads-run").value)];

function newRun() {
  const { moments, routing } = runShown();
  element("heads-routing").hidden = !routing;
  element("heads-routing").querySelector("pre").textContent = routing;
  for (const id of ["heads-map", "heads-cosines"]) element(id).hidden = !moments;
  element("heads-note").textContent = moments ? "" : "This run kept no contributions of heads to modules (fit: contributions in the step).";
  if (moments) {
    element("heads-step").max = moments.t.length - 1;
    element("heads-step").value = moments.t.length - 1;
    headsMap();
  }
  element("heads-step").parentElement.hidden = element("heads-what").parentElement.hidden = !moments;
  headsTime();
}

function headsMap() {
  const run = runShown(), moments = run.moments, at = Number(element("heads-step").value), what = element("heads-what").value;
  element("heads-at").textContent = moments.t[at];
  element("heads-step").setAttribute("aria-valuetext", `step ${moments.t[at]}`);
  // Places are numbers: names that are cut may be the same.
  const places = (names) => names.map((_, i) => i);
  const ticks = (names, most) => {
    const shown = places(names).filter((i) => i % Math.ceil(names.length / 40) === 0);
    return { tickvals: shown, ticktext: shown.map((i) => plain(short(names[i], most))), tickfont: { size: names.length > 16 ? 9 : 11 } };
  };
  const z = moments[what][at], text = z.map((row, m) => row.map((v, h) => (moments.norm[at][m][h] ? (what === "share" ? `${Math.round(100 * v)} %` : write(v)) : "–")));
  const shade = what === "share" ? z : z.map((row) => row.map((v) => (v ? Math.log10(v) : null)));
  const height = 110 + 24 * Math.max(run.modules.length, 4);
  for (const id of ["heads-map", "heads-cosines"]) element(id).style.height = element(id).style.minHeight = `${height}px`;
  const tall = { height, yaxis: axis("", { autorange: "reversed", ...ticks(run.modules, 36) }), margin: { l: 60, r: 10, t: 34, b: 60 } };
  const most = z.flat().reduce((a, v) => Math.max(a, Math.abs(v ?? 0)), 1e-6);
  const small = innerWidth < 700 || run.movers.length > 8;
  draw("heads-map", [{
    type: "heatmap", x: places(run.movers), y: places(run.modules), z: shade, text, texttemplate: small ? "" : "%{text}", hoverongaps: false, xgap: 1, ygap: 1,
    hovertext: run.modules.map((m, i) => run.movers.map((h, j) => `${plain(m)}<br>${plain(h)}: ${text[i][j]}`)), hoverinfo: "text", ...(what === "share" ? { colorscale: diverging(), zmin: -most, zmax: most } : { colorscale: "Viridis" }), colorbar: { thickness: 10 },
  }], { ...tall, xaxis: axis("", ticks(run.movers, 16)), title: { text: headWords[what] + (what === "share" ? "" : " (log10)"), font: { size: 14 } } });
  if (moments.pairs.length) {
    draw("heads-cosines", [{
      type: "heatmap", x: places(moments.pairs), y: places(run.modules), z: transpose(moments.cosine.map((pair) => pair[at])), zmin: -1, zmax: 1, colorscale: diverging(), xgap: 1, ygap: 1,
      hovertext: run.modules.map((m, i) => moments.pairs.map((p, j) => `${plain(m)}<br>${plain(p)}: ${write(moments.cosine[j][at][i])}`)), hoverinfo: "text", colorbar: { thickness: 10 },
    }], { ...tall, xaxis: axis("", ticks(moments.pairs, 24)), title: { text: moments.pairs.length < moments.all ? `${moments.pairs.length} of ${moments.all} pairs of heads: least mean cosine` : "cosine of two heads' gradients (orange: conflict)", font: { size: 14 } } });
  }
  element("heads-cosines").hidden = !moments.pairs.length;
  element("heads-map").setAttribute("aria-label", `${headWords[what]} by module and head at step ${moments.t[at]}: ` +
    run.modules.map((m, i) => `${m}: ${run.movers.map((h, j) => `${h} ${text[i][j]}`).join(", ")}`).join("; "));
  element("heads-cosines").setAttribute("aria-label", `Cosines of heads' gradients by module at step ${moments.t[at]}.`);
}

function headsTime() {
  const run = runShown(), layout = { grid: { rows: 3, columns: 1, pattern: "independent", roworder: "top to bottom" }, height: 620, legend: { orientation: "h", y: -0.12 }, showlegend: run.heads.length <= 16 };
  const traces = [];
  const lines = (values, at, what) => Object.entries(values ?? {}).forEach(([head, y]) => {
    const h = run.heads.indexOf(head);
    traces.push({ type: "scatter", mode: "lines", x: run.t, y, xaxis: `x${at}`, yaxis: `y${at}`, name: plain(head), legendgroup: head, showlegend: at === "",
      line: { color: colourOf(h), dash: ["solid", "dash", "dot"][Math.floor(h / okabeIto.length) % 3] }, hovertemplate: `${plain(head)} ${what}<br>step %{x}: %{y:.4g}<extra></extra>` });
  });
  lines(run.values, "", "value");
  lines(run.weights, "2", "weight");
  traces.push({ type: "scatter", mode: "lines", x: run.t, y: run.conflicts, xaxis: "x3", yaxis: "y3", name: "pairs of heads in conflict", line: { color: css("--mark") }, showlegend: false });
  layout.xaxis = axis(""); layout.xaxis2 = axis(""); layout.xaxis3 = axis("step");
  const positive = (tree) => Object.values(tree ?? {}).flat().every((v) => v === null || v > 0);
  layout.yaxis = axis("raw value", { type: positive(run.values) ? "log" : "linear" });
  layout.yaxis2 = axis("weight", { type: positive(run.weights) ? "log" : "linear" });
  layout.yaxis3 = axis("conflicts", { rangemode: "tozero" });
  element("heads-time").style.minHeight = "620px";
  element("heads-time").setAttribute("aria-label", `Raw values, weights and conflicts of ${run.heads.join(", ")} over the steps of ${run.name}.`);
  draw("heads-time", traces, layout);
}

const diverging = () => [[0, "#D55E00"], [0.5, dark.matches ? "#23282f" : "#f4f4f4"], [1, "#0072B2"]];
const transpose = (m) => (m.length ? m[0].map((_, i) => m.map((row) => row[i])) : []);
