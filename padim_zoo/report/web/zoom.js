// One image of the gallery, large: other views and other images by keys, the score under the pointer.
const zoom = {index: 0, view: "overlay", scale: 1};
function openZoom(index, view) {
  Object.assign(zoom, {index, view, scale: 1});
  if (!$("zoom").open) $("zoom").showModal();
  fitZoom();
  $("zoom-stage").focus();
}
function fitZoom() {
  const {made} = galleryItems[zoom.index], stage = $("zoom-stage");
  zoom.fit = Math.max(0.5, Math.min((stage.clientWidth - 8) / made.image.naturalWidth, (stage.clientHeight - 8) / made.image.naturalHeight));
  paintZoom();
}
function paintZoom() {
  const {item, made, gallery, row} = galleryItems[zoom.index], canvas = $("zoom-canvas"), [word] = verdict(item, row), total = zoom.fit * zoom.scale;
  // Lines and maps are drawn at the size they are seen in, up to what a canvas can hold everywhere.
  paint(canvas, zoom.view, item, made, gallery, Math.min(total, 4));
  canvas.style.width = `${Math.round(made.image.naturalWidth * total)}px`;
  canvas.style.height = `${Math.round(made.image.naturalHeight * total)}px`;
  $("zoom-name").textContent = item.name;
  $("zoom-about").textContent = `${item.label ? item.kind : "normal"} · score ${number(item.score)}${word ? ` · ${word}` : ""} · ${zoom.index + 1} of ${galleryItems.length}`;
  $("zoom-stage").setAttribute("aria-label", `${VIEW_TITLES[zoom.view]} of ${item.name}`);
  $("zoom-scale").textContent = `${Math.round(100 * zoom.scale)} %`;
  $("zoom-score").textContent = made.map ? "point at the picture for the score there" : "";
  for (const radio of $("zoom-views").querySelectorAll("input")) radio.checked = radio.value === zoom.view;
}
function scaleZoom(factor) {
  const stage = $("zoom-stage"), before = zoom.scale;
  zoom.scale = factor ? Math.min(8, Math.max(0.5, zoom.scale * factor)) : 1;
  const middle = [stage.scrollLeft + stage.clientWidth / 2, stage.scrollTop + stage.clientHeight / 2];
  paintZoom();
  stage.scrollTo(middle[0] * zoom.scale / before - stage.clientWidth / 2, middle[1] * zoom.scale / before - stage.clientHeight / 2);
}
function stepZoom(step) {
  zoom.index = (zoom.index + step + galleryItems.length) % galleryItems.length;
  fitZoom();
}
function prepareZoom() {
  const stage = $("zoom-stage"), canvas = $("zoom-canvas");
  VIEWS.forEach(view => {
    const label = element("label"), radio = element("input");
    [radio.type, radio.name, radio.value] = ["radio", "view", view];
    radio.onchange = () => { zoom.view = view; paintZoom(); };
    label.append(radio, VIEW_TITLES[view]);
    $("zoom-views").append(label);
  });
  $("zoom-close").onclick = () => $("zoom").close();
  $("zoom-in").onclick = () => scaleZoom(1.5);
  $("zoom-out").onclick = () => scaleZoom(1 / 1.5);
  $("zoom-previous").onclick = () => stepZoom(-1);
  $("zoom-next").onclick = () => stepZoom(1);
  $("zoom").onclose = () => galleryItems[zoom.index]?.button.focus();
  $("zoom").onclick = event => { if (event.target === $("zoom")) $("zoom").close(); };
  $("zoom").onkeydown = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = event.target.type === "radio", view = VIEWS[Number(event.key) - 1];
    const act = {ArrowRight: () => stepZoom(1), ArrowLeft: () => stepZoom(-1), "+": () => scaleZoom(1.5), "=": () => scaleZoom(1.5), "-": () => scaleZoom(1 / 1.5), "0": () => scaleZoom(0), Escape: () => $("zoom").close()}[event.key]
      || (view && (() => { zoom.view = view; paintZoom(); }));
    if (!act || (radio && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    act();
  };
  stage.onwheel = event => {
    if (!event.ctrlKey && zoom.scale === 1 && event.deltaY > 0) return;
    event.preventDefault();
    scaleZoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  };
  let held = null;
  canvas.onpointerdown = event => { if (event.pointerType === "mouse") { held = [event.clientX, event.clientY, stage.scrollLeft, stage.scrollTop]; canvas.setPointerCapture(event.pointerId); } };
  canvas.onpointerup = () => { held = null; };
  canvas.onpointermove = event => {
    if (held) stage.scrollTo(held[2] + held[0] - event.clientX, held[3] + held[1] - event.clientY);
    const {made: {map}} = galleryItems[zoom.index], box = canvas.getBoundingClientRect();
    if (!map) return;
    const x = Math.floor((event.clientX - box.left) / box.width * map.width), y = Math.floor((event.clientY - box.top) / box.height * map.height);
    if (x >= 0 && y >= 0 && x < map.width && y < map.height) $("zoom-score").textContent = `score here ${number(map.scores[y * map.width + x])}`;
  };
  addEventListener("resize", () => { if ($("zoom").open) fitZoom(); });
}
