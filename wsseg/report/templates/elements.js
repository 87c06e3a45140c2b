// --- elements.js: the page's data, its elements, and the state that all other files share ---
const data = JSON.parse(document.getElementById("data").textContent);
const IGNORED = 255;  // value of a mask: undecided, or not evaluated
const ID = 0, CLASSES = 1, HEIGHT = 2, WIDTH = 3, SCORE = 4, SHARES = 5, SCORES = 6, CHANGE = 7;  // fields of a row
const ERRORS = data.appearance.errors;  // name, label and colour of each kind
const hidden = new Set();  // class ids that are not shown

for (const [name, each] of Object.entries(data.splits)) each.rows.forEach((row) => { row.split = name; });

const $ = (id) => document.getElementById(id);
const split = () => data.splits[$("split").value];
const splitOf = (row) => data.splits[row.split];
const layerOf = (row, name) => [...splitOf(row).layers, ...data.extra].find((layer) => layer.name === name);
const errorIndex = (name) => ERRORS.findIndex((kind) => kind.name === name);
const percent = (fraction) => fraction === null || fraction === undefined ? "–" : (100 * fraction).toFixed(1) + " %";

function element(name, text, attributes = {}) {
  const created = document.createElement(name);
  if (text !== undefined) created.textContent = text;  // never HTML, because names can contain any text
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}
function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", text, { value })));
  if (chosen !== undefined && entries.some(([value]) => value === chosen)) select.value = chosen;
}

const namesOf = (row) => row[CLASSES].map((k) => data.classes[k]).join(", ") || "background only";
const doubtOf = (row) => splitOf(row).doubts[row[ID]] || [0, ""];  // doubt about the labels, and why if they are probably wrong
const scoreText = (row) => row[SCORE] === null ? "" : `${splitOf(row).measure} ${percent(row[SCORE])}`;
function factsOf(row) {
  const parts = row[SCORE] === null ? [] : [`mean ${scoreText(row)}`];
  if (row[CHANGE] !== undefined) parts.push(`changed by ${(100 * row[CHANGE]).toFixed(1)} ${splitOf(row).measured ? "points" : "%"}`);
  row[SHARES].forEach((share, i) => { if (share >= 0.0005) parts.push(`${ERRORS[i].label} ${percent(share)}`); });
  return parts.join("; ");
}
