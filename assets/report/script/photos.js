// Photos, and what the model looks at in them.

const LISTED_NAMES = 40;

/** What a reader sees of the photos of a prediction list, `indices` into it. */
function photoGrid(run, indices, options = {}) {
  const rows = indices.map((index) => run.evaluation.predictions[index]);
  const pictured = rows.filter((row) => thumbnailOf(run, row));
  if (pictured.length > 0) {
    return element("ul", { class: "photos" }, pictured.map((row) => element("li", {}, photoFigure(run, row, options))));
  }
  const shown = rows.slice(0, LISTED_NAMES);
  return element("ul", { class: "names" }, shown.map((row) => element("li", {}, row.path, " ", verdict(run, row, options))));
}

function thumbnailOf(run, row) {
  return row.thumbnail === null ? null : run.pictures.thumbnails[row.thumbnail];
}

function photoFigure(run, row, options) {
  return element("figure", { class: "photo", title: row.path },
    element("img", { src: thumbnailOf(run, row), alt: row.path, loading: "lazy" }),
    element("figcaption", {}, verdict(run, row, options)));
}

/** `✗ tulips 0.93`, and what it is in truth if that is another. */
function verdict(run, row, options) {
  const classes = run.evaluation.classes;
  const right = row.truth === row.predicted;
  return element("span", { class: "verdict" },
    element("span", { class: right ? "right" : "wrong" }, sign(right), " ", classes[row.predicted], " ",
      element("b", {}, probability(row.probability))),
    right ? null : element("span", { class: "truth" }, "is ", classes[row.truth],
      ` ${probability(row.truth_probability)}`),
    options.loss ? element("span", { class: "truth" }, `loss ${fixed(row.loss, 2)}`) : null);
}

function sign(right) {
  return element("span", { role: "img", "aria-label": right ? "right" : "wrong" }, right ? "✓" : "✗");
}

/** The photos of a cell of the confusion matrix, most confident first. */
function cellPhotos(run, truth, predicted) {
  const rows = run.evaluation.predictions;
  const indices = rows.map((_, i) => i).filter((i) => rows[i].truth === truth && rows[i].predicted === predicted);
  return indices.sort((a, b) => rows[b].probability - rows[a].probability);
}

/** `12 of 57 shown`. */
function shownOf(run, indices) {
  const pictured = indices.filter((i) => thumbnailOf(run, run.evaluation.predictions[i])).length;
  const shown = pictured || Math.min(indices.length, LISTED_NAMES);
  return shown === indices.length ? plural(shown, "photo") : `${shown} of ${grouped(indices.length)} shown`;
}

function highestLoss(context, run) {
  const evaluation = run.evaluation;
  if (!evaluation || evaluation.highest_loss.length === 0) return null;
  return section(context, "loss", "Photos with the highest loss",
    note("Where the model was most wrong, or right with the least confidence. Mislabelled photos are often among them."),
    photoGrid(run, evaluation.highest_loss, { loss: true }));
}

/** Right and wrong predictions with their maps. */
function galleries(context, run) {
  const { right, wrong, absent, method } = run.pictures;
  if (right.length + wrong.length === 0) {
    const why = absent ? `There are no pictures here: ${absent}` : "This page was made without pictures.";
    return section(context, "looks", "Where the model looks", note(why));
  }
  const views = { both: "Side by side", photo: "Photo", overlay: "Map" };
  const galleryNodes = [["Wrong predictions", wrong], ["Right predictions", right]].map(([heading, photos]) => [
    element("h4", {}, `${heading}`),
    photos.length > 0 ? gallery(photos) : note(`There are none among the photos.`),
  ]);
  // Beside each other, photo and map are too small for a phone.
  const first = matchMedia("(max-width: 30rem)").matches ? "overlay" : "both";
  const box = element("div", { class: "galleries", "data-view": first }, galleryNodes);
  return section(context, "looks", "Where the model looks",
    note(`${method}, for the predicted class: red speaks for it most, blue not at all.`),
    choice("Show", views, first, (view) => box.setAttribute("data-view", view)), box);
}

function gallery(photos) {
  return element("ul", { class: "gallery" }, photos.map((photo) => element("li", {},
    element("figure", { class: "explained", title: photo.path },
      element("div", { class: "pair" },
        element("img", { src: photo.photo, alt: photo.path, class: "of-photo", loading: "lazy" }),
        element("img", { src: photo.overlay, alt: `What the model looks at in ${photo.path}`, class: "of-map", loading: "lazy" })),
      explainedCaption(photo)))));
}

function explainedCaption(photo) {
  const right = photo.truth === photo.predicted;
  return element("figcaption", {},
    element("span", { class: right ? "right" : "wrong" }, sign(right), " ", photo.predicted,
      isNumber(photo.probability) ? [" ", element("b", {}, probability(photo.probability))] : null),
    right ? null : element("span", { class: "truth" }, `is ${photo.truth}`),
    element("span", { class: "path" }, photo.path));
}

/** The same photo seen from the first stage to the last. */
function depthRows(context, run) {
  const rows = run.pictures.depth;
  if (rows.length === 0) return null;
  return section(context, "depth", "Through the depth of the network",
    note("The map at the end of each stage: early stages answer to edges and colours anywhere, late ones to the object."),
    rows.map((row) => [
      element("h4", { class: "with-sign" }, explainedHeading(row)),
      scrollBox(`Maps of ${row.path} through the depth`, element("ul", { class: "strip" },
        element("li", {}, element("img", { src: row.photo, alt: row.path, loading: "lazy" }), element("span", {}, "photo")),
        row.stages.map((stage) => element("li", {},
          element("img", { src: stage.overlay, alt: `Map at ${stage.layer}`, loading: "lazy" }),
          element("span", {}, stage.stage), element("span", { class: "path" }, stage.layer))))),
    ]));
}

function explainedHeading(row) {
  const right = row.truth === row.predicted;
  const text = right ? `${row.predicted}` : `taken for ${row.predicted}, is ${row.truth}`;
  return [element("span", { class: right ? "right" : "wrong" }, sign(right), ` ${text}`), element("span", { class: "path" }, row.path)];
}

/** Single channels of each stage. */
function featureMaps(context, run) {
  const rows = run.pictures.features;
  if (rows.length === 0) return null;
  return section(context, "features", "Feature maps",
    note("The strongest channels at the end of each stage, each on a scale of its own, for the first of these photos."),
    rows.map((row) => [
      element("h4", {}, row.stage, element("span", { class: "path" }, `${row.layer}, ${row.shape.join(" × ")}`)),
      scrollBox(`Channels of ${row.layer}`, element("ul", { class: "strip tiles" },
        row.channels.map((tile) => element("li", {},
          element("img", { src: tile.picture, alt: `Channel ${tile.channel} of ${row.layer}`, loading: "lazy" }),
          element("span", { class: "path" }, tile.channel))))),
    ]));
}
