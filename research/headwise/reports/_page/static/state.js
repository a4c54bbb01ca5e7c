// What is shown, marked and kept: one place, and who wants to know of it.
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const trials = data.trials ?? { n: 0, columns: [], state: [], key: [], slopes: [] };
const rows = data.rows ?? { of: [], labels: [], front: [], mean: {}, count: [] };
const column = new Map(trials.columns.map((c) => [`${c.kind} ${c.name}`, c]));
const metrics = trials.columns.filter((c) => c.kind === "metric");
const varies = (c) => new Set(c.values).size > 1;
const numeric = (c) => c.values.every((v) => v === null || typeof v === "number");
const weights = trials.columns.filter((c) => c.kind === "weight" && varies(c));
const settings = trials.columns.filter((c) => c.kind === "setting" && varies(c));

const state = { marked: null, kept: null }; // a trial; a Set of trials, null for all
const listeners = { mark: [], keep: [] };

// Of very many trials a part is drawn where each is a line or stands in many panels,
// and what follows from something comes frame by frame, so that nothing waits for all.
const MANY = 2000;
const many = trials.n > MANY;
const painted = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));

function mark(trial, from) {
  if (trial === state.marked) return;
  state.marked = trial;
  for (const listener of listeners.mark) listener(trial, from);
}

async function keep(kept, from) {
  state.kept = kept;
  for (const listener of listeners.keep) {
    listener(kept, from);
    if (many) await painted();
    if (state.kept !== kept) return; // a newer range is on its way
  }
}

// Long texts that few look at are read when they are asked for.
let commands = null;
function commandOf(trial) {
  commands ??= JSON.parse(element("commands").textContent);
  return commands[trial];
}

function nameOf(trial) {
  const seed = column.get("seed seed").values[trial];
  return `${rows.labels[rows.of[trial]]}, seed ${seed}`;
}

function write(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return String(Number(value.toPrecision(4)));
}

function fill(select, options, chosen) {
  for (const [value, text] of options) select.add(new Option(text, value));
  if (chosen !== undefined) select.value = chosen;
}

function escaped(text) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return String(text).replace(/[&<>"']/g, (sign) => signs[sign]);
}
