// Charts, by plotly.js, which the page carries compressed.
const SHARES = [-0.02, 1.02];
async function unpackPlotly() {
  const packed = Uint8Array.from(atob($("plotly").textContent), letter => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = element("script", await new Response(unpacked).text());
  $("plotly").textContent = "";
  document.head.append(script);
}
function plot(id, traces, x, y, more = {}) {
  const box = $(id);
  box.querySelector(".empty")?.remove();
  if (!window.Plotly || !traces.length) {
    if (window.Plotly) Plotly.purge(box);
    box.append(element("div", window.Plotly ? "nothing to draw for this choice" : window.plotlyProblem || "loading …", "empty"));
    return;
  }
  const axis = (text, own) => ({title: {text, font: {size: 12}, standoff: 8}, gridcolor: style("--grid"), zeroline: false, linecolor: style("--line"), automargin: true, tickfont: {size: 11}, ...own});
  const {xaxis, yaxis, ...rest} = more;
  // Paper has a width that the screen does not tell.
  const size = state.paper ? {autosize: false, width: box.closest(".three") ? 218 : box.closest(".two") ? 332 : 684, height: id === "folds" ? parseFloat(box.style.height) : box.closest(".three") ? 210 : 260} : {autosize: true};
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: style("--faint"), family: "system-ui, sans-serif", size: 12},
    margin: {t: 14, r: 18, b: 44, l: 52}, xaxis: axis(x, xaxis), yaxis: axis(y, yaxis), showlegend: false, hovermode: "closest",
    hoverlabel: {align: "left", bgcolor: style("--paper"), bordercolor: style("--line"), font: {color: style("--ink"), size: 12}, namelength: -1}, ...rest, ...size,
  };
  Plotly.react(box, traces, layout, {responsive: true, displaylogo: false, displayModeBar: false});
}
// The ticks of a logarithmic axis in full: plotly writes the second of 10 and 20 as "2".
function logTicks(values) {
  const low = Math.min(...values) / 1.5, high = Math.max(...values) * 1.5, ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) ticks.push(...[1, 2, 5].map(step => Number(`${step}e${power}`)));
  const shown = ticks.filter(tick => tick >= low && tick <= high);
  return {tickvals: shown, ticktext: shown.map(String)};
}
function drawCost(id, cost) {
  const key = state.metric, sign = METRICS[key].better === "high" ? 1 : -1, rows = configurations().filter(row => has(row[key]) && row[cost] > 0);
  const groups = [...new Set(rows.map(row => definedBy(key, row)))].map(value => rows.filter(row => definedBy(key, row) === value));
  const fronts = groups.map(group => [...group].sort((a, b) => a[cost] - b[cost] || sign * (b[key] - a[key])).reduce((front, row) => !front.length || sign * (row[key] - front.at(-1)[key]) > 1e-9 ? [...front, row] : front, []));
  const costs = rows.map(row => row[cost]), wide = Math.max(...costs) > 5 * Math.min(...costs);
  const spans = rows.map(row => interval(row, key) || [row[key], row[key]]);
  plot(id, rows.length ? [
    ...fronts.map(front => ({x: front.map(row => row[cost]), y: front.map(row => row[key]), mode: "lines", line: {color: style("--faint"), dash: "dot", shape: "hv", width: 1.5}, hoverinfo: "skip"})),
    {
      x: costs, y: rows.map(row => row[key]), mode: "markers",
      error_y: {type: "data", symmetric: false, array: rows.map((row, i) => spans[i][1] - row[key]), arrayminus: rows.map((row, i) => row[key] - spans[i][0]), thickness: 1, width: 3, color: style("--faint")},
      marker: {size: 11, color: rows.map(row => color(row.name)), symbol: rows.map(row => SYMBOLS[turn(row.name) % SYMBOLS.length]), line: {color: style("--raised"), width: 1}},
      text: rows.map(row => `<b>${plain(row.name)}</b><br>${plain(place(row))}`), hovertemplate: "%{text}<br>%{y:.3f} at %{x:.3g}<extra></extra>",
    },
  ] : [], title(cost), title(key), {xaxis: {type: "log", ...(wide ? logTicks(costs) : {})}});
}
function drawFolds() {
  const key = state.metric, lines = new Map(), several = new Set(shownRuns().map(row => row.category)).size > 1;
  for (const name of new Set(shownRuns().map(row => row.name))) {
    const own = shownRuns().filter(row => row.name === name), all = new Set(own.map(row => row.category)).size, parts = new Map();
    for (const row of own) data.runs[row.id].folds.forEach((fold, index) => {
      const part = `${row.seed} ${index}`;
      if (!parts.has(part)) parts.set(part, new Map());
      if (has(fold[key])) parts.get(part).set(row.category, fold[key]);
    });
    const values = [...parts.values()].filter(part => part.size === all).map(part => mean([...part.values()]));
    if (values.length) lines.set(name, values);
  }
  $("folds-note").textContent = `${capital(title(key))} of each fold and seed${several ? ", the mean of the categories" : ""}; boxes are quartiles.`;
  $("folds").style.height = `${90 + 38 * Math.max(2, lines.size)}px`;
  const most = innerWidth < 640 ? 22 : 44, shorten = name => name.length > most ? name.slice(0, most - 1) + "…" : name;
  plot("folds", [...lines].map(([name, values]) => ({
    type: "box", x: values, y0: name, name: plain(name), orientation: "h", boxpoints: "all", jitter: 0.5, pointpos: 0, line: {color: color(name), width: 1.5}, fillcolor: "rgba(0,0,0,0)",
    marker: {color: color(name), size: 6, opacity: 0.8}, hoveron: "points", hovertemplate: `${plain(name)}<br>%{x:.3f}<extra></extra>`,
  })), title(key), "", {yaxis: {autorange: "reversed", tickvals: [...lines.keys()], ticktext: [...lines.keys()].map(name => plain(shorten(name)))}, margin: {t: 10, r: 18, b: 44, l: 20}});
}
function drawLearning() {
  const rows = shownRuns().filter(row => has(row[state.metric])), several = new Set(rows.map(row => row.category)).size > 1;
  const lines = [...new Set(rows.map(row => row.curve))].map((curve, index) => {
    const own = rows.filter(row => row.curve === curve), all = new Set(own.map(row => row.category)).size, sizes = new Map();
    for (const row of own) sizes.set(row.n_train, [...(sizes.get(row.n_train) || []), row]);
    const points = [...sizes].filter(([, part]) => new Set(part.map(row => row.category)).size === all).sort(([a], [b]) => a - b);
    return {
      x: points.map(([size]) => size), y: points.map(([, part]) => mean(part.map(row => row[state.metric]))), name: plain(curve), mode: "lines+markers",
      line: {color: PALETTE[index % PALETTE.length], width: 2, dash: DASHES[Math.floor(index / PALETTE.length) % DASHES.length]}, marker: {size: 7},
      error_y: several ? undefined : {type: "data", array: points.map(([, part]) => mean(part.map(row => row[state.metric + "_std"] || 0))), thickness: 1, width: 3, color: PALETTE[index % PALETTE.length]},
      hovertemplate: `<b>${plain(curve)}</b><br>%{y:.3f} with %{x} images<extra></extra>`, curve,
    };
  }).filter(line => line.x.length > 1);
  $("learning-note").textContent = `${capital(title(state.metric))} against the number of normal images it was fitted on${several ? ", the mean of the categories" : "; whiskers are standard deviations of folds and seeds"}.`;
  $("learning-legend").replaceChildren(...lines.map(line => {
    const entry = element("span"), swatch = element("span", null, "swatch");
    swatch.style.background = line.line.color;
    entry.append(swatch, line.curve);
    return entry;
  }));
  const ticks = [...new Set(lines.flatMap(line => line.x))].sort((a, b) => a - b);
  plot("learning", lines, "normal images", title(state.metric), {xaxis: {type: "log", tickvals: ticks.length <= 12 ? ticks : undefined, ticktext: ticks.length <= 12 ? ticks.map(String) : undefined}});
}
function drawCurves() {
  const category = $("curves-category").value, rows = done.filter(row => row.category === category && passes(row)), pixel = state.level === "pixel";
  const kinds = [["roc", pixel ? "pixel_roc" : "roc", "false positive rate", "true positive rate"], ["pr", pixel ? "pixel_pr" : "pr", "recall", "precision"], ["pro", "pro", "false positive rate of pixels", "per-region overlap"]];
  const missing = rows.filter(row => !data.runs[row.id].pro).length;
  $("curves-note").textContent = `Curves of ${pixel ? "all pixels of the test images" : "the scores of the test images"}. Several folds give their mean curve, and the area below it is the mean of theirs. AUPRO is the area under per-region overlap up to a false positive rate of 0.3, divided by 0.3.`
    + (missing ? ` ${missing} of ${rows.length} runs have no curves of pixels: they have no maps or masks, or were made by an older version.` : "");
  // Seeds of one configuration have its color, and a dash each.
  const drawnSeeds = seeds.filter(seed => rows.some(row => row.seed === seed)), several = drawnSeeds.length > 1;
  const dash = row => DASHES[(several ? drawnSeeds.indexOf(row.seed) : turn(row.name)) % DASHES.length];
  legend("curves-legend", rows.map(row => row.name), several ? drawnSeeds.map((seed, index) => [`seed ${seed}`, DASHES[index % DASHES.length]]) : []);
  for (const [id, kind, x, y] of kinds) {
    plot(id, rows.filter(row => data.runs[row.id][kind]).map(row => ({
      x: data.runs[row.id][kind][0], y: data.runs[row.id][kind][1], mode: "lines", line: {color: color(row.name), width: 2, dash: dash(row)},
      name: plain(row.name), hovertemplate: `<b>${plain(row.name)}</b>${seedOf(row) && " · " + seedOf(row)}<br>${x} %{x:.3f}<br>${y} %{y:.3f}<extra></extra>`,
    })), x, y, {xaxis: {range: id === "pro" ? [-0.006, 0.306] : SHARES}, yaxis: {range: SHARES}});
  }
}
function drawCorruptions() {
  const rows = shownRuns().filter(row => data.runs[row.id].corruptions.length), names = [...new Set(rows.map(row => row.name))];
  const all = rows.flatMap(row => data.runs[row.id].corruptions), kinds = [...new Set(all.map(part => part.corruption))].filter(Boolean);
  const label = part => `${part.corruption} ${part.amount}`;
  // Each corruption starts at the clean images; lines of two corruptions do not touch.
  const ticks = kinds.flatMap(kind => [`clean (${kind})`, ...new Set(all.filter(part => part.corruption === kind).sort((a, b) => a.amount - b.amount).map(label)), `gap ${kind}`]).slice(0, -1);
  const [ranked] = data.metrics;
  $("corruptions-note").textContent = `Shares of the test images above the threshold of the clean fit, of the last fold, and ${ranked.title}, which needs no threshold. Amounts are those of --corruptions. Several runs of a configuration give their mean.`;
  legend("corruptions-legend", names);
  for (const [id, rate, title] of [["false-alarms", "false_alarms", "false alarms"], ["detections", "detections", "detections"], ["metric", ranked.name, ranked.title]]) {
    plot(`corrupted-${id}`, names.map(name => {
      const own = rows.filter(row => row.name === name).flatMap(row => data.runs[row.id].corruptions);
      const at = tick => own.filter(part => (part.corruption ? label(part) === tick : tick.startsWith("clean ")) && has(part[rate])).map(part => part[rate]);
      return {
        x: ticks, y: ticks.map(tick => at(tick).length ? mean(at(tick)) : null), mode: "lines+markers", line: {color: color(name), width: 2, dash: DASHES[turn(name) % DASHES.length]}, marker: {size: 6},
        hovertemplate: `<b>${plain(name)}</b><br>%{x}: %{y:.3f}<extra></extra>`,
      };
    }), "", title, {xaxis: {type: "category", categoryarray: ticks, tickvals: ticks.filter(tick => !tick.startsWith("gap ")), ticktext: ticks.filter(tick => !tick.startsWith("gap ")).map(tick => tick.startsWith("clean ") ? "clean" : tick)}, yaxis: {range: SHARES}});
  }
}
function drawHistogram() {
  const row = runs.find(row => row.id === state.run), run = row && data.runs[row.id];
  if (!run || !run.normal) return plot("histogram", [], "", "");
  const all = [...run.normal, ...run.anomalous], low = Math.min(...all), high = Math.max(...all), size = (high - low) / 30 || 1;
  const trace = (x, name, color) => ({type: "histogram", x, name, xbins: {start: low, end: high + size, size}, opacity: 0.62, marker: {color}, hovertemplate: `${name}<br>score %{x}<br>%{y} images<extra></extra>`});
  const lines = thresholds(row).filter(([, , value]) => has(value));
  const most = Math.max(...[run.normal, run.anomalous].flatMap(scores => Object.values(scores.reduce((counts, score) => { const bin = Math.floor((score - low) / size); counts[bin] = (counts[bin] || 0) + 1; return counts; }, {}))));
  plot("histogram", [trace(run.normal, "normal", PALETTE[2]), trace(run.anomalous, "anomalous", PALETTE[7])].filter(part => part.x.length), "score of an image", "test images", {
    yaxis: most <= 6 ? {dtick: 1} : {}, barmode: "overlay", showlegend: true, legend: {orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom"}, margin: {t: 34, r: 18, b: 44, l: 52},
    shapes: lines.map(([, , value], index) => ({type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, line: {color: style("--ink"), dash: ["solid", "dot"][index], width: 1.5}})),
    annotations: lines.map(([, text, value], index) => {
      const right = value > low + 0.6 * (high - low);
      return {x: value, yref: "paper", y: 0.99 - 0.1 * index, text, showarrow: false, xanchor: right ? "right" : "left", xshift: right ? -5 : 5, bgcolor: style("--raised"), borderpad: 1, font: {size: 11, color: style("--ink")}};
    }),
  });
}
