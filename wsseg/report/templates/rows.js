// --- rows.js: the rows of pictures at the beginning of the page ---
const rowsById = new Map(Object.entries(data.splits).map(([name, each]) => [name, new Map(each.rows.map((row) => [row[ID], row]))]));

// a picture is drawn when it comes near the visible part of the page
const cellWatcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
  entry.target.near = entry.isIntersecting;
  if (entry.isIntersecting) drawCell(entry.target);
}), { rootMargin: "300px" });
async function drawCell(cell) {
  const drawing = $("opacity").value + [...hidden].join();
  if (cell.drawnWith === drawing || !cell.near) return;
  cell.drawnWith = drawing;
  const holder = cell.querySelector(".picture"), canvas = holder.querySelector("canvas"), layer = cell.dataset.layer;
  try {
    if (addressOf(cell.row, layerOf(cell.row, layer)) && await draw(canvas, cell.row, layer, layer, 100)) return;
    holder.textContent = "not available";
  } catch (error) { holder.textContent = "no picture: " + error.message; }
}
function openCell(cell) {  // the photograph on the left, the picture on the right
  const cells = [...cell.parentElement.children], first = cells[0].dataset.layer;
  const right = cell === cells[0] ? cells[cells.length - 1] : cell;
  openImage([cell.row], 0, { left: first, right: right.dataset.layer, opener: cell });
}
for (const cell of document.querySelectorAll(".cell")) {
  cell.row = rowsById.get(cell.dataset.split).get(cell.dataset.id);
  cell.addEventListener("click", () => openCell(cell));
  cellWatcher.observe(cell);
}
