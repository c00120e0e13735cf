// The grid of initial states through time, and held-out episodes before and after.
const CODES = { s: 1, f: 0, c: -0.5 };
const WORDS = { s: "success", f: "failure", c: "crashed" };

function gridRows(run) {
  const order = byId("grid-order").value;
  const rows = run.grid.rows.filter((row) => state.task === ALL_TASKS || row.task === state.task);
  const late = (row) => row.solved ?? Infinity;
  if (order === "solved") rows.sort((a, b) => late(a) - late(b) || a.state - b.state);
  if (order === "hardest") rows.sort((a, b) => successShare(a) - successShare(b) || a.state - b.state);
  return rows.reverse(); // Plotly counts rows from the bottom
}

// Successes among all rollouts of an initial state that did not crash.
function successShare(row) {
  const counts = Object.values(row.cells).map((cell) => (typeof cell === "string" ? [...cell].map((letter) => [Number(letter === "s"), Number(letter !== "c")]) : [[cell[0], cell[0] + cell[1]]])).flat();
  const sum = (which) => counts.reduce((total, pair) => total + pair[which], 0);
  return sum(1) ? sum(0) / sum(1) : 1;
}

// One stripe per rollout while a column is a single step, one cell with the share of successes afterwards.
function gridMatrix(rows, width, numColumns) {
  const stripes = width > 1 ? 1 : Math.max(1, ...rows.flatMap((row) => Object.values(row.cells).map((cell) => cell.length)));
  const pitch = width > 1 ? 1 : stripes + 1; // a gap between steps
  const x = Array.from({ length: numColumns * pitch }, (_, i) => 1 + width * ((i + 0.5) / pitch) - 0.5);
  const z = rows.map(() => new Array(x.length).fill(null)), text = rows.map(() => new Array(x.length).fill(""));
  rows.forEach((row, y) => {
    for (const [column, cell] of Object.entries(row.cells)) {
      const first = 1 + column * width, where = `${row.task}<br>initial state ${row.state}, `;
      if (width > 1) {
        const [successes, failures, crashed] = cell, n = successes + failures;
        z[y][column] = n ? successes / n : CODES.c;
        text[y][column] = `${where}steps ${first} to ${first + width - 1}<br>${successes} of ${n} succeeded${crashed ? `, ${crashed} crashed` : ""}`;
      } else {
        [...cell].forEach((letter, k) => {
          z[y][column * pitch + k] = CODES[letter];
          text[y][column * pitch + k] = `${where}step ${first}, rollout ${k + 1} of ${cell.length}<br>${WORDS[letter]}`;
        });
      }
    }
  });
  return { x, z, text };
}

function drawGrid() {
  const run = DATA.runs[byId("grid-run") ? Number(byId("grid-run").value) : 0];
  const rows = gridRows(run), { width } = run.grid, host = byId("grid");
  host.parentElement.hidden = rows.length === 0;
  byId("solved").textContent = rows.length
    ? `${rows.filter((row) => row.solved != null).length} of ${rows.length} initial states succeeded throughout on their latest visit`
    : "This run logged no rollouts.";
  if (!rows.length) return;
  const numColumns = Math.ceil(Math.max(1, run.numSteps) / width);
  const several = new Set(rows.map((row) => row.task)).size > 1;
  const names = rows.map((row) => (several ? `${row.task.split(" ")[0]}, ${row.state}` : String(row.state)));
  const plan = layout({ unit: several ? "task, initial state" : "initial state", is_share: false });
  host.style.height = `${Math.max(200, rows.length * 15 + 70)}px`;
  Object.assign(plan, { hovermode: "closest", showlegend: false });
  plan.xaxis = { ...plan.xaxis, title: { text: "step", standoff: 8 }, showgrid: false, range: [0.5, numColumns * width + 0.5], dtick: numColumns * width <= 10 ? 1 : undefined };
  plan.yaxis = { ...plan.yaxis, type: "category", rangemode: undefined, showgrid: false, tickfont: { size: 10 }, dtick: rows.length > 60 ? 5 : 1 };
  const scale = [[0, color("crashed")], [0.33, color("crashed")], [0.3334, color("failure")], [1, color("success")]];
  Plotly.react(host, [{ type: "heatmap", y: names, ...gridMatrix(rows, width, numColumns), colorscale: scale, zmin: -0.5, zmax: 1,
    showscale: false, ygap: 2, xgap: width > 1 ? 1 : 0, hoverongaps: false, hovertemplate: "%{text}<extra></extra>" }], plan, OPTIONS);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function side(title, episodes, others) {
  const box = element("div", "side");
  box.append(element("p", "", `${title}: ${episodes.filter((e) => e.outcome === "success").length} of ${episodes.length}`));
  const cells = element("div", "cells");
  const columns = Math.min(20, Math.ceil(Math.sqrt(episodes.length)));
  cells.style.width = `${columns * 17}px`;
  episodes.forEach((episode, i) => {
    const isChanged = others && others[i].outcome !== episode.outcome;
    const cell = element("span", `cell ${episode.outcome}${isChanged ? " changed" : ""}`);
    cell.title = `initial state ${episode.state}, seed ${episode.seed}: ${episode.outcome} after ${episode.steps} control steps`;
    cells.append(cell);
  });
  box.append(cells);
  return box;
}

function matrix(run, task, several) {
  const of = (evaluation) => evaluation.episodes.filter((e) => e.task === task).sort((a, b) => a.state - b.state || (a.seed < b.seed ? -1 : 1));
  const first = run.evaluations[0], last = run.evaluations.at(-1);
  const box = element("div", "matrix");
  box.append(element("h4", "", several ? `${run.name}: ${task}` : task));
  const sides = element("div", "sides");
  sides.append(side("before", of(first), null));
  if (last !== first) sides.append(side(`after step ${last.step}`, of(last), of(first)));
  box.append(sides);
  return box;
}

function drawHeldOut() {
  const boxes = shownRuns().flatMap(({ run }) => {
    if (!run.hasBase) return [];
    const tasks = [...new Set(run.evaluations[0].episodes.map((e) => e.task))];
    return tasks.filter((task) => state.task === ALL_TASKS || task === state.task).map((task) => matrix(run, task, DATA.runs.length > 1));
  });
  byId("heldout").replaceChildren(...(boxes.length ? boxes : [element("p", "note", "No held-out evaluation yet.")]));
}
