// --- cards.js: filter and order the images, and show them as cards ---
const CARDS = 24;  // cards that are added at once
let listed = [], shown = 0;  // rows that pass the filter in their order, and how many of them have a card

const settings = () => ["split", "left", "right", "divide", "opacity"].map((id) => $(id).value).join() + [...hidden].join();
const scoreOf = (row) => { const k = Number($("class").value); return k ? row[SCORES][k] : row[SCORE]; };

function passes(row) {
  const k = Number($("class").value), kind = $("kind")?.value, most = Number($("most").value), score = scoreOf(row);
  if (k && !row[CLASSES].includes(k) && !(k in row[SCORES])) return false;
  if (kind && !(row[SHARES].length && row[SHARES][errorIndex(kind)] >= 0.01)) return false;
  if (most < 100 && !(score !== null && score !== undefined && 100 * score <= most)) return false;
  return row[ID].toLowerCase().includes($("search").value.toLowerCase());
}
function ordered(rows) {
  const order = $("order").value, kind = errorIndex(order);
  if (order === "id") return rows;
  const rank = (row) => {
    if (kind >= 0) return -(row[SHARES][kind] ?? -1);
    if (order === "doubt") return -doubtOf(row)[0];
    if (order === "changed") return -Math.abs(row[CHANGE] ?? 0);
    const score = scoreOf(row);
    return score === null || score === undefined ? Infinity : order === "worst" ? score : -score;
  };
  return rows.map((row) => [rank(row), row]).sort((a, b) => a[0] - b[0]).map(([, row]) => row);
}

// pictures are drawn when their card comes near the visible part of the page
const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
  entry.target.near = entry.isIntersecting;
  if (entry.isIntersecting) drawCard(entry.target);
}), { rootMargin: "300px" });
async function drawCard(card) {
  if (card.drawnWith === settings() || !card.near) return;
  card.drawnWith = settings();
  const holder = card.querySelector(".picture"), canvas = holder.querySelector("canvas");
  try {
    if (await draw(canvas, card.row, $("left").value, $("right").value, Number($("divide").value))) return;
    holder.textContent = "not in this page";
  } catch (error) { holder.textContent = "no picture: " + error.message; }
}
function newCard(row, place) {
  const item = element("li"), card = element("button", undefined, { type: "button" });
  const holder = element("span", undefined, { class: "picture" }), text = element("span", undefined, { class: "text" });
  text.append(element("b", row[ID]), element("span", [namesOf(row), scoreText(row), doubtOf(row)[1]].filter(Boolean).join("; ")));
  holder.append(element("canvas", undefined, { "aria-hidden": "true" }));
  card.append(holder, text);
  card.row = row;
  card.addEventListener("click", () => openImage(listed, place));
  item.append(card);
  watcher.observe(card);
  return item;
}
function addCards() {
  const next = listed.slice(shown, shown + CARDS);
  $("cards").append(...next.map((row, i) => newCard(row, shown + i)));
  shown += next.length;
  $("more").hidden = shown >= listed.length;
  $("count").textContent = `${listed.length} of ${split().rows.length} images${shown < listed.length ? `, the first ${shown} shown` : ""}`;
}
function list() {
  watcher.disconnect();
  listed = ordered(split().rows.filter(passes));
  shown = 0;
  $("cards").replaceChildren();
  addCards();
}
function redraw() {
  document.querySelectorAll(".cards button").forEach(drawCard);
  document.querySelectorAll(".cell").forEach(drawCell);
  if ($("large").open) drawLarge();
}
