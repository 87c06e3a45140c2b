// --- viewer.js: one image, large ---
let current = 0;  // place of the open image in the list

async function drawLarge() {
  const row = listed[current];
  $("large-title").textContent = row[ID];
  $("large-facts").textContent = `${namesOf(row)}; ${factsOf(row)}`;
  $("large-canvas").setAttribute("aria-label", `${row[ID]}: ${$("left").value} on the left, ${$("right").value} on the right; ${factsOf(row)}`);
  $("previous").disabled = current === 0;
  $("next").disabled = current === listed.length - 1;
  const drawn = await draw($("large-canvas"), row, Number($("large-divide").value)).catch(() => false);
  $("large-canvas").hidden = !drawn;
  if (!drawn) $("readout").textContent = data.served ? "The picture cannot be read." : "This page does not contain the picture; 'wsseg view' shows all pictures.";
}
function openImage(place) { current = place; $("large").showModal(); drawLarge(); }
function step(by) {
  const place = current + by;
  if (place < 0 || place >= listed.length) return;
  current = place;
  while (shown <= current) addCards();
  drawLarge();
}
function valueAt(values, x, y) { return values.grey[Math.floor(y) * values.width + Math.floor(x * values.width)]; }
async function readPixel(event) {  // write the values of each layer under the pointer
  const row = listed[current], canvas = $("large-canvas"), box = canvas.getBoundingClientRect();
  const factor = Math.min(box.width / canvas.width, box.height / canvas.height);  // object-fit: contain
  const x = ((event.clientX - box.left) - (box.width - canvas.width * factor) / 2) / (canvas.width * factor);
  const y = ((event.clientY - box.top) - (box.height - canvas.height * factor) / 2) / (canvas.height * factor);
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return;
  if (event.buttons) { $("large-divide").value = Math.round(100 * x); drawLarge(); }
  const texts = [];
  for (const layer of split().layers) {
    if (!["mask", "truth", "heat"].includes(layer.kind)) continue;
    const values = await valuesOf(row, layer.name).catch(() => null);
    if (!values) continue;
    if (layer.kind === "heat") {
      const height = values.height / Math.max(row[CLASSES].length, 1);
      row[CLASSES].forEach((k, c) => texts.push(`${layer.name} ${data.classes[k]}: ${(valueAt(values, x, c * height + Math.floor(y * height)) / 255).toFixed(2)}`));
    } else {
      const k = valueAt(values, x, y * values.height);
      texts.push(`${layer.name}: ${k === IGNORED ? "255 (undecided or not evaluated)" : data.classes[k]}`);
    }
  }
  $("readout").textContent = texts.join("; ");
}
