// What all charts share: colours, type, how they are drawn again.
const okabeIto = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const drawn = new Map(); // id of a chart: what draws it

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colourOf = (i) => okabeIto[i % okabeIto.length];
// Plotly reads a little markup in names: angle brackets are what they are.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most = 32) => (text.length > most ? `${text.slice(0, most / 2)}…${text.slice(1 - most / 2)}` : text);

function axis(title, more = {}) {
  return {
    title: { text: plain(title), standoff: 8 }, gridcolor: css("--line"), zerolinecolor: css("--line"),
    linecolor: css("--line"), automargin: true, ...more,
  };
}

function draw(id, traces, layout = {}, config = {}) {
  const chart = element(id);
  const whole = {
    paper_bgcolor: css("--page"), plot_bgcolor: css("--page"),
    font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 56, r: 16, t: 16, b: 48 }, hoverlabel: { align: "left" }, colorway: okabeIto,
    legend: { orientation: "h", y: -0.2, itemsizing: "constant" }, ...layout,
  };
  return Plotly.react(chart, traces, whole, {
    displaylogo: false, responsive: true, modeBarButtonsToRemove: ["sendDataToCloud"], ...config,
  });
}

function show(id, section, make) {
  element(section).hidden = false;
  drawn.set(id, make);
  make();
}

dark.addEventListener("change", () => drawn.forEach((make) => make()));
