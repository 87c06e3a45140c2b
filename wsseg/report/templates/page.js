"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 24, IGNORED = 255;
  const ID = 0, CLASSES = 1, HEIGHT = 2, WIDTH = 3, MIOU = 4, SHARES = 5, IOU = 6, CHANGE = 7;  // places in a row
  const KINDS = ["missed", "spill", "wrong", "undecided"];
  // Okabe & Ito (2008), told apart by colour-blind people; further classes by lightness as well as by hue
  const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
  const ERRORS = { missed: "#56b4e9", spill: "#e69f00", wrong: "#d55e00", undecided: "#8c8c8c" };
  const ERROR_WORDS = { missed: "missed", spill: "spill over the background", wrong: "wrong class", undecided: "undecided" };
  const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37]];
  const $ = (id) => document.getElementById(id);
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const percent = (fraction) => fraction === null || fraction === undefined ? "–" : (100 * fraction).toFixed(1) + " %";
  const colourOf = (k) => {
    if (k - 1 < COLOURS.length) return rgb(COLOURS[k - 1]);
    const hue = (k * 137.5) % 360, light = [0.42, 0.62, 0.78][k % 3], spread = 0.6 * Math.min(light, 1 - light);
    return [0, 8, 4].map((n) => { const at = (n + hue / 30) % 12; return Math.round(255 * (light - spread * Math.max(-1, Math.min(at - 3, 9 - at, 1)))); });
  };
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;  // never HTML: names are whatever the data says
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const splits = Object.keys(data.splits);
  if (!splits.length) { $("controls").hidden = $("legend").hidden = $("more").hidden = true; return; }

  const hidden = new Set();  // class ids that are not shown
  let found = [], drawn = 0, at = 0;
  const split = () => data.splits[$("split").value];
  const layerOf = (name) => split().layers.find((layer) => layer.name === name);
  const options = (select, entries, chosen) => {
    select.replaceChildren(...entries.map(([value, text]) => { const o = element("option", text); o.value = value; return o; }));
    if (chosen !== undefined && entries.some(([value]) => value === chosen)) select.value = chosen;
  };

  // --- pictures ----------------------------------------------------------------------------------------------------
  const cache = new Map();  // of decoded pictures, the oldest go first
  const source = (row, layer) => data.served
    ? `layer/${encodeURIComponent($("split").value)}/${encodeURIComponent(layer.name)}?id=${encodeURIComponent(row[ID])}`
    : (data.pictures[`${$("split").value}/${row[ID]}`] || {})[layer.name];
  function decoded(uri) {
    if (!cache.has(uri)) {
      if (cache.size > 400) cache.delete(cache.keys().next().value);
      cache.set(uri, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => resolve(image);
        image.onerror = () => reject(new Error("it cannot be read"));
        image.src = uri;
      }));
    }
    return cache.get(uri);
  }
  function valuesOf(image) {  // the grey values of a picture
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const all = context.getImageData(0, 0, canvas.width, canvas.height).data, grey = new Uint8Array(canvas.width * canvas.height);
    for (let i = 0; i < grey.length; i++) grey[i] = all[4 * i];
    return { grey, width: canvas.width, height: canvas.height };
  }
  const stripe = (x, y, period) => (x + y) % period < period / 2;  // what is hatched
  function coloured(width, height, at) {  // a canvas whose pixel (x, y) has the colour [r, g, b, alpha] that `at` gives
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d"), picture = context.createImageData(width, height);
    for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i += 4) {
      const colour = at(x, y);
      if (colour) { picture.data[i] = colour[0]; picture.data[i + 1] = colour[1]; picture.data[i + 2] = colour[2]; picture.data[i + 3] = colour[3]; }
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  }
  const palette = data.classes.map((_, k) => k ? [...colourOf(k), 255] : null);
  function maskPicture(mask) {
    const period = Math.max(4, Math.round(mask.width / 30));
    return coloured(mask.width, mask.height, (x, y) => {
      const k = mask.grey[y * mask.width + x];
      if (k === IGNORED) return stripe(x, y, period) ? [255, 255, 255, 255] : [40, 40, 40, 255];
      return hidden.has(k) ? null : palette[k];
    });
  }
  function heatPicture(seed, row) {
    const ids = row[CLASSES], height = ids.length ? seed.height / ids.length : 0;
    if (!ids.length) return null;
    return coloured(seed.width, height, (x, y) => {
      let most = 0;
      ids.forEach((k, c) => { if (!hidden.has(k)) most = Math.max(most, seed.grey[(c * height + y) * seed.width + x]); });
      const place = most / 255 * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2), share = place - low;
      return [0, 1, 2].map((i) => VIRIDIS[low][i] * (1 - share) + VIRIDIS[low + 1][i] * share).concat(255);
    });
  }
  function errorKind(truth, given) {
    if (truth === IGNORED || truth === given) return "";
    if (given === IGNORED) return "undecided";
    return !given ? "missed" : truth ? "wrong" : "spill";
  }
  function errorPicture(mask, truth) {
    const shades = Object.fromEntries(KINDS.map((kind) => [kind, [...rgb(ERRORS[kind]), 255]]));
    return coloured(mask.width, mask.height, (x, y) => {
      const i = y * mask.width + x, t = truth.grey[i], m = mask.grey[i];
      if (hidden.has(t) && hidden.has(m)) return null;
      return shades[errorKind(t, m)] || null;
    });
  }
  async function layerValues(row, name) {
    const layer = layerOf(name);
    if (layer.kind === "truth" && split().unjudged.includes(row[ID])) return null;
    const uri = source(row, layer);
    return uri ? valuesOf(await decoded(uri)) : null;
  }
  async function overlayOf(row, layer) {  // what lies over the photograph
    if (layer.kind === "photo") return null;
    if (layer.kind === "errors") {
      const [mask, truth] = await Promise.all([layerValues(row, layer.of || split().judged), layerValues(row, "truth")]);
      return mask && truth ? errorPicture(mask, truth) : null;
    }
    const values = await layerValues(row, layer.name);
    if (!values) return null;
    return layer.kind === "heat" ? heatPicture(values, row) : maskPicture(values);
  }
  async function draw(canvas, row, divide) {
    const turn = canvas.turn = (canvas.turn || 0) + 1;
    const sides = [layerOf($("left").value), layerOf($("right").value)];
    const uri = source(row, split().layers[0]);
    if (!uri) return false;
    const photo = await decoded(uri);
    const over = await Promise.all(sides.map((layer) => overlayOf(row, layer)));
    if (turn !== canvas.turn) return true;  // another drawing began meanwhile
    const width = canvas.width = photo.naturalWidth, height = canvas.height = photo.naturalHeight, edge = Math.round(width * divide / 100);
    const context = canvas.getContext("2d");
    sides.forEach((layer, side) => {
      context.save();
      context.beginPath();
      context.rect(side ? edge : 0, 0, side ? width - edge : edge, height);
      context.clip();
      context.filter = layer.kind === "photo" ? "none" : "grayscale(1)";
      context.drawImage(photo, 0, 0, width, height);
      context.filter = "none";
      if (over[side]) {
        context.globalAlpha = $("opacity").value / 100;
        context.imageSmoothingEnabled = layer.kind === "heat";
        context.drawImage(over[side], 0, 0, width, height);
      }
      context.restore();
    });
    if (edge > 0 && edge < width) {
      context.fillStyle = "#000000"; context.fillRect(edge - 1, 0, 3, height);
      context.fillStyle = "#ffffff"; context.fillRect(edge, 0, 1, height);
    }
    return true;
  }

  // --- which images ------------------------------------------------------------------------------------------------
  const inSet = (row) => {
    const k = Number($("class").value), kind = $("kind").value, most = Number($("most").value);
    if (k && !row[CLASSES].includes(k) && !(k in row[IOU])) return false;
    if (kind && !(row[SHARES].length && row[SHARES][KINDS.indexOf(kind)] >= 0.01)) return false;
    const iou = k ? row[IOU][k] : row[MIOU];
    if (most < 100 && !(iou !== null && iou !== undefined && 100 * iou <= most)) return false;
    return row[ID].toLowerCase().includes($("search").value.toLowerCase());
  };
  function ordered(rows) {
    const how = $("order").value, k = Number($("class").value);
    if (how === "id") return rows;
    const value = (row) => {
      if (KINDS.includes(how)) return -(row[SHARES][KINDS.indexOf(how)] ?? -1);
      if (how === "changed") return -Math.abs(row[CHANGE] ?? 0);
      const iou = k ? row[IOU][k] : row[MIOU];
      return iou === null || iou === undefined ? Infinity : how === "worst" ? iou : -iou;
    };
    return rows.map((row) => [value(row), row]).sort((a, b) => a[0] - b[0]).map(([, row]) => row);
  }
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    entry.target.near = entry.isIntersecting;
    if (entry.isIntersecting) drawCard(entry.target);
  }), { rootMargin: "300px" });
  async function drawCard(card) {
    if (card.asked === look() || !card.near) return;  // lazily, and once for what is set
    card.asked = look();
    const holder = card.querySelector(".picture"), canvas = holder.querySelector("canvas");
    try {
      if (await draw(canvas, card.row, Number($("divide").value))) return;
      holder.textContent = "not in this page";
    } catch (error) { holder.textContent = "no picture: " + error.message; }
  }
  const look = () => ["split", "left", "right", "divide", "opacity"].map((id) => $(id).value).join() + [...hidden].join();
  const namesOf = (row) => row[CLASSES].map((k) => data.classes[k]).join(", ") || "background only";
  const factsOf = (row) => {
    const parts = [`mean IoU ${percent(row[MIOU])}`];
    if (row[CHANGE] !== undefined) parts.push(`changed by ${(100 * row[CHANGE]).toFixed(1)} points`);
    row[SHARES].forEach((share, i) => { if (share >= 0.0005) parts.push(`${ERROR_WORDS[KINDS[i]]} ${percent(share)}`); });
    return parts.join("; ");
  };
  function addCards() {
    const next = found.slice(drawn, drawn + PAGE);
    $("cards").append(...next.map((row, i) => {
      const item = element("li"), card = element("button", undefined, { type: "button" });
      const holder = element("span", undefined, { class: "picture" }), canvas = element("canvas", undefined, { "aria-hidden": "true" });
      const text = element("span", undefined, { class: "text" });
      text.append(element("b", row[ID]), element("span", `${namesOf(row)}; IoU ${percent(row[MIOU])}`));
      holder.append(canvas);
      card.append(holder, text);
      card.row = row;
      const place = drawn + i;
      card.addEventListener("click", () => open(place));
      item.append(card);
      watcher.observe(card);
      return item;
    }));
    drawn += next.length;
    $("more").hidden = drawn >= found.length;
    $("count").textContent = `${found.length} of ${split().rows.length} images${drawn < found.length ? `, the first ${drawn} shown` : ""}`;
  }
  function list() {
    watcher.disconnect();
    found = ordered(split().rows.filter(inSet));
    drawn = 0;
    $("cards").replaceChildren();
    addCards();
  }
  function redraw() {
    document.querySelectorAll(".cards button").forEach(drawCard);
    if ($("large").open) drawLarge();
  }

  // --- one image, large --------------------------------------------------------------------------------------------
  async function drawLarge() {
    const row = found[at];
    $("large-title").textContent = row[ID];
    $("large-facts").textContent = `${namesOf(row)}; ${factsOf(row)}`;
    $("large-canvas").setAttribute("aria-label", `${$("left").value} beside ${$("right").value} of ${row[ID]}: ${factsOf(row)}`);
    $("previous").disabled = at === 0;
    $("next").disabled = at === found.length - 1;
    const there = await draw($("large-canvas"), row, Number($("large-divide").value)).catch(() => false);
    $("large-canvas").hidden = !there;
    if (!there) $("readout").textContent = data.served ? "The picture cannot be read." : "This page does not hold the picture; wsseg view shows all of them.";
  }
  function open(place) { at = place; $("large").showModal(); drawLarge(); }
  function step(by) {
    const to = at + by;
    if (to < 0 || to >= found.length) return;
    at = to;
    while (drawn <= at) addCards();
    drawLarge();
  }
  async function read(event) {
    const row = found[at], canvas = $("large-canvas"), box = canvas.getBoundingClientRect();
    const factor = Math.min(box.width / canvas.width, box.height / canvas.height);  // object-fit: contain
    const x = ((event.clientX - box.left) - (box.width - canvas.width * factor) / 2) / (canvas.width * factor);
    const y = ((event.clientY - box.top) - (box.height - canvas.height * factor) / 2) / (canvas.height * factor);
    if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return;
    if (event.buttons) { $("large-divide").value = Math.round(100 * x); drawLarge(); }
    const words = [];
    for (const layer of split().layers) {
      if (layer.kind !== "mask" && layer.kind !== "truth" && layer.kind !== "heat") continue;
      const values = await layerValues(row, layer.name).catch(() => null);
      if (!values) continue;
      if (layer.kind === "heat") {
        const height = values.height / Math.max(row[CLASSES].length, 1);
        row[CLASSES].forEach((k, c) => words.push(`${layer.name} ${data.classes[k]}: ${(values.grey[(c * height + Math.floor(y * height)) * values.width + Math.floor(x * values.width)] / 255).toFixed(2)}`));
      } else {
        const k = values.grey[Math.floor(y * values.height) * values.width + Math.floor(x * values.width)];
        words.push(`${layer.name}: ${k === IGNORED ? "255 (undecided or not judged)" : data.classes[k]}`);
      }
    }
    $("readout").textContent = words.join("; ");
  }

  // --- controls ----------------------------------------------------------------------------------------------------
  function enter() {  // a split
    const names = split().layers.map((layer) => [layer.name, layer.name.replaceAll("_", " ")]);
    const has = (name) => names.some(([value]) => value === name);
    const last = split().judged || names[names.length - 1][0];
    const masks = split().layers.filter((layer) => layer.kind === "mask");
    options($("left"), names, data.compared ? masks[0].name : has("errors") ? last : names[0][0]);
    options($("right"), names, data.compared ? masks[1].name : has("truth") ? "truth" : last);
    list();
  }
  function legend() {
    const swatch = (colour, hatched) => {
      const made = element("span", undefined, { class: "swatch" });
      made.style.background = hatched ? "repeating-linear-gradient(135deg, #fff 0 3px, #282828 3px 6px)" : `rgb(${colour.slice(0, 3).join()})`;
      return made;
    };
    data.classes.forEach((name, k) => {
      if (!k) return;
      const label = element("label"), box = element("input", undefined, { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => { if (box.checked) hidden.delete(k); else hidden.add(k); redraw(); });
      label.append(box, swatch(palette[k]), element("span", name));
      $("legend").append(label);
    });
    const further = [["255: undecided, not judged", null, true], ...KINDS.map((kind) => [`in errors: ${ERROR_WORDS[kind]}`, rgb(ERRORS[kind]), false])];
    for (const [text, colour, hatched] of further) {
      const item = element("span");
      item.append(swatch(colour, hatched), element("span", text));
      $("legend").append(item);
    }
  }
  if (data.compared) { $("order").querySelector("[value=changed]").hidden = false; $("order").value = "changed"; }
  options($("split"), splits.map((name) => [name, name]), splits.includes("val") ? "val" : splits[0]);
  options($("class"), [["0", "all classes"], ...data.classes.slice(1).map((name, i) => [String(i + 1), name])]);
  legend();
  $("split").addEventListener("change", enter);
  for (const id of ["order", "class", "kind"]) $(id).addEventListener("change", list);
  for (const id of ["most", "search"]) $(id).addEventListener("input", list);
  for (const id of ["left", "right"]) $(id).addEventListener("change", redraw);
  for (const id of ["divide", "opacity"]) $(id).addEventListener("input", redraw);
  for (const id of ["most", "divide", "opacity"]) $(id).addEventListener("input", () => { document.querySelector(`output[for=${id}]`).textContent = $(id).value + " %"; });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("more").addEventListener("click", addCards);
  $("large-divide").addEventListener("input", drawLarge);
  $("large-canvas").addEventListener("pointermove", read);
  $("large-canvas").addEventListener("pointerdown", read);
  $("close").addEventListener("click", () => $("large").close());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("large").addEventListener("keydown", (event) => {
    if (event.target === $("large-divide")) return;  // there, arrows move the divider
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
  });
  $("large").addEventListener("close", () => { const card = $("cards").children[at]?.querySelector("button"); card?.focus(); });
  enter();
})();
