// One panel a weight: its levels across, a metric up.
function startResponse() {
  const known = metrics.filter((c) => c.values.some((v) => v !== null));
  if (!weights.length || !known.length) return;
  fill(element("response-metric"), known.map((c) => [`metric ${c.name}`, c.name]));
  element("response-metric").addEventListener("change", responseChart);
  show("response-chart", "response", responseChart);
  element("response-chart").on("plotly_click", ({ points }) => {
    const point = points.find((p) => p.data.mode === "markers");
    if (point) mark(point.pointNumber, "response");
  });
  listeners.mark.push(responseChart);
}

function responseChart() {
  const metric = column.get(element("response-metric").value);
  const shown = weights.slice(0, 12);
  const across = Math.min(shown.length, innerWidth < 700 ? 1 : 4), down = Math.ceil(shown.length / across);
  const traces = [], layout = { grid: { rows: down, columns: across, pattern: "independent", ygap: 0.35 }, showlegend: false, height: 90 + 230 * down };
  shown.forEach((c, i) => {
    const at = i ? i + 1 : "";
    traces.push({
      type: trials.n > 2000 ? "scattergl" : "scatter", mode: "markers", x: c.values, y: metric.values, xaxis: `x${at}`, yaxis: `y${at}`,
      marker: { color: okabeIto[0], size: 6, opacity: 0.5 }, text: trials.n <= 2000 ? rows.of.map((_, t) => plain(nameOf(t))) : undefined,
      hovertemplate: `%{text}<br>${plain(c.name)} %{x}<br>${plain(metric.name)} %{y:.4g}<extra></extra>`,
    });
    const levels = [...new Set(c.values.filter((v) => v !== null))].sort((a, b) => a - b);
    const few = levels.length <= 40;
    const medians = few ? levels.map((level) => median(metric.values.filter((v, t) => v !== null && c.values[t] === level))) : [];
    traces.push({ type: "scatter", mode: "lines+markers", x: few ? levels : [], y: medians, xaxis: `x${at}`, yaxis: `y${at}`, hoverinfo: "skip",
      line: { color: css("--ink"), width: 2 }, marker: { size: 8, symbol: "diamond", color: css("--ink") } });
    if (state.marked !== null) {
      traces.push({ type: "scatter", mode: "markers", x: [c.values[state.marked]], y: [metric.values[state.marked]], xaxis: `x${at}`, yaxis: `y${at}`,
        hoverinfo: "skip", marker: { size: 16, symbol: "circle-open", color: css("--mark"), line: { width: 3, color: css("--mark") } } });
    }
    layout[`xaxis${at}`] = axis(`weight of ${c.name}`, { type: logarithmic(c) ? "log" : "linear" });
    layout[`yaxis${at}`] = axis(i % across ? "" : metric.name);
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
