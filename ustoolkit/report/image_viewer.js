// The images of a page: thumbnails, drawn when they come into view, and the viewer that a click or Enter opens.
//
// A row or figure with data-image="number" opens that image; the rows of the table "image-table" that are not hidden,
// in their order, are what the arrows go through. `image-data` holds the pictures, `scale` units of a path a pixel.

const find = (id) => document.getElementById(id);
const { images, scale } = JSON.parse(find("image-data").textContent);
const viewer = find("viewer");
const table = find("image-table");
const layerButtons = [...find("viewer-layers").children];
const FALLBACK = "both"; // the layer of an image that lacks the one that was chosen
const CLEAR_BELOW = 0.2; // tissue without a lesion keeps its own grey
// Viridis: lightness rises evenly, so it can be read without telling red from green.
const VIRIDIS = "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725".split(" ");

let current = 0;
let layer = FALLBACK; // as chosen
let opener = null; // what gets the focus back

const address = (webp) => `data:image/webp;base64,${webp}`;
const viewBox = ({ width, height }) => `0 0 ${scale * width} ${scale * height}`;

function drawThumbnail(place) {
  const picture = images[Number(place.closest("[data-image]").dataset.image)];
  const image = new Image();
  image.alt = "";
  image.src = address(picture.image);
  const marks = find("scan-marks").content.firstElementChild.cloneNode(true);
  marks.setAttribute("viewBox", viewBox(picture));
  marks.querySelector(".truth").setAttribute("d", picture.truth.join(""));
  marks.querySelector(".prediction").setAttribute("d", picture.prediction.join(""));
  place.append(image, marks);
}

function watchThumbnails() {
  const drawSeen = (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      observer.unobserve(target);
      drawThumbnail(target);
    }
  };
  const observer = new IntersectionObserver(drawSeen, { root: find("images-scroll"), rootMargin: "300px" });
  for (const place of table.querySelectorAll(".scan")) observer.observe(place);
}

function open(number, from) {
  opener = { element: from, number };
  viewer.showModal();
  show(number);
}

function show(number) {
  current = number;
  const picture = images[number];
  find("viewer-title").textContent = picture.name;
  find("viewer-image").alt = `Ultrasound image ${picture.name}`;
  find("viewer-image").src = address(picture.image);
  find("viewer-stage").style.setProperty("--ratio", picture.width / picture.height);
  find("viewer-marks").setAttribute("viewBox", viewBox(picture));
  for (const path of find("viewer-marks").querySelectorAll("[data-path]")) path.setAttribute("d", pathOf(picture, path));
  drawScale(picture.width_mm);
  tellFacts(picture.facts);
  tellPlace();
  showLayer();
}

function pathOf(picture, { dataset }) {
  const of = (name) => picture[name]?.[Number(dataset.class)] ?? "";
  // Filled by 'evenodd', both outlines together enclose what only one of them does.
  return dataset.path === "exclusive" ? of("truth") + of("prediction") : of(dataset.path);
}

function drawScale(width) {
  const bar = find("viewer-scale");
  bar.hidden = width === undefined;
  if (bar.hidden) return;
  const length = [50, 20, 10, 5, 2, 1].find((each) => each <= width / 4) ?? 1;
  bar.textContent = `${length} mm`;
  bar.style.inlineSize = `${(100 * length) / width}%`;
}

function tellFacts(facts) {
  const elements = facts.flatMap(([name, value]) => {
    const [term, meaning] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    meaning.textContent = value;
    return [term, meaning];
  });
  find("viewer-facts").replaceChildren(...elements);
}

const rowsShown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const order = () => rowsShown().map((row) => Number(row.dataset.image));

function tellPlace() {
  const shown = order();
  const place = shown.indexOf(current);
  find("viewer-place").textContent = place < 0 ? "not among those filtered" : `${place + 1} of ${shown.length}`;
  find("viewer-previous").ariaDisabled = neighbour(-1) === undefined;
  find("viewer-next").ariaDisabled = neighbour(1) === undefined;
}

function neighbour(step) {
  const shown = order();
  const place = shown.indexOf(current);
  return place < 0 ? shown.at(step > 0 ? 0 : -1) : shown[place + step];
}

function move(step) {
  const next = neighbour(step);
  if (next !== undefined) show(next);
}

const has = (name) => (name === "probability" ? "probability" in images[current] : true);

function showLayer(chosen = layer) {
  if (!has(chosen) && chosen !== layer) return;
  layer = chosen;
  const shown = has(layer) ? layer : FALLBACK;
  viewer.dataset.layer = shown;
  for (const button of layerButtons) {
    button.ariaPressed = String(button.dataset.layer === shown);
    button.ariaDisabled = String(!has(button.dataset.layer));
  }
  for (const item of find("viewer-legend").children) item.hidden = !item.dataset.layers.split(" ").includes(shown);
  if (shown === "probability") paintProbability(images[current]);
}

async function paintProbability(picture) {
  const image = new Image();
  image.src = address(picture.probability);
  await image.decode();
  if (picture !== images[current]) return; // another image was opened in the meantime
  const canvas = find("viewer-map");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(COLOURS[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
}

function colourOf(probability) {
  const place = probability * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [one, other] = [channels(VIRIDIS[below]), channels(VIRIDIS[below + 1])];
  const mixed = one.map((value, index) => Math.round(value + (other[index] - value) * (place - below)));
  return [...mixed, Math.round(170 * Math.min(1, probability / CLEAR_BELOW))];
}

const channels = (colour) => [0, 2, 4].map((start) => parseInt(colour.slice(start, start + 2), 16));
const COLOURS = Array.from({ length: 256 }, (_, value) => colourOf(value / 255));

function giveFocusBack() {
  const row = rowsShown().find((each) => Number(each.dataset.image) === current);
  const moved = current !== opener.number;
  (moved && row ? row.querySelector(".open") : opener.element).focus();
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  const button = layerButtons[Number(event.key) - 1];
  if (event.key in steps) move(steps[event.key]);
  else if (button) showLayer(button.dataset.layer);
  else return;
  event.preventDefault();
}

function clicked(event) {
  const place = event.target.closest("[data-image]");
  // Who selects text does not ask for the image.
  if (!place || !getSelection().isCollapsed) return;
  open(Number(place.dataset.image), place.querySelector(".open"));
}

document.documentElement.classList.add("scripted");
document.addEventListener("click", clicked);
viewer.addEventListener("keydown", pressed);
viewer.addEventListener("close", giveFocusBack);
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
find("viewer-close").addEventListener("click", () => viewer.close());
find("viewer-previous").addEventListener("click", () => move(-1));
find("viewer-next").addEventListener("click", () => move(1));
for (const button of layerButtons) button.addEventListener("click", () => showLayer(button.dataset.layer));
watchThumbnails();
