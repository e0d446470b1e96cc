// What was found, in words and numbers.

import { find, known, lengthOf, make, number, percent, worded } from "./elements.js";

export function summary({ lesion_found, measurements, diagnosis }) {
  if (!lesion_found) return "no lesion outlined.";
  const said = ["a lesion is outlined"];
  if (measurements) {
    said.push(`long diameter ${lengthOf(measurements, "long")}, short diameter ${lengthOf(measurements, "short")}`);
  }
  if (diagnosis?.decision) said.push(`classified as ${diagnosis.decision}`);
  return `${said.join("; ")}.`;
}

export function brief({ lesion_found, measurements }) {
  if (!lesion_found) return "no lesion outlined";
  return measurements ? `lesion, ${lengthOf(measurements, "long")} long` : "lesion outlined";
}

/** Shows what was found; the form is filled only for a fresh one, since a correction may be half typed in it. */
export function describe(item, fresh) {
  const { lesion_found: found, measurements, spacing_mm: spacing, given, diagnosis, warnings, notice } = item.result;
  find("stage").setAttribute("aria-label", `${item.name}: ${summary(item.result)}`);
  if (notice) find("notice").textContent = notice;
  find("no-findings").hidden = true;
  find("result").hidden = false;
  find("finding").textContent = found ? "Lesion outlined" : "No lesion outlined";
  find("finding-note").hidden = found;
  find("finding-note").textContent =
    "Nothing in this image reached the threshold. That does not prove that there is nothing.";
  find("measurements").replaceChildren(...(measurements ? measurementRows(measurements) : []));
  const distances = spacing?.map((value) => number(value, 4)).join(" × ");
  const source = item.example ? "known of the phantom" : given ? "as you gave it" : "from the file";
  find("spacing-line").textContent = spacing ? `Pixel: ${distances} mm (rows × columns), ${source}.` : "";
  find("spacing-form").hidden = !measurements || Boolean(item.example) || Boolean(spacing && !given);
  find("spacing-form").querySelector("p").hidden = Boolean(spacing);
  if (fresh) fillSpacing(item.spacing);
  describeDiagnosis(diagnosis);
  // Of a missing spacing the form below the sizes tells.
  const told = (warnings ?? []).filter((text) => !text.includes("spacing_mm"));
  find("warnings").replaceChildren(...told.map((text) => worded("li", text)));
}

// Columns equal to rows stay unwritten, so that correcting the rows corrects both.
function fillSpacing(spacing) {
  const [rows = "", columns = ""] = spacing ?? [];
  find("spacing-rows").value = rows;
  find("spacing-columns").value = columns === rows ? "" : columns;
}

function measurementRows(of) {
  const row = (key, name, value, unit, digits, pixels, pixelDigits) => {
    const counted = `${number(pixels, pixelDigits)} pixels`;
    const term = make("dt", {}, ...(key ? [make("span", { className: `key ${key}` })] : []), name);
    const main = known(value)
      ? worded("dd", `${number(value, digits)} ${unit}`, "value")
      : worded("dd", counted, "value plain");
    return make("div", {}, term, main, ...(known(value) ? [worded("dd", counted, "beside")] : []));
  };
  return [
    row("long", "Long diameter", of.long_diameter_mm, "mm", 1, of.long_diameter_pixels, 1),
    row("short", "Short diameter", of.short_diameter_mm, "mm", 1, of.short_diameter_pixels, 1),
    row("", "Area", of.area_mm2, "mm²", of.area_mm2 < 100 ? 1 : 0, of.area_pixels, 0),
  ];
}

function describeDiagnosis(diagnosis) {
  find("diagnosis").hidden = !diagnosis;
  if (!diagnosis) return;
  const { labels, label_probability: probabilities, positive, threshold, decision, note } = diagnosis;
  find("decision").textContent = `Decision: ${decision}`;
  const told = labels.map((label, index) => [label, probabilities?.[index]]).filter(([, value]) => known(value));
  const two = labels.length === 2;
  const bars = (two ? told.filter(([label]) => label === positive) : told).map(([label, value]) =>
    bar(label, value, two ? threshold : null),
  );
  find("bars").replaceChildren(...bars);
  find("diagnosis-note").textContent = note ?? "";
}

function bar(label, value, threshold) {
  const fill = make("div", { className: "fill" });
  const track = make("div", { className: "track" }, fill);
  fill.style.width = `${100 * value}%`;
  const line = make(
    "div",
    { className: "line" },
    worded("span", `Probability of ${label}`),
    worded("strong", percent(value)),
  );
  const whole = make("div", { className: "bar" }, line, track);
  if (known(threshold)) {
    const tick = make("div", { className: "tick" });
    tick.style.left = `${100 * threshold}%`;
    track.append(tick);
    const meaning = `Mark: threshold ${percent(threshold)}; from there on the decision is ${label}.`;
    whole.append(worded("span", meaning, "tick-name"));
  }
  return whole;
}
