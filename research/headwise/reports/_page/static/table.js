// Every trial as a row; the row that has the focus is the marked one.
let table = null;

function startTable() {
  if (!trials.n) return;
  const shade = () => document.documentElement.classList.toggle("dark", dark.matches); // DataTables' word for it
  dark.addEventListener("change", shade);
  shade();
  element("trials").hidden = false;
  const shown = trials.columns.filter((c) => c.kind !== "setting" || varies(c));
  const columns = shown.map((c) => ({
    title: escaped(c.name), className: numeric(c) ? "dt-right" : "", type: numeric(c) ? "num" : "string",
    render: (value, type) => (type === "display" || type === "filter" ? escaped(write(value)) : value === null ? (numeric(c) ? -Infinity : "") : value),
  }));
  columns.unshift({ title: "trial", className: "dt-right" });
  columns.push({ title: "ended", render: (text, type) => (type === "display" ? escaped(text || "whole") : text) });
  const body = rows.of.map((_, i) => [i, ...shown.map((c) => c.values[i]), trials.state[i]]);
  table = new DataTables(element("table"), {
    data: body, columns, deferRender: true, pageLength: 15, lengthMenu: [15, 50, 200], order: [], autoWidth: false,
    layout: { topStart: "pageLength", topEnd: "search", bottomStart: "info", bottomEnd: "paging" },
    createdRow: (row, values) => { row.tabIndex = 0; row.dataset.trial = values[0]; if (values[0] === state.marked) row.classList.add("marked"); },
  });
  table.search.fixed("kept", (_, values) => state.kept === null || state.kept.has(values[0]));
  const node = element("table");
  const trialOf = (event) => event.target.closest("tr[data-trial]");
  node.addEventListener("focusin", (event) => { const row = trialOf(event); if (row) mark(Number(row.dataset.trial), "table"); });
  node.addEventListener("click", (event) => trialOf(event)?.focus());
  node.addEventListener("keydown", (event) => {
    const row = trialOf(event), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (row && event.key === "Enter") return element("marked").querySelector("button:last-child")?.focus();
    if (!row || !step) return;
    event.preventDefault();
    const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
    if (next) return next.focus();
    const page = table.page();
    table.page(step > 0 ? "next" : "previous").draw("page");
    if (table.page() === page) return;
    const all = node.querySelectorAll("tr[data-trial]");
    all[step > 0 ? 0 : all.length - 1]?.focus();
  });
  listeners.keep.push(() => table.draw());
  listeners.mark.push(markRow);
  element("csv").addEventListener("click", download);
}

function markRow(trial, from) {
  for (const row of element("table").querySelectorAll("tr.marked")) row.classList.remove("marked");
  if (trial === null) return;
  if (from !== "table") {
    const order = table.rows({ order: "applied", search: "applied" }).indexes().toArray();
    const place = order.indexOf(trial);
    if (place >= 0) table.page(Math.floor(place / table.page.len())).draw("page");
  }
  element("table").querySelector(`tr[data-trial="${trial}"]`)?.classList.add("marked");
}

function download() {
  const cell = (value) => (value === null ? "" : /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const head = [...trials.columns.map((c) => (c.kind === "weight" ? `weight ${c.name}` : c.name)), "ended", "key", "command"];
  const kept = [...Array(trials.n).keys()].filter((i) => !state.kept || state.kept.has(i));
  const lines = kept.map((i) => [...trials.columns.map((c) => c.values[i]), trials.state[i] || "whole", trials.key[i], commandOf(i)]);
  const text = [head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "trials.csv" });
  link.click();
  // The browser reads it later, on a busy machine much later: freed at once, it may be lost.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
