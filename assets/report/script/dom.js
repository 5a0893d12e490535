"use strict";
// Elements and numbers. Data becomes text nodes and attributes only: nothing in it can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `on` holds listeners, `data` and `style` maps, `null` and `false` attributes are left out. */
function element(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** As `element`, in the namespace of SVG. */
function drawn(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, tag), attributes, children);
}

function furnished(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Ids that no other element of the page has. */
const freshId = (() => {
  let count = 0;
  return (stem) => `${stem}-${(count += 1)}`;
})();

const NOTHING = "–";
const MINUS = "−";

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function signed(text) {
  return text.replace("-", MINUS);
}

function fixed(value, digits = 3) {
  return isNumber(value) ? signed(value.toFixed(digits)) : NOTHING;
}

/** A share in percent; what is not all is never shown as all. */
function percent(value, digits = 1) {
  if (!isNumber(value)) return NOTHING;
  const text = (100 * value).toFixed(digits);
  if (value < 1 && text === (100).toFixed(digits)) return `> ${(100 - 10 ** -digits).toFixed(digits)} %`;
  if (value > 0 && Number(text) === 0) return `< ${(10 ** -digits).toFixed(digits)} %`;
  return `${signed(text)} %`;
}

/** A difference of shares in percentage points, with its sign. */
function points(value) {
  if (!isNumber(value)) return NOTHING;
  return `${value > 0 ? "+" : ""}${signed((100 * value).toFixed(1))}`;
}

function grouped(value) {
  return isNumber(value) ? value.toLocaleString("en-US") : NOTHING;
}

/** A number of any size in few digits: a learning rate. */
function compact(value) {
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    return signed(value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e"));
  }
  return signed(String(Number(value.toPrecision(4))));
}

function probability(value) {
  if (!isNumber(value)) return NOTHING;
  return value > 0 && value < 0.0005 ? "< 0.001" : value.toFixed(3);
}

function duration(seconds) {
  if (!isNumber(seconds)) return NOTHING;
  const whole = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 59.5) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

function moment(text) {
  const match = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2})/.exec(text || "");
  return match ? `${match[1]}, ${match[2]} UTC` : text || NOTHING;
}

function plural(count, one, many = `${one}s`) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** `TEXT of several sentences` in a paragraph of quiet type. */
function note(...text) {
  return element("p", { class: "note" }, ...text);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
