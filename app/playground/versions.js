// The versions: which one answers, activate, delete, and two of them side by side.

import { metrics } from "./card.js";
import { duration, h, moment, percent } from "./dom.js";

export function startVersions({ box, call, onModelChange }) {
  const rows = h("tbody");
  const status = h("p", { class: "status", role: "status" });
  const comparison = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" });
  const heads = ["Compare", "Version", "Trained", "Rule accuracy", "Excess NLL", "Exact match", "Made", ""];
  let versions = [];
  let compared = [];

  box.append(
    h(
      "section",
      { class: "card", "aria-labelledby": "versions-title" },
      h("h2", { id: "versions-title", text: "Versions" }),
      h("p", { class: "note", text: "Pick one to read its card, two to compare them." }),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "List of versions" },
        h(
          "table",
          { class: "plain stacked" },
          h("thead", {}, h("tr", {}, ...heads.map((text) => (text ? h("th", { scope: "col", text }) : h("td"))))),
          rows,
        ),
      ),
      status,
      comparison,
    ),
  );
  comparison.hidden = true;

  async function refresh() {
    try {
      ({ models: versions } = await call("models"));
      draw();
      say("");
    } catch (problem) {
      say(problem.words, true);
    }
  }

  async function change(name, method, path, done) {
    try {
      await call(path, { method });
      await refresh();
      say(done);
      onModelChange();
    } catch (problem) {
      await refresh();
      say(problem.words, true);
    }
  }

  function say(text, isFault = false) {
    status.textContent = text;
    status.classList.toggle("fault", isFault);
  }

  function compare(name, isPicked) {
    compared = compared.filter((other) => other !== name);
    if (isPicked) compared = [...compared, name].slice(-2); // a third takes the first one's place
    draw();
    rows.querySelector(`input[data-version="${name}"]`)?.focus();
  }

  function draw() {
    compared = compared.filter((name) => versions.some(({ version }) => version === name));
    rows.replaceChildren(...versions.map(row));
    const picked = compared.map((name) => versions.find(({ version }) => version === name));
    comparison.hidden = !picked.length;
    comparison.replaceChildren(picked.length ? sideBySide(picked) : "");
  }

  function row(found) {
    const { version, active, shipped, card, created, proof, proving } = found;
    const check = h("input", {
      type: "checkbox",
      "data-version": version,
      "aria-label": `Compare version ${version}`,
      change: ({ target }) => compare(version, target.checked),
    });
    check.checked = compared.includes(version);
    const name = shipped ? "shipped" : version;
    const activate = h("button", {
      type: "button", class: "quiet", text: "Activate", "aria-label": `Activate version ${version}`,
      click: () => change(version, "POST", `models/${name}/activate`, `Version ${version} answers now.`),
    });
    const remove = twice("Delete", "Really delete?", `version ${version}`, () =>
      change(version, "DELETE", `models/${name}`, `Version ${version} is deleted.`),
    );
    const prove = h("button", {
      type: "button", class: "quiet", text: "Prove", "aria-label": `Prove version ${version}`,
      click: () => change(version, "POST", `models/${name}/prove`, `Version ${version} is asked every query there is.`),
    });
    const figures = [
      card ? `${card.recipe}, seed ${card.config.seed}` : "no card",
      card ? percent(card.metrics.rule_accuracy, 2) : "–",
      card ? card.metrics.excess_nll.toFixed(4) : "–",
      card ? percent(card.metrics.exact_match) : "–",
      created ? moment(created) : "–",
    ];
    return h(
      "tr",
      {},
      h("td", {}, check),
      h("th", { scope: "row" }, h("code", { text: version }), " ", active ? h("span", { class: "badge good", text: "active" }) : "", shipped ? h("span", { class: "badge", text: "shipped" }) : "", ...verdict(found)),
      ...figures.map((text, at) => h("td", { "data-head": heads[at + 2], text })),
      h("td", {}, active ? "" : activate, " ", proof || (proving && !proving.fault) ? "" : prove, " ", active || shipped ? "" : remove),
    );
  }

  return { refresh };
}

/** What is known of whether it keeps the rule: a badge, or none. */
function verdict({ proven, proof, proving }) {
  const [example] = proof?.counter_examples ?? [];
  if (proving?.fault) return [" ", h("span", { class: "badge poor", text: `no proof: ${proving.fault}` })];
  if (proving) return [" ", h("span", { class: "badge", text: `being proven, ${percent(proving.progress)}` })];
  if (proven) return [" ", h("span", { class: "badge good", text: "proven" })];
  if (example) return [" ", h("span", { class: "badge poor", text: `breaks the rule: ${example.query} → ${example.response}` })];
  return proof ? [" ", h("span", { class: "badge poor", text: "not proven" })] : [];
}

/** A button that wants to be pressed twice. */
function twice(text, question, what, act) {
  const button = h("button", { type: "button", class: "quiet danger", text, "aria-label": `${text} ${what}` });
  let isAsked = false;
  const ask = (value) => {
    isAsked = value;
    button.textContent = value ? question : text;
    button.setAttribute("aria-label", `${value ? question : text} ${what}`);
  };
  button.addEventListener("click", () => (isAsked ? act() : ask(true)));
  button.addEventListener("blur", () => ask(false));
  return button;
}

function sideBySide(picked) {
  const lines = [
    ...["Rule accuracy", "Excess NLL", "Exact match"].map((name) => [
      name,
      ({ card }) => metrics(card.metrics).find(([other]) => other === name)[1],
    ]),
    ["The book’s accuracy", ({ card }) => percent(card.metrics.book_accuracy)],
    ["Proven", ({ proven }) => (proven ? "on every query" : "no")],
    ["Recipe", ({ card }) => card.recipe],
    ...["num_samples", "num_epochs", "batch_size", "learning_rate", "seed", "resample", "weight_decay", "warm_up_steps", "schedule"].map(
      (name) => [name.replaceAll("_", " "), ({ card }) => String(card.config[name])],
    ),
    ["Training took", ({ card }) => duration(card.training_seconds)],
    ["Measured against", ({ card }) => card.parent ?? "–"],
    ["Job", ({ job }) => String(job ?? "–")],
  ];
  return h(
    "table",
    { class: "plain" },
    h("caption", { text: picked.length === 2 ? "Side by side; what differs is bold" : "The card" }),
    h("thead", {}, h("tr", {}, h("td"), ...picked.map(({ version }) => h("th", { scope: "col", text: version })))),
    h(
      "tbody",
      {},
      ...lines.map(([name, valueOf]) => {
        const values = picked.map((version) => (version.card ? valueOf(version) : "–"));
        const differ = new Set(values).size > 1;
        return h(
          "tr",
          {},
          h("th", { scope: "row", text: name }),
          ...values.map((text) => h("td", {}, h(differ ? "b" : "span", { text }))),
        );
      }),
    ),
  );
}
