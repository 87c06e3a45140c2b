// --- pictures.js: load pictures and read their values ---
const MOST_DECODED = 400;  // pictures kept in memory; the oldest are dropped first
const decodedPictures = new Map();

function addressOf(row, layer) {
  if (!data.served) return (data.pictures[`${row.split}/${row[ID]}`] || {})[layer.name];
  return `layer/${encodeURIComponent(row.split)}/${encodeURIComponent(layer.name)}?id=${encodeURIComponent(row[ID])}`;
}
function decoded(address) {
  if (!decodedPictures.has(address)) {
    if (decodedPictures.size > MOST_DECODED) decodedPictures.delete(decodedPictures.keys().next().value);
    decodedPictures.set(address, new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("it cannot be read"));
      image.src = address;
    }));
  }
  return decodedPictures.get(address);
}
function greyValues(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data, grey = new Uint8Array(canvas.width * canvas.height);
  for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i];
  return { grey, width: canvas.width, height: canvas.height };
}
async function valuesOf(row, name) {  // null if the page has no such picture
  const layer = layerOf(row, name);
  if (layer.kind === "truth" && splitOf(row).without_truth.includes(row[ID])) return null;
  const address = addressOf(row, layer);
  return address ? greyValues(await decoded(address)) : null;
}
