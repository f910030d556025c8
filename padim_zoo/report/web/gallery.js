// A run in detail: its facts, and its gallery, drawn from the image, mask and anomaly map of each item.
const VIEWS = ["image", "map", "mask", "boundary", "overlay"], VIEW_TITLES = {image: "image", map: "anomaly map", mask: "ground truth", boundary: "boundary", overlay: "overlay"};
const REASONS = [["miss", "Worst misses", "anomalous images of the lowest scores"], ["false alarm", "Worst false alarms", "normal images of the highest scores"], ["random", "Random images", "half of them anomalous, the same for every run on these data"]];
const FOUND = "#ff285a", TRUE = "#37d3ff";
let pictures = null, colors = null, galleryItems = [], boundaryAt = 0;
const loaded = new Map();

// Scores beyond which an image is called anomalous: what the run knows.
function thresholds(row) {
  const folds = data.runs[row.id].folds, average = key => { const values = folds.map(fold => fold[key]).filter(has); return values.length ? mean(values) : null; };
  return [["normal", "threshold from normal images", row.threshold], ["f1", "highest F1 (uses labels)", average("image_f1_threshold")]];
}
function pixelThreshold(row) {
  const values = data.runs[row.id].folds.map(fold => fold.pixel_f1_threshold).filter(has);
  return values.length ? mean(values) : null;
}
function verdict(item, row) {
  const [, , value] = thresholds(row).find(([, , value]) => has(value)) || [];
  if (!has(value)) return ["", ""];
  const called = item.score > value;
  return item.label ? (called ? ["found", "right"] : ["missed", "wrong"]) : called ? ["false alarm", "wrong"] : ["passed", "right"];
}
async function decode(key) {
  pictures ||= JSON.parse($("pictures").textContent);
  if (!loaded.has(key)) {
    const image = new Image();
    image.src = pictures[key];
    loaded.set(key, image.decode().then(() => image));
  }
  return loaded.get(key);
}
function pixels(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
// Everything that the views of an item are drawn from; made once.
async function prepare(item, gallery) {
  const made = {image: await decode(item.image), map: null, mask: null};
  if (item.map) {
    const picture = pixels(await decode(item.map)), scores = new Float32Array(picture.width * picture.height);
    for (let i = 0; i < scores.length; i++) scores[i] = gallery.low + (picture.data[4 * i] / 255) ** 2 * (gallery.high - gallery.low);
    made.map = {width: picture.width, height: picture.height, scores};
  }
  if (item.mask) {
    const picture = pixels(await decode(item.mask)), scores = new Float32Array(picture.width * picture.height);
    for (let i = 0; i < scores.length; i++) scores[i] = picture.data[4 * i] > 127 ? 1 : 0;
    made.mask = {width: picture.width, height: picture.height, scores};
  }
  return made;
}
function heat(map, gallery, overlaid) {
  const canvas = document.createElement("canvas"), low = gallery.color_low, high = gallery.color_high;
  [canvas.width, canvas.height] = [map.width, map.height];
  const drawn = new ImageData(map.width, map.height);
  for (let i = 0; i < map.scores.length; i++) {
    const share = Math.min(1, Math.max(0, (map.scores[i] - low) / (high - low || 1)));
    drawn.data.set(colors[Math.round(255 * share)], 4 * i);
    drawn.data[4 * i + 3] = overlaid ? 230 * share : 255;
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas;
}
// The line where the scores cross a level, by marching squares: straight pieces between points interpolated on the
// edges of each square of four neighboring scores.
function contour(context, field, level, width, height) {
  const {scores, width: columns, height: rows} = field, sx = width / columns, sy = height / rows;
  const value = (x, y) => x < 0 || y < 0 || x >= columns || y >= rows ? Math.min(level, 0) - 1 : scores[y * columns + x];
  context.beginPath();
  for (let y = -1; y < rows; y++) for (let x = -1; x < columns; x++) {
    const a = value(x, y), b = value(x + 1, y), c = value(x + 1, y + 1), d = value(x, y + 1);
    const kind = (a > level) * 8 + (b > level) * 4 + (c > level) * 2 + (d > level);
    if (kind === 0 || kind === 15) continue;
    const cut = (from, to) => Math.min(1, Math.max(0, (level - from) / (to - from)));
    const top = [x + cut(a, b), y], right = [x + 1, y + cut(b, c)], bottom = [x + cut(d, c), y + 1], left = [x, y + cut(a, d)];
    const pieces = {1: [[left, bottom]], 2: [[bottom, right]], 3: [[left, right]], 4: [[top, right]], 5: [[left, top], [bottom, right]], 6: [[top, bottom]], 7: [[left, top]],
      8: [[left, top]], 9: [[top, bottom]], 10: [[top, right], [left, bottom]], 11: [[top, right]], 12: [[left, right]], 13: [[bottom, right]], 14: [[left, bottom]]}[kind];
    for (const [from, to] of pieces) {
      context.moveTo((from[0] + 0.5) * sx, (from[1] + 0.5) * sy);
      context.lineTo((to[0] + 0.5) * sx, (to[1] + 0.5) * sy);
    }
  }
}
function stroke(context, color, width, halo) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = halo;
  context.lineWidth = width + 1.6;
  context.stroke();
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}
function write(context, text, width, height) {
  context.fillStyle = style("--band");
  context.fillRect(0, 0, width, height);
  context.fillStyle = style("--faint");
  context.font = `${Math.round(width / 14)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, width / 2, height / 2);
}
function paint(canvas, view, item, made, gallery, scale = 1) {
  const width = canvas.width = Math.round(made.image.naturalWidth * scale), height = canvas.height = Math.round(made.image.naturalHeight * scale), context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  if (view === "mask") {
    if (made.mask) context.drawImage(loadedMask(made.mask), 0, 0, width, height);
    else write(context, item.label ? "no mask" : "normal", width, height);
    return;
  }
  if (view !== "image" && !made.map) return write(context, "no map", width, height);
  if (view === "map") return context.drawImage(heat(made.map, gallery, false), 0, 0, width, height);
  context.drawImage(made.image, 0, 0, width, height);
  if (view === "overlay") context.drawImage(heat(made.map, gallery, true), 0, 0, width, height);
  if (view === "boundary") {
    if (made.mask) {
      contour(context, made.mask, 0.5, width, height);
      stroke(context, TRUE, Math.max(1.2, 1.2 * scale ** 0.5), "rgba(0,20,40,.75)");
    }
    contour(context, made.map, boundaryAt, width, height);
    stroke(context, FOUND, Math.max(1.8, 1.8 * scale ** 0.5), "rgba(255,255,255,.9)");
  }
}
function loadedMask(mask) {
  const canvas = document.createElement("canvas"), drawn = new ImageData(mask.width, mask.height);
  [canvas.width, canvas.height] = [mask.width, mask.height];
  for (let i = 0; i < mask.scores.length; i++) drawn.data.set(mask.scores[i] ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * i);
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas;
}
function drawFacts(row) {
  const facts = [...Object.keys(METRICS), "threshold", "promised_false_alarms", "false_alarms", "detections", ...COSTS, "n_train", "n_test"].filter(key => has(row[key]));
  $("facts").replaceChildren(...facts.map(key => {
    const part = element("div"), share = ["promised_false_alarms", "false_alarms", "detections"].includes(key);
    part.append(element("dt", title(key)), element("dd", share ? `${(100 * row[key]).toFixed(1)} %` : key.startsWith("n_") ? row[key] : number(row[key], isMetric(key))));
    return part;
  }));
  if (row.notes) {
    const part = element("div", null, "wide");
    part.append(element("dt", "notes"), element("dd", row.notes));
    $("facts").append(part);
  }
}
function drawColorBar(gallery) {
  colors ||= data.colors.match(/.{6}/g).map(hex => [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16)).concat(255));
  const canvas = $("color-bar").querySelector("canvas"), drawn = new ImageData(256, 1);
  colors.forEach((color, index) => drawn.data.set(color, 4 * index));
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  $("color-low").textContent = number(gallery.color_low);
  $("color-high").textContent = number(gallery.color_high);
}
async function drawRun() {
  const row = done.find(row => row.id === state.run), drawing = drawRun.latest = {};
  $("run-section").hidden = !done.length;
  if (!row) return;
  drawFacts(row);
  drawHistogram();
  const gallery = data.runs[row.id].gallery, withMaps = gallery && gallery.items.some(item => item.map);
  $("gallery").replaceChildren();
  $("gallery-controls").hidden = !withMaps;
  galleryItems = [];
  if (!gallery) {
    $("gallery-note").textContent = data.runs[row.id].no_gallery;
    return;
  }
  const source = {"held-out": "of normal images held out of the fit", test: "of normal test images", all: "of all test images, none of which is normal"}[gallery.colors_from];
  const threshold = thresholds(row).find(([, , value]) => has(value));
  $("gallery-note").textContent = "The worst images by score, whether or not a threshold calls them wrongly, and some drawn at random."
    + (threshold ? ` An image is found if it scores above the ${threshold[0] === "normal" ? "threshold from normal images" : "threshold of the highest F1, which is chosen with the labels"}, ${number(threshold[2])}.` : "")
    + (withMaps ? ` Colors are on one scale for all images of the run: from the median to the 99.9th percentile of the pixels ${source}. The red line is the boundary at the threshold below, the blue one the ground truth.` : " This detector makes no anomaly maps.")
    + (data.runs[row.id].folds.length > 1 ? " Scores and maps are means over the folds." : "");
  if (withMaps) {
    drawColorBar(gallery);
    const pixel = pixelThreshold(row), normal = gallery.score_is_map_maximum ? row.threshold : null;
    const presets = [["false-alarm threshold", normal], ["highest F1 of pixels", pixel]].filter(([, value]) => has(value));
    const slider = $("threshold"), bounds = [gallery.low, gallery.high, ...presets.map(([, value]) => value)];
    [slider.min, slider.max] = [Math.min(...bounds), Math.max(...bounds)];
    slider.step = (slider.max - slider.min) / 1000 || 1;
    const move = value => {
      slider.value = boundaryAt = value;
      $("threshold-value").textContent = number(value);
      repaint();
    };
    $("threshold-presets").replaceChildren(...presets.map(([text, value]) => {
      const button = element("button", text);
      button.type = "button";
      button.onclick = () => move(value);
      return button;
    }));
    slider.oninput = () => move(Number(slider.value));
    boundaryAt = presets.length ? presets[0][1] : gallery.color_high;
    slider.value = boundaryAt;
    $("threshold-value").textContent = number(boundaryAt);
  }
  for (const [reason, heading, about] of REASONS) {
    const items = gallery.items.filter(item => item.reasons.includes(reason));
    if (!items.length) continue;
    const h4 = element("h4", heading + " "), box = element("div", null, "items");
    h4.append(element("span", about));
    $("gallery").append(h4, box);
    for (const item of items) {
      const made = await prepare(item, gallery);
      if (drawRun.latest !== drawing) return;
      box.append(galleryItem(item, made, row, gallery, withMaps));
    }
  }
}
// Small images are drawn larger than they are, so that lines and letters are fine.
const tileScale = made => Math.max(1, 256 / made.image.naturalWidth);
function galleryItem(item, made, row, gallery, withMaps) {
  const button = element("button", null, "item"), head = element("div", null, "head"), score = element("span", null, "score"), panels = element("div", null, "panels"), [word, kind] = verdict(item, row);
  const entry = {item, made, row, gallery, button, canvases: []};
  button.type = "button";
  button.setAttribute("aria-label", `${item.name}, ${item.label ? item.kind : "normal"}, score ${number(item.score)}, ${word}: enlarge`);
  score.append(`score ${number(item.score)} `);
  if (word) score.append(element("span", word, kind));
  head.append(element("span", item.name, "name"), score);
  for (const view of withMaps ? VIEWS.slice(0, 4) : ["image", "mask"]) {
    const part = element("div"), canvas = element("canvas");
    canvas.dataset.view = view;
    canvas.style.setProperty("--shape", `${made.image.naturalWidth} / ${made.image.naturalHeight}`);
    paint(canvas, view, item, made, gallery, tileScale(made));
    part.append(canvas, element("span", VIEW_TITLES[view]));
    panels.append(part);
    entry.canvases.push(canvas);
  }
  button.append(head, panels);
  const index = galleryItems.push(entry) - 1;
  button.onclick = event => openZoom(index, event.target.dataset?.view || (withMaps ? "overlay" : "image"));
  button.onkeydown = event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key], next = galleryItems[index + step];
    if (next) { event.preventDefault(); next.button.focus(); }
  };
  return button;
}
function repaint(views = ["boundary"]) {
  for (const entry of galleryItems) for (const canvas of entry.canvases) if (views.includes(canvas.dataset.view)) paint(canvas, canvas.dataset.view, entry.item, entry.made, entry.gallery, tileScale(entry.made));
  if ($("zoom").open) paintZoom();
}
