// Puts the page together.

/** Light, dark, or as the system says: the choice of this visit. */
function themeButton() {
  const dark = () => {
    const set = document.documentElement.getAttribute("data-theme");
    return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const button = element("button", { type: "button", class: "quiet theme" });
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Change to ${dark() ? "light" : "dark"} colours`); };
  button.addEventListener("click", () => {
    document.documentElement.setAttribute("data-theme", dark() ? "light" : "dark");
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  return button;
}

/** Panels of which one is shown, with tabs that arrow keys move between. */
function tabbed(panels) {
  const tabs = panels.map(({ name, id }) => element("button", {
    type: "button", role: "tab", id: `${id}-tab`, "aria-controls": id, on: { click: () => show(id) },
  }, name));
  const bodies = panels.map(({ id, node }) => element("div", { role: "tabpanel", id, "aria-labelledby": `${id}-tab` }, node));
  const show = (id) => panels.forEach((panel, i) => {
    const chosen = panel.id === id;
    tabs[i].setAttribute("aria-selected", String(chosen));
    tabs[i].setAttribute("tabindex", chosen ? "0" : "-1");
    bodies[i].hidden = !chosen;
  });
  const list = element("div", { role: "tablist", class: "tabs", "aria-label": "Runs" }, tabs);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const index = tabs.indexOf(document.activeElement);
    if (!step || index < 0) return;
    event.preventDefault();
    const next = (index + step + tabs.length) % tabs.length;
    show(panels[next].id);
    tabs[next].focus();
  });
  show(panels[0].id);
  return [list, ...bodies];
}

function build(page) {
  document.getElementById("bar").append(element("h1", {}, page.title), themeButton());
  const main = document.getElementById("page");
  page.runs.forEach((run, i) => { if (run.evaluation) run.evaluation.order = page.orders[i]; });
  const runs = page.runs.map((run, i) => ({ id: `run-${i}`, node: () => runReport(run, `run-${i}-`) }));
  if (page.comparison) {
    const names = runNames(page.runs);
    main.append(...tabbed([
      { name: "Comparison", id: "comparison", node: comparisonReport(page) },
      ...runs.map((run, i) => ({ name: names[i], id: run.id, node: run.node() })),
    ]));
  } else {
    main.append(...runs.map((run) => run.node()));
  }
  document.getElementById("foot").append(`Made by ft ${page.ft_version}, ${moment(page.generated)}. Intervals are 95 % confidence intervals.`);
}

build(JSON.parse(document.getElementById("data").textContent));
