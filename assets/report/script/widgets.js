// Parts that several sections are made of.

/** A section with a heading, or nothing where there is no content at all. */
function section(context, name, heading, ...content) {
  const id = `${context.prefix}${name}`;
  context.contents.push({ id, heading });
  return element("section", { id, class: "card", "aria-labelledby": `${id}-heading` },
    element("h3", { id: `${id}-heading` }, heading), ...content);
}

/**
 * A table in a box of its own that scrolls sideways where it is wider than the page. Columns: `{ name, title, numeric, cell(row),
 * key(row) }`; those with a `key` sort.
 */
function dataTable(caption, columns, rows, options = {}) {
  const body = element("tbody");
  let sorted = { column: null, falling: true };
  const fill = () => {
    const { column, falling } = sorted;
    const order = column === null ? rows : [...rows].sort((a, b) => compared(columns[column].key, a, b, falling));
    body.replaceChildren(...order.map((row) => element("tr", {}, columns.map((c, i) => bodyCell(c, row, i)))));
  };
  const heads = columns.map((column, index) => {
    const attributes = { scope: "col", class: column.numeric ? "number" : null, title: column.title };
    if (!column.key) return element("th", attributes, column.name);
    const sort = () => {
      sorted = { column: index, falling: sorted.column === index ? !sorted.falling : Boolean(column.numeric) };
      heads.forEach((head, i) => head.setAttribute("aria-sort", direction(i === index, sorted.falling)));
      fill();
    };
    return element("th", { ...attributes, "aria-sort": "none" },
      element("button", { type: "button", class: "sort", on: { click: sort } }, column.name));
  });
  fill();
  return scrollBox(caption, element("table", { class: options.class },
    element("caption", { class: options.showCaption ? null : "hidden" }, caption),
    element("thead", {}, element("tr", {}, heads)), body));
}

function direction(active, falling) {
  return active ? (falling ? "descending" : "ascending") : "none";
}

function compared(key, a, b, falling) {
  const [x, y] = [key(a), key(b)];
  const missing = (v) => v === null || v === undefined;
  if (missing(x) || missing(y)) return Number(missing(x)) - Number(missing(y));
  const order = typeof x === "string" ? x.localeCompare(y) : x - y;
  return falling ? -order : order;
}

function bodyCell(column, row, index) {
  const content = column.cell(row);
  const attributes = { class: column.numeric ? "number" : null };
  return index === 0 && !column.numeric
    ? element("th", { scope: "row", ...attributes }, content)
    : element("td", attributes, content);
}

/** Focusable, so that the keyboard can scroll it. */
function scrollBox(label, ...content) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...content);
}

/** An estimate as `82.7 %` with its interval drawn on a scale from 0 to 1 and written below. */
function ranged(estimate, format) {
  if (!estimate || !isNumber(estimate.value)) return NOTHING;
  return element("span", { class: "ranged", title: "with its 95 % interval" },
    element("span", { class: "figure" }, format(estimate.value)), rangeBar(estimate),
    element("span", { class: "interval" }, interval(estimate, format)));
}

function interval(estimate, format) {
  return `${format(estimate.low).replace(" %", "")}–${format(estimate.high)}`;
}

/** A short scale from `from` to `to` with the interval as a bar and the value as a line. */
function rangeBar(estimate, from = 0, to = 1) {
  const place = (value) => `${(100 * (Math.min(Math.max(value, from), to) - from)) / (to - from)}%`;
  const width = `calc(${place(estimate.high)} - ${place(estimate.low)})`;
  return element("span", { class: "range", "aria-hidden": "true" },
    element("span", { class: "span", style: { left: place(estimate.low), width } }),
    element("span", { class: "point", style: { left: place(estimate.value) } }));
}

/** A horizontal bar for a share. */
function shareBar(share, kind = "") {
  return element("span", { class: `share ${kind}`, "aria-hidden": "true" },
    element("span", { style: { width: `${100 * Math.min(Math.max(share || 0, 0), 1)}%` } }));
}

/** Radio buttons that look like one control. */
function choice(legend, names, chosen, onChange) {
  const group = freshId("choice");
  const option = ([value, label]) => {
    const input = element("input", { type: "radio", name: group, value, on: { change: () => onChange(value) } });
    input.checked = value === chosen;
    return element("label", {}, input, element("span", {}, label));
  };
  return element("fieldset", { class: "choice" }, element("legend", {}, legend), Object.entries(names).map(option));
}

/** Names and what they are. */
function definitions(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("dl", { class: "definitions" },
    shown.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

/** Text to be copied, with a button. */
function copyable(text, label) {
  const code = element("code", {}, text);
  const said = element("span", { class: "said", role: "status" });
  const copy = async () => {
    said.textContent = (await copied(text, code)) ? "copied" : "select it and copy";
    setTimeout(() => { said.textContent = ""; }, 2000);
  };
  return element("div", { class: "copyable" },
    element("pre", { tabindex: "0", "aria-label": label }, code),
    element("p", { class: "actions" },
      element("button", { type: "button", class: "quiet copy", on: { click: copy } }, "Copy"), said));
}

/** A browser may refuse the clipboard to a file; the text is then selected, so that the reader's own keys copy it. */
async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    window.getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

function details(summary, ...content) {
  return element("details", {}, element("summary", {}, summary), ...content);
}
