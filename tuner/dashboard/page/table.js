// The ranked table, a page at a time.

const PAGE_ROWS = 25;

const TABLE = [
  { name: "rank", label: "#", number: true, cell: rankCell, title: "Rank on the board" },
  { name: "id", label: "candidate", cell: idCell },
  { name: "accuracy", label: "accuracy %", number: true, most: true, cell: accuracyCell },
  { name: "status", label: "status", minor: true, cell: (row) => COLUMNS.status[row] },
  { name: "input", label: "input", minor: true, cell: (row) => COLUMNS.input[row] },
  { name: "ram_bytes", label: "RAM", number: true, cell: (row) => shortBytes(COLUMNS.ram_bytes[row]) },
  {
    name: "flash_bytes", label: "flash", number: true,
    cell: (row) => shortBytes(COLUMNS.flash_bytes[row]),
  },
  {
    name: "latency_ms", label: "ms", number: true, title: "Latency in milliseconds",
    cell: (row) => milliseconds(COLUMNS.latency_ms[row]),
  },
  {
    name: "macs", label: "MACs", number: true, minor: true, cell: (row) => count(COLUMNS.macs[row]),
    title: "Multiply-accumulates of one inference",
  },
  {
    name: "train_minutes", label: "retrain min", number: true, minor: true,
    title: "Predicted minutes of full training on the machine of the run",
    cell: (row) => minutes(COLUMNS.train_minutes[row]),
  },
  { name: "epochs", label: "epochs", number: true, minor: true, cell: (row) => COLUMNS.epochs[row] },
  {
    name: "space", label: "space", minor: true, cell: (row) => COLUMNS.space[row],
    shown: new Set(COLUMNS.space).size > 1,
  },
  { name: "origin", label: "origin", minor: true, cell: (row) => COLUMNS.origin[row] },
].filter((column) => column.shown !== false);

function rankCell(row) {
  const rank = `${COLUMNS.rank[row]}${COLUMNS.tied[row] ? "=" : ""}`;
  return COLUMNS.fits[row] ? rank : `over ${rank}`;
}

function idCell(row) {
  const status = STATUS[COLUMNS.status[row]];
  return make("span", {},
    make("span", { class: "mark", title: status.words, "aria-hidden": "true" }, status.mark),
    make("button", { type: "button", class: "link" }, COLUMNS.id[row]));
}

function accuracyCell(row) {
  const error = standardErrors()[row];
  const cell = make("span", {}, percent(accuracies()[row]));
  if (error !== null) cell.append(make("span", { class: "error minor" }, ` ±${percent(error)}`));
  if (meanOf(row) > 1) cell.append(make("span", { class: "error" }, ` (${meanOf(row)})`));
  return cell;
}

function drawHead() {
  const row = make("tr");
  for (const column of TABLE) {
    const sorted = chosen.sort === column.name;
    const arrow = sorted ? (chosen.descending ? " ▼" : " ▲") : "";
    const button = make("button", {
      type: "button", title: column.title, onclick: () => sortBy(column),
    }, column.label + arrow);
    row.append(make("th", {
      scope: "col",
      class: `${column.number ? "number" : ""} ${column.minor ? "minor" : ""}`.trim() || null,
      "aria-sort": sorted ? (chosen.descending ? "descending" : "ascending") : null,
    }, button));
  }
  byId("board").tHead.replaceChildren(row);
}

function drawTable() {
  const rows = chosen.rows;
  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  chosen.page = Math.min(chosen.page, pages - 1);
  const first = chosen.page * PAGE_ROWS;
  const shown = rows.slice(first, first + PAGE_ROWS);
  drawHead();
  byId("board").tBodies[0].replaceChildren(...shown.map((row) => {
    const line = make("tr", {
      class: COLUMNS.group[row] === "ok" ? null : "dim", onclick: () => openCandidate(row),
    });
    for (const column of TABLE) {
      line.append(make("td", {
        class: `${column.number ? "number" : ""} ${column.minor ? "minor" : ""}`.trim() || null,
      }, column.cell(row)));
    }
    return line;
  }));
  byId("count").textContent = shown.length
    ? `${first + 1} to ${first + shown.length} of ${rows.length}`
      + (rows.length < COUNT ? ` (${COUNT} in all)` : "")
    : COUNT ? "No candidate passes the filters." : "No candidate has come to its end yet.";
  byId("back").disabled = chosen.page === 0;
  byId("forward").disabled = chosen.page >= pages - 1;
}

function sortBy(column) {
  if (chosen.sort === column.name) chosen.descending = !chosen.descending;
  else chosen.descending = Boolean(column.most);
  chosen.sort = column.name;
  update();
}

function turnPage(step) {
  chosen.page += step;
  drawTable();
}
