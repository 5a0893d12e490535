// What training reached, epoch by epoch.

const CURVES = [
  { title: "Loss", yLabel: "loss (nats)", train: "train_loss", val: "val_loss", format: (v) => fixed(v, 4) },
  { title: "Accuracy", yLabel: "share of photos right", train: "train_accuracy", val: "val_accuracy", format: (v) => percent(v, 2) },
];

function trainingCurves(context, run) {
  const charts = run.epochs.length === 0
    ? [note("No epoch was completed, so there are no curves.")]
    : [element("div", { class: "charts three" }, runCharts(run))];
  return section(context, "curves", "Curves", ...charts);
}

function runCharts(run) {
  const series = ({ train, val }) => [
    { name: "training", points: epochPoints(run, train), colour: 0, markers: true },
    { name: "validation", points: epochPoints(run, val), colour: 1, dashed: true, markers: true },
  ];
  return [
    ...CURVES.map((curve) => epochChart([run], curve, series(curve))),
    rateChart([run], [{ name: "learning rate", points: epochPoints(run, "lr"), colour: 2, markers: true }]),
  ];
}

function epochPoints(run, key) {
  const points = run.epochs.map((e) => [e.epoch, e[key]]);
  return points.some((p) => isNumber(p[1])) ? points : [];
}

/** A chart over epochs. With one run its best epoch is marked; several may have ended at different ones. */
function epochChart(runs, curve, series) {
  const lines = series.filter((s) => s.points.length > 0);
  const best = runs.length === 1 ? runs[0].best_epoch : null;
  const last = Math.max(...runs.flatMap((run) => run.epochs.map((e) => e.epoch)));
  return lineChart({
    title: curve.title,
    xLabel: "epoch",
    yLabel: curve.yLabel,
    series: lines,
    xRange: last > 1 ? [1, last] : [0.5, 1.5],
    yRange: roundRange(lines.flatMap((s) => s.points.map((p) => p[1])), curve.log),
    log: curve.log,
    whole: true,
    xFormat: String,
    yFormat: curve.format,
    marker: best ? { x: best, label: "best" } : null,
    start: best || last,
    cursorName: "epoch",
    rest: runs.length === 1 ? null : {
      place: "last epoch of each",
      value: ({ points }) => curve.format(points.findLast((p) => isNumber(p[1]))?.[1]),
    },
  });
}

/** Rates that differ by more than tenfold are drawn on a logarithmic scale. */
function rateChart(runs, series) {
  const rates = series.flatMap((s) => s.points.map((p) => p[1])).filter((v) => isNumber(v) && v > 0);
  const log = rates.length > 0 && Math.max(...rates) > 10 * Math.min(...rates);
  return epochChart(runs, { title: "Learning rate", yLabel: "learning rate", format: compact, log }, series);
}
