// The data, what the user chose of it, and the rows that follow.

const BOARD = JSON.parse(byId("data-board").textContent);
const FIGURES = JSON.parse(byId("data-figures").textContent);
const COLUMNS = BOARD.columns;
const COUNT = COLUMNS.id.length;
const SPLITS = ["validation", "test"];

const STATUS = {
  ok: { mark: "●", words: "trained to the end" },
  stopped: { mark: "◇", words: "stopped at a rung, to train the best" },
  timed_out: { mark: "◷", words: "took too long" },
  failed: { mark: "✕", words: "failed" },
  over_limit: { mark: "⊘", words: "over a limit, never trained" },
};

// "target" is the int8 accuracy as the target runs it; the build that it names first.
const PRECISIONS = { target: "int8", int8: "int8", float32: "float32" };

const chosen = {
  precision: BOARD.run.rank_by,
  split: "validation",
  text: "",
  status: "",
  space: "",
  fits: "",
  sort: "rank",
  descending: false,
  page: 0,
};

function precisionShown() {
  return PRECISIONS[chosen.precision];
}

/** The chosen accuracy; int8 for the target on images that its simulator did not run. */
function columnShown() {
  const known = (share) => share !== null;
  return COLUMNS.accuracy[chosen.split][chosen.precision].some(known)
    ? chosen.precision : precisionShown();
}

function accuracies() {
  return COLUMNS.accuracy[chosen.split][columnShown()];
}

function standardErrors() {
  return COLUMNS.standard_error[chosen.split][columnShown()];
}

/** How many trainings the shown accuracy is the mean of; test images are for the first alone. */
function meanOf(row) {
  return chosen.split === "validation" ? COLUMNS.trainings[row] : 1;
}

const SOUGHT = COLUMNS.id.map((id, row) =>
  [
    id, COLUMNS.input[row], COLUMNS.space[row], COLUMNS.origin[row], COLUMNS.status[row],
    COLUMNS.reason[row],
  ].join("\n").toLowerCase());

function matches(row) {
  if (chosen.status && COLUMNS.status[row] !== chosen.status) return false;
  if (chosen.space && COLUMNS.space[row] !== chosen.space) return false;
  if (chosen.fits && COLUMNS.fits[row] !== (chosen.fits === "yes")) return false;
  return chosen.words.every((word) => SOUGHT[row].includes(word));
}

function valueOf(name) {
  return name === "accuracy" ? accuracies() : COLUMNS[name];
}

/** Rows that pass the filters, sorted; what has no value comes last either way. */
function visibleRows() {
  chosen.words = chosen.text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [];
  for (let row = 0; row < COUNT; row++) if (matches(row)) rows.push(row);
  const values = valueOf(chosen.sort), sign = chosen.descending ? -1 : 1;
  rows.sort((left, right) => {
    const a = values[left], b = values[right];
    if (a === b) return left - right;
    if (a === null) return 1;
    if (b === null) return -1;
    return (a < b ? -1 : 1) * sign;
  });
  return rows;
}
