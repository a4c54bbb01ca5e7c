// Raw values and weights of heads over the steps, a line a trial.
const curveWords = { values: "raw values of losses", weights: "weights in effect" };

function startCurves() {
  const known = Object.values(data.curves?.trials ?? {});
  if (!known.length) return;
  const heads = (what) => [...new Set(known.flatMap((c) => Object.keys(c[what] ?? {})))];
  const whats = Object.keys(curveWords).filter((what) => heads(what).length);
  if (!whats.length) return;
  fill(element("curves-what"), whats.map((what) => [what, curveWords[what]]));
  fill(element("curves-head"), heads(whats[0]).map((head) => [head, head]));
  for (const id of ["curves-what", "curves-head", "curves-log"]) element(id).addEventListener("change", () => redraw("curves-chart"));
  element("curves-note").textContent = data.curves.said;
  show("curves-chart", "curves", curvesChart, (chart) => chart.on("plotly_click", ({ points }) => mark(points[0].data.meta, "curves")));
  listeners.mark.push(() => redraw("curves-chart"));
  listeners.keep.push(() => redraw("curves-chart"));
}

function curvesChart() {
  const what = element("curves-what").value, head = element("curves-head").value;
  const numbers = Object.keys(data.curves.trials).map(Number).filter((i) => data.curves.trials[i][what]?.[head]);
  numbers.sort((a, b) => (a === state.marked) - (b === state.marked)); // the marked one on top
  const traces = numbers.map((i) => {
    const curve = data.curves.trials[i], marked = i === state.marked;
    const away = state.kept && !state.kept.has(i);
    return {
      type: "scatter", mode: "lines", x: curve.t, y: curve[what][head], meta: i, name: plain(nameOf(i)), connectgaps: false,
      line: { color: marked ? css("--mark") : colourOf(rows.of[i]), width: marked ? 4 : 1.3 }, opacity: marked ? 1 : away ? 0.05 : state.marked === null ? 0.7 : 0.35,
      showlegend: false, hovertemplate: `${plain(nameOf(i))}<br>step %{x}: %{y:.4g}<extra></extra>`,
    };
  });
  element("curves-chart").setAttribute("aria-label", `${curveWords[what]}, ${head}, of ${numbers.length} trials over the steps.`);
  draw("curves-chart", traces, { xaxis: axis("step"), yaxis: axis(`${head}: ${curveWords[what]}`, { type: element("curves-log").checked ? "log" : "linear" }), hovermode: "closest" });
}
