"use strict";
// What the page shows of the run store, and small things that all parts of the page use.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
// The METRICS table: a row per metric, by name; the main ones are shown by default.
const METRICS = Object.fromEntries(data.metrics.map(metric => [metric.name, metric]));
const MAIN = data.metrics.filter(metric => metric.main).map(metric => metric.name);
const COSTS = data.costs.map(cost => cost.name);
// What the threshold from normal images does; columns beside the main metrics.
const RATES = Object.fromEntries(data.rates.map(rate => [rate.name, rate]));
const HELP = Object.fromEntries([...data.rates, ...data.costs].map(column => [column.name, column.help]));
const TITLES = {
  ...Object.fromEntries(data.metrics.map(metric => [metric.name, metric.title])),
  ...Object.fromEntries(data.costs.map(cost => [cost.name, cost.title])),
  n_train: "normal images", n_test: "test images",
};
const PALETTE = ["#2f6fde", "#e07b1a", "#139a74", "#c43d8a", "#8361d4", "#9a6b1f", "#1298b3", "#d0453f", "#7d8a00", "#6f7b8a"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross"], DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const SAMPLES = {solid: "none", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "10 4"};
const MEANS = "\u0000means";
const runs = data.rows.filter(row => !row.mean), done = runs.filter(row => row.status !== "failed");
const categories = [...new Set(runs.map(row => row.category))];
const hasMeans = data.rows.some(row => row.mean);
const names = [...new Set(data.rows.map(row => row.name))];
const state = {metric: MAIN[0], category: "", words: "", facets: {}, sort: null, down: true, run: null, level: "image", paper: false};

const title = key => TITLES[key] || key.replaceAll("_", " ");
const capital = text => text[0].toUpperCase() + text.slice(1);
const isMetric = key => key in METRICS;
const isHighBetter = key => (METRICS[key] ?? RATES[key])?.better === "high";
// Whether the first value is better: of a metric or a rate as its row says, of a cost the lower one.
const beats = (key, a, b) => isHighBetter(key) ? a > b : a < b;
const bestOf = (key, values) => values.reduce((a, b) => beats(key, b, a) ? b : a);
// Values of a metric under two values of the setting that defines it are no rivals.
const definedBy = (key, row) => METRICS[key]?.defined_by ? row[METRICS[key].defined_by] : null;
const within = (key, value) => Math.max(METRICS[key].range[0] ?? -Infinity, Math.min(METRICS[key].range[1] ?? Infinity, value));
const has = value => value !== null && value !== undefined;
const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
const color = name => PALETTE[names.indexOf(name) % PALETTE.length];
const turn = name => Math.floor(names.indexOf(name) / PALETTE.length);
const seeds = [...new Set(runs.map(row => row.seed).filter(has))].sort((a, b) => a - b);
// Seed 0 has to be named where there are others.
const seedOf = row => has(row.seed) && (row.seed || seeds.length > 1) ? `seed ${row.seed}` : "";
const place = row => [row.mean ? "mean" : row.category, seedOf(row)].filter(Boolean).join(" · ");
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function number(value, metric) {
  if (!has(value)) return "–";
  return metric ? value.toFixed(3) : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
function element(tag, text, name) {
  const made = document.createElement(tag);
  if (has(text)) made.textContent = text;
  if (name) made.className = name;
  return made;
}
function option(select, value, text) {
  const made = element("option", text);
  made.value = value;
  select.append(made);
}
// Names come from files: in the little markup that a chart's texts may hold they must stay text.
const plain = text => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "% {");
// The interval of a metric: of a run its own where it has one, else the standard deviation of folds and seeds.
function interval(row, key) {
  if (!has(row[key])) return null;
  if (has(row[key + "_low"])) return [row[key + "_low"], row[key + "_high"]];
  const deviation = row[key + "_std"];
  return deviates(deviation) ? [within(key, row[key] - deviation), within(key, row[key] + deviation)] : null;
}
// What depends on no seed, or is the same in all folds, does not deviate: ±.000 would say that it was measured.
const deviates = deviation => has(deviation) && deviation > 1e-9;
const plusMinus = deviation => !deviates(deviation) ? "" : deviation < 5e-4 ? "±<.001" : `±${deviation.toFixed(3).replace(/^0/, "")}`;
function passes(row) {
  const text = `${row.name} ${row.category} ${row.mean ? "mean" : ""}`.toLowerCase();
  return state.words.toLowerCase().split(/\s+/).every(word => text.includes(word))
    && Object.entries(state.facets).every(([name, value]) => value === "" || String(row[name] ?? "–") === value);
}
const inCategory = row => state.category === "" || (state.category === MEANS ? row.mean : !row.mean && row.category === state.category);
const shown = () => data.rows.filter(row => passes(row) && inCategory(row));
// Runs that the controls select; where they select means, all runs of these.
const shownRuns = () => done.filter(row => passes(row) && (state.category === MEANS || inCategory(row)));
// One row for each configuration: the runs of a category, or means where there are several categories.
function configurations() {
  const rows = data.rows.filter(row => passes(row) && row.status !== "failed");
  if (state.category !== "") return rows.filter(inCategory);
  const averaged = new Set(rows.filter(row => row.mean).map(row => row.name));
  return rows.filter(row => row.mean || !averaged.has(row.name));
}
function legend(id, wanted, dashes = []) {
  const made = [...new Set(wanted)].map(name => {
    const entry = element("span"), swatch = element("span", null, "swatch");
    swatch.style.background = color(name);
    entry.append(swatch, name);
    return entry;
  });
  if (dashes.length > 1) made.push(...dashes.map(([text, dash]) => {
    const entry = element("span"), sample = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [key, value] of Object.entries({width: 28, height: 8, "aria-hidden": "true"})) sample.setAttribute(key, value);
    for (const [key, value] of Object.entries({x1: 0, x2: 28, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": SAMPLES[dash]})) line.setAttribute(key, value);
    sample.style.marginRight = "6px";
    sample.append(line);
    entry.append(sample, text);
    return entry;
  }));
  $(id).replaceChildren(...made);
}
