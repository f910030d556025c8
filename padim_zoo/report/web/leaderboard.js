// Tables: the leaderboard, the categories, measured beside published.
function columns() {
  return [...new Set([...MAIN, state.metric]), ...Object.keys(RATES), ...COSTS, "n_train"].filter(key => key === state.metric || shown().some(row => has(row[key])));
}
function sorted(rows) {
  if (!state.sort) {
    // Means first, then each category, the best of it first.
    const group = row => row.mean ? -1 : categories.indexOf(row.category), key = state.metric;
    return [...rows].sort((a, b) => group(a) - group(b) || has(b[key]) - has(a[key]) || (a[key] === b[key] ? 0 : beats(key, a[key], b[key]) ? -1 : 1));
  }
  const value = row => state.sort === "category" ? place(row) : row[state.sort];
  return rows.map((row, index) => [row, index]).sort(([a, i], [b, j]) => {
    const x = value(a), y = value(b);
    if (!has(x) || !has(y)) return has(y) - has(x) || i - j;
    return (x < y ? -1 : x > y ? 1 : 0) * (state.down ? -1 : 1) || i - j;
  }).map(([row]) => row);
}
function heading(key, range) {
  const th = element("th", null, key === "category" ? "text" : ""), [text, ...unit] = ({name: "configuration", n_train: "normal, images"}[key] || title(key)).split(", "), button = element("button", text);
  button.type = "button";
  th.scope = "col";
  if (HELP[key]) th.title = HELP[key];
  if (state.sort === key) {
    button.append(state.down ? " ↓" : " ↑");
    th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
  }
  button.onclick = () => {
    state.down = state.sort === key ? !state.down : isHighBetter(key);
    state.sort = key;
    writeAddress();
    drawBoard();
    $("board").tHead.querySelectorAll("button")[["name", "category", ...columns()].indexOf(key)].focus();
  };
  th.append(button);
  if (unit.length) button.setAttribute("aria-label", title(key));
  if (unit.length) th.append(element("small", unit.join(", ")));
  if (range) th.append(element("small", `${range[0].toFixed(2)} – ${range[1].toFixed(2)}`));
  return th;
}
// The axis that a column's intervals are drawn on: from a little below the lowest to a little above the highest.
function axisOf(rows, key) {
  const bounds = rows.flatMap(row => [row[key], ...(interval(row, key) || [])]).filter(has);
  if (!bounds.length) return null;
  return [within(key, Math.floor(20 * Math.min(...bounds)) / 20), within(key, Math.ceil(20 * Math.max(...bounds) + 1e-9) / 20)];
}
function whisker(row, key, [low, high]) {
  const bar = element("span", null, "whisker"), at = value => 100 * (value - low) / (high - low || 1), span = interval(row, key);
  bar.setAttribute("aria-hidden", "true");
  if (span) {
    const line = element("i");
    line.style.left = at(span[0]) + "%";
    line.style.width = Math.max(1, at(span[1]) - at(span[0])) + "%";
    bar.append(line);
  }
  const dot = element("b");
  dot.style.left = at(row[key]) + "%";
  bar.append(dot);
  return bar;
}
function drawBoard() {
  const rows = sorted(shown()), keys = columns(), axes = Object.fromEntries(keys.filter(isMetric).map(key => [key, axisOf(rows, key)]));
  // Of each category, for no row is a rival of one of another; and of the means.
  const rivals = (row, key) => rows.filter(other => other.mean === row.mean && other.category === row.category && other.dataset === row.dataset && definedBy(key, other) === definedBy(key, row)).map(other => other[key]).filter(has);
  const best = (row, key) => {
    const values = rivals(row, key);
    return has(row[key]) && values.length > 1 && key !== "n_train" && row[key] === bestOf(key, values);
  };
  const head = element("tr"), body = $("board").tBodies[0];
  head.append(...["name", "category", ...keys].map(key => heading(key, axes[key])));
  $("board").tHead.replaceChildren(head);
  body.replaceChildren(...rows.map(row => boardRow(row, keys, best, axes)));
  if (!rows.length) {
    const cell = element("td", "nothing matches: clear the filter", "nothing");
    cell.colSpan = keys.length + 2;
    body.insertRow().append(cell);
  }
}
function boardRow(row, keys, best, axes) {
  const line = element("tr"), first = element("td"), swatch = element("span", null, "swatch");
  line.className = [row.mean ? "mean" : "", row.id && row.id === state.run ? "chosen" : ""].join(" ").trim();
  swatch.style.background = color(row.name);
  if (row.mean || row.status === "failed") first.append(swatch, row.name);
  else {
    const button = element("button", null, "link");
    button.type = "button";
    button.title = "show this run in detail";
    button.append(swatch, row.name);
    button.onclick = () => { chooseRun(row.id); $("run-section").scrollIntoView(); };
    first.append(button);
  }
  if (row.notes && row.status !== "failed") {
    const note = element("small", row.notes, "note");
    note.title = row.notes;
    first.append(note);
  }
  if (row.ties.length) {
    const told = `not distinguishable from ${row.ties.slice(0, 3).join(", ")}${row.ties.length > 3 ? ` and ${row.ties.length - 3} more` : ""}`, ties = element("small", told, "note ties");
    ties.title = `by image AUROC (DeLong, p ≥ 0.05): ${row.ties.join(", ")}`;
    first.append(ties);
  }
  line.append(first, element("td", place(row), "text"));
  if (row.status === "failed") {
    const cell = element("td", "failed: " + row.error, "failed");
    cell.colSpan = keys.length;
    line.append(cell);
    return line;
  }
  for (const key of keys) {
    const cell = element("td", key === "n_train" ? row[key] ?? "–" : number(row[key], isMetric(key) || key in RATES));
    if (best(row, key)) cell.className = "best";
    if (isMetric(key) && has(row[key])) {
      if (deviates(row[key + "_std"])) cell.append(element("span", ` ${plusMinus(row[key + "_std"])}`, "deviation"));
      const span = interval(row, key);
      if (span) cell.title = `${span[0].toFixed(3)} to ${span[1].toFixed(3)}`;
      cell.append(whisker(row, key, axes[key]));
    }
    line.append(cell);
  }
  return line;
}
function drawHeat() {
  const rows = done.filter(passes), lines = [...new Set(rows.map(row => row.name))], head = element("tr");
  const average = values => values.length ? mean(values) : null;
  const table = lines.map(name => categories.map(category => average(rows.filter(row => row.name === name && row.category === category).map(row => row[state.metric]).filter(has))));
  const values = table.flat().filter(has), low = Math.min(...values), high = Math.max(...values);
  $("heat-note").textContent = `${capital(title(state.metric))} of each configuration and category${values.length ? `, from ${low.toFixed(3)} (pale) to ${high.toFixed(3)}` : ""}. A heading shows its category everywhere.`;
  head.append(element("th", "configuration"), ...categories.map(category => {
    const th = element("th"), button = element("button", category);
    button.type = "button";
    button.onclick = () => { $("category").value = category; $("category").onchange(); };
    th.append(button);
    return th;
  }), element("th", "mean", "mean"));
  $("heat").classList.toggle("many", categories.length > 9);
  $("heat").tHead.replaceChildren(head);
  $("heat").tBodies[0].replaceChildren(...lines.map((name, index) => {
    const line = element("tr"), whole = table[index].every(has);
    line.append(element("td", name), ...table[index].map(value => {
      const cell = element("td", number(value, true)), share = high > low ? (value - low) / (high - low) : 1;
      if (has(value)) cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(4 + 46 * share)}%, var(--raised))`;
      return cell;
    }), element("td", whole ? number(mean(table[index]), true) : "–", "mean"));
    return line;
  }));
}
function drawPublished() {
  const keys = data.metrics.filter(metric => metric.published).map(metric => metric.name), rows = shown().filter(row => keys.some(key => has(row["published_" + key]))), head = element("tr"), sources = [...new Set(rows.map(row => row.published_source))];
  for (const text of ["configuration", "category", ...keys.flatMap(key => [title(key), "published", "difference"]), "source"]) head.append(element("th", text, text === "category" ? "text" : ""));
  $("published").tHead.replaceChildren(head);
  $("published").tBodies[0].replaceChildren(...rows.map(row => {
    const line = element("tr");
    line.append(element("td", row.name), element("td", place(row), "text"));
    for (const key of keys) {
      const theirs = row["published_" + key], ours = row[key];
      line.append(element("td", number(ours, true)), element("td", number(theirs, true)), element("td", has(theirs) && has(ours) ? (ours >= theirs ? "+" : "−") + Math.abs(ours - theirs).toFixed(3) : "–"));
    }
    line.append(element("td", `[${sources.indexOf(row.published_source) + 1}]`));
    return line;
  }));
  if (!rows.length) {
    const cell = element("td", "nothing published for this choice", "nothing");
    cell.colSpan = 3 + 3 * keys.length;
    $("published").tBodies[0].insertRow().append(cell);
  }
  $("sources").replaceChildren(...sources.map(source => element("li", source)));
}
