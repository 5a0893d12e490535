// Line charts in SVG, drawn at the width they have, with a cursor for pointer and keyboard.

const LINE_COLOURS = 6;
const CHART = { height: 250, left: 66, right: 14, top: 10, bottom: 40 };

/** About `count` round values from `low` to `high`. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999) || power * 10;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Whole powers of ten, and 2 and 5 times them if there are few. */
function logTicks(low, high) {
  const powers = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p += 1) powers.push(p);
  const of = (factors) => powers.flatMap((p) => factors.map((f) => Number((f * 10 ** p).toPrecision(6))));
  const inside = (values) => values.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  const coarse = inside(of([1]));
  return coarse.length >= 3 ? coarse : inside(of([1, 2, 5]));
}

/** From values to pixels. */
function axis(low, high, from, to, log = false) {
  const form = log ? Math.log10 : (v) => v;
  const [a, b] = [form(low), form(high)];
  const at = (value) => from + ((form(value) - a) / (b - a || 1)) * (to - from);
  at.inverse = (pixel) => a + ((pixel - from) / (to - from)) * (b - a);
  return at;
}

/** The smallest range of round values around all values; from 0 on where all are equal. */
function roundRange(values, log) {
  const numbers = values.filter((v) => isNumber(v) && (!log || v > 0));
  if (numbers.length === 0) return [log ? 1e-4 : 0, 1];
  let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  if (low === high) {
    return low === 0 ? [-1, 1] : low > 0 ? [0, 2 * low] : [2 * low, 0];
  }
  if (log) return [low / 1.2, high * 1.2];
  const steps = ticks(low, high, 5);
  const step = steps.length > 1 ? steps[1] - steps[0] : high - low;
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step].map((v) => Number(v.toPrecision(12)));
}

/**
 * A chart of lines. `options`: `title`, `xLabel`, `yLabel`, `series` (`{ name, points: [[x, y]], colour, dashed, quiet, steps }`),
 * `rest` (`{ place, value(series) }`: what the legend says while there is no cursor), `xRange`, `yRange`, `log`, `xFormat`, `yFormat`, `marker` (`{ x, label }`), `diagonal`, `whole` (x takes whole numbers), `start` (where the
 * cursor stands at first), `cursorName`.
 */
function lineChart(options) {
  const xs = [...new Set(options.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const plot = element("div", { class: "plot", tabindex: "0", role: "slider" });
  const legend = chartLegend(options);
  const state = { index: startIndex(xs, options.start), active: false };
  const redraw = () => {
    plot.replaceChildren(chartPicture(options, plot.clientWidth || 560, xs[state.index], state.active));
    const x = xs[state.index];
    legend.show(x, state.active);
    plot.setAttribute("aria-valuetext", `${options.cursorName} ${options.xFormat(x)}: ${legend.spoken(x)}`);
    plot.setAttribute("aria-valuenow", String(state.index));
  };
  plot.setAttribute("aria-label", `${options.title}: values by ${options.cursorName}`);
  plot.setAttribute("aria-valuemin", "0");
  plot.setAttribute("aria-valuemax", String(xs.length - 1));
  followPointer(plot, options, xs, state, redraw);
  followKeys(plot, xs, state, redraw);
  redraw();
  redrawAtWidth(plot, redraw);
  return element("figure", { class: "chart" },
    element("figcaption", {}, options.title), legend.node, plot);
}

function startIndex(xs, start) {
  const index = xs.indexOf(start);
  return index < 0 ? xs.length - 1 : index;
}

function redrawAtWidth(plot, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth !== width && plot.clientWidth > 0) {
      width = plot.clientWidth;
      requestAnimationFrame(redraw);
    }
  }).observe(plot);
}

/** The pointer moves the cursor to the nearest x; when it leaves, the cursor goes back to where it stood at first. */
function followPointer(plot, options, xs, state, redraw) {
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const [low, high] = options.xRange;
    const wanted = axis(low, high, CHART.left, box.width - CHART.right).inverse(event.clientX - box.left);
    const distance = (i) => Math.abs(xs[i] - wanted);
    const nearest = xs.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
    if (nearest !== state.index || !state.active) {
      Object.assign(state, { index: nearest, active: true });
      redraw();
    }
  });
  const rest = () => {
    Object.assign(state, { index: startIndex(xs, options.start), active: false });
    redraw();
  };
  plot.addEventListener("pointerleave", rest);
  plot.addEventListener("blur", rest);
}

function followKeys(plot, xs, state, redraw) {
  const last = xs.length - 1;
  const page = Math.max(Math.round(xs.length / 10), 1);
  const moves = {
    ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity,
  };
  plot.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    Object.assign(state, { index: Math.min(Math.max(state.index + move, 0), last), active: true });
    redraw();
  });
  plot.addEventListener("focus", () => {
    if (!plot.matches(":focus-visible")) return;
    state.active = true;
    redraw();
  });
}

/** Names of the lines with their values at the cursor: there is no box that hides the lines. */
function chartLegend(options) {
  const place = element("span", { class: "place" });
  const entries = options.series.filter((s) => s.name).map((series) => {
    const value = element("b", { class: "value" });
    const node = element("li", {}, lineSample(series), element("span", {}, series.name), value);
    return { series, value, node };
  });
  const valueAt = (series, x) => {
    const point = nearestPoint(series.points, x, options.whole);
    return point ? options.yFormat(point[1]) : NOTHING;
  };
  return {
    node: element("div", { class: "legend" }, place, element("ul", {}, entries.map((e) => e.node))),
    show(x, active) {
      if (options.rest && !active) {
        place.textContent = options.rest.place;
        entries.forEach(({ series, value }) => { value.textContent = options.rest.value(series); });
        return;
      }
      const marked = options.marker && options.marker.x === x ? ` · ${options.marker.label}` : "";
      place.textContent = `${options.cursorName} ${options.xFormat(x)}${marked}`;
      entries.forEach(({ series, value }) => { value.textContent = valueAt(series, x); });
    },
    spoken: (x) => entries.map(({ series }) => `${series.name} ${valueAt(series, x)}`).join(", "),
  };
}

/** The point at x; without `exact` the last one that is not right of it. */
function nearestPoint(points, x, exact) {
  if (exact) return points.find((p) => p[0] === x && isNumber(p[1]));
  return points.findLast((p) => p[0] <= x && isNumber(p[1])) || points[0];
}

function lineClass(series) {
  return `line colour-${(series.colour || 0) % LINE_COLOURS}${series.dashed ? " dashed" : ""}${series.quiet ? " quiet" : ""}`;
}

function lineSample(series) {
  return drawn("svg", { width: 26, height: 10, class: "sample", "aria-hidden": "true" },
    drawn("line", { x1: 1, x2: 25, y1: 5, y2: 5, class: lineClass(series) }),
    series.markers ? marker(series, 13, 5, 3) : null);
}

/** Discs for full lines, squares for dashed ones, as in the run's `curves.png`. */
function marker(series, x, y, size) {
  const name = lineClass(series).replace("line", "marker");
  return series.dashed
    ? drawn("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, class: name })
    : drawn("circle", { cx: x, cy: y, r: size, class: name });
}

function chartPicture(options, width, cursor, active) {
  const { height, left, right, top, bottom } = CHART;
  const x = axis(...options.xRange, left, width - right);
  const y = axis(...options.yRange, height - bottom, top, options.log);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" });
  picture.append(...gridLines(options, x, y, width));
  if (options.diagonal) {
    picture.append(drawn("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  }
  if (options.marker) {
    const at = x(options.marker.x);
    picture.append(drawn("line", { class: "best", x1: at, x2: at, y1: top, y2: height - bottom }));
  }
  if (active) {
    picture.append(drawn("line", { class: "cursor", x1: x(cursor), x2: x(cursor), y1: top, y2: height - bottom }));
  }
  // Quiet lines first: what is emphasised lies above them.
  const series = [...options.series].sort((a, b) => Number(Boolean(b.quiet)) - Number(Boolean(a.quiet)));
  picture.append(...series.flatMap((s) => seriesPicture(s, x, y, options)));
  if (active) picture.append(...cursorPoints(series, cursor, x, y, options));
  return picture;
}

function seriesPicture(series, x, y, options) {
  const path = linePath(series.points, x, y, options.log);
  const few = series.markers && series.points.length <= 30;
  const shown = series.points.filter((p) => drawable(p[1], options.log));
  return [
    drawn("path", { d: path, class: lineClass(series) }),
    ...(few ? shown.map((p) => marker(series, x(p[0]), y(p[1]), 3)) : []),
  ];
}

function drawable(value, log) {
  return isNumber(value) && (!log || value > 0);
}

/** A missing value interrupts the line. */
function linePath(points, x, y, log) {
  let path = "";
  let begun = false;
  for (const [px, py] of points) {
    if (drawable(py, log)) path += `${begun ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`;
    begun = drawable(py, log);
  }
  return path;
}

function cursorPoints(series, cursor, x, y, options) {
  return series.filter((s) => !s.quiet).flatMap((s) => {
    const point = nearestPoint(s.points, cursor, options.whole);
    return point && drawable(point[1], options.log) ? [marker(s, x(point[0]), y(point[1]), 5)] : [];
  });
}

function gridLines(options, x, y, width) {
  const { height, left, right, top, bottom } = CHART;
  const across = options.log ? logTicks(...options.yRange) : ticks(...options.yRange, 5);
  const along = ticks(...options.xRange, Math.max(Math.floor(width / 70), 2)).filter((v) => !options.whole || Number.isInteger(v));
  const label = (text, attributes) => drawn("text", attributes, text);
  return [
    ...across.flatMap((v) => [
      drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      label(tickText(v, across), { x: left - 8, y: y(v) + 4, "text-anchor": "end" }),
    ]),
    ...along.flatMap((v) => [
      drawn("line", { class: "tick", x1: x(v), x2: x(v), y1: height - bottom, y2: height - bottom + 4 }),
      label(tickText(v, along), { x: x(v), y: height - bottom + 18, "text-anchor": "middle" }),
    ]),
    drawn("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    label(options.xLabel, { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle", class: "axis-label" }),
    label(options.yLabel, {
      x: 12, y: (top + height - bottom) / 2, "text-anchor": "middle", class: "axis-label",
      transform: `rotate(-90 12 ${(top + height - bottom) / 2})`,
    }),
  ];
}

/** As many decimals as tell the ticks apart. */
function tickText(value, all) {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : Math.abs(value) || 1;
  const largest = Math.max(...all.map(Math.abs));
  if (largest < 1e-2 || largest >= 1e5) return value === 0 ? "0" : compact(value);
  return signed(value.toFixed(Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9) + (hasHalf(step) ? 1 : 0)))));
}

function hasHalf(step) {
  const lead = step / 10 ** Math.floor(Math.log10(step));
  return Math.abs(lead - 2.5) < 1e-6;
}
