// Inside: the attention weights of any layer and head, as a heat map and as a table.

import { byId, choices, h, onSchemeChange } from "./dom.js";
import { MAX_LENGTH, RULE } from "./letters.js";

const KINDS = [
  ["encoder", "Encoder"],
  ["decoder", "Decoder"],
  ["cross", "Cross"],
];
const LAYERS = 6;
const HEADS = RULE.num_heads;
const EVEN = 1 / MAX_LENGTH;

// Lightness falls all the way, so that the scale reads without colour vision.
const STOPS = [
  [255, 245, 220],
  [243, 183, 110],
  [190, 88, 120],
  [104, 48, 138],
  [38, 20, 84],
];

/** Shows what `/explain` answers. */
export function startInside() {
  const state = { kind: "cross", layer: 0, head: 0, row: 0, column: 0, explanation: null };
  const cells = makeHeatmap(state, readOut);
  const stretch = byId("stretch");
  const overview = byId("overview");
  overview.height = (overview.width / LAYERS) * HEADS;
  byId("overview-size").textContent = `all ${LAYERS} layers × ${HEADS} heads`;

  const pickKind = (kind) => update({ kind });
  const pick = {
    layer: choices(byId("layer"), "layer", numbers(LAYERS), 0, (layer) => update({ layer })),
    head: choices(byId("head"), "head", numbers(HEADS), 0, (head) => update({ head })),
  };
  choices(byId("kind"), "kind", KINDS, "cross", pickKind);
  stretch.addEventListener("change", draw);
  onSchemeChange(draw);
  byId("overview").addEventListener("click", (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const layer = Math.floor(((event.clientX - box.left) / box.width) * LAYERS);
    const head = Math.floor(((event.clientY - box.top) / box.height) * HEADS);
    pick.layer(layer);
    pick.head(head);
    update({ layer, head });
  });

  function update(change) {
    Object.assign(state, change);
    draw();
  }

  function draw() {
    const { explanation } = state;
    const all = explanation?.attention[state.kind];
    const weights = all?.[state.layer][state.head];
    const [low, high] = range(weights, stretch.checked);
    cells.show(explanation?.positions, weights, low, high);
    drawScale(low, high);
    drawOverview(all, state, stretch.checked);
    byId("evenness").textContent = explanation ? evenness(all) : "";
    byId("weights").replaceChildren(explanation ? table(state, weights) : "");
    readOut();
  }

  function readOut() {
    const { explanation, kind, layer, head, row, column } = state;
    if (!explanation) {
      byId("readout").textContent = "";
      return;
    }
    const name = (at) => explanation.positions[at] || "the empty position";
    const weight = explanation.attention[kind][layer][head][row][column];
    byId("readout").textContent =
      `${name(row)} (${row + 1}) looks at ${name(column)} (${column + 1}): ${weight.toFixed(6)}`;
  }

  draw();
  return {
    /** The answer of `/explain`, or `null`. */
    show: (explanation) => update({ explanation }),
    /** Why there is none. */
    fail(problem) {
      update({ explanation: null });
      byId("evenness").textContent = problem.words;
    },
  };
}

const numbers = (count) => Array.from({ length: count }, (_, at) => [at, String(at + 1)]);

/** A grid of cells, a row and a column for each position; hover and arrow keys pick the one that is read out. */
function makeHeatmap(state, readOut) {
  const heading = () => h("th", { scope: "col" });
  const corner = h("td", { class: "corner", text: "looks at →" });
  const columns = Array.from({ length: MAX_LENGTH }, heading);
  const head = h("thead", {}, h("tr", {}, corner, ...columns));
  const body = h("tbody");
  const rows = Array.from({ length: MAX_LENGTH }, (_, row) => {
    const letter = h("th", { scope: "row" });
    const cells = Array.from({ length: MAX_LENGTH }, (_, column) =>
      h("td", {
        role: "gridcell",
        tabindex: row || column ? "-1" : "0",
        mouseenter: () => choose(row, column),
        focus: () => choose(row, column),
      }),
    );
    body.append(h("tr", {}, letter, ...cells));
    return { letter, cells };
  });
  const grid = h("table", { role: "grid", "aria-label": "Attention heat map" }, head, body);
  byId("heatmap").append(grid);

  function choose(row, column) {
    rows[state.row].cells[state.column].tabIndex = -1;
    rows[state.row].cells[state.column].classList.remove("chosen");
    Object.assign(state, { row, column });
    rows[row].cells[column].tabIndex = 0;
    rows[row].cells[column].classList.add("chosen");
    readOut();
  }

  grid.addEventListener("keydown", (event) => {
    const [down, right] =
      { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ??
      [];
    if (down === undefined) return;
    event.preventDefault();
    const clip = (at) => Math.min(MAX_LENGTH - 1, Math.max(0, at));
    rows[clip(state.row + down)].cells[clip(state.column + right)].focus();
  });

  return {
    show(positions, weights, low, high) {
      const digits = Math.min(4, digitsFor(high - low)); // more would not fit; the read-out has all
      rows.forEach(({ letter, cells }, row) => {
        const name = positions?.[row] || "·";
        letter.textContent = columns[row].textContent = name;
        cells.forEach((cell, column) => {
          const weight = weights?.[row][column];
          cell.textContent = weight === undefined ? "" : weight.toFixed(digits);
          const rgb = weight === undefined ? null : shade((weight - low) / (high - low || 1));
          cell.style.backgroundColor = rgb ? `rgb(${rgb})` : "";
          cell.style.color = rgb ? inkOn(rgb) : "";
        });
      });
    },
  };
}

/** The colours' ends: the map's own smallest and largest weight, or 0 and 1. */
function range(weights, isStretched) {
  if (!weights || !isStretched) return [0, 1];
  const flat = weights.flat();
  return [Math.min(...flat), Math.max(...flat)];
}

function shade(share) {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const place = Math.min(1, Math.max(0, isDark ? 1 - share : share)) * (STOPS.length - 1);
  const at = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[at].map((from, i) => Math.round(from + (STOPS[at + 1][i] - from) * (place - at)));
}

/** Black or white, whichever is easier to read on a colour (WCAG's relative luminance). */
function inkOn(rgb) {
  const [r, g, b] = rgb.map((byte) => {
    const share = byte / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

/** So many decimals that the ends of a range differ. */
const digitsFor = (width) => (width > 0.02 ? 3 : width > 0.002 ? 4 : width > 0.0002 ? 5 : 6);

function drawScale(low, high) {
  const canvas = byId("scale");
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = `rgb(${shade(x / (canvas.width - 1))})`;
    context.fillRect(x, 0, 1, 1);
  }
  byId("scale-low").textContent = low === 0 ? "0" : low.toFixed(digitsFor(high - low));
  byId("scale-high").textContent = high === 1 ? "1" : high.toFixed(digitsFor(high - low));
}

/** All layers (across) and heads (down) of one kind, small; a click picks one. */
function drawOverview(all, state, isStretched) {
  const canvas = byId("overview");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!all) return;
  const [low, high] = range(all.flat(2), isStretched);
  const size = canvas.width / LAYERS;
  const cell = (size - 12) / MAX_LENGTH;
  all.forEach((heads, layer) =>
    heads.forEach((rows, head) => {
      const [left, top] = [layer * size + 6, head * size + 6];
      rows.forEach((row, y) =>
        row.forEach((weight, x) => {
          context.fillStyle = `rgb(${shade((weight - low) / (high - low || 1))})`;
          context.fillRect(left + x * cell, top + y * cell, cell, cell);
        }),
      );
      if (layer === state.layer && head === state.head) {
        context.strokeStyle = getComputedStyle(canvas).color;
        context.lineWidth = 4;
        context.strokeRect(left - 4, top - 4, size - 4, size - 4);
      }
    }),
  );
}

function evenness(all) {
  const off = Math.max(...all.flat(3).map((weight) => Math.abs(weight - EVEN)));
  if (off < 0.01) {
    return (
      `Practically even: all ${LAYERS * HEADS} maps are within ${off.toFixed(6)} of ` +
      `${+EVEN.toFixed(3)}, as much for each position. An answer depends on its own letter alone, and ` +
      "weight decay has taught her not to look elsewhere."
    );
  }
  return (
    `Up to ${off.toFixed(2)} away from ${+EVEN.toFixed(3)}, as much for each position: in this version ` +
    "other letters have a say, though an answer needs its own letter alone."
  );
}

/** The same numbers for whoever would rather read: every digit, no colours. */
function table({ explanation, kind, layer, head }, weights) {
  const names = explanation.positions.map((letter) => letter || "·");
  const title = KINDS.find(([value]) => value === kind)[1];
  return h(
    "table",
    { class: "plain" },
    h("caption", { text: `${title}, layer ${layer + 1}, head ${head + 1}: row looks at column` }),
    h("thead", {}, h("tr", {}, h("td"), ...names.map((text) => h("th", { scope: "col", text })))),
    h(
      "tbody",
      {},
      ...weights.map((row, at) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", text: names[at] }),
          ...row.map((weight) => h("td", { text: weight.toFixed(6) })),
        ),
      ),
    ),
  );
}
