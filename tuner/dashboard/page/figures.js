// Figures: plotly.js is unpacked once the table stands, then Python's figures are filled in.

const GL_POINTS = 1500;
const BLUE = "#0072B2"; // as tuner/dashboard/figures.py has it
const CONFIG = { displaylogo: false, displayModeBar: window.innerWidth < 600 ? false : "hover", responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

let drawn = false;

async function loadPlotly() {
  if (!("DecompressionStream" in window)) {
    for (const figure of document.querySelectorAll(".figure")) {
      say(figure, "This browser is too old for the figures; the table works all the same.");
    }
    return;
  }
  document.head.append(make("script", {}, await unpack("plotly")));
  drawn = true;
  byId("cost-figure").dataset.ready = "yes";
  drawFigures();
}

function say(element, words) {
  element.classList.add("off");
  element.replaceChildren(make("p", { class: "quiet" }, words));
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A figure's layout in the colours of the theme. */
function themed(layout) {
  const axis = {
    gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--line"),
    tickcolor: color("--line"),
  };
  return {
    ...layout,
    font: { color: color("--text"), family: "system-ui, sans-serif", size: 12 },
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--text") } },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

/** Traces in the colours of the theme: the blue of the figures is too dark for a dark page. */
function themedTraces(data) {
  const accent = color("--accent");
  return data.map((trace) => {
    const copy = { ...trace };
    for (const part of ["marker", "line"]) {
      if (trace[part] && trace[part].color === BLUE) copy[part] = { ...trace[part], color: accent };
    }
    return copy;
  });
}

/** Draw a figure in place of what the element holds. */
function draw(id, figure) {
  const element = byId(id);
  if (element.classList.contains("off")) {
    element.classList.remove("off");
    element.replaceChildren();
  }
  Plotly.react(element, themedTraces(figure.data), themed(figure.layout), CONFIG);
}

/** SVG draws thousands of points slowly, and not every browser has WebGL. */
function kindOfPoints(points) {
  if (points < GL_POINTS) return "scatter";
  return document.createElement("canvas").getContext("webgl") ? "scattergl" : "scatter";
}

/** The figure of one cost with the rows that pass the filters; the front is that of all. */
function filledCost(name) {
  const figure = FIGURES.cost[name], scale = figure.layout.meta.scale;
  const costs = COLUMNS[name], shares = accuracies();
  const kind = kindOfPoints(chosen.rows.length);
  const data = figure.data.map((trace) => {
    const front = trace.meta === "front";
    const rows = front
      ? BOARD.fronts[chosen.split][columnShown()][name].map((rank) => COLUMNS.rank.indexOf(rank))
      : chosen.rows.filter((row) =>
          COLUMNS.group[row] === trace.meta && shares[row] !== null && costs[row] !== null);
    return {
      ...trace,
      type: front ? "scatter" : kind,
      x: rows.map((row) => costs[row] / scale),
      y: rows.map((row) => 100 * shares[row]),
      text: rows.map((row) => `${COLUMNS.rank[row]}: ${COLUMNS.id[row]}`),
      customdata: rows,
      visible: rows.length > 0,
    };
  });
  const layout = structuredClone(figure.layout);
  layout.yaxis.title.text = `${chosen.precision} ${chosen.split} accuracy, %`;
  return { data, layout };
}

function drawCost() {
  if (!drawn) return;
  if (!accuracies().some((share) => share !== null)) {
    Plotly.purge(byId("cost-figure"));
    say(byId("cost-figure"), `No candidate has a ${chosen.split} accuracy yet.`);
    return;
  }
  draw("cost-figure", filledCost(byId("cost").value));
  const element = byId("cost-figure");
  element.removeAllListeners("plotly_click");
  element.on("plotly_click", (event) => {
    const row = event.points[0].customdata;
    if (Number.isInteger(row)) openCandidate(row);
  });
}

function drawHistory() {
  if (!drawn) return;
  const figure = FIGURES.history[precisionShown()];
  byId("history-note").textContent =
    `${precisionShown()}, validation images, of candidates that fit; a point for each rung.`;
  const points = figure.data[0].x.length;
  const data = figure.data.map((trace) =>
    trace.mode === "markers" ? { ...trace, type: kindOfPoints(points) } : trace);
  if (points) draw("history-figure", { ...figure, data });
  else say(byId("history-figure"), "Nothing that fits has been trained yet.");
}

function drawImportance() {
  if (!drawn) return;
  const figure = FIGURES.importance;
  byId("importance-note").textContent = figure
    ? `How far, by ${BOARD.run.precision} accuracy, each choice sets the best quarter apart from all, after the first rung `
      + "(Optuna's PED-ANOVA). A rough guide, the more so the fewer the candidates."
    : "";
  if (figure) draw("importance-figure", figure);
  else {
    say(byId("importance-figure"), "With fewer than "
      + `${FIGURES.importance_least} scored candidates, or equal scores, nothing can be said.`);
  }
}

function drawFigures() {
  drawCost();
  drawHistory();
  drawImportance();
  for (const element of document.querySelectorAll("[data-draw]")) element.drawNow();
}

/** The learning curve of one candidate. */
function drawCurve(element, curve, rungEpochs) {
  const { data, layout } = structuredClone(FIGURES.curve);
  for (const trace of data) {
    const epochs = trace.meta === "rungs" ? rungEpochs : curve.map((_, at) => at + 1);
    trace.x = epochs;
    trace.y = epochs.map((epoch) => 100 * curve[epoch - 1]);
  }
  Plotly.react(element, themedTraces(data), themed(layout), CONFIG);
}
