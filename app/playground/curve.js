// The live curve of a training job, drawn by uPlot (vendor/, MIT), and the same as a table.

import { colour, h, onSchemeChange, percent } from "./dom.js";
import { FLOOR } from "./letters.js";

const HEIGHT = 280;

let library = null;

/** uPlot and its style sheet, fetched when the first curve is drawn. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    document.head.append(h("link", { rel: "stylesheet", href: "playground/vendor/uPlot.min.css" }));
    document.head.append(
      h("script", {
        src: "playground/vendor/uPlot.iife.min.js",
        load: () => resolve(window.uPlot),
        error: () => reject(new Error("the chart library can’t be loaded")),
      }),
    );
  });
  return library;
}

/** A curve in `box`: `reset()`, then `add(epoch)` for each epoch that `/train/{id}/events` sends. */
export function makeCurve(box, tableBox) {
  let epochs = [];
  let plot = null;
  let isAsked = false;

  function columns() {
    return [
      epochs.map(({ epoch }) => epoch),
      epochs.map(({ loss }) => loss),
      epochs.map(({ validation }) => validation.excess_nll + FLOOR),
        epochs.map(({ validation }) => validation.rule_accuracy * 100),
    ];
  }

  // Once a frame is enough, however fast the epochs come.
  function draw() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(async () => {
      const uPlot = await loadLibrary();
      isAsked = false;
      plot ??= new uPlot(options(box, epochs[0]?.num_epochs), columns(), box);
      plot.setData(columns());
      box.setAttribute("aria-label", summary(epochs));
      if (tableBox.closest("details").open) fillTable();
    });
  }

  function fillTable() {
    tableBox.replaceChildren(table(epochs));
  }

  function rebuild() {
    plot?.destroy();
    plot = null;
    if (epochs.length) draw();
  }

  onSchemeChange(rebuild);
  new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: HEIGHT })).observe(box);
  tableBox.closest("details").addEventListener("toggle", fillTable);

  return {
    reset() {
      epochs = [];
      rebuild();
      box.setAttribute("aria-label", summary(epochs));
      fillTable();
    },
    add(epoch) {
      if (epochs.length && epoch.epoch <= epochs.at(-1).epoch) return;
      epochs.push(epoch);
      draw();
    },
    /** The epochs that have come so far. */
    get epochs() {
      return epochs;
    },
  };
}

function options(box, numEpochs) {
  const [muted, line] = [colour("muted"), colour("line")];
  const points = { fill: colour("surface") };
  const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width: box.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: [1, Math.max(2, numEpochs ?? 2)] },
      y: { range: (_, low, high) => [Math.min(1.55, low), Math.max(high, 1.8)] },
      share: { range: [0, 102] },
    },
    axes: [
      { ...axis, label: "epoch", labelSize: 20, size: 34, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] },
      { ...axis, label: "nats a letter", labelSize: 20, size: 46 },
      {
        ...axis,
        scale: "share",
        side: 1,
        size: 56,
        grid: { show: false },
        values: (_, values) => values.map((value) => `${value} %`),
      },
    ],
    series: [
      {},
      { stroke: colour("accent"), width: 2, points },
      { stroke: colour("lower"), width: 2, points },
      { scale: "share", stroke: colour("good"), width: 2, points },
    ],
    hooks: { drawAxes: [(plot) => drawFloor(plot, muted)] },
  };
}

/** The floor, from the first epoch to the last: where the curves are heading. */
function drawFloor({ ctx: context, bbox, valToPos }, stroke) {
  const y = valToPos(FLOOR, "y", true);
  context.save();
  context.strokeStyle = stroke;
  context.lineWidth = 2 * devicePixelRatio;
  context.setLineDash([6 * devicePixelRatio, 5 * devicePixelRatio]);
  context.beginPath();
  context.moveTo(bbox.left, y);
  context.lineTo(bbox.left + bbox.width, y);
  context.stroke();
  context.restore();
}

function summary(epochs) {
  if (!epochs.length) return "Curve of the training: no epoch yet";
  const { epoch, loss, validation } = epochs.at(-1);
  return (
    `Curve of the training after ${epoch} epochs: training loss ${loss.toFixed(4)}, ` +
    `validation loss ${(validation.excess_nll + FLOOR).toFixed(4)}, floor ${FLOOR.toFixed(4)} nats ` +
    `a letter, rule accuracy ${percent(validation.rule_accuracy)}`
  );
}

function table(epochs) {
  const heads = ["Epoch", "Training loss", "Validation loss", "Rule accuracy"];
  const rows = epochs.map(({ epoch, loss, validation }) => [
    String(epoch),
    loss.toFixed(4),
    (validation.excess_nll + FLOOR).toFixed(4),
    percent(validation.rule_accuracy, 2),
  ]);
  return h(
    "table",
    { class: "plain" },
    h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col", text })))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((text) => h("td", { text }))))),
  );
}
