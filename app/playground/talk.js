// Talk: the query as it is typed, letter over answer, the history and the curl command.

import { ask, lastOnly } from "./api.js";
import { byId, h } from "./dom.js";
import { faultOf, keepsRule, MAX_LENGTH, RULE, tileClass } from "./letters.js";

const DEBOUNCE_MS = 80;
const TYPING_MS = 2000; // a longer query within this time replaces the one it has grown from
const MAX_HISTORY = 50;

/**
 * `dice()` says how to answer: { temperature, seed }. `onQuery(query)` hears each good query (null:
 * there is none), `onAnswer(answer)` each answer.
 */
export function startTalk({ dice, onQuery, onAnswer }) {
  const input = byId("query");
  const message = byId("message");
  const slots = makeSlots();
  const history = startHistory(put);
  const transform = lastOnly((signal, body) =>
    ask("transform", { method: "POST", body, signal }),
  );
  let timer = 0;

  function changed() {
    clearTimeout(timer);
    transform.cancel();
    const text = input.value;
    const fault = faultOf(text);
    slots.showQuery(text, fault);
    input.setAttribute("aria-invalid", String(Boolean(fault)));
    if (fault || !text) {
      slots.showAnswer("", "");
      say(fault ? fault.reason : "Type a letter, and she answers.", Boolean(fault));
      onQuery(null);
      return;
    }
    timer = setTimeout(request, DEBOUNCE_MS);
  }

  async function request() {
    clearTimeout(timer);
    const query = input.value;
    if (!query || faultOf(query)) return;
    const { temperature, seed } = dice();
    const body = temperature ? { query, temperature, seed } : { query };
    showCurl(body);
    onQuery(query);
    let answer;
    try {
      answer = await transform(body);
    } catch (problem) {
      slots.showAnswer("", "");
      const wait = problem.isPassing ? (problem.retryAfter ?? 1) : null;
      say(problem.words + (wait ? " Trying again …" : ""), true);
      if (wait) timer = setTimeout(request, wait * 1000);
      return;
    }
    if (!answer) return; // a later query has taken over
    slots.showAnswer(query, answer.response);
    const broken = [...query].findIndex((letter, at) => !keepsRule(letter, answer.response[at]));
    say(
      broken < 0
        ? `${query} → ${answer.response}`
        : `${query} → ${answer.response}: letter ${broken + 1} breaks the rule.`,
      broken >= 0,
    );
    history.add(body, answer);
    onAnswer(answer);
  }

  function say(text, isFault) {
    message.textContent = text;
    message.classList.toggle("fault", isFault);
  }

  /** Have a query in the field, as if it had been typed. */
  function put(query) {
    input.value = query;
    changed();
    input.focus();
  }

  input.addEventListener("input", changed);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") request();
  });
  byId("copy").addEventListener("click", copyCurl);
  input.value ||= RULE.example;
  showCurl({ query: RULE.example });
  changed();
  return { request, put };
}

/** A place for each letter, always there, so that nothing moves: a letter, and her answer under it. */
function makeSlots() {
  const slots = Array.from({ length: MAX_LENGTH }, () => {
    const letter = h("span", { class: "tile empty" });
    const answer = h("span", { class: "tile empty answer" });
    const arrow = h("span", { class: "arrow", "aria-hidden": "true", text: "↓" });
    const item = h("li", {}, letter, arrow, answer);
    byId("slots").append(item);
    return { item, letter, answer };
  });

  return {
    showQuery(text, fault) {
      const characters = [...text];
      slots.forEach(({ letter, item }, at) => {
        const character = characters[at] ?? "";
        const isBad = fault?.bad.includes(at);
        letter.textContent = character.trim() || (character && "␣");
        letter.className = character ? (isBad ? "tile bad" : tileClass(character)) : "tile empty";
        item.title = isBad ? fault.reason : "";
      });
      const extra = characters.length - MAX_LENGTH;
      byId("slots").dataset.extra = extra > 0 ? `+${Math.min(extra, 99)}` : "";
    },
    showAnswer(query, response) {
      slots.forEach(({ answer }, at) => {
        const letter = response[at] ?? "";
        const isNew = letter && answer.textContent !== letter;
        answer.textContent = letter;
        answer.className = letter ? `${tileClass(letter)} answer` : "tile empty answer";
        if (letter && !keepsRule(query[at], letter)) answer.classList.add("broken");
        if (isNew) {
          answer.classList.remove("pop");
          requestAnimationFrame(() => answer.classList.add("pop"));
        }
      });
    },
  };
}

/** What was asked and answered, the newest last, as in a chat; each can be asked again. */
function startHistory(again) {
  const list = byId("history");
  let last = null;

  byId("clear").addEventListener("click", () => {
    list.replaceChildren();
    last = null;
  });

  return {
    add({ query, temperature = 0, seed }, { response, model_version: version }) {
      const key = JSON.stringify([query, temperature, seed, response, version]);
      if (last?.key === key) return;
      const isTyping =
        last && !temperature && !last.temperature && Date.now() - last.at < TYPING_MS &&
        query !== last.query && (query.startsWith(last.query) || last.query.startsWith(query));
      if (isTyping) list.lastElementChild.remove();
      const how = temperature ? `temperature ${temperature}, seed ${seed}` : "";
      list.append(
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", class: "quiet entry", title: `Version ${version}. Ask again`, click: () => again(query) },
            h("b", { text: query }),
            " → ",
            h("b", { text: response }),
            how && h("small", { text: how }),
          ),
        ),
      );
      while (list.children.length > MAX_HISTORY) list.firstElementChild.remove();
      list.scrollTop = list.scrollHeight;
      last = { key, query, temperature, at: Date.now() };
    },
  };
}

function showCurl(body) {
  const url = new URL("transform", document.baseURI).href;
  byId("curl").textContent =
    `curl ${url} -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
}

async function copyCurl(event) {
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(byId("curl").textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("curl")); // no permission: one keystroke is left
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
