// One candidate in a dialog: costs, layers, curve, confusion, mistakes, settings, JSON.

const MATRIX_CLASSES = 40;
const chunks = new Map();
let images = null;
let opened = null;

async function detailsOf(row) {
  const number = Math.floor(row / BOARD.chunk);
  if (!chunks.has(number)) {
    chunks.set(number, unpack(`details-${number}`).then((text) => JSON.parse(text)));
  }
  return (await chunks.get(number))[row % BOARD.chunk];
}

/** By split and place, the class, the name and the picture of each image that is listed. */
async function listedImages() {
  images = images || unpack("images").then((text) => JSON.parse(text));
  return images;
}

/** Open a candidate by the page's address, so that the browser's back button closes it. */
function openCandidate(row) {
  location.hash = COLUMNS.id[row];
}

function followAddress() {
  const row = COLUMNS.id.indexOf(location.hash.slice(1));
  if (row >= 0) showCandidate(row);
  else byId("candidate").close();
}

function forgetCandidate() {
  byId("candidate").replaceChildren();
  opened = null;
  if (location.hash) history.replaceState(null, "", location.href.split("#")[0]);
}

async function showCandidate(row) {
  const dialog = byId("candidate");
  opened = row;
  if (!("DecompressionStream" in window)) {
    dialog.replaceChildren(titleBar(row), make("p", {}, "This browser is too old for the details."));
  } else {
    const [details, known] = await Promise.all([detailsOf(row), listedImages()]);
    if (opened !== row) return; // another was asked for meanwhile
    dialog.replaceChildren(titleBar(row), ...sections(row, details, known));
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelectorAll("[data-draw]").forEach((element) => element.drawNow());
}

function step(direction) {
  const at = chosen.rows.indexOf(opened) + direction;
  if (at >= 0 && at < chosen.rows.length) openCandidate(chosen.rows[at]);
}

function titleBar(row) {
  const at = chosen.rows.indexOf(row);
  return make("div", { class: "bar" },
    make("h2", { id: "candidate-title" }, `#${COLUMNS.rank[row]} ${COLUMNS.id[row]}`),
    make("span", { class: "buttons" },
      make("button", { type: "button", onclick: () => step(-1), disabled: at <= 0 }, "Back"),
      make("button", {
        type: "button", onclick: () => step(1), disabled: at < 0 || at >= chosen.rows.length - 1,
      }, "Next"),
      make("button", { type: "button", onclick: () => byId("candidate").close() }, "Close")));
}

function sections(row, details, known) {
  const found = details.row;
  return [
    statusLine(found),
    facts(found),
    heading("Costs"), ...costs(found),
    heading("Layers"), layers(found, details.layers),
    ...curve(found, details.rung_ends),
    ...confusions(found),
    ...mistakes(details.mistakes, known),
    heading("Settings"), settings(found, details.choices),
    ...(details.log ? [heading("Log"), make("pre", {}, details.log)] : []),
    heading("JSON"), json(found),
  ];
}

function heading(words) {
  return make("h3", {}, words);
}

function statusLine(found) {
  const status = STATUS[found.status];
  const reason = found.reason ? `: ${found.reason}` : "";
  const selectable = ["ok", "stopped"].includes(found.status) && found.costs[BOARD.target.name]?.fits;
  return make("div", {},
    make("p", {}, `${status.mark} ${found.status} (${status.words})${reason}`),
    ...Object.entries(found.unmeasured).map(([target, why]) =>
      make("p", { class: "over" }, `${target}: ${why}`)),
    ...(selectable ? [make("p", { class: "quiet" }, "Take it with ",
      make("code", {}, `tune select ${BOARD.run.name} ${found.id}${BOARD.target.option}`), ".")] : []));
}

function list(pairs) {
  return make("dl", { class: "facts" }, ...pairs.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
}

function facts(found) {
  const pairs = [];
  for (const split of SPLITS) {
    for (const precision of BOARD.target.simulated ? ["target", "int8", "float32"] : ["int8", "float32"]) {
      const share = found.accuracy[split][precision];
      if (share === undefined) continue;
      const error = found.standard_error[split][precision];
      const several = split === "validation" && found.trainings > 1;
      pairs.push([`${split}, ${precision}${several ? ", mean" : ""}`,
        `${percent(share)} ±${percent(error)} %${several ? ` (${found.trainings})` : ""}`]);
    }
  }
  for (const precision of found.repeats.length ? ["int8", "float32"] : []) {
    const each = found.repeats.map((accuracy) => percent(accuracy[precision])).join(", ");
    pairs.push([`each training, ${precision}`, `${each} %`]);
  }
  for (const build of Object.values(found.builds)) {
    const label = build.paired && build.paired.validation ? build.runtime : build.precision;
    pairs.push([`${label} file`, `${bytes(build.size_bytes)}, run with ${build.runtime} ${build.kernels}`]);
    const beside = build.beside_float32 && build.beside_float32.validation;
    if (beside) {
      pairs.push([`${label} made by`, build.recipe]);
      pairs.push([`${label} beside float32`,
        `of ${count(beside.images)} validation images ${count(beside.lost)} lost, ${count(beside.gained)} gained`]);
    }
  }
  const pixels = found.candidate.preprocessing;
  pairs.push(["input", `${pixels.width}x${pixels.height} ${pixels.colour}, ${pixels.crop}, ${pixels.scaling}`]);
  pairs.push(["trained", `${found.epochs} epochs, ${clock(found.train_seconds)}`]);
  pairs.push(["origin", `${found.origin} ${found.baseline}`.trim()]);
  return list(pairs);
}

const QUANTITIES = [
  { field: "ram_bytes", label: "RAM", stem: "ram", end: "_bytes", write: bytes, parts: "ram_parts" },
  { field: "flash_bytes", label: "flash", stem: "flash", end: "_bytes", write: bytes, parts: "flash_parts" },
  { field: "latency_ms", label: "latency", stem: "latency", end: "_ms", write: (value) => `${milliseconds(value)} ms` },
  { field: "frames_per_second", label: "camera loop", stem: "frames", end: "_per_second", write: (value) => `${value.toFixed(0)} frames/s` },
  { field: "train_minutes", label: "full training", stem: "train", end: "_minutes", write: (value) => `${minutes(value)} min` },
];

function costs(found) {
  const elements = [];
  const isOwn = (target) => target === BOARD.target.name;
  const ordered = Object.entries(found.costs).sort(([a], [b]) => isOwn(b) - isOwn(a));
  for (const [target, cost] of ordered) {
    const own = isOwn(target);
    const over = new Set(cost.over.map((excess) => excess.limit));
    const body = make("tbody");
    for (const { field, label, stem, end, write, parts } of QUANTITIES) {
      if (cost[field] === undefined) continue;
      const limit = own ? BOARD.target.limits[field] : null;
      const held = parts && Object.entries(cost[parts]).filter(([, size]) => size > 0)
        .map(([name, size]) => `${name.replaceAll("_", " ")} ${bytes(size)}`).join(", ");
      body.append(...costLines({
        label, value: write(cost[field]), low: write(cost[`${stem}_low${end}`]),
        high: write(cost[`${stem}_high${end}`]),
        limit: limit === null || limit === undefined ? "" : write(limit),
        kind: cost[`${stem}_kind`] || "estimated",
        basis: [cost[`${stem}_basis`], held].filter(Boolean).join("; "),
        over: over.has(field),
      }));
    }
    body.append(...costLines({
      label: "MACs", value: count(cost.macs), low: "", high: "", limit: "",
      kind: "counted", basis: "multiply-accumulates of one inference", over: false,
    }));
    for (const [name, figure] of Object.entries(found.measured[target] || {})) {
      const write = name.endsWith("_ms") ? (value) => `${milliseconds(value)} ms` : bytes;
      body.append(...costLines({
        label: name.replace(/_(bytes|ms)$/, "").replaceAll("_", " "), value: write(figure.value),
        low: write(figure.low), high: write(figure.high), limit: "", kind: figure.kind,
        basis: figure.basis, over: false,
      }));
    }
    const head = ["", "value", "band", "limit"].map((label, at) =>
      make("th", { scope: "col", class: at ? "number" : null }, label));
    elements.push(
      make("p", { class: cost.fits ? "quiet" : "over" }, `On ${target}: `
        + (cost.fits ? "fits." : `does not fit: ${[...cost.refused, ...cost.over.map(overWords)].join("; ")}.`)),
      make("div", { class: "scroll" },
        make("table", { class: "costs" }, make("thead", {}, make("tr", {}, ...head)), body)));
  }
  return elements;
}

/** A limit that is exceeded, for example "RAM 276.9 KB > 256.0 KB, at 'stage1'". */
function overWords({ limit, needed, allowed, at }) {
  const known = QUANTITIES.find(({ field }) => field === limit);
  const write = known ? known.write : (value) => `${minutes(value)} min`;
  const label = known ? known.label : "training within the search";
  return `${label} ${write(needed)} > ${write(allowed)}${at ? `, at '${at}'` : ""}`;
}

/** A figure, and below it what it rests on. */
function costLines({ label, value, low, high, limit, kind, basis, over }) {
  return [
    make("tr", { class: "first" }, make("th", { scope: "row" }, label),
      make("td", { class: over ? "number over" : "number" }, value),
      make("td", { class: "number" }, low === high ? "" : `${low} to ${high}`),
      make("td", { class: "number" }, limit)),
    make("tr", {}, make("td", { class: "basis", colspan: 4 }, basis ? `${kind}: ${basis}` : kind)),
  ];
}

/** What a node does beside its kind, for example "3x3, stride 2, relu". */
function nodeWords(node) {
  if (!node) return "";
  const words = [];
  const side = node.kernel ?? node.size;
  const wide = node.kernel_width ?? node.size_width;
  if (side !== undefined) words.push(`${side}x${wide ?? side}`);
  if (node.stride > 1) words.push(`stride ${node.stride}`);
  if (node.activation && node.activation !== "linear") words.push(node.activation);
  return words.join(", ");
}

function layers(found, operators) {
  const nodes = new Map(found.candidate.architecture.nodes.map((node) => [node.name, node]));
  const peak = Math.max(...operators.map((operator) => operator.ram_bytes));
  const body = make("tbody");
  const pixels = found.candidate.architecture.nodes[0];
  const ratios = (found.builds.int8 && found.builds.int8.snr_db) || [];
  const told = ratios.length === operators.length;
  body.append(make("tr", {}, make("td", { class: "minor" }, "0"), make("td", {}, pixels.name),
    make("td", { class: "minor" }, "input"),
    make("td", { class: "number" }, `${pixels.height}x${pixels.width}x${pixels.channels}`),
    ...["", "minor", "", "minor", ...(told ? ["number"] : [])].map((name) => make("td", { class: name || null }))));
  for (const operator of operators) {
    const most = operator.ram_bytes === peak;
    const share = Math.max(1, Math.round((100 * operator.ram_bytes) / peak));
    body.append(make("tr", { class: most ? "peak" : null },
      make("td", { class: "minor" }, String(operator.index)),
      make("td", { class: "name" }, operator.name),
      make("td", { class: "minor" },
        [operator.kind.toLowerCase(), nodeWords(nodes.get(operator.name))].filter(Boolean).join(" ")),
      make("td", { class: "number" }, operator.output_shape.join("x")),
      make("td", { class: "number" }, operator.macs ? count(operator.macs) : "–"),
      make("td", { class: "number minor" }, operator.weights ? count(operator.weights) : "–"),
      make("td", {}, make("span", { class: most ? "meter peak" : "meter" },
        make("span", { class: "track minor" }, make("i", { style: `width:${share}%` })),
        make("span", {}, `${most ? "peak ▲ " : ""}${bytes(operator.ram_bytes)}`))),
      make("td", { class: "number minor" }, `${(100 * operator.share).toFixed(0)} %`),
      ...(told ? [make("td", { class: "number" }, `${ratios[operator.index - 1].toFixed(0)} dB`)] : [])));
  }
  const head = [
    ["", "minor"], ["layer", ""], ["operator", "minor"], ["output", "number"], ["MACs", "number"],
    ["weights", "number minor"], ["RAM while it runs", "number"], ["of latency", "number minor"],
    ...(told ? [["int8 signal to noise", "number"]] : []),
  ].map(([label, name]) => make("th", { scope: "col", class: name || null }, label));
  return make("div", { class: "scroll" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), body),
    make("p", { class: "quiet" }, `As ${BOARD.target.name} runs it, in int8: batch normalization and `
      + "activation are part of the layer before, dropout leaves nothing. RAM is that of tensors "
      + "and the kernels' scratch, wherever they lie, without what lasts from run to run."
      + (told ? " Signal to noise is that of int8 beside float32 on training images: 6 dB less is "
        + "twice the error." : "")));
}

function curve(found, rungEnds) {
  if (!found.curve.length) return [];
  const element = make("div", { class: "figure", "data-draw": true });
  element.drawNow = () => {
    if (drawn) drawCurve(element, found.curve, rungEnds);
  };
  return [heading("Learning curve"), element];
}

function confusions(found) {
  const tables = [];
  const precision = precisionShown();
  const build = found.builds[precision];
  for (const split of SPLITS) {
    const accuracy = build && build.accuracy[split];
    if (accuracy) tables.push(confusionFigure(accuracy.confusion, `${split} images, ${precision}`));
  }
  if (!tables.length) return [];
  return [heading("Confusion: true class down, predicted class across"),
    make("div", { class: "confusions" }, ...tables)];
}

function confusionFigure(matrix, words) {
  const classes = BOARD.run.classes;
  const caption = make("figcaption", {}, words);
  if (classes.length > MATRIX_CLASSES) {
    return make("figure", {}, caption, mostConfused(matrix, classes));
  }
  const head = make("tr", {}, make("th", {}, ""),
    ...classes.map((name) => make("th", { scope: "col", title: name }, name)),
    make("th", { scope: "col", title: "Share of the true class that is found" }, "recall %"));
  const body = make("tbody");
  matrix.forEach((counts, truth) => {
    const total = counts.reduce((sum, number) => sum + number, 0);
    body.append(make("tr", {}, make("th", { scope: "row", title: classes[truth] }, classes[truth]),
      ...counts.map((number, predicted) => {
        const shade = total ? number / total : 0;
        const tone = truth === predicted ? "--shade" : "--wrong";
        const style = number ? `background:rgba(var(${tone}),${(0.12 + 0.5 * shade).toFixed(2)})` : null;
        return make("td", {
          style, title: `${number} of ${total} ${classes[truth]} taken for ${classes[predicted]}`,
        }, number ? String(number) : "·");
      }),
      make("td", {}, total ? percent(counts[truth] / total) : "–")));
  });
  return make("figure", {}, caption,
    make("table", { class: "confusion" }, make("thead", {}, head), body));
}

/** With many classes the pairs that are confused most say more than a matrix. */
function mostConfused(matrix, classes) {
  const pairs = [];
  matrix.forEach((counts, truth) => counts.forEach((number, predicted) => {
    if (number && truth !== predicted) pairs.push({ number, truth, predicted });
  }));
  pairs.sort((left, right) => right.number - left.number);
  const lines = pairs.slice(0, MATRIX_CLASSES).map(({ number, truth, predicted }) =>
    make("tr", {}, make("td", {}, classes[truth]), make("td", {}, classes[predicted]),
      make("td", { class: "number" }, String(number))));
  const head = ["true", "taken for", "images"].map((label) => make("th", { scope: "col" }, label));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
}

/** What the candidate took for something else, the most confident first. */
function mistakes(found, known) {
  if (!found) return [];
  const parts = [heading("Taken for something else")];
  if (found.note) return [...parts, make("p", { class: "quiet" }, found.note)];
  const precision = precisionShown();
  for (const split of SPLITS) {
    const of = found.splits[split] && found.splits[split][precision];
    if (!of) continue;
    const first = of.places.length < of.wrong ? `; the ${of.places.length} most confident` : "";
    parts.push(
      make("p", { class: "quiet" },
        `${of.wrong} of ${of.images} ${split} images, ${precision}${first}:`),
      make("div", { class: "mistakes" },
        ...of.places.map((place) => mistake(place, split, known[split][place[0]]))));
  }
  if (BOARD.images_note) parts.push(make("p", { class: "quiet" }, BOARD.images_note));
  return parts;
}

function mistake([place, predicted, confidence], split, [truth, name, picture]) {
  const classes = BOARD.run.classes;
  const file = name === null ? `${split} image ${place}` : name;
  return make("figure", { title: file },
    picture === null ? make("div", { class: "no-picture" }, "no picture")
      : make("img", { src: `data:image/jpeg;base64,${picture}`, alt: `${split} image, ${file}` }),
    make("figcaption", {},
      make("span", {}, classes[truth]),
      make("b", {}, `→ ${classes[predicted]}`),
      make("span", { class: "quiet" }, `${confidence} % sure`),
      make("span", { class: "quiet" }, file.split("/").pop())));
}

function settings(found, choices) {
  const training = found.candidate.training;
  const pairs = Object.entries(training).filter(([, value]) => typeof value !== "object");
  const augmentation = Object.entries(training.augmentation || {})
    .filter(([, value]) => value !== false && value !== 0);
  const made = Object.entries(choices);
  return make("div", {},
    list([...pairs, ...augmentation].map(([name, value]) => [name, shortNumber(value)])),
    made.length
      ? make("details", {}, make("summary", {}, "Choices of the space"),
        list(made.map(([name, value]) => [name, shortNumber(value)])))
      : null);
}

function shortNumber(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
}

function json(found) {
  return make("details", {},
    make("summary", {}, "As tune report --format json writes it"),
    make("pre", {}, JSON.stringify(found, null, 2)));
}
