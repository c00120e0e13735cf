// Small multiples: a panel per task on one scale, training rollouts as lines and held-out episodes as points.
const PANEL = { width: 210, height: 190, columns: 5 };

function taskNames() {
  const names = DATA.runs.flatMap((run) => [
    ...Object.keys(run.rollouts), ...run.evaluations.flatMap((e) => e.episodes.map((episode) => episode.task)),
  ]);
  return [...new Set(names)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

const hasPanels = () => state.task === ALL_TASKS && taskNames().length > 1;

// "libero_object/3 pick up the bbq sauce ..." in lines that fit a panel; Plotly reads texts as markup.
function panelTitle(task) {
  const [name, ...words] = task.replace(/&/g, "&amp;").replace(/</g, "&lt;").split(" ");
  const lines = [name.split("/")[1] ?? name];
  for (const word of words) {
    (lines.at(-1) + word).length > 30 ? lines.push(word) : lines.push(`${lines.pop()} ${word}`);
  }
  return lines.length > 2 ? `${lines[0]}<br>${lines[1]} …` : lines.join("<br>");
}

function panelTraces(task, number) {
  const axes = { xaxis: `x${number}`, yaxis: `y${number}`, showlegend: false };
  return shownRuns().flatMap(({ run, index }) => {
    const several = shownRuns().length > 1, tint = runColor(index);
    const [x, shares] = successOf(run, task);
    const points = heldOutOf(run, task);
    return [
      { ...axes, x, y: movingMean(shares, state.smooth), mode: x.length === 1 ? "markers" : "lines", line: { color: tint, width: 1.4 },
        name: "training rollouts", hovertemplate: "%{y:.0%}", meta: { column: task, run: run.name } },
      { ...axes, x: points.map((p) => p.x), y: points.map((p) => p.rate.rate), mode: "markers", name: "held-out",
        marker: { color: several ? tint : color("ink"), size: 6 }, hovertemplate: "%{y:.0%}", meta: { column: `held-out ${task}`, run: run.name },
        error_y: { type: "data", symmetric: false, array: points.map((p) => p.rate.high - p.rate.rate), arrayminus: points.map((p) => p.rate.rate - p.rate.low),
          color: several ? tint : color("ink"), thickness: 1, width: 3 } },
    ];
  });
}

function drawTasks() {
  const host = byId("chart-tasks"), names = taskNames();
  if (!hasPanels()) return;
  const columns = Math.max(1, Math.min(PANEL.columns, names.length, Math.floor(host.clientWidth / PANEL.width)));
  const rows = Math.ceil(names.length / columns);
  host.style.height = `${rows * PANEL.height + 40}px`;
  const plan = layout({ unit: "", is_share: true });
  const { xaxis, yaxis } = plan;
  delete plan.xaxis;
  delete plan.yaxis;
  Object.assign(plan, { showlegend: false, hovermode: "x", annotations: [], margin: { l: 40, r: 8, t: 40, b: 30 } });
  plan.grid = { rows, columns, pattern: "independent", xgap: 0.16, ygap: 0.42 };
  names.forEach((task, i) => {
    const number = i ? i + 1 : "";
    plan[`xaxis${number}`] = { ...xaxis, title: undefined, tickfont: { size: 10 } };
    plan[`yaxis${number}`] = { ...yaxis, title: undefined, tickfont: { size: 10 }, tickvals: [0, 0.5, 1] };
    plan.annotations.push({ text: panelTitle(task), xref: `x${number} domain`, yref: `y${number} domain`, x: 0, y: 1.04, xanchor: "left",
      yanchor: "bottom", align: "left", showarrow: false, font: { size: 11, color: color("ink") } });
  });
  Plotly.react(host, names.flatMap((task, i) => panelTraces(task, i ? i + 1 : "")), plan, OPTIONS);
}
