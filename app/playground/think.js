// Think: under each letter how likely she finds each answer; temperature and dice.

import { byId, h, percent } from "./dom.js";
import { ANSWERS, isUpper, MAX_LENGTH, RULE } from "./letters.js";

/** `onDice()` is called when the temperature or the seed has changed. */
export function startThink({ onDice }) {
  const slider = byId("temperature");
  const columns = Array.from({ length: MAX_LENGTH }, makeColumn);
  byId("bars").append(...columns.map((column) => column.element));
  let seed = newSeed();
  let explanation = null;

  function draw() {
    const temperature = Number(slider.value);
    columns.forEach((column, at) => column.show(explanation, at, temperature));
    byId("temperature-value").textContent = temperature.toFixed(2);
    byId("seed").textContent = temperature ? `seed ${seed}` : "no seed at 0";
  }

  let timer = 0;
  slider.addEventListener("input", () => {
    draw();
    clearTimeout(timer);
    timer = setTimeout(onDice, 80);
  });
  byId("roll").addEventListener("click", () => {
    if (!Number(slider.value)) slider.value = "1"; // at 0 there are no dice
    seed = newSeed();
    draw();
    onDice();
  });
  draw();

  return {
    dice: () => ({ temperature: Number(slider.value), seed }),
    /** The answer of `/explain`, or `null`. */
    show(found) {
      explanation = found;
      draw();
    },
  };
}

const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;

// Every answer that there is has a bar, if they are few; if not, those that a letter allows have.
const MAX_BARS = 12;
const NUM_BARS =
  ANSWERS.length <= MAX_BARS
    ? ANSWERS.length
    : Math.max(...Object.values(RULE.answers).map((allowed) => [...allowed].length));
const barsOf = (letter) => (ANSWERS.length <= MAX_BARS ? ANSWERS : [...RULE.answers[letter]]);

/** Bars for the answers to a letter, and one for all other letters. */
function makeColumn() {
  const rows = Array.from({ length: NUM_BARS + 1 }, () => {
    const fill = h("span", { class: "fill" });
    const mark = h("span", { class: "mark" });
    const name = h("span");
    const number = h("span", { class: "number" });
    const row = h("div", { class: "bar" }, fill, mark, name, number);
    return { fill, mark, name, number, row };
  });
  const element = h("div", { class: "column", role: "img", "aria-label": "no letter" });
  element.append(...rows.map(({ row }) => row));

  return {
    element,
    show(explanation, at, temperature) {
      const letter = explanation?.query[at];
      element.classList.toggle("idle", !letter);
      const answers = letter || ANSWERS.length <= MAX_BARS ? barsOf(letter) : [];
      rows.forEach(({ name, row }, index) => {
        const answer = index < NUM_BARS ? answers[index] : "rest";
        name.textContent = answer ?? "";
        row.className = `bar ${answer === "rest" ? "other" : isUpper(answer ?? "") ? "upper" : "lower"}`;
      });
      if (!letter) {
        element.setAttribute("aria-label", "no letter");
        for (const { fill, mark, number } of rows) {
          fill.style.width = "0";
          mark.style.left = "0";
          number.textContent = "";
        }
        return;
      }
      const now = byAnswer(answers, explanation, explanation.distribution[at]);
      const rolled = byAnswer(answers, explanation, tempered(explanation.distribution[at], temperature));
      for (const { name, fill, mark, number, row } of rows) {
        const share = now[name.textContent] ?? 0; // a letter may have fewer answers than others
        const warmed = rolled[name.textContent] ?? 0;
        row.classList.toggle("slight", share < 0.01);
        mark.classList.toggle("gone", warmed < 0.005);
        fill.style.width = `${share * 100}%`;
        mark.style.left = `min(${warmed * 100}%, 100% - 2px)`;
        number.textContent = name.textContent && short(share);
      }
      const words = [...answers, "rest"].map((name) => `${name} ${percent(now[name])}`).join(", ");
      element.setAttribute("aria-label", `Answers to ${letter}: ${words}`);
    },
  };
}

/** The probability of each answer, and of the rest. */
function byAnswer(answers, { alphabet }, distribution) {
  const found = { rest: 0 };
  [...alphabet].forEach((letter, index) => {
    if (answers.includes(letter)) found[letter] = distribution[index];
    else found.rest += distribution[index];
  });
  return found;
}

/** What a temperature makes of a distribution: p^(1/T), normalised; at 0 the likeliest has all. */
function tempered(distribution, temperature) {
  const top = Math.max(...distribution);
  const powers = distribution.map((share) =>
    temperature ? (share / top) ** (1 / temperature) : Number(share === top),
  );
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

const short = (share) => (share < 0.0005 ? "<0.1" : (share * 100).toFixed(1));
