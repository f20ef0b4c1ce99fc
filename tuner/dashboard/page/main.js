// What stands still on the page, and what happens on a choice.

const FIGURE_DELAY_MS = 120;
let figureTimer = 0;

function showRows() {
  chosen.rows = visibleRows();
  chosen.page = 0;
  drawTable();
  drawBasis();
}

/** Draw the table at once and the points a moment later, so that typing stays quick. */
function update() {
  showRows();
  clearTimeout(figureTimer);
  figureTimer = setTimeout(drawCost, FIGURE_DELAY_MS);
}

function drawBasis() {
  const images = BOARD.run.images[chosen.split];
  const runWith = BOARD.target.run_with[precisionShown()];
  const words = [
    `Share of ${images ?? "all"} ${chosen.split} images that are classified correctly`
      + (runWith ? `, ${precisionShown()} run with ${runWith} kernels` : "")
      + "; ± is the standard error.",
  ];
  if (chosen.split === "validation" && COLUMNS.trainings.some((number) => number > 1)) {
    words.push("(n): the mean of n trainings from different seeds, ± the standard error of that mean.");
  }
  if (columnShown() === "target" && BOARD.target.simulated) words.push(BOARD.target.simulated);
  if (chosen.split === "test") words.push("Test images were never used to choose; the rank is by validation.");
  if (COLUMNS.tied.some(Boolean)) words.push("= ties in correct images, broken by latency, flash, id.");
  byId("basis").textContent = words.join(" ");
}

function tile(value, words) {
  return make("div", { class: "tile" }, make("b", {}, value), make("span", {}, words));
}

function drawStill() {
  const { run, target } = BOARD;
  byId("title").textContent = `${run.name} on ${target.name}`;
  const images = Object.values(run.images).reduce((sum, number) => sum + number, 0);
  byId("subtitle").textContent = [
    target.title, `${run.data}: ${images} images, ${run.classes.length} classes`,
    `${clock(run.elapsed_seconds)} of search`, `${run.created} UTC`,
  ].join(" · ") + (run.ended ? "" : " · not finished");
  const shown = columnShown();
  const best = COLUMNS.accuracy.validation[shown][0];
  const fitting = COLUMNS.fits[0] && best !== null && best !== undefined;
  const tested = COLUMNS.accuracy.test[run.precision][0];
  const trained = COLUMNS.status.filter((status) => status === "ok").length;
  byId("tiles").append(
    tile(fitting ? `${percent(best)} %` : "–", `best ${BOARD.target.simulated || shown !== "target" ? shown : run.precision}, validation`),
    tile(fitting && tested !== null ? `${percent(tested)} %` : "–", `${run.precision} on test images`),
    tile(fitting ? bytes(COLUMNS.ram_bytes[0]) : "–", `its RAM, of ${bytes(target.limits.ram_bytes)}`),
    tile(fitting ? `${milliseconds(COLUMNS.latency_ms[0])} ms` : "–", "its latency, estimated"),
    tile(String(COUNT), `candidates, ${trained} trained to the end`
      + (run.unfinished ? `, ${run.unfinished} in work` : "")));
  if (run.majority) {
    byId("tiles").append(tile(`${percent(run.majority.accuracy.validation)} %`,
      `validation, if all were '${run.majority.class_name}', the largest class`));
  }
  drawNotes();
}

function drawNotes() {
  const notes = byId("notes");
  notes.append(make("h2", {}, "Notes"));
  const refused = Object.entries(BOARD.refused);
  if (refused.length) {
    const counts = refused.map(([limit, number]) => `${limit} ${number}`).join(", ");
    notes.append(make("p", {}, `Refused before training, by what was over: ${counts}. `
      + (BOARD.nearest_miss ? `Nearest miss: ${BOARD.nearest_miss}.` : "")));
  }
  if (BOARD.pictures) {
    notes.append(make("p", { class: "quiet" },
      `This page carries small pictures of ${BOARD.pictures} images of the data.`));
  }
  const marks = Object.entries(STATUS).map(([name, { mark, words }]) => `${mark} ${name}: ${words}`);
  notes.append(make("p", { class: "quiet" }, `${marks.join("; ")}.`));
  const versions = Object.entries(BOARD.run.versions).map((pair) => pair.join(" ")).join(", ");
  notes.append(make("p", { class: "quiet" },
    `Spaces: ${BOARD.run.spaces.join(", ")}. Seed ${BOARD.run.seed}. ${versions}.`));
}

function radios(id, names, enabled) {
  for (const name of names) {
    const input = make("input", {
      type: "radio", name: id, value: name, checked: chosen[id] === name, disabled: !enabled(name),
    });
    input.addEventListener("change", () => {
      chosen[id] = name;
      update();
      drawHistory();
    });
    byId(id).append(make("label", {}, input, make("span", {}, name)));
  }
}

function select(id, options) {
  byId(id).append(...options.map(([value, words]) => make("option", { value }, words)));
  byId(id).addEventListener("change", (event) => {
    chosen[id] = event.target.value;
    update();
  });
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  drawFigures();
}

function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () =>
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  radios("precision", Object.keys(PRECISIONS), (name) =>
    COLUMNS.accuracy.validation[PRECISIONS[name]].some((share) => share !== null));
  radios("split", SPLITS, (name) => COLUMNS.accuracy[name].int8.some((share) => share !== null));
  const every = (name) => [...new Set(COLUMNS[name])].sort().map((value) => [value, value]);
  select("status", [["", "all"], ...every("status")]);
  select("space", [["", "all"], ...every("space")]);
  select("fits", [["", "all"], ["yes", "fits"], ["no", "does not fit"]]);
  byId("text").addEventListener("input", (event) => {
    chosen.text = event.target.value;
    update();
  });
  byId("back").addEventListener("click", () => turnPage(-1));
  byId("forward").addEventListener("click", () => turnPage(1));
  byId("cost").addEventListener("change", drawCost);
  const dialog = byId("candidate");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", forgetCandidate);
  addEventListener("hashchange", followAddress);
  drawStill();
  showRows();
  if (location.hash) followAddress();
  // Elements further down hold plotly.js; the first picture of the page comes before it.
  addEventListener("load", () => setTimeout(loadPlotly, 0));
}

start();
