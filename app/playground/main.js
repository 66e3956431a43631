// Puts the page together: the views, and who tells whom about a new query.

import { ask, lastOnly } from "./api.js";
import { startCard } from "./card.js";
import { startCompany } from "./company.js";
import { byId } from "./dom.js";
import { startInside } from "./inside.js";
import { HAS_CASES, MAX_LENGTH, SENTENCES } from "./letters.js";
import { startTalk } from "./talk.js";
import { startThink } from "./think.js";

for (const [id, text] of Object.entries(SENTENCES)) byId(id).textContent = text;
byId("cases").hidden = !HAS_CASES;
document.documentElement.style.setProperty("--positions", MAX_LENGTH);

const card = startCard();
const inside = startInside();
const company = startCompany({ onExample: (query) => talk.put(query) });
const think = startThink({ onDice: () => talk.request() });
const explain = lastOnly((signal, query) =>
  ask("explain", { method: "POST", body: { query }, signal }),
);
let again = 0; // the timer of another try
let explained = { query: null, version: null }; // what is shown now

async function explainQuery(query) {
  clearTimeout(again);
  try {
    const found = await explain(query);
    if (!found) return;
    explained = { query, version: found.model_version };
    think.show(found);
    inside.show(found);
  } catch (problem) {
    explained = { query: null, version: null };
    think.show(null);
    inside.fail(problem);
    if (problem.isPassing) {
      again = setTimeout(() => explainQuery(query), (problem.retryAfter ?? 1) * 1000);
    }
  }
}

const talk = startTalk({
  dice: think.dice,
  onQuery(query) {
    if (query === null) {
      clearTimeout(again);
      explain.cancel();
      explained = { query: null, version: null };
      think.show(null);
      inside.show(null);
      company.show(null);
    } else if (query !== explained.query) {
      explainQuery(query);
    }
  },
  onAnswer({ query, model_version: version }) {
    card.note(version);
    company.show(query, version);
    if (explained.query === query && explained.version !== version) explainQuery(query);
  },
});

let train = null;

async function showView() {
  const isTrain = location.hash === "#train";
  byId("play-view").hidden = isTrain;
  byId("train-view").hidden = !isTrain;
  for (const link of document.querySelectorAll('nav a[href^="#"]')) {
    if (link.hash === (isTrain ? "#train" : "#play")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isTrain && !train) {
    const { startTrain } = await import("./train.js");
    train ??= startTrain({ onModelChange: () => card.refresh() });
  }
  if (!isTrain) talk.request(); // another version may have been activated meanwhile
}

addEventListener("hashchange", showView);
if (location.hash === "#train") showView();
