// Model card: which version answers, what was measured of it and what that means.

import { ask, lastOnly } from "./api.js";
import { byId, duration, h, moment, percent, thousands } from "./dom.js";
import { CEILING, RULE } from "./letters.js";

export function startCard() {
  const load = lastOnly((signal) => ask("card", { signal }));
  let shown = null;

  async function refresh() {
    try {
      const found = await load();
      if (!found) return;
      shown = found.model_version;
      byId("card").replaceChildren(...facts(found));
    } catch (problem) {
      shown = null;
      byId("card").replaceChildren(h("p", { class: "message fault", text: problem.words }));
    }
  }

  refresh();
  return {
    refresh,
    /** The version that has just answered: if it is a new one, so is the card. */
    note(version) {
      if (version !== shown) refresh();
    },
  };
}

function facts({ model_version: version, device, proven, card, proof: found, counter_example: example, ...how }) {
  const where = device ? ` on ${device}` : ", whose model is not there yet";
  const head = [h("p", { class: "version" }, "Version ", h("code", { text: version }), where), source(how)];
  if (!card) {
    return [...head, h("p", { class: "note", text: "Its weights came without a model card: nothing is known of how good it is." })];
  }
  return [
    ...head,
    proven ? proof(found) : h("p", { class: "note", text: unproven(example) }),
    h("dl", { class: "facts" }, ...metrics(card.metrics).flatMap(fact), ...fact(origin(card))),
  ];
}

/** What answers at temperature 0, and how anyone can check that. */
function source({ answers, answers_reason: reason }) {
  if (answers === "model") return h("p", { class: "note", text: `The model is asked each time: ${reason}.` });
  return h(
    "p",
    { class: "note" },
    "At temperature 0 you get the model's recorded answer, looked up. Check the record: ",
    h("code", { text: "menny verify --table --ask 100000" }),
  );
}

function unproven(example) {
  if (example) return `Not every query is answered by the rule: ${example.query} gets ${example.response}.`;
  return "Measured on a sample; not proven on every query (`menny verify` does that).";
}

function proof({ queries, smallest_margin: margin }) {
  return h(
    "p",
    { class: "proof" },
    h("span", { class: "seal", "aria-hidden": "true", text: "✓" }),
    h("span", { text: `Proven on all ${thousands(queries)} queries. Not one breaks the rule; the closest call is won by ${margin.toFixed(2)} logits.` }),
  );
}

/** Name, value and meaning of each metric. */
export function metrics(of) {
  return [
    ["Rule accuracy", percent(of.rule_accuracy, of.rule_accuracy === 1 ? 0 : 3), `letters answered with ${RULE.summary}`],
    ["Excess NLL", `${of.excess_nll.toFixed(4)} nats`, "how far from knowing the odds exactly; 0 is perfect"],
    ["Exact match", percent(of.exact_match), `guesses of a random label that were right; ${CEILING} is the ceiling`],
  ];
}

function origin(card) {
  const { config, recipe, created, training_seconds: seconds } = card;
  const steps = `${thousands(config.num_samples)} queries × ${thousands(config.num_epochs)} epochs`;
  return ["Trained", `${recipe} recipe, seed ${config.seed}`, `${steps} in ${duration(seconds)}, ${moment(created)}`];
}

function fact([name, value, meaning]) {
  return [h("dt", { text: name }), h("dd", {}, h("b", { text: value }), h("small", { text: meaning }))];
}
