// Filters, theme, and drawing what is in view, one chart per frame so that scrolling stays smooth.
const stale = new Set();
const visible = new Set();
let isScheduled = false;

const KEYS = ["success", "tasks", "grid", ...DATA.charts.map((chart) => chart.key), "any"];
const OWN = { grid: drawGrid, tasks: drawTasks };
const hostOf = (key) => byId(key === "grid" ? "grid" : `chart-${key}`).closest("figure");

function schedule() {
  if (isScheduled || typeof Plotly === "undefined") return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    const next = [...visible].find((key) => stale.has(key));
    if (!next) return;
    stale.delete(next);
    next in OWN ? OWN[next]() : draw(next);
    schedule();
  });
}

function redraw(keys = KEYS) {
  for (const key of keys) stale.add(key);
  schedule();
}

// Charts of metrics that no run logged are left out, and sections without a chart.
function hideEmpty() {
  hostOf("tasks").hidden = !hasPanels();
  for (const chart of DATA.charts) hostOf(chart.key).hidden = linesOf(chart).length === 0;
  for (const group of document.querySelectorAll("[data-group]")) {
    group.hidden = !group.querySelector("figure:not([hidden])");
  }
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
}

function listTasks() {
  const tasks = taskNames();
  byId("task-filter").hidden = tasks.length < 2;
  fill(byId("task"), [ALL_TASKS, ...tasks], state.task);
}

function listMetrics() {
  const numbers = (run) => Object.keys(run.columns).filter((name) => run.columns[name].some((value) => typeof value === "number"));
  const names = [...new Set(DATA.runs.flatMap(numbers))].filter((name) => name.includes("/")).sort();
  state.metric = names.includes(state.metric) ? state.metric : names[0];
  fill(byId("metric"), names, state.metric);
}

function filterTask() {
  for (const pair of document.querySelectorAll(".pair")) {
    pair.hidden = state.task !== ALL_TASKS && pair.dataset.task !== state.task;
  }
  drawHeldOut();
}

function filterRuns() {
  for (const block of document.querySelectorAll("[data-of-run]")) block.hidden = !state.runs.has(Number(block.dataset.ofRun));
  hideEmpty();
  drawHeldOut();
}

function onChange(id, act) {
  byId(id)?.addEventListener("change", (event) => act(event.target.value));
}

onChange("axis", (value) => { state.axis = value; redraw(); });
onChange("smooth", (value) => { state.smooth = Number(value); redraw(); });
onChange("task", (value) => { state.task = value; filterTask(); hideEmpty(); redraw(["success", "tasks", "grid"]); });
onChange("metric", (value) => { state.metric = value; redraw(["any"]); });
onChange("grid-order", () => redraw(["grid"]));
onChange("grid-run", () => redraw(["grid"]));
for (const box of document.querySelectorAll("input[name=run]")) {
  box.addEventListener("change", () => {
    box.checked ? state.runs.add(Number(box.value)) : state.runs.delete(Number(box.value));
    filterRuns();
    redraw();
  });
}
byId("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("ript-theme", theme); } catch (error) { /* storage may be switched off */ }
  redraw();
});

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const key = KEYS.find((name) => hostOf(name) === entry.target);
    entry.isIntersecting ? visible.add(key) : visible.delete(key);
  }
  schedule();
}, { rootMargin: "300px" });

// The plotting library is compressed and unpacked after the first paint.
async function loadPlotly() {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const packed = Uint8Array.from(atob(byId("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

listTasks();
listMetrics();
hideEmpty();
drawHeldOut();
for (const key of KEYS) { stale.add(key); observer.observe(hostOf(key)); }
loadPlotly().then(() => { document.documentElement.dataset.ready = "true"; schedule(); });
