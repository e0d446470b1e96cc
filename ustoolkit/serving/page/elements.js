// Elements of the page, found, made and worded. What is written into them is text, never markup.

export const find = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const worded = (tag, text, className = "") => make(tag, { textContent: text, className });

export function number(value, digits = 0) {
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const known = (value) => typeof value === "number" && Number.isFinite(value);
export const percent = (value) => (known(value) ? `${number(100 * value, 1)} %` : "not known");

export function lengthOf(measurements, kind) {
  const value = measurements[`${kind}_diameter_mm`];
  return known(value) ? `${number(value, 1)} mm` : `${number(measurements[`${kind}_diameter_pixels`], 1)} pixels`;
}

export function say(text) {
  find("status").textContent = text;
}
