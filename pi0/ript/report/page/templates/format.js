// Small functions without state: numbers, colors, moving means, intervals.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const ALL_TASKS = "all tasks";
const byId = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function wilson(successes, n) {
  const z = 1.959963984540054, p = successes / n, scale = 1 + z * z / n;
  const center = (p + z * z / (2 * n)) / scale;
  const half = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale;
  return [Math.max(0, center - half), Math.min(1, center + half)];
}

// Mean of the last `width` values that are there; the first ones have fewer to look back to.
function movingMean(values, width) {
  if (width === 1) return values;
  let sum = 0, count = 0;
  const means = [], window = [];
  for (const value of values) {
    window.push(value);
    if (value != null) { sum += value; count += 1; }
    if (window.length > width) {
      const gone = window.shift();
      if (gone != null) { sum -= gone; count -= 1; }
    }
    means.push(count ? sum / count : null);
  }
  return means;
}

// "#0072b2" with an opacity.
function faded(hex, opacity) {
  const part = (start) => parseInt(hex.slice(start, start + 2), 16);
  return `rgba(${part(1)}, ${part(3)}, ${part(5)}, ${opacity})`;
}

function nameParts(column, pattern) {
  const match = new RegExp(`^(?:${pattern})$`).exec(column);
  return match ? match.slice(1) : null;
}
