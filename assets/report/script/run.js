// One run from its figures down to how to repeat it.

const STATUS = {
  finished: null,
  running: "This run is still going on; the figures are those of the epochs so far.",
  interrupted: "This run was interrupted; the figures are those of the epochs before.",
  failed: "This run failed.",
  damaged: "Files of this run are damaged; what could be read is shown.",
};

/** All sections of a run, with its list of contents beside them. */
function runReport(run, prefix) {
  const context = { prefix, contents: [] };
  const measured = run.evaluation
    ? [confusionMatrix, classTable, confusedPairs, rankCurves, reliability, highestLoss]
    : [missingEvaluation];
  const order = [
    recipeChanges, trainedParts, trainingCurves, ...measured, galleries, depthRows, featureMaps, warnings, environment, reproduction,
  ];
  return withContents(context.contents, [summary(run), ...order.map((part) => part(context, run))]);
}

function withContents(contents, parts) {
  const links = contents.map(({ id, heading }) => element("li", {}, element("a", { href: `#${id}` }, heading)));
  const list = element("nav", { class: "contents", "aria-label": "Sections" }, element("ul", {}, links));
  return element("div", { class: "report" }, list, element("div", { class: "sections" }, parts));
}

function missingEvaluation(context, run) {
  const why = run.status === "finished"
    ? "No photos were predicted at the end of this run, so there are no figures of the classes."
    : "The run did not reach its evaluation, so there are no figures of the classes.";
  return section(context, "evaluation", "Evaluation", note(why));
}

/** What the run was and the figures that matter. */
function summary(run) {
  const status = STATUS[run.status];
  return element("div", { class: "summary" },
    element("h2", {}, run.recipe || run.id),
    element("p", { class: "meta" },
      element("span", {}, [run.model, run.dataset].filter(Boolean).join(" on ")),
      element("span", { class: "mono" }, run.id), element("span", {}, moment(run.started))),
    status ? element("p", { class: "notice", role: "note" }, status) : null,
    element("ul", { class: "tiles" }, tiles(run)));
}

function tiles(run) {
  const { evaluation: e } = run;
  const measured = e ? [
    estimateTile(`${splitName(e.split)} accuracy`, e.accuracy, percent, `${grouped(e.correct)} of ${grouped(e.photos)} right`),
    estimateTile("Macro F1", e.macro_f1, fixed, "mean of the classes"),
    tile("Loss", fixed(e.nll), "nats", `Brier score ${fixed(e.brier)}`),
    tile("Calibration error", fixed(e.reliability.before.ece), "expected, 15 bins", afterScaling(e.reliability)),
  ] : [];
  const validation = isNumber(run.best_val_accuracy) && !(e && e.split === "val")
    ? [tile("Best validation", percent(run.best_val_accuracy), "accuracy", run.best_epoch ? `in epoch ${run.best_epoch}` : null)]
    : [];
  return [
    ...measured, ...validation,
    tile("Epochs", grouped(run.epochs.length), isNumber(run.seconds) ? `in ${duration(run.seconds)}` : "none completed"),
  ];
}

function afterScaling({ after, temperature }) {
  return after ? `${fixed(after.ece)} at T = ${fixed(temperature, 2)}` : null;
}

function tile(name, figure, ...remarks) {
  return element("li", { class: "tile" }, element("span", { class: "name" }, name),
    element("strong", {}, figure), remarks.map((remark) => element("span", { class: "remark" }, remark)));
}

function estimateTile(name, estimate, format, remark) {
  return element("li", { class: "tile" }, element("span", { class: "name" }, name),
    element("strong", {}, format(estimate.value)), rangeBar(estimate),
    element("span", { class: "remark" }, interval(estimate, format)), element("span", { class: "remark" }, remark));
}

function recipeChanges(context, run) {
  const { parent, rows } = run.changes;
  let content;
  if (!parent) content = note("The recipe is the run's own: none of the built-in ones has its name. It stands in full at the end.");
  else if (rows.length === 0) content = note("The built-in recipe ", element("code", {}, parent), " as it is.");
  else {
    content = [
      note("The built-in recipe ", element("code", {}, parent), ` with ${plural(rows.length, "change")}.`),
      dataTable("Changes of the recipe", [
        { name: "key", cell: (row) => element("code", {}, row.key) },
        { name: "built in", cell: (row) => tomlValue(row.parent) },
        { name: "this run", cell: (row) => tomlValue(row.value) },
      ], rows),
    ];
  }
  return section(context, "recipe", "What was run", content);
}

function tomlValue(value) {
  return value === null ? element("span", { class: "faint" }, "not set") : element("code", {}, value);
}

/** Bars by stage: their length is the share of the parameters, their filled part trained. */
function trainedParts(context, run) {
  const trained = run.trained;
  if (!trained) return null;
  const most = Math.max(...trained.stages.map((stage) => stage.params), 1);
  const row = (stage) => element("li", {},
    element("span", { class: "stage" }, stage.name),
    element("span", { class: "stage-bar", "aria-hidden": "true" },
      element("span", { class: "all", style: { width: `${(100 * stage.params) / most}%` } },
        element("span", { class: "trained", style: { width: `${(100 * stage.trainable) / (stage.params || 1)}%` } }))),
    element("span", { class: "stage-count" }, stage.trainable > 0 ? `${grouped(stage.trainable)} of ` : "frozen, ", grouped(stage.params)));
  return section(context, "trained", "What trained",
    note(`${grouped(trained.trainable_params)} of ${grouped(trained.total_params)} parameters trained (`,
      percent(trained.trainable_params / (trained.total_params || 1)), ")", frozenPart(trained.freeze_before), "."),
    element("ul", { class: "stages" }, trained.stages.map(row)));
}

function frozenPart(before) {
  if (!before) return [];
  if (before === "none") return ["; nothing was frozen"];
  if (before === "all") return ["; the whole backbone stayed frozen"];
  return ["; what lies before ", element("code", {}, before), " stayed frozen"];
}

function warnings(context, run) {
  const { warnings: lines, skipped } = run;
  const columns = [{ name: "file", cell: (row) => row.path }, { name: "why", cell: (row) => row.reason }];
  const table = skipped.length > 0 ? dataTable("Skipped files", columns, skipped) : null;
  return section(context, "data", "Data",
    definitions(Object.entries(run.photos).map(([split, count]) => [splitName(split) + " photos", grouped(count)])),
    lines.length > 0 ? element("ul", { class: "warnings" }, lines.map((line) => element("li", {}, line))) : note("No warnings."),
    table ? (skipped.length > 5 ? details(plural(skipped.length, "skipped file"), table) : [element("h4", {}, "Skipped files"), table]) : null);
}

function environment(context, run) {
  const e = run.environment;
  if (!e) return section(context, "environment", "Environment", note("The run did not record what it ran on."));
  const hashes = Object.entries(e.data_sha256 || {});
  return section(context, "environment", "Environment",
    definitions([
      ["ft", e.ft_version], ["System", [e.os, e.architecture].filter(Boolean).join(", ")], ["Machine", e.host], ["Processor", e.cpu],
      ["Vector instructions", e.vector_instructions], ["Memory", e.memory ? `${(e.memory / 2 ** 30).toFixed(1)} GiB` : null],
      ["Threads", `${e.threads} of ${e.cores} cores`], ["Device", e.device],
      ["Git commit", mono(e.git_commit)], ["Git branch", e.git_branch], ["Uncommitted changes", changes(e)],
      ["Goes on from", e.parent ? `${e.parent.run} after epoch ${e.parent.epochs} (schedule: ${e.parent.schedule})` : null],
      ["Weights", e.weights ? e.weights.source : "none: trained from scratch"],
      ["Weights SHA-256", e.weights ? mono(e.weights.sha256) : null], ["Photos", e.data_root],
    ]),
    hashes.length > 0 ? details("Hashes of the photos", definitions(hashes.map(([split, hash]) => [splitName(split), mono(hash)]))) : null);
}

function changes(e) {
  if (!e.git_changes || e.git_changes.length === 0) return null;
  const more = e.git_changes_omitted > 0 ? [`and ${e.git_changes_omitted} more`] : [];
  return mono(e.git_changes.concat(more).join(", "));
}

function mono(text) {
  return text ? element("span", { class: "mono" }, text) : null;
}

function reproduction(context, run) {
  return section(context, "repeat", "Reproduce",
    run.command ? copyable(run.command, "The command of this run") : note("The command was not recorded."),
    run.recipe_toml ? details("The resolved recipe", copyable(run.recipe_toml, "The resolved recipe"))
      : note("The resolved recipe was not recorded."));
}
