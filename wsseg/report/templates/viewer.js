// --- viewer.js: one image, large ---
let viewed = [], current = 0;  // rows that can be stepped through, and the place of the open one
let fixed = null;  // layers of the left and the right side, and the element that gets the focus back; null: as the controls say

const leftName = () => fixed ? fixed.left : $("left").value;
const rightName = () => fixed ? fixed.right : $("right").value;
async function drawLarge() {
  const row = viewed[current];
  $("large-title").textContent = row[ID];
  $("large-facts").textContent = [`${leftName()} | ${rightName()}`.replaceAll("_", " "), namesOf(row), factsOf(row), doubtOf(row)[1]].filter(Boolean).join("; ");
  $("large-canvas").setAttribute("aria-label", `${row[ID]}: ${leftName()} on the left, ${rightName()} on the right; ${factsOf(row)}`);
  $("previous").hidden = $("next").hidden = viewed.length < 2;
  $("previous").disabled = current === 0;
  $("next").disabled = current === viewed.length - 1;
  const drawn = await draw($("large-canvas"), row, leftName(), rightName(), Number($("large-divide").value)).catch(() => false);
  $("large-canvas").hidden = !drawn;
  if (!drawn) $("readout").textContent = data.served ? "The picture cannot be read." : "This page does not contain the picture; 'wsseg view' shows all pictures.";
}
function openImage(rows, place, sides = null) {
  viewed = rows;
  current = place;
  fixed = sides;
  $("large").showModal();
  drawLarge();
}
function step(by) {
  const place = current + by;
  if (place < 0 || place >= viewed.length) return;
  current = place;
  while (viewed === listed && shown <= current) addCards();
  drawLarge();
}
function valueAt(values, x, y) { return values.grey[Math.floor(y) * values.width + Math.floor(x * values.width)]; }
async function readPixel(event) {  // write the values of each layer under the pointer
  const row = viewed[current], canvas = $("large-canvas"), box = canvas.getBoundingClientRect();
  const factor = Math.min(box.width / canvas.width, box.height / canvas.height);  // object-fit: contain
  const x = ((event.clientX - box.left) - (box.width - canvas.width * factor) / 2) / (canvas.width * factor);
  const y = ((event.clientY - box.top) - (box.height - canvas.height * factor) / 2) / (canvas.height * factor);
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return;
  if (event.buttons) { $("large-divide").value = Math.round(100 * x); drawLarge(); }
  const texts = [];
  for (const layer of [...splitOf(row).layers, ...data.extra]) {
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
