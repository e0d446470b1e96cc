// The image, and what is drawn on it.

import { about } from "./about.js";
import { find, lengthOf, number } from "./elements.js";

const CLASS_COLOURS = ["#35d6c8", "#f2a541", "#b79bff", "#ff8fb0", "#9ddc5b", "#7cc4ff"];
// Viridis: lightness rises evenly, so it can be read without telling red from green.
const VIRIDIS = "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725".split(" ");
const CLEAR_BELOW = 0.25; // the map fades out towards 0, so that tissue without a lesion keeps its own grey
const SMALLEST_SCALE = 0.05;
const LARGEST_SCALE = 16;

const [image, map, mask, marks, stage, viewport] = ["image", "map", "mask", "marks", "stage", "viewport"].map(find);
let current = null; // the result that is shown
let zoom = "fit"; // or how many pixels of the screen a pixel of the image is wide
let scale = 1; // the same, also where it fits

/** The pictures of a result, ready to be painted. */
export function decode({ image, mask, map }) {
  const exact = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  return Promise.all([image, mask, map].map((blob) => blob && createImageBitmap(blob, exact)));
}

/** Shows a result with its pictures; one that was not shown before is fitted. */
export function present(result, pictures, fresh) {
  current = result;
  paint(image, pictures[0]);
  paint(mask, pictures[1], maskColours());
  paint(map, pictures[2], MAP_COLOURS);
  for (const one of pictures) one?.close();
  if (fresh) zoom = "fit";
  find("show-map").disabled = !result.map;
  viewport.hidden = find("tools").hidden = false;
  layOut();
  applyLayers();
}

/** Leaves nothing of an image behind. */
export function empty() {
  current = null;
  for (const canvas of [image, mask, map]) canvas.width = canvas.height = 1;
  marks.replaceChildren();
  viewport.hidden = find("tools").hidden = true;
  stage.setAttribute("aria-label", "No image yet");
}

function paint(canvas, bitmap, colours) {
  canvas.width = bitmap?.width ?? 1;
  canvas.height = bitmap?.height ?? 1;
  if (!bitmap) return;
  const context = canvas.getContext("2d", { willReadFrequently: Boolean(colours) });
  context.drawImage(bitmap, 0, 0);
  if (!colours) return;
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let index = 0; index < words.length; index++) words[index] = colours[words[index] & 255];
  context.putImageData(pixels, 0, 0);
}

// One pixel as canvas holds it in memory: red in the lowest byte, opacity in the highest.
const pixel = (red, green, blue, opacity) => ((opacity << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const channels = (hex) => [0, 2, 4].map((at) => parseInt(hex.replace("#", "").slice(at, at + 2), 16));

const MAP_COLOURS = Uint32Array.from({ length: 256 }, (_, value) => {
  const at = (value / 255) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [from, to] = [channels(VIRIDIS[low]), channels(VIRIDIS[low + 1])];
  const mixed = from.map((channel, index) => Math.round(channel + (to[index] - channel) * (at - low)));
  return pixel(...mixed, Math.round(255 * Math.min(1, value / 255 / CLEAR_BELOW)));
});

function maskColours() {
  const colours = new Uint32Array(256);
  for (let value = 1; value < 256; value++) {
    colours[value] = pixel(...channels(CLASS_COLOURS[value === 255 ? 0 : (value - 1) % CLASS_COLOURS.length]), 128);
  }
  return colours;
}

function colourOf(name) {
  const names = about?.classes?.slice(1) ?? [];
  return CLASS_COLOURS[Math.max(names.indexOf(name), 0) % CLASS_COLOURS.length];
}

// Where rows and columns lie at different distances, the image is shown as wide and high as the tissue is.
function stretch() {
  const spacing = current?.spacing_mm;
  return spacing ? Math.min(Math.max(spacing[0] / spacing[1], 0.1), 10) : 1;
}

function layOut() {
  if (!current) return;
  const { width, height } = current;
  const fit = Math.min(viewport.clientWidth / width, viewport.clientHeight / (height * stretch()));
  scale = Math.min(Math.max(zoom === "fit" ? fit : zoom, SMALLEST_SCALE), LARGEST_SCALE);
  stage.style.width = `${width * scale}px`;
  stage.style.height = `${height * scale * stretch()}px`;
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.setAttribute("aria-pressed", String(button.dataset.zoom === String(zoom)));
  }
  const size = `${width} × ${height} pixels, shown at ${number(100 * scale)} %`;
  find("image-line").textContent = stretch() === 1 ? size : `${size}, in the proportions of the tissue`;
  drawMarks();
}

function drawMarks() {
  const { contours, measurements } = current;
  // Whole numbers are the middles of pixels.
  const place = ([x, y]) => [(x + 0.5) * scale, (y + 0.5) * scale * stretch()];
  const rounded = (point) => point.map((value) => value.toFixed(1)).join(",");
  const draw = (tag, properties) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
    marks.append(element);
    return element;
  };
  marks.replaceChildren();
  if (find("show-contour").checked) {
    for (const { class: name, points } of contours) {
      const outline = points.map((point) => rounded(place(point))).join(" ");
      draw("polygon", { class: "halo", points: outline });
      draw("polygon", { class: "contour", points: outline, stroke: colourOf(name) });
    }
  }
  if (!measurements || !find("show-diameters").checked) return;
  for (const kind of ["long", "short"]) {
    const [from, to] = measurements[`${kind}_ends`].map(place);
    const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
    const across = [(-6 * (to[1] - from[1])) / length, (6 * (to[0] - from[0])) / length];
    const line = (one, other) => `M${rounded(one)}L${rounded(other)}`;
    const cap = (end) => line([end[0] - across[0], end[1] - across[1]], [end[0] + across[0], end[1] + across[1]]);
    draw("path", { class: "halo", d: line(from, to) + cap(from) + cap(to) });
    draw("path", { class: `caliper ${kind}`, d: line(from, to) });
    draw("path", { class: "caliper", d: cap(from) + cap(to) });
    const right = from[0] > to[0] ? from : to;
    const low = from[1] > to[1] ? from : to;
    const at = kind === "long" ? [right[0] + 10, right[1] + 4] : [low[0] + 8, low[1] + 16];
    const text = draw("text", { class: "reading", x: at[0], y: at[1] });
    text.textContent = `${kind} ${lengthOf(measurements, kind)}`;
    const width = text.getComputedTextLength();
    text.setAttribute("x", Math.max(2, Math.min(at[0], current.width * scale - width - 4)));
    text.setAttribute("y", Math.max(14, Math.min(at[1], current.height * scale * stretch() - 6)));
  }
}

function setZoom(value) {
  const middle = [viewport.scrollLeft + viewport.clientWidth / 2, viewport.scrollTop + viewport.clientHeight / 2];
  const before = scale;
  zoom = value === "fit" ? value : Math.min(Math.max(value, SMALLEST_SCALE), LARGEST_SCALE);
  layOut();
  viewport.scrollTo(
    (middle[0] * scale) / before - viewport.clientWidth / 2,
    (middle[1] * scale) / before - viewport.clientHeight / 2,
  );
}

function applyLayers() {
  mask.hidden = !find("show-mask").checked;
  map.hidden = !find("show-map").checked || find("show-map").disabled;
  find("map-tools").hidden = map.hidden;
  map.style.opacity = find("opacity").value / 100;
  find("opacity-value").textContent = `${find("opacity").value} %`;
  if (current) drawMarks();
}

function paintLegend() {
  const legend = find("legend");
  const context = legend.getContext("2d");
  const row = context.createImageData(legend.width, 1);
  const value = (index) => Math.round((index * 255) / (legend.width - 1));
  new Uint32Array(row.data.buffer).set(Array.from({ length: legend.width }, (_, index) => MAP_COLOURS[value(index)]));
  context.putImageData(row, 0, 0);
}

export function listenToViewport() {
  const closer = () => setZoom(scale * 1.25);
  const farther = () => setZoom(scale / 1.25);
  const fit = () => setZoom("fit");
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.onclick = () => (button.dataset.zoom === "fit" ? fit() : setZoom(Number(button.dataset.zoom)));
  }
  find("zoom-in").onclick = closer;
  find("zoom-out").onclick = farther;
  viewport.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    ({ "+": closer, "=": closer, "-": farther, 0: fit })[event.key]?.();
  };
  // A wheel alone scrolls the page, as everywhere; with Ctrl, which is also what a pinch on a touchpad sends, it zooms.
  viewport.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      setZoom(scale * Math.exp(-event.deltaY / 300));
    },
    { passive: false },
  );
  viewport.onpointerdown = (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    viewport.setPointerCapture(event.pointerId);
    viewport.classList.add("panning");
  };
  viewport.onpointermove = (event) => {
    if (viewport.classList.contains("panning")) viewport.scrollBy(-event.movementX, -event.movementY);
  };
  viewport.onlostpointercapture = () => viewport.classList.remove("panning");
  for (const id of ["show-contour", "show-diameters", "show-mask", "show-map", "opacity"]) {
    find(id).oninput = applyLayers;
  }
  new ResizeObserver(layOut).observe(viewport);
  paintLegend();
  applyLayers();
}
