// Several runs beside each other.

function comparisonReport(page) {
  const context = { prefix: "comparison-", contents: [] };
  const { comparison, runs } = page;
  const parts = [
    element("div", { class: "summary" },
      element("h2", {}, `${runs.length} runs compared`),
      comparison.cautions.map((caution) => element("p", { class: "notice", role: "note" }, caution))),
    comparedFigures(context, page), overlaidCurves(context, runs), comparedRecipes(context, page),
  ];
  return withContents(context.contents, parts);
}

/** A name that tells runs apart in a legend. */
function runNames(runs) {
  const names = runs.map((run) => run.recipe || run.id);
  return runs.map((run, i) => (names.filter((name) => name === names[i]).length > 1 ? `${names[i]} ${run.id.split("-").pop()}` : names[i]));
}

function comparedFigures(context, { comparison, runs }) {
  const names = new Map(runs.map((run, i) => [run.id, runNames(runs)[i]]));
  const isReference = (row) => row === comparison.rows[0];
  const difference = (name, cell, ofReference = "") => ({
    name, numeric: true,
    cell: (row) => (row.difference ? cell(row.difference) : element("span", { class: "faint" }, isReference(row) ? ofReference : NOTHING)),
  });
  const columns = [
    { name: "run", cell: (row) => [names.get(row.id) || row.id, element("span", { class: "path" }, row.id)] },
    { name: "accuracy", numeric: true, cell: (row) => ranged(row.accuracy, percent) },
    { name: "macro F1", numeric: true, cell: (row) => ranged(row.macro_f1, fixed) },
    { name: "loss", numeric: true, cell: (row) => fixed(row.nll) },
    { name: "ECE", numeric: true, cell: (row) => fixed(row.ece) },
    difference("difference in points", (d) => [
      element("b", {}, points(d.accuracy.value)), element("span", { class: "path" }, `${points(d.accuracy.low)} to ${points(d.accuracy.high)}`)], "reference"),
    difference("photos gained / lost", (d) => `${grouped(d.gained)} / ${grouped(d.lost)}`),
    difference("McNemar’s p", (d) => pValue(d.p_value)),
  ];
  return section(context, "figures", "Figures", dataTable("Figures of the runs", columns, comparison.rows, { class: "compared" }),
    note("Differences are against the first run, on the photos that both predicted. ", ...comparison.rows.flatMap((row) => inWords(row, names))));
}

function pValue(p) {
  if (!isNumber(p)) return NOTHING;
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}

/** What the test says, and what it does not. */
function inWords(row, names) {
  const d = row.difference;
  if (!d) return [];
  const name = names.get(row.id) || row.id;
  const photos = plural(d.photos, "photo");
  if (d.p_value >= 0.05) return [`${name}: on ${photos}, a difference like this can be chance (p = ${pValue(d.p_value)}). `];
  const better = d.gained > d.lost ? "better" : "worse";
  return [`${name} is ${better}: on ${photos}, chance alone rarely makes a difference like this (p ${d.p_value < 0.001 ? "" : "= "}${pValue(d.p_value)}). `];
}

function overlaidCurves(context, runs) {
  const names = runNames(runs);
  const trained = runs.map((run, i) => ({ run, name: names[i], colour: i })).filter(({ run }) => run.epochs.length > 0);
  if (trained.length === 0) return section(context, "curves", "Curves", note("No run has completed an epoch."));
  const series = (key, kind, dashed) => trained.map(({ run, name, colour }) => ({
    name: kind ? `${name}, ${kind}` : name, points: epochPoints(run, key), colour, dashed, markers: true,
  }));
  const all = trained.map(({ run }) => run);
  const box = element("div", { class: "charts three" });
  const draw = (kind) => {
    const key = (curve) => (kind === "val" ? curve.val : curve.train);
    box.replaceChildren(
      ...CURVES.map((curve) => epochChart(all, curve, series(key(curve), null, kind === "train"))),
      rateChart(all, series("lr", null, false)));
  };
  draw("val");
  return section(context, "curves", "Curves", choice("Photos", { val: "Validation", train: "Training" }, "val", draw), box);
}

function comparedRecipes(context, { comparison, runs }) {
  if (comparison.recipe.length === 0) return section(context, "recipes", "Recipes", note("The recipes are the same."));
  const names = runNames(runs);
  const columns = [
    { name: "key", cell: (row) => element("code", {}, row.key) },
    ...runs.map((_, i) => ({ name: names[i], cell: (row) => tomlValue(row.values[i]) })),
  ];
  return section(context, "recipes", "Recipes", note("Keys in which the recipes differ."), dataTable("Differences of the recipes", columns, comparison.recipe));
}
