// The head of the page, what is chosen, and where each row came from.
function drawTiles() {
  const rows = data.rows.filter(row => row.status !== "failed" && (row.mean || !hasMeans || !data.rows.some(other => other.mean && other.name === row.name)));
  const tiles = [...MAIN.map(key => [key, `Best ${title(key)}`, capital(title(key))]), ["ms_per_image_b1", "Fastest", "Latency", "ms/image"], ["model_mb", "Smallest model", "Model size", "MB"]];
  const made = [];
  for (const [key, label, alone, unit] of tiles) {
    const measured = rows.filter(row => has(row[key]));
    if (!measured.length || new Set(rows.map(row => row.dataset)).size > 1 || new Set(measured.map(row => definedBy(key, row))).size > 1) continue;
    const best = measured.reduce((a, b) => beats(key, b[key], a[key]) ? b : a), tile = element("div", null, "tile"), value = element("div", number(best[key], isMetric(key)), "value"), span = isMetric(key) && interval(best, key);
    if (unit) value.append(element("small", " " + unit));
    if (span) value.append(element("small", !has(best[key + "_low"]) ? ` ± ${best[key + "_std"].toFixed(3)}` : ` ${span[0].toFixed(3)} – ${span[1].toFixed(3)}`));
    tile.append(element("div", measured.length > 1 ? label : alone, "label"), value, element("div", best.name + (best.mean || categories.length < 2 ? "" : ` · ${best.category}`), "who"));
    made.push(tile);
  }
  $("tiles").replaceChildren(...made);
}
function environmentText(e) {
  return [e.cpu, e.cores && `${e.cores} cores`, e.threads && `${e.threads} threads`, e.memory_gb && `${e.memory_gb} GB`, e.gpu || "no GPU", e.machine, e.python && "python " + e.python, e.torch && "torch " + e.torch, e.numpy && "numpy " + e.numpy, e.padim_zoo && "padim-zoo " + e.padim_zoo, e.commit && "commit " + e.commit.replace(/^([0-9a-f]{10})[0-9a-f]*/, "$1")].filter(Boolean).join(" · ");
}
function drawBehind() {
  const machines = data.environments.map(environmentText);
  $("machines").replaceChildren(...machines.map((text, index) => element("p", machines.length > 1 ? `Environment ${index + 1}: ${text}` : text, "faint")));
  $("behind").replaceChildren(...runs.filter(row => passes(row) && (state.category === MEANS || inCategory(row))).map(row => {
    const run = data.runs[row.id], box = element("details"), content = element("div"), command = element("div", null, "command"), summary = element("summary", `${place(row)} · ${row.name}`);
    if (row.status === "failed") summary.append(element("span", " failed", "wrong"));
    const copy = element("button", "copy", "copy");
    copy.type = "button";
    copy.onclick = async () => {
      await navigator.clipboard.writeText(run.command).then(() => { copy.textContent = "copied"; }, () => { getSelection().selectAllChildren(command.firstChild); });
    };
    command.append(element("pre", run.command), copy);
    content.append(command, element("p", `run ${row.id} · ${run.created || "no date"}${machines.length > 1 ? ` · environment ${run.environment + 1}` : ""}`, "faint"));
    if (row.notes) content.append(element("p", row.notes, "faint"));
    if (row.error) content.append(element("p", row.error, "wrong"));
    box.append(summary, content);
    return box;
  }));
}
function listRuns() {
  const list = shownRuns().length ? shownRuns() : done.filter(passes).length ? done.filter(passes) : done;
  if (!list.some(row => row.id === state.run)) state.run = list.length ? list.reduce((a, b) => has(b[state.metric]) && (!has(a[state.metric]) || beats(state.metric, b[state.metric], a[state.metric])) ? b : a).id : null;
  $("run").replaceChildren();
  for (const row of list) option($("run"), row.id, `${place(row)} · ${row.name}`);
  if (state.run) $("run").value = state.run;
}
function listCurves() {
  const before = $("curves-category").value, withRuns = categories.filter(category => done.some(row => row.category === category));
  $("curves-category").replaceChildren();
  for (const category of withRuns) option($("curves-category"), category, category);
  $("curves-category").value = withRuns.includes(state.category) ? state.category : withRuns.includes(before) ? before : withRuns[0] ?? "";
}
function chooseRun(id) {
  state.run = id;
  listRuns();
  drawBoard();
  return drawRun();
}
function drawCharts() {
  drawCost("latency", "ms_per_image_b1");
  drawCost("size", "model_mb");
  legend("cost-legend", configurations().map(row => row.name));
  if (!$("folds-section").hidden) drawFolds();
  if (!$("learning-section").hidden) drawLearning();
  if (!$("corruptions-section").hidden) drawCorruptions();
  drawCurves();
}
function drawAll() {
  writeAddress();
  $("board-note").textContent = `Whiskers show the 95 % interval of a run's ${data.metrics.filter(metric => metric.interval).map(metric => metric.title).join(" and ")}, and elsewhere one standard deviation over folds and seeds. The ends of each axis are in its heading. Times are those of a run measured alone. The best of each category is green. A click on a heading sorts, one on a name shows that run in detail.`;
  drawBoard();
  drawHeat();
  drawPublished();
  drawBehind();
  listRuns();
  listCurves();
  drawCharts();
  return drawRun();
}
function prepareControls() {
  for (const key of Object.keys(METRICS)) if (data.rows.some(row => has(row[key]))) option($("metric"), key, title(key));
  state.metric = $("metric").value || MAIN[0];
  option($("category"), "", "all");
  if (hasMeans && categories.length > 1) option($("category"), MEANS, "means only");
  for (const category of categories) option($("category"), category, category);
  if (hasMeans && categories.length > 1 && data.rows.length > 24) $("category").value = state.category = MEANS;
  for (const name of data.facets) {
    const values = [...new Set(runs.map(row => String(row[name] ?? "–")))];
    if (values.length < 2 || values.length > 24) continue;
    const text = name.replaceAll("_", " "), label = element("label", capital(text) + " "), select = element("select");
    select.id = `facet-${name}`;
    option(select, "", "all");
    for (const value of values) option(select, value, value);
    select.onchange = () => { state.facets[name] = select.value; drawAll(); clearable(); };
    label.append(select);
    $("facets").append(label);
  }
  const clearable = () => { $("clear").hidden = !state.words && !Object.values(state.facets).some(Boolean); };
  $("metric").onchange = () => { state.metric = $("metric").value; drawAll(); };
  $("category").onchange = () => { state.category = $("category").value; drawAll(); };
  $("filter").oninput = () => { state.words = $("filter").value; drawAll(); clearable(); };
  readAddress();
  clearable();
  $("clear").onclick = () => {
    state.words = $("filter").value = "";
    state.facets = {};
    for (const select of $("facets").querySelectorAll("select")) select.value = "";
    drawAll();
    clearable();
    $("filter").focus();
  };
  $("run").onchange = () => chooseRun($("run").value);
  $("curves-category").onchange = drawCurves;
  for (const radio of document.querySelectorAll("[name=level]")) radio.onchange = () => { state.level = radio.value; drawCurves(); };
}
// What is chosen stands in the address, so that a link shows the same.
function writeAddress() {
  const chosen = new URLSearchParams(), put = (name, value) => { if (value) chosen.set(name, value); };
  put("metric", state.metric === MAIN[0] ? "" : state.metric);
  put("category", state.category === MEANS ? "means" : state.category && `=${state.category}`);
  put("filter", state.words);
  for (const [name, value] of Object.entries(state.facets)) put(`facet-${name}`, value);
  put("sort", state.sort);
  if (state.sort) put("order", state.down ? "down" : "up");
  try {
    history.replaceState(null, "", `${location.pathname}${chosen.size ? `?${chosen}` : ""}${location.hash}`);
  } catch { /* an address that may not be changed, as in a preview */ }
}
function readAddress() {
  const chosen = new URLSearchParams(location.search), category = chosen.get("category");
  const choose = (select, value) => { if ([...select.options].some(one => one.value === value)) select.value = value; return select.value; };
  if (chosen.has("metric")) state.metric = choose($("metric"), chosen.get("metric"));
  if (category) state.category = choose($("category"), category === "means" ? MEANS : category.slice(1));
  state.words = $("filter").value = chosen.get("filter") || "";
  for (const select of $("facets").querySelectorAll("select")) if (chosen.has(select.id)) state.facets[select.id.slice(6)] = choose(select, chosen.get(select.id));
  const sort = chosen.get("sort");
  if (["name", "category", ...columns()].includes(sort)) [state.sort, state.down] = [sort, chosen.get("order") !== "up"];
}
function prepareTheme() {
  const root = document.documentElement, wish = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : wish.matches;
  const tell = () => { $("theme-name").textContent = dark() ? "light" : "dark"; };
  const redraw = () => { tell(); drawCharts(); drawHistogram(); repaint(VIEWS); };
  $("theme").onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; redraw(); };
  wish.onchange = redraw;
  tell();
  // On paper all is light, and nothing is folded.
  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme || "";
    root.dataset.theme = "light";
    state.paper = true;
    for (const box of document.querySelectorAll("details")) box.open = true;
    redraw();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    state.paper = false;
    redraw();
  });
}
function prepareSections() {
  $("cost-section").hidden = names.length < 2;
  $("heat-section").hidden = categories.length < 2;
  $("folds-section").hidden = !runs.some(row => (data.runs[row.id].folds.length > 1 || row.seed) && Object.keys(METRICS).some(key => has(row[key])));
  $("learning-section").hidden = !runs.some(row => has(row.train_size));
  $("corruptions-section").hidden = !done.some(row => data.runs[row.id].corruptions.length);
  $("curves-section").hidden = !done.some(row => data.runs[row.id].roc || data.runs[row.id].pro);
  $("run-section").hidden = !done.length;
  $("published-section").hidden = !data.rows.some(row => row.published_source);
  for (const section of document.querySelectorAll("section:not([hidden])")) {
    const link = element("a", section.dataset.title);
    link.href = `#${section.id}`;
    $("nav").append(link);
  }
  const failed = runs.length - done.length, created = runs.map(row => data.runs[row.id].created).filter(Boolean).sort();
  const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
  $("about").textContent = [count(runs.length, "run", "runs") + (failed ? `, ${failed} failed` : ""), count(names.length, "configuration", "configurations"), count(categories.length, "category", "categories"), created.length ? created.at(-1).slice(0, 10) : ""].filter(Boolean).join(" · ");
  $("common").textContent = Object.entries(data.common).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
}
// What is scrolled to must not lie under the controls, however many lines they take.
new ResizeObserver(() => {
  const controls = document.querySelector(".controls");
  document.documentElement.style.scrollPaddingTop = `${getComputedStyle(controls).position === "sticky" ? controls.offsetHeight + 16 : 12}px`;
}).observe(document.querySelector(".controls"));
// A table that goes on beyond its right edge fades there.
for (const box of document.querySelectorAll(".scroll")) {
  const fade = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const watching = new ResizeObserver(fade);
  watching.observe(box);
  watching.observe(box.querySelector("table"));
  box.addEventListener("scroll", fade, {passive: true});
}
prepareSections();
prepareControls();
prepareTheme();
prepareZoom();
drawTiles();
window.pageReady = drawAll().then(unpackPlotly).catch(error => { window.plotlyProblem = `charts need a newer browser (${error.message})`; }).then(() => { drawCharts(); drawHistogram(); });
