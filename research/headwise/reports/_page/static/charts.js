// What all charts share: colours, type, how they are drawn again.
const okabeIto = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map(); // id of a chart: what draws it

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const lead = () => okabeIto[dark.matches ? 4 : 0]; // of dots, on either ground
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

// A chart is drawn when it comes near the window, `once` after its first time.
const waiting = new Map();
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) waiting.get(target.id)?.();
}, { rootMargin: "400px" });

function show(id, section, make, once = () => {}) {
  element(section).hidden = false;
  waiting.set(id, () => {
    waiting.delete(id);
    near.unobserve(element(id));
    make();
    once(element(id));
    drawn.set(id, make);
  });
  near.observe(element(id));
}

const redraw = (id) => drawn.get(id)?.();
dark.addEventListener("change", () => drawn.forEach((make) => make()));
addEventListener("beforeprint", () => [...waiting.values()].forEach((make) => make()));

const part = !many ? [...Array(trials.n).keys()] : partOf();
function partOf() {
  const all = [...Array(trials.n).keys()], first = all.filter((i) => rows.front[rows.of[i]]).slice(0, MANY / 4);
  const chosen = new Set(first), others = all.filter((i) => !chosen.has(i)), left = MANY - chosen.size;
  for (let i = 0; i < left; i++) chosen.add(others[Math.floor((i * others.length) / left)]);
  return [...chosen].sort((a, b) => a - b);
}
const partSaid = many ? ` ${part.length.toLocaleString("en")} of ${trials.n.toLocaleString("en")} trials are drawn here (the front's and others at equal distances); ranges apply to all.` : "";
