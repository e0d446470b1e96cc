// The page to try an export on: images in, outlines and measurements out.
// What comes from a file or from the server enters the page as text only, never as markup.

import { describeModel } from "./about.js";
import { find, known, make, say, worded } from "./elements.js";
import { brief, describe, summary } from "./findings.js";
import { reach, segment } from "./requests.js";
import { decode, empty, listenToViewport, present } from "./viewer.js";

const MOST_RESULTS = 50; // a result holds three pictures, and a browser's memory is not endless
const LABELME_OPENS = /\.(png|jpe?g|bmp|tiff?)$/i;

const items = []; // {name, content, url, spacing, example, state, result, error, row}
let selected = null; // the file that was asked for last
let shown = null; // the file whose image and findings are on the page
let running = null; // {item, controller}, the request under way and what cancels it

const STATES = {
  waiting: "waiting",
  working: "working…",
  cancelled: "cancelled",
  failed: "not outlined",
  released: "let go; choose to outline again",
};

function add(files) {
  const added = [...files].map((file) => ({ name: file.name || "pasted image", content: file, spacing: null }));
  for (const item of added) enqueue(item);
  if (added.length) select(added[0]);
}

function addExample(example) {
  let item = items.find((one) => one.example === example);
  if (!item) {
    item = { name: example.name, url: example.url, spacing: example.spacing_mm, example };
    enqueue(item);
  }
  select(item);
}

function enqueue(item) {
  if (!items.includes(item)) items.push(item);
  item.state = "waiting";
  item.error = null;
  work();
}

async function work() {
  if (running) return;
  for (let item; (item = items.find((one) => one.state === "waiting"));) {
    running = { item, controller: new AbortController() };
    const { signal } = running.controller;
    item.state = "working";
    render();
    tell(`Outlining ${item.name}…`);
    try {
      item.result = await segment(item, signal, tell);
      if (item.state === "working") item.state = "done"; // else a correction came meanwhile, and waits
      release(item);
      if (item === selected) await show(item);
      if (items.includes(item)) say(`${item.name}: ${summary(item.result)}`);
    } catch (problem) {
      if (item.state !== "waiting") {
        item.state = signal.aborted ? "cancelled" : "failed";
        item.error = problem;
        if (item !== selected || item.state === "cancelled") say(`${item.name}: ${STATES[item.state]}.`);
      }
    }
    running = null;
    render();
  }
}

function tell(text) {
  say(text);
  find("working-text").textContent = text;
}

function release(latest) {
  const held = items.filter((item) => item.result && item !== latest && item !== shown && item !== selected);
  const spare = items.filter((item) => item.result).length - MOST_RESULTS;
  for (const item of held.slice(0, Math.max(spare, 0))) Object.assign(item, { result: null, state: "released" });
}

function cancel() {
  for (const item of items) if (item.state === "waiting") item.state = "cancelled";
  running?.controller.abort();
  find("choose").focus();
}

// Nothing of any image stays behind, in case another person sits down here.
function clear() {
  cancel();
  items.length = 0;
  selected = shown = null;
  empty();
  find("result").hidden = true;
  find("empty").hidden = find("no-findings").hidden = false;
  render();
}

async function select(item) {
  selected = item;
  if (item.state === "cancelled" || item.state === "released") enqueue(item);
  if (item.result) await show(item);
  render();
}

async function show(item) {
  const pictures = await decode(item.result);
  if (item !== selected) return;
  const fresh = shown !== item;
  present(item.result, pictures, fresh);
  shown = item;
  find("empty").hidden = true;
  describe(item, fresh);
}

function render() {
  const working = items.find((item) => item === running?.item);
  const failed = selected?.state === "failed";
  const hadFocus = document.activeElement === find("cancel") || document.activeElement === find("retry");
  find("problem").hidden = !failed;
  if (failed) {
    find("problem-title").textContent = `${selected.name} could not be outlined.`;
    find("problem-text").textContent = selected.error.message;
    const { refused } = selected.error; // the same would be refused again
    find("retry").hidden = refused;
    find("way-on").textContent = !refused ? "or choose another file." : wayOn(selected);
  }
  const stale = shown && selected !== shown;
  find("earlier").hidden = !stale;
  document.body.classList.toggle("stale", Boolean(stale));
  if (stale) find("earlier").textContent = `Still the earlier file: ${shown.name}`;
  find("file-name").textContent = stale ? `${shown.name}, the earlier file` : (shown?.name ?? "");
  find("working").hidden = !working;
  find("cancel").textContent = items.some((item) => item.state === "waiting") ? "Cancel all" : "Cancel";
  if (hadFocus && !working && !failed) find(shown ? "viewport" : "choose").focus();
  const files = items.filter((item) => !item.example);
  const ended = files.filter((item) => !["waiting", "working"].includes(item.state)).length;
  find("list-part").hidden = !files.length;
  find("progress").textContent = `${ended} of ${files.length}`;
  renderList(files);
  for (const button of find("examples").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.url === selected?.url));
  }
}

function wayOn(item) {
  return item.result ? "Correct the distance of pixels and measure again." : "Choose another file to go on.";
}

// Rows are kept and changed, not made anew, so that the keyboard's focus stays where it is.
function renderList(files) {
  for (const row of [...find("list").children]) if (!files.some((item) => item.row === row)) row.remove();
  for (const item of files) {
    if (!item.row) {
      const button = make(
        "button",
        { type: "button", onclick: () => select(item) },
        worded("span", item.name, "name"),
        make("span"),
      );
      item.row = make("li", {}, button);
    }
    if (item.row.parentNode !== find("list")) find("list").append(item.row);
    const [button] = item.row.children;
    const state = button.lastChild;
    button.setAttribute("aria-current", String(item === selected));
    state.className = "state";
    state.dataset.state = item.state;
    state.textContent = STATES[item.state] ?? brief(item.result);
  }
}

async function offerExamples() {
  const { examples } = await (await reach("/examples", {})).json();
  find("examples").append(
    ...examples.map((example) => {
      const label = `Outline ${example.name}`;
      const button = make(
        "button",
        { type: "button", title: example.name, onclick: () => addExample(example) },
        make("img", { src: example.url, alt: "" }),
      );
      button.setAttribute("aria-label", label);
      button.dataset.url = example.url;
      return make("li", {}, button);
    }),
  );
  find("examples-part").hidden = !examples.length;
}

function safeStem(name) {
  const stem = name
    .normalize("NFC")
    .replace(/\.[^.]*$/, "")
    .replace(/[^\p{L}\p{N}._-]+/gu, "_");
  return stem.replace(/^[._]+|[._]+$/g, "").slice(0, 80) || "image";
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function downloadLabelme() {
  const stem = safeStem(shown.name);
  // labelme opens no DICOM, but the PNG that is offered beside.
  const imagePath = LABELME_OPENS.test(shown.name) ? shown.name : `${stem}.png`;
  const content = { ...shown.result.labelme, imagePath };
  download(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }), `${stem}.json`);
}

function listen() {
  find("choose").onclick = () => find("files").click();
  find("files").onchange = () => {
    add(find("files").files);
    find("files").value = ""; // so that the same file can be chosen again
  };
  const over = (is) => find("screen").classList.toggle("over", is);
  document.ondragover = (event) => {
    event.preventDefault();
    over(true);
  };
  document.ondragleave = (event) => {
    if (!event.relatedTarget) over(false);
  };
  document.ondrop = (event) => {
    event.preventDefault();
    over(false);
    add(event.dataTransfer.files);
  };
  document.onpaste = (event) => add(event.clipboardData.files);
  find("cancel").onclick = cancel;
  find("clear").onclick = clear;
  find("retry").onclick = () => enqueue(selected);
  find("spacing-form").onsubmit = (event) => {
    event.preventDefault();
    const rows = find("spacing-rows").valueAsNumber;
    const columns = find("spacing-columns").valueAsNumber;
    shown.spacing = [rows, known(columns) ? columns : rows];
    selected = shown;
    enqueue(shown);
    render();
  };
  find("download-mask").onclick = () => download(shown.result.mask, `${safeStem(shown.name)}_mask.png`);
  find("download-image").onclick = () => download(shown.result.image, `${safeStem(shown.name)}.png`);
  find("download-labelme").onclick = downloadLabelme;
  listenToViewport();
}

function begin() {
  listen();
  describeModel().catch((problem) =>
    find("about-content").replaceChildren(worded("p", `The description could not be read. ${problem.message}`)),
  );
  offerExamples().catch(() => {}); // without examples the page does all it is for
}

begin();
