// One panel a weight: its levels across, a metric up.
function startResponse() {
  const known = metrics.filter((c) => c.values.some((v) => v !== null));
  if (!weights.length || !known.length) return;
  fill(element("response-metric"), known.map((c) => [`metric ${c.name}`, c.name]));
  element("response-metric").addEventListener("change", () => redraw("response-chart"));
  element("response-note").textContent = partSaid;
  show("response-chart", "response", responseChart, (chart) => chart.on("plotly_click", ({ points }) => {
    const point = points.find((p) => p.data.name === "trials");
    if (point) mark(part[point.pointNumber], "response");
  }));
  listeners.mark.push((trial) => {
    if (!drawn.has("response-chart") || part.length > 500) return;
    const metric = column.get(element("response-metric").value), shown = weights.slice(0, 12);
    const at = (c) => (trial === null ? [] : [c.values[trial]]);
    Plotly.restyle("response-chart", { x: shown.map(at), y: shown.map(() => at(metric)) }, shown.map((_, i) => 3 * i + 2));
  });
}

function responseChart() {
  const metric = column.get(element("response-metric").value);
  const shown = weights.slice(0, 12);
  const across = Math.min(shown.length, innerWidth < 700 ? 1 : 4), down = Math.ceil(shown.length / across);
  const traces = [], layout = { grid: { rows: down, columns: across, pattern: "independent", ygap: 0.35 }, showlegend: false, height: 90 + 230 * down };
  shown.forEach((c, i) => {
    const at = i ? i + 1 : "";
    traces.push({
      type: "scatter", mode: "markers", name: "trials", x: part.map((t) => c.values[t]), y: part.map((t) => metric.values[t]), xaxis: `x${at}`, yaxis: `y${at}`,
      marker: { color: lead(), size: 6, opacity: 0.5 }, text: part.map((t) => plain(nameOf(t))),
      hovertemplate: `%{text}<br>${plain(c.name)} %{x}<br>${plain(metric.name)} %{y:.4g}<extra></extra>`,
    });
    const levels = [...new Set(c.values.filter((v) => v !== null))].sort((a, b) => a - b);
    const few = levels.length <= Math.min(40, trials.n / 2);
    const medians = few ? levels.map((level) => median(metric.values.filter((v, t) => v !== null && c.values[t] === level))) : [];
    traces.push({ type: "scatter", mode: "lines+markers", x: few ? levels : [], y: medians, xaxis: `x${at}`, yaxis: `y${at}`, hoverinfo: "skip",
      line: { color: css("--ink"), width: 2 }, marker: { size: 8, symbol: "diamond", color: css("--ink") } });
    const marked = (column) => (state.marked === null ? [] : [column.values[state.marked]]);
    traces.push({ type: "scatter", mode: "markers", name: "marked", x: marked(c), y: marked(metric), xaxis: `x${at}`, yaxis: `y${at}`,
      hoverinfo: "skip", marker: { size: 16, symbol: "circle-open", color: css("--mark"), line: { width: 3, color: css("--mark") } } });
    layout[`xaxis${at}`] = axis(`weight of ${short(c.name, 20)}`, { type: logarithmic(c) ? "log" : "linear" });
    layout[`yaxis${at}`] = axis(i % across ? "" : short(metric.name, 24));
  });
  element("response-chart").style.minHeight = `${layout.height}px`;
  element("response-chart").setAttribute("aria-label", `${metric.name} against the weight of each of ${shown.map((c) => c.name).join(", ")}.`);
  draw("response-chart", traces, layout);
}

function median(values) {
  if (!values.length) return null;
  const order = [...values].sort((a, b) => a - b), half = order.length >> 1;
  return order.length % 2 ? order[half] : (order[half - 1] + order[half]) / 2;
}
