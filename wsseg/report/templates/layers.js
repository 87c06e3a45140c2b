// --- layers.js: colour the values of a layer, and draw two layers over the photograph, side by side ---
const opaque = (colour) => colour && [...colour, 255];
const classColours = data.appearance.classes.map(opaque), heatColours = data.appearance.heat.map(opaque);
const errorColours = Object.fromEntries(ERRORS.map((kind) => [kind.name, opaque(kind.colour)]));

function coloured(width, height, colourAt) {  // colourAt(x, y) returns [r, g, b, alpha], or nothing for a transparent pixel
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i += 4) {
    const colour = colourAt(x, y);
    if (colour) { picture.data[i] = colour[0]; picture.data[i + 1] = colour[1]; picture.data[i + 2] = colour[2]; picture.data[i + 3] = colour[3]; }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
function maskPicture(mask) {  // 255 is hatched
  const period = Math.max(4, Math.round(mask.width / 30));
  return coloured(mask.width, mask.height, (x, y) => {
    const k = mask.grey[y * mask.width + x];
    if (k === IGNORED) return (x + y) % period < period / 2 ? [255, 255, 255, 255] : [40, 40, 40, 255];
    return hidden.has(k) ? null : classColours[k];
  });
}
function heatPicture(seed, row) {  // the maps of a seed are stacked vertically, one per class
  const ids = row[CLASSES], height = ids.length ? seed.height / ids.length : 0;
  if (!ids.length) return null;
  return coloured(seed.width, height, (x, y) => {
    let highest = 0;
    ids.forEach((k, c) => { if (!hidden.has(k)) highest = Math.max(highest, seed.grey[(c * height + y) * seed.width + x]); });
    return heatColours[highest];
  });
}
function errorKind(truth, predicted) {
  if (truth === IGNORED || truth === predicted) return "";
  if (predicted === IGNORED) return "undecided";
  return !predicted ? "missed" : truth ? "wrong" : "spill";
}
function errorPicture(mask, truth) {
  return coloured(mask.width, mask.height, (x, y) => {
    const i = y * mask.width + x, t = truth.grey[i], m = mask.grey[i];
    return hidden.has(t) && hidden.has(m) ? null : errorColours[errorKind(t, m)];
  });
}
async function overlayOf(row, layer) {  // null if only the photograph is shown
  if (layer.kind === "photo") return null;
  if (layer.kind === "errors") {
    const [mask, truth] = await Promise.all([valuesOf(row, layer.of || splitOf(row).evaluated), valuesOf(row, "truth")]);
    return mask && truth ? errorPicture(mask, truth) : null;
  }
  const values = await valuesOf(row, layer.name);
  if (!values) return null;
  return layer.kind === "heat" ? heatPicture(values, row) : maskPicture(values);
}
async function draw(canvas, row, left, right, divide) {  // returns false if the page has no picture of the image
  const turn = canvas.turn = (canvas.turn || 0) + 1;
  const sides = [layerOf(row, left), layerOf(row, right)];
  const address = addressOf(row, splitOf(row).layers[0]);
  if (!address) return false;
  const photograph = await decoded(address);
  const overlays = await Promise.all(sides.map((layer) => overlayOf(row, layer)));
  if (turn !== canvas.turn) return true;  // a newer drawing has started
  const width = canvas.width = photograph.naturalWidth, height = canvas.height = photograph.naturalHeight;
  const edge = Math.round(width * divide / 100), context = canvas.getContext("2d");
  sides.forEach((layer, side) => {
    context.save();
    context.beginPath();
    context.rect(side ? edge : 0, 0, side ? width - edge : edge, height);
    context.clip();
    context.filter = layer.kind === "photo" ? "none" : "grayscale(1)";
    context.drawImage(photograph, 0, 0, width, height);
    context.filter = "none";
    if (overlays[side]) {
      context.globalAlpha = $("opacity").value / 100;
      context.imageSmoothingEnabled = layer.kind === "heat";
      context.drawImage(overlays[side], 0, 0, width, height);
    }
    context.restore();
  });
  if (edge > 0 && edge < width) {
    context.fillStyle = "#000000"; context.fillRect(edge - 1, 0, 3, height);
    context.fillStyle = "#ffffff"; context.fillRect(edge, 0, 1, height);
  }
  return true;
}
