// --- controls.js: fill the controls, connect them, and show the first split ---
function enterSplit() {
  const names = split().layers.map((layer) => [layer.name, layer.name.replaceAll("_", " ")]);
  const has = (name) => split().layers.some((layer) => layer.name === name);
  const last = split().evaluated || names[names.length - 1][0];
  const masks = split().layers.filter((layer) => layer.kind === "mask");
  options($("left"), names, data.compared ? masks[0].name : has("errors") ? last : names[0][0]);
  options($("right"), names, data.compared ? masks[1].name : has("truth") ? "truth" : last);
  const { measure, judged } = split();
  $("measure").textContent = measure;
  $("at-most").hidden = !measure;
  for (const order of ["worst", "best"]) {
    const option = $("order").querySelector(`[value=${order}]`);
    option.hidden = !measure;
    option.textContent = `${order === "worst" ? "lowest" : "highest"} ${measure} first`;
  }
  const doubted = Object.keys(split().doubts).length > 0;
  $("order").querySelector("[value=doubt]").hidden = !doubted;
  if (!doubted && $("order").value === "doubt") $("order").value = "worst";
  if (!judged && errorIndex($("order").value) >= 0) $("order").value = "worst";
  if (!judged && $("kind")) $("kind").value = "";
  if (!measure && ["worst", "best"].includes($("order").value)) $("order").value = "id";
  list();
}
function swatch(background) {
  const square = element("span", undefined, { class: "swatch" });
  square.style.background = background;
  return square;
}
function fillLegend() {
  const rgb = (colour) => `rgb(${colour.join()})`;
  data.classes.forEach((name, k) => {
    if (!k) return;
    const label = element("label"), box = element("input", undefined, { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => { if (box.checked) hidden.delete(k); else hidden.add(k); redraw(); });
    label.append(box, swatch(rgb(data.appearance.classes[k])), element("span", name));
    $("legend").append(label);
  });
  const hatched = "repeating-linear-gradient(135deg, #fff 0 3px, #282828 3px 6px)";
  for (const [text, background] of [["255: undecided or not evaluated", hatched], ...($("kind") ? ERRORS : []).map((kind) => [`error: ${kind.label}`, rgb(kind.colour)])]) {
    const item = element("span");
    item.append(swatch(background), element("span", text));
    $("legend").append(item);
  }
}
function connect() {
  $("split").addEventListener("change", enterSplit);
  for (const id of ["order", "class", "kind"]) $(id)?.addEventListener("change", list);
  for (const id of ["most", "search"]) $(id).addEventListener("input", list);
  for (const id of ["left", "right"]) $(id).addEventListener("change", redraw);
  for (const id of ["divide", "opacity"]) $(id).addEventListener("input", redraw);
  for (const id of ["most", "divide", "opacity"]) $(id).addEventListener("input", () => { document.querySelector(`output[for=${id}]`).textContent = $(id).value + " %"; });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("more").addEventListener("click", addCards);
  $("large-divide").addEventListener("input", drawLarge);
  for (const type of ["pointermove", "pointerdown"]) $("large-canvas").addEventListener(type, readPixel);
  $("close").addEventListener("click", () => $("large").close());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("large").addEventListener("keydown", (event) => {
    if (event.target === $("large-divide")) return;  // its arrow keys move the divider
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
  });
  $("large").addEventListener("close", () => (fixed ? fixed.opener : $("cards").children[current]?.querySelector("button"))?.focus());
}

const splits = Object.keys(data.splits);
if (splits.length) {
  if (data.compared) { $("order").querySelector("[value=changed]").hidden = false; $("order").value = "changed"; }
  options($("split"), splits.map((name) => [name, name]), splits.includes("val") ? "val" : splits[0]);
  options($("class"), [["0", "all classes"], ...data.classes.slice(1).map((name, i) => [String(i + 1), name])]);
  fillLegend();
  connect();
  enterSplit();
} else $("all").hidden = true;
