// Charts over time. A chart is drawn when it comes into view and again when a filter or its data change.
const state = { axis: "step", smooth: 1, task: ALL_TASKS, runs: new Set(DATA.runs.keys()), metric: null };
const AXIS_TITLES = { step: "step", minutes: "minutes of training", episodes: "training episodes" };
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const STACK_COLORS = ["run0", "run4", "run1", "crashed", "run2", "run3"];

const shownRuns = () => DATA.runs.map((run, index) => ({ run, index })).filter(({ index }) => state.runs.has(index));
const runColor = (index) => color(`run${index % 7}`);
const position = (run) => run.columns[state.axis === "episodes" ? "train/num_episodes" : state.axis] || [];

function layout(chart) {
  const font = { family: "system-ui, sans-serif", size: 12, color: color("muted") };
  const axis = { gridcolor: color("grid"), zeroline: false, automargin: true, linecolor: color("line") };
  return {
    font, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 54, r: 12, t: 8, b: 44 }, hovermode: "x unified", showlegend: true,
    hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { ...font, color: color("ink") } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 } },
    // Few steps would be marked with halves.
    xaxis: { ...axis, dtick: state.axis === "step" && Math.max(...DATA.runs.map((run) => run.numSteps)) <= 10 ? 1 : undefined, title: { text: AXIS_TITLES[state.axis], standoff: 8 } },
    yaxis: { ...axis, title: { text: chart.unit, standoff: 8 }, tickformat: chart.is_share ? ".0%" : undefined,
      range: chart.is_share ? [-0.02, 1.02] : undefined, rangemode: chart.is_share ? undefined : "tozero" },
  };
}

// Every line that a chart draws: which metric of which run under which label.
function linesOf(chart) {
  const lines = [];
  for (const { run, index } of shownRuns()) {
    chart.series.forEach((series, order) => {
      for (const column of Object.keys(run.columns)) {
        const parts = nameParts(column, series.name);
        if (parts) lines.push({ run, index, column, order, label: series.label.replace("{}", parts[0] ?? "") });
      }
    });
  }
  return lines;
}

function lineTraces(chart) {
  const lines = linesOf(chart), several = shownRuns().length > 1;
  const isStack = chart.style === "stack" && !several;
  const labels = [...new Set(lines.map((line) => line.label))];
  return lines.flatMap(({ run, index, column, label }) => {
    const which = labels.indexOf(label);
    const tint = several ? runColor(index) : isStack ? color(STACK_COLORS[which % STACK_COLORS.length]) : runColor(which);
    const raw = run.columns[column];
    const common = {
      x: position(run), mode: "lines", meta: { column, run: run.name },
      name: several ? (labels.length > 1 ? `${run.name}, ${label}` : run.name) : label,
      hovertemplate: chart.is_share ? "%{y:.1%}" : "%{y:.4~g}",
    };
    const line = { color: tint, width: 1.8, dash: several ? DASHES[which % DASHES.length] : "solid" };
    if (isStack) return [{ ...common, y: movingMean(raw, state.smooth), stackgroup: "one", line: { ...line, width: 0.8 }, fillcolor: faded(tint, 0.65) }];
    const shown = { ...common, y: movingMean(raw, state.smooth), line };
    if (raw.length === 1) Object.assign(shown, { mode: "markers", marker: { color: tint, size: 7 } });
    if (state.smooth === 1) return [shown];
    const behind = { ...common, y: raw, line: { color: faded(tint, 0.25), width: 1 }, showlegend: false, hoverinfo: "skip" };
    delete behind.hovertemplate;
    return [behind, shown];
  });
}

// Successes of training rollouts of a task over time: [positions, shares, episodes].
function successOf(run, task) {
  if (task === ALL_TASKS) return [position(run), run.columns["rollout/success_rate"] || [], run.columns["rollout/num_episodes"] || []];
  const bins = run.rollouts[task] || [];
  return [bins.map(([step]) => positionOf(run, step)), bins.map(([, successes, n]) => successes / n), bins.map(([, , n]) => n)];
}

// Held-out success of a task: where each evaluation lies, and its rate; that of all tasks is the only one's where there is one.
function heldOutOf(run, task) {
  return run.evaluations.map((e) => ({ x: positionOf(run, e.step), rate: e.rates[task] ?? (task === ALL_TASKS && Object.keys(e.rates).length === 1 ? Object.values(e.rates)[0] : null) }))
    .filter(({ x, rate }) => rate && x != null);
}

// Where a step lies on the chosen axis: that of the first step shown from it on, or else of the last one.
function positionOf(run, step) {
  if (state.axis === "step" || step === 0) return step;
  const next = (run.columns.step || []).findIndex((shown) => shown >= step);
  return position(run).at(next);
}

// Points of several runs at one step stand side by side.
function aside(run, index) {
  const steps = position(run);
  return (index - (DATA.runs.length - 1) / 2) * 0.008 * (steps.at(-1) || 0);
}

function successTraces() {
  return shownRuns().flatMap(({ run, index }) => {
    const several = shownRuns().length > 1, tint = runColor(index);
    const [x, shares, counts] = successOf(run, state.task);
    const bounds = shares.map((share, i) => (share == null || !counts[i] ? [null, null] : wilson(share * counts[i], counts[i])));
    const points = heldOutOf(run, state.task);
    const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    return [
      ...(several ? [] : [{ ...edge, y: bounds.map((b) => b[0]) }, { ...edge, y: bounds.map((b) => b[1]), fill: "tonexty", fillcolor: faded(tint, 0.15) }]),
      { x, y: movingMean(shares, state.smooth), mode: x.length === 1 ? "markers" : "lines", line: { color: tint, width: 1.8 }, meta: { column: "rollout/success_rate", run: run.name },
        name: several ? `${run.name}, training` : "training rollouts", hovertemplate: "%{y:.1%}" },
      { x: points.map((p) => p.x + aside(run, index)), y: points.map((p) => p.rate.rate), mode: "markers", name: several ? `${run.name}, held-out` : "held-out episodes",
        marker: { color: several ? tint : color("ink"), size: 11, line: { color: color("panel"), width: 2 } }, meta: { column: "held-out", run: run.name },
        error_y: { type: "data", symmetric: false, array: points.map((p) => p.rate.high - p.rate.rate), arrayminus: points.map((p) => p.rate.rate - p.rate.low), color: several ? tint : color("ink"), thickness: 1.5, width: 6 },
        text: points.map(({ rate }) => `${rate.num_successes} of ${rate.n}, 95 % [${percent(rate.low)}, ${percent(rate.high)}]`), hovertemplate: "%{y:.1%} (%{text})" },
    ];
  });
}

const SUCCESS = { key: "success", title: "Success", unit: "share of episodes", is_share: true, series: [] };
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], displayModeBar: false };

function anyMetric() {
  return { key: "any", unit: state.metric, series: [{ name: (state.metric || "").replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), label: state.metric }], is_share: false, style: "line" };
}

function chartOf(key) {
  if (key === "success") return SUCCESS;
  return key === "any" ? anyMetric() : DATA.charts.find((chart) => chart.key === key);
}

function draw(key) {
  const chart = chartOf(key), traces = key === "success" ? successTraces() : lineTraces(chart);
  const plan = layout(chart);
  if (traces.filter((trace) => trace.showlegend !== false).length < 2) plan.showlegend = false;
  return Plotly.react(`chart-${key}`, traces, plan, OPTIONS);
}
