// Company: which letters of the query she would answer otherwise if they came alone.

import { ask, lastOnly } from "./api.js";
import { byId } from "./dom.js";
import { MAX_LENGTH, RULE } from "./letters.js";

const NUM_DRAWN = 100; // with their letters they are one request

/** `onExample(query)` is called with a query that has such a letter, when one is asked for. */
export function startCompany({ onExample }) {
  const text = byId("company");
  const answer = lastOnly((signal, queries) =>
    ask("transform/batch", { method: "POST", body: { queries }, signal }),
  );
  let shown = ""; // query and version

  /** For each query its letters with another answer alone: [letter, here, alone]; at temperature 0. */
  async function compare(queries) {
    const found = await answer([...queries, ...new Set(queries.join(""))]);
    if (!found) return null; // a later query has taken over
    const responses = new Map(found.answers.map(({ query, response }) => [query, response]));
    return queries.map((query) =>
      [...new Set(query)]
        .map((letter) => [letter, responses.get(query)[query.indexOf(letter)], responses.get(letter)])
        .filter(([, here, alone]) => here !== alone),
    );
  }

  async function example() {
    const queries = Array.from({ length: NUM_DRAWN }, drawn);
    try {
      const changes = await compare(queries);
      const at = changes?.findIndex((letters) => letters.length) ?? -1;
      if (at >= 0) onExample(queries[at]);
      else if (changes) text.textContent = `Of ${NUM_DRAWN} queries drawn at random, none has such a letter.`;
    } catch (problem) {
      text.textContent = problem.words;
    }
  }

  byId("company-example").addEventListener("click", example);
  return {
    /** The query that was answered by a version, or `null`. */
    async show(query, version) {
      const key = `${query} ${version}`;
      if (key === shown) return;
      shown = key;
      if (query === null) {
        answer.cancel();
        text.textContent = "";
        return;
      }
      try {
        const changes = await compare([query]);
        if (changes) text.textContent = inWords(query, changes[0]);
      } catch (problem) {
        shown = "";
        text.textContent = problem.words;
      }
    },
  };
}

function inWords(query, changes) {
  if (query.length === 1) return "This letter has none.";
  if (!changes.length) return "Alone, each of these letters would be answered alike.";
  const said = changes.map(([letter, here, alone]) => `${letter} with ${alone} (here ${here})`);
  return `Alone, she would answer ${said.join(", ")}.`;
}

function drawn() {
  const letters = [...RULE.alphabet];
  const one = () => letters[Math.floor(Math.random() * letters.length)];
  return Array.from({ length: MAX_LENGTH }, one).join("");
}
