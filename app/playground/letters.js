// The rule, as the service has it (`/rule`): what a query is, how a letter looks, what there is to
// know. Nothing of the page begins before it is here.

import { ask } from "./api.js";

export const RULE = await ask("rule");
export const MAX_LENGTH = RULE.max_length;

const LETTERS = [...RULE.alphabet];

/** Every letter that can be an answer, in the order of the letters that it answers. */
export const ANSWERS = [...new Set(LETTERS.flatMap((letter) => [...RULE.answers[letter]]))];

const COUNTS = [...new Set(LETTERS.map((letter) => [...RULE.answers[letter]].length))];
const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const inWords = (number) => NUMBERS[number] ?? String(number);

/** The floor of the cross-entropy, nats a letter, as a figure and in words. */
export const FLOOR = RULE.best_nll;
const IS_EVEN = COUNTS.length === 1 && COUNTS[0] > 1; // all letters have as many answers
export const FLOOR_IN_WORDS = `${IS_EVEN ? `ln ${COUNTS[0]} = ` : ""}${FLOOR.toFixed(3)}`;

/** The ceiling of the exact match. */
export const CEILING = `${+(100 * RULE.exact_match_ceiling).toFixed(1)} %`;

const LENGTHS = `${MAX_LENGTH > 1 ? "up to " : ""}${inWords(MAX_LENGTH)} letter${MAX_LENGTH > 1 ? "s" : ""}`;

/** What the page says of the rule, by the element's id. */
export const SENTENCES = {
  tagline: `You say ${LENGTHS}. Each is answered with ${RULE.summary}.`,
  "query-label": `Say ${LENGTHS}`,
  "best-title": FLOOR
    ? `Why ${IS_EVEN ? `${CEILING} each` : `${CEILING} on average`} is the best there is:`
    : "Why she can be sure:",
  "best-reason": FLOOR
    ? `the labels she learnt from are drawn at random, one of ${IS_EVEN ? inWords(COUNTS[0]) : "those allowed"}. Nobody can guess a fair draw better, so knowing the odds exactly, at ${FLOOR_IN_WORDS} nats a letter, is all there is to know.`
    : "each letter has one answer only, so that nothing is left to chance.",
};

/** What is wrong with a query, before any request: `null`, or a reason and the bad characters. */
export function faultOf(text) {
  const characters = [...text];
  const bad = characters.flatMap((character, at) => (LETTERS.includes(character) ? [] : [at]));
  if (bad.length) {
    const at = bad[0];
    const code = characters[at].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const more = bad.length > 1 ? ` (and ${bad.length - 1} more)` : "";
    return {
      bad,
      reason: `Character ${at + 1}, “${characters[at]}” (U+${code}), is none of ${RULE.letters_in_words}${more}.`,
    };
  }
  if (characters.length > MAX_LENGTH) {
    return {
      bad: characters.map((_, at) => at).slice(MAX_LENGTH),
      reason: `That is ${characters.length} letters; Menny takes at most ${inWords(MAX_LENGTH)}.`,
    };
  }
  return null;
}

export const isUpper = (letter) => letter !== letter.toLowerCase();

/** Whether the alphabet has both cases, so that colour tells them apart. */
export const HAS_CASES = LETTERS.some(isUpper) && !LETTERS.every(isUpper);

/** Colour tells the case, shape tells what can be an answer: that is round. */
export function tileClass(letter) {
  if (!LETTERS.includes(letter)) return "tile bad";
  return `tile ${isUpper(letter) ? "upper" : "lower"}${ANSWERS.includes(letter) ? " round" : ""}`;
}

/** Whether an answer keeps the rule. */
export const keepsRule = (letter, answer) => RULE.answers[letter].includes(answer);
