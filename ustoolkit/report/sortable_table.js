// Tables that sort by a click on a heading, and forms that filter their rows. Without scripts they stay plain tables.
//
// <table class="sortable"> sorts by every heading of its head but those with data-sort="none"; data-sort="number" has
// numbers compared, and what is no number comes last whichever way. A cell's data-value is compared in its text's place.
// <form class="filters" data-table="id of a table"> shows the rows that pass all of its fields. A field has
// data-filter="is | contains | least | most" and data-key="KEY", and is compared with data-KEY of a row; an empty field
// lets all pass. An <output> in the form says how many rows are shown. After each change the table gets the event
// "rowschange".

const LAST = { number: NaN, text: "" };

const PASSES = {
  is: (value, wanted) => value === wanted,
  contains: (value, wanted) => value.toLocaleLowerCase().includes(wanted.toLocaleLowerCase()),
  // What has no number, such as an undefined Dice, is in no range.
  least: (value, wanted) => value !== "" && Number(value) >= Number(wanted),
  most: (value, wanted) => value !== "" && Number(value) <= Number(wanted),
};

function makeSortable(table) {
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  for (const heading of headings) {
    if (heading.dataset.sort === "none") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, headings, heading));
  }
}

function sortBy(table, headings, heading) {
  const descending = heading.ariaSort === "ascending";
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.ariaSort = descending ? "descending" : "ascending";
  const kind = heading.dataset.sort === "number" ? "number" : "text";
  const column = headings.indexOf(heading);
  for (const body of table.tBodies) body.append(...sortedRows([...body.rows], column, kind, descending));
  tell(table);
}

function sortedRows(rows, column, kind, descending) {
  const valued = rows.map((row) => [cellValue(row.cells[column], kind), row]);
  const isLast = ([value]) => Object.is(value, LAST[kind]);
  const direction = descending ? -1 : 1;
  const sorted = valued.filter((pair) => !isLast(pair)).sort(([one], [other]) => direction * compared(one, other));
  return [...sorted, ...valued.filter(isLast)].map(([, row]) => row);
}

function cellValue(cell, kind) {
  const text = cell?.dataset.value ?? cell?.textContent.trim() ?? "";
  if (kind === "text") return text === "–" ? "" : text;
  return text === "" ? NaN : Number(text.replaceAll(",", "").replace("−", "-"));
}

function compared(one, other) {
  if (typeof one === "number") return one - other;
  return one.localeCompare(other, "en", { numeric: true, sensitivity: "base" });
}

function makeFilter(form) {
  const table = document.getElementById(form.dataset.table);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => filterRows(form, table));
  // A form is reset after its event.
  form.addEventListener("reset", () => setTimeout(() => filterRows(form, table)));
  form.hidden = false;
  filterRows(form, table);
}

function filterRows(form, table) {
  const fields = [...form.elements].filter((field) => field.dataset.filter && fieldValue(field) !== "");
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  for (const row of rows) row.hidden = !fields.every((field) => passes(row, field));
  const shown = rows.filter((row) => !row.hidden).length;
  const output = form.querySelector("output");
  if (output) output.textContent = shown === rows.length ? `all ${shown} shown` : `${shown} of ${rows.length} shown`;
  tell(table);
}

function passes(row, field) {
  const value = row.getAttribute(`data-${field.dataset.key}`) ?? "";
  return PASSES[field.dataset.filter](value, fieldValue(field));
}

function fieldValue(field) {
  if (field.type === "checkbox") return field.checked ? field.value : "";
  // What is being typed and is no number yet reads as empty, and lets all pass.
  return field.value.trim();
}

function tell(table) {
  table.dispatchEvent(new CustomEvent("rowschange"));
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("form.filters").forEach(makeFilter);
