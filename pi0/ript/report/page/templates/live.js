// Requests what was appended since; a finished evaluation or video reloads the page.
const MAX_POINTS = 4000;
let cursor = DATA.cursor;

function append(run, lines) {
  for (const line of lines) {
    const length = run.columns.step ? run.columns.step.length : 0;
    for (const name of Object.keys(line)) run.columns[name] ??= new Array(length).fill(null);
    for (const name of Object.keys(run.columns)) run.columns[name].push(line[name] ?? null);
  }
  const steps = run.columns.step || [];
  if (steps.length > MAX_POINTS) {
    for (const name of Object.keys(run.columns)) run.columns[name] = run.columns[name].filter((_, i) => (steps.length - 1 - i) % 2 === 0);
  }
  if (lines.length) run.numSteps = lines.at(-1).step;
}

function showFacts(run, index) {
  const set = (fact, text) => {
    const host = document.querySelector(`[data-fact=${fact}][data-run="${index}"]`);
    host.firstChild.textContent = text;
  };
  const last = (name) => (run.columns[name] || []).at(-1);
  set("steps", String(run.numSteps));
  if (last("train/num_episodes") != null) set("episodes", String(last("train/num_episodes")));
  if (last("minutes") != null) set("minutes", `${last("minutes").toFixed(1)} min`);
}

function take(update) {
  if (update.version !== cursor.version) { location.reload(); return; }
  cursor = update.cursor;
  let isNew = false;
  update.runs.forEach((part, index) => {
    const run = DATA.runs[index];
    if (!part.lines.length && !part.grid) return;
    isNew = true;
    append(run, part.lines);
    if (part.grid) { run.grid = part.grid; run.rollouts = part.rollouts; }
    showFacts(run, index);
  });
  if (!isNew) return;
  listTasks();
  listMetrics();
  hideEmpty();
  redraw();
}

async function follow() {
  const badge = byId("live");
  try {
    const response = await fetch(`updates?cursor=${encodeURIComponent(JSON.stringify(cursor))}`, { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    take(await response.json());
    badge.textContent = "live";
    badge.classList.remove("lost");
  } catch (error) {
    badge.textContent = "no connection";
    badge.classList.add("lost");
  }
  setTimeout(follow, 700);
}

follow();
