// Asks the server for what was appended since; a finished evaluation or film reloads the page.
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
    if (part.grid) { run.grid = part.grid; run.practice = part.practice; }
    showFacts(run, index);
  });
  if (!isNew) return;
  listTasks();
  listFigures();
  hideEmpty();
  redraw();
}

async function follow() {
  const badge = byId("live");
  try {
    const answer = await fetch(`updates?cursor=${encodeURIComponent(JSON.stringify(cursor))}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    take(await answer.json());
    badge.textContent = "live";
    badge.classList.remove("lost");
  } catch (error) {
    badge.textContent = "no connection";
    badge.classList.add("lost");
  }
  setTimeout(follow, 700);
}

follow();
