// The marked trial in words, and the start of everything.
function describeMarked(trial) {
  const box = element("marked");
  box.hidden = trial === null;
  box.replaceChildren();
  if (trial === null) return;
  const add = (tag, text, more = {}) => box.appendChild(Object.assign(document.createElement(tag), { textContent: text, ...more }));
  add("button", "×", { className: "close", type: "button", onclick: () => mark(null, "close"), ariaLabel: "Mark no trial" });
  add("strong", `Trial ${trial}: ${nameOf(trial)}`);
  const told = metrics.map((c) => `${c.name} ${write(c.values[trial])}`).join(" · ");
  add("div", trials.state[trial] ? `${told} — ${trials.state[trial]}` : told);
  add("code", commandOf(trial));
  add("button", "Copy the command", { type: "button", onclick: () => navigator.clipboard?.writeText(commandOf(trial)) });
  element("announce").textContent = `Marked trial ${trial}: ${nameOf(trial)}; ${told}`;
}

addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || state.marked === null) return;
  const row = document.querySelector(`tr[data-trial="${state.marked}"]`);
  if (row && element("marked").contains(document.activeElement)) row.focus(); else mark(null, "key");
});
listeners.mark.push(describeMarked);
startFront(); // what is seen first is drawn first
waiting.get("front-chart")?.();
if (many) {
  await painted();
  finishFront();
  await painted();
}
for (const start of [startParallel, startResponse, startCurves, startHeads, startTable]) start();
document.documentElement.dataset.ready = "yes";
