// What the export says of itself.

import { find, known, make, number, worded } from "./elements.js";
import { reach } from "./requests.js";

export let about = null; // what the export says of itself

export async function describeModel() {
  const response = await reach("/metadata", {});
  about = await response.json();
  find("model-name").textContent = about.name ?? "ustoolkit";
  find("model-line").textContent = `version ${about.version}, ${about.task}`;
  document.title = `${about.name} · ustoolkit`;
  if (about.notice) find("notice").textContent = about.notice;
  const runs = [
    ...(about.segmenters ?? []).map((run) => ["Outlines by", run]),
    ...(about.classifier ? [["Classifies by", about.classifier]] : []),
  ];
  const use = make("section", {}, worded("h2", "What it is for"), worded("p", about.intended_use ?? ""));
  const limits = (about.limits ?? []).map((text) => worded("li", text));
  use.append(make("ul", { className: "plain-list" }, ...limits));
  find("about-content").replaceChildren(
    use,
    ...runs.map(([title, run]) => section(title, runFacts(run))),
    section("This export", exportFacts()),
  );
}

function section(title, facts) {
  const rows = facts.filter(([, text]) => text).flatMap(([name, text]) => [worded("dt", name), worded("dd", text)]);
  return make("section", {}, worded("h2", title), make("dl", { className: "facts" }, ...rows));
}

const day = (text) =>
  text
    ? new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" })
    : "";

function exportFacts() {
  const versions = about.versions ?? {};
  return [
    ["Name", `${about.name}, version ${about.version}`],
    ["Written", day(about.created)],
    ["Classes", (about.classes ?? []).join(", ")],
    ["Threshold", known(about.inference?.threshold) ? number(about.inference.threshold, 2) : ""],
    [
      "Made with",
      ["ustoolkit", "tensorflow"]
        .filter((name) => versions[name])
        .map((name) => `${name} ${versions[name]}`)
        .join(", "),
    ],
  ];
}

function runFacts(run) {
  const { counts = {}, parts = {} } = run.trained_on ?? {};
  const labels = Object.entries(counts.by_label ?? {})
    .map(([label, count]) => `${number(count)} ${label}`)
    .join(", ");
  const shares = Object.entries(parts)
    .map(([part, count]) => `${part} ${number(count)}`)
    .join(", ");
  const facts = [
    ["Network", `${run.network}, recipe ${run.recipe}, seed ${run.seed}`],
    ["Trained", day(run.trained)],
    [
      "Data",
      known(counts.images)
        ? `${number(counts.images)} images of ${number(counts.patients ?? 0)} patients${labels ? `: ${labels}` : ""}`
        : "",
    ],
    ["Parts", shares],
  ];
  const scores = Object.entries(run.scores ?? {}).map(([part, values]) => [
    `Score, ${part}`,
    scoreLines(values).join("; "),
  ]);
  return [...facts, ...(scores.length ? scores : [["Scores", "none were stored with it"]])];
}

// An evaluation nests its scores by class and by image or patient; a score is a number or its mean with an interval.
function scoreLines(values, path = []) {
  return Object.entries(values ?? {}).flatMap(([name, value]) => {
    const where = [...path, name.replaceAll("_", " ")];
    if (known(value)) {
      return [`${where.join(" ")} ${Number.isInteger(value) && value > 1 ? number(value) : number(value, 3)}`];
    }
    const middle = value?.mean ?? value?.value;
    if (!known(middle)) return value && typeof value === "object" && where.length < 4 ? scoreLines(value, where) : [];
    const interval = known(value.interval_low)
      ? ` (${number(value.interval_low, 3)} to ${number(value.interval_high, 3)})`
      : "";
    return [`${where.join(" ")} ${number(middle, 3)}${interval}`];
  });
}
