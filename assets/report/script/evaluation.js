// How the model does on labelled photos.

/** `test`, as a heading begins. */
function splitName(split) {
  return { test: "Test", val: "Validation", train: "Training" }[split] || split;
}

/** The matrix as a table of buttons, and below it the photos of the chosen cell. */
function confusionMatrix(context, run) {
  const { classes, confusion, order } = run.evaluation;
  const panel = element("div", { class: "cell-photos", role: "region", "aria-live": "polite" });
  const buttons = new Map();
  let chosen = null;
  const choose = (truth, predicted) => {
    if (chosen) chosen.setAttribute("aria-pressed", "false");
    chosen = buttons.get(`${truth}:${predicted}`);
    chosen.setAttribute("aria-pressed", "true");
    showCell(panel, run, truth, predicted);
  };
  const head = element("tr", {}, element("th", { scope: "col", class: "corner" }, "truth ↓ · predicted →"),
    order.map((index) => element("th", { scope: "col", class: "number" }, element("span", {}, classes[index]))),
    element("th", { scope: "col", class: "number total" }, "photos"));
  const body = order.map((truth) => element("tr", {}, element("th", { scope: "row" }, classes[truth]),
    order.map((predicted) => {
      const button = cellButton(classes, confusion[truth], truth, predicted, () => choose(truth, predicted));
      buttons.set(`${truth}:${predicted}`, button);
      return element("td", { class: "cell" }, button);
    }),
    element("td", { class: "number total" }, grouped(sum(confusion[truth])))));
  const pair = run.evaluation.confused_pairs[0];
  context.chooseCell = choose;
  const made = section(context, "confusion", "Confusion matrix",
    note("Choose a cell to see its photos. A darker cell has a larger share of the photos of its row."),
    scrollBox("Confusion matrix", element("table", { class: "matrix" },
      element("caption", { class: "hidden" }, "Photos by true class (rows) and predicted class (columns)"),
      element("thead", {}, head), element("tbody", {}, body))), panel);
  if (classes.length > 0) choose(pair ? pair.truth : order[0], pair ? pair.predicted : order[0]);
  return made;
}

function cellButton(classes, counts, truth, predicted, choose) {
  const count = counts[predicted];
  const share = count / (sum(counts) || 1);
  const right = truth === predicted;
  const says = right ? `${classes[truth]} recognised` : `${classes[truth]} taken for ${classes[predicted]}`;
  return element("button", {
    type: "button", "aria-pressed": "false", "aria-label": `${says}: ${plural(count, "photo")}`,
    class: right ? "diagonal" : "off", "data-empty": count === 0, on: { click: choose },
    style: { "--share": `${Math.round(100 * Math.sqrt(share))}%` },
  }, grouped(count));
}

function showCell(panel, run, truth, predicted) {
  const classes = run.evaluation.classes;
  const right = truth === predicted;
  const indices = cellPhotos(run, truth, predicted);
  const says = right ? `${classes[truth]} recognised` : `${classes[truth]} taken for ${classes[predicted]}`;
  panel.setAttribute("aria-label", says);
  panel.replaceChildren(
    element("h4", {}, element("span", { class: right ? "right" : "wrong" }, sign(right), ` ${says}`),
      element("span", { class: "path" }, indices.length > 0 ? shownOf(run, indices) : null)),
    indices.length > 0 ? photoGrid(run, indices) : note("No photo is in this cell."));
}

function classTable(context, run) {
  const { classes, order } = run.evaluation;
  const rows = order.map((index) => run.evaluation.rows[index]).filter(Boolean);
  const place = new Map(order.map((index, i) => [classes[index], i]));
  const estimate = (name, key, format, title) => ({
    name, numeric: true, title, key: (row) => row[key]?.value, cell: (row) => ranged(row[key], format),
  });
  const figure = (name, key, title) => ({
    name, numeric: true, title, key: (row) => row[key], cell: (row) => fixed(row[key]),
  });
  const absent = rows.some((row) => row.support === 0)
    ? note("A class without photos here has no figures. Where the mean of F1 is taken, it counts 0 if it was predicted.") : null;
  return section(context, "classes", "Each class",
    absent, note("Below each figure its 95 % interval, as a bar on a scale from 0 to 1. With few photos they are wide: small differences mean nothing then."),
    dataTable("Figures of each class", [
      { name: "class", key: (row) => place.get(row.class), cell: (row) => row.class },
      { name: "photos", numeric: true, key: (row) => row.support, cell: (row) => grouped(row.support) },
      estimate("precision", "precision", percent, "Of the photos predicted as this class, the share that is"),
      estimate("recall", "recall", percent, "Of the photos of this class, the share found"),
      estimate("F1", "f1", fixed, "Harmonic mean of precision and recall"),
      figure("ROC AUC", "roc_auc", "Area under the ROC curve"),
      figure("AP", "average_precision", "Average precision"),
    ], rows));
}

/** ROC and precision over recall; the chosen class stands out. */
function rankCurves(context, run) {
  const { roc, precision_recall: pr, classes, rows, order } = run.evaluation;
  if (roc.length + pr.length === 0) return null;
  const box = element("div", { class: "charts" });
  const ranked = new Set([...roc, ...pr].map((curve) => curve.class));
  const option = (index) => element("option", { value: index }, classes[index]);
  const select = element("select", {}, order.filter((index) => ranked.has(index)).map(option));
  const draw = () => {
    const chosen = Number(select.value);
    box.replaceChildren(
      rankChart("ROC", roc, chosen, classes, {
        xLabel: "false positive rate", yLabel: "true positive rate", diagonal: true, rest: atRest("area under the curve", rows[chosen].roc_auc),
      }),
      rankChart("Precision and recall", pr, chosen, classes, {
        xLabel: "recall", yLabel: "precision", rest: atRest("average precision", rows[chosen].average_precision),
      }));
  };
  select.addEventListener("change", draw);
  draw();
  return section(context, "ranking", "ROC and precision–recall",
    note("How well the probability of a class ranks its photos before all others, whatever threshold is chosen."),
    element("p", { class: "actions" }, element("label", {}, "Class ", select)), box);
}

function atRest(name, figure) {
  return { place: `${name} ${fixed(figure)}`, value: () => "" };
}

function rankChart(title, curves, chosen, classes, options) {
  const line = (curve, own) => ({
    points: curve.x.map((x, i) => [x, curve.y[i]]),
    colour: 0, quiet: !own, name: own ? classes[curve.class] : null,
  });
  return lineChart({
    title, ...options, cursorName: options.xLabel,
    series: curves.map((curve) => line(curve, curve.class === chosen)),
    xRange: [0, 1], yRange: [0, 1], xFormat: (v) => fixed(v, 3), yFormat: (v) => fixed(v, 3),
  });
}

function reliability(context, run) {
  const { before, after, temperature } = run.evaluation.reliability;
  const explained = after
    ? `Dividing the logits by the temperature ${fixed(temperature, 2)}, fitted to the validation photos, brings the expected calibration ` +
      `error from ${fixed(before.ece)} to ${fixed(after.ece)}, and changes no prediction.`
    : "There are no validation photos to fit a temperature to.";
  const remark = run.evaluation.reliability.note;
  return section(context, "reliability", "Reliability",
    note("If the model says 0.8, is it right in 8 of 10 cases? Bars are how often it was right, orange lines what it said: where a bar stays below its line, the model claims too much. ", explained),
    remark ? note(remark) : null,
    element("div", { class: "charts" },
      reliabilityFigure("As trained", before),
      after ? reliabilityFigure(`With temperature ${fixed(temperature, 2)}`, after) : null));
}

function reliabilityFigure(title, calibration) {
  const bins = calibration.bins.filter((bin) => bin.count > 0);
  const columns = [
    { name: "probability", cell: (bin) => `${fixed(bin.lo, 2)} to ${fixed(bin.hi, 2)}` },
    { name: "photos", numeric: true, cell: (bin) => grouped(bin.count) },
    { name: "said", numeric: true, cell: (bin) => percent(bin.confidence) },
    { name: "right", numeric: true, cell: (bin) => percent(bin.accuracy) },
  ];
  return element("figure", { class: "chart" },
    element("figcaption", {}, title),
    element("p", { class: "legend" }, "ECE ", element("b", {}, fixed(calibration.ece)), " · loss ", element("b", {}, fixed(calibration.nll))),
    reliabilityPicture(title, calibration),
    details("As a table", dataTable(`${title}: bins`, columns, bins)));
}

/** Accuracy of each bin over its mean probability, and below how many photos lie in it. */
function reliabilityPicture(title, { bins }) {
  const [width, height, left, right, top, bottom, foot] = [420, 330, 52, 12, 10, 42, 60];
  const x = axis(0, 1, left, width - right);
  const y = axis(0, 1, height - bottom - foot, top);
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  const count = axis(0, most, height - bottom, height - bottom - foot + 14);
  const label = (text, attributes) => drawn("text", attributes, text);
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [
    drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
    label(v.toFixed(2), { x: left - 8, y: y(v) + 4, "text-anchor": "end" }),
    label(v.toFixed(2), { x: x(v), y: height - bottom + 16, "text-anchor": v === 1 ? "end" : "middle" }),
  ]);
  const bars = bins.filter((bin) => bin.count > 0).flatMap((bin) => {
    const [from, to] = [x(bin.lo) + 1, x(bin.hi) - 1];
    const said = `${percent(bin.confidence)} said, ${percent(bin.accuracy)} right, ${plural(bin.count, "photo")}`;
    return [
      drawn("rect", { class: "bar", x: from, width: to - from, y: y(bin.accuracy), height: y(0) - y(bin.accuracy) }, drawn("title", {}, said)),
      drawn("line", { class: "confidence", x1: from, x2: to, y1: y(bin.confidence), y2: y(bin.confidence) }),
      drawn("rect", { class: "count", x: from, width: to - from, y: count(bin.count), height: count(0) - count(bin.count) }, drawn("title", {}, said)),
    ];
  });
  return drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: "scaled", role: "img", "aria-label": `${title}: accuracy by probability, see the table` },
    grid, drawn("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }), bars,
    drawn("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    label("photos", { x: left - 8, y: height - bottom - foot / 2 + 16, "text-anchor": "end", class: "axis-label" }),
    label("probability of the prediction", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle", class: "axis-label" }),
    label("share right", { x: 12, y: y(0.5), "text-anchor": "middle", class: "axis-label", transform: `rotate(-90 12 ${y(0.5)})` }));
}

function confusedPairs(context, run) {
  const { confused_pairs: pairs, classes } = run.evaluation;
  if (pairs.length === 0) return section(context, "pairs", "Most confused pairs", note("No photo was taken for another class."));
  const show = (pair) => () => {
    context.chooseCell(pair.truth, pair.predicted);
    document.getElementById(`${context.prefix}confusion`).scrollIntoView();
  };
  return section(context, "pairs", "Most confused pairs", dataTable("Most confused pairs", [
    { name: "truth", cell: (pair) => classes[pair.truth] },
    { name: "taken for", cell: (pair) => classes[pair.predicted] },
    { name: "photos", numeric: true, key: (pair) => pair.photos, cell: (pair) => grouped(pair.photos) },
    {
      name: "of the class", numeric: true, key: (pair) => pair.share,
      cell: (pair) => element("span", { class: "ranged" }, element("span", { class: "figure" }, percent(pair.share)), shareBar(pair.share, "bad")),
    },
    { name: "", cell: (pair) => element("button", { type: "button", class: "quiet", on: { click: show(pair) },
      "aria-label": `Photos of ${classes[pair.truth]} taken for ${classes[pair.predicted]}` }, "Photos") },
  ], pairs));
}
