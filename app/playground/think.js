// Think: under each letter how likely she finds each vowel; temperature and dice.

import { byId, h, percent } from "./dom.js";
import { isUpper, MAX_LENGTH, VOWELS } from "./letters.js";

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

/** Eleven bars: ten vowels, and all 42 letters that are none. */
function makeColumn() {
  const rows = [...VOWELS, "rest"].map((name) => {
    const fill = h("span", { class: "fill" });
    const mark = h("span", { class: "mark" });
    const number = h("span", { class: "number" });
    const kind = name === "rest" ? "other" : isUpper(name) ? "upper" : "lower";
    const row = h("div", { class: `bar ${kind}` }, fill, mark, h("span", { text: name }), number);
    return { name, fill, mark, number, row };
  });
  const element = h("div", { class: "column", role: "img", "aria-label": "no letter" });
  element.append(...rows.map(({ row }) => row));

  return {
    element,
    show(explanation, at, temperature) {
      const letter = explanation?.query[at];
      element.classList.toggle("idle", !letter);
      if (!letter) {
        element.setAttribute("aria-label", "no letter");
        for (const { fill, mark, number } of rows) {
          fill.style.width = "0";
          mark.style.left = "0";
          number.textContent = "";
        }
        return;
      }
      const now = byVowel(explanation, explanation.distribution[at]);
      const rolled = byVowel(explanation, tempered(explanation.distribution[at], temperature));
      for (const { name, fill, mark, number, row } of rows) {
        row.classList.toggle("slight", now[name] < 0.01);
        mark.classList.toggle("gone", rolled[name] < 0.005);
        fill.style.width = `${now[name] * 100}%`;
        mark.style.left = `min(${rolled[name] * 100}%, 100% - 2px)`;
        number.textContent = short(now[name]);
      }
      const words = rows.map(({ name }) => `${name} ${percent(now[name])}`).join(", ");
      element.setAttribute("aria-label", `Answers to ${letter}: ${words}`);
    },
  };
}

/** The probability of each vowel, and of the rest. */
function byVowel({ alphabet }, distribution) {
  const found = { rest: 0 };
  [...alphabet].forEach((letter, index) => {
    if (VOWELS.includes(letter)) found[letter] = distribution[index];
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
