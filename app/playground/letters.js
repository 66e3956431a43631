// The rule, as the page knows it: what a query is, and how a letter looks.

export const MAX_LENGTH = 5;
export const VOWELS = "AEIOUaeiou";

const LETTER = /^[A-Za-z]$/;

/** What is wrong with a query, before any request: `null`, or a reason and the bad characters. */
export function faultOf(text) {
  const characters = [...text];
  const bad = characters.flatMap((character, at) => (LETTER.test(character) ? [] : [at]));
  if (bad.length) {
    const at = bad[0];
    const code = characters[at].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const more = bad.length > 1 ? ` (and ${bad.length - 1} more)` : "";
    return {
      bad,
      reason: `Character ${at + 1}, “${characters[at]}” (U+${code}), is not a letter a–z or A–Z${more}.`,
    };
  }
  if (characters.length > MAX_LENGTH) {
    return {
      bad: characters.map((_, at) => at).slice(MAX_LENGTH),
      reason: `That is ${characters.length} letters; Menny takes at most five.`,
    };
  }
  return null;
}

export const isUpper = (letter) => letter >= "A" && letter <= "Z";
export const isVowel = (letter) => VOWELS.includes(letter);

/** Colour tells the case, shape tells the vowel: an answer is round, and of the other colour. */
export function tileClass(letter) {
  if (!LETTER.test(letter)) return "tile bad";
  return `tile ${isUpper(letter) ? "upper" : "lower"}${isVowel(letter) ? " vowel" : ""}`;
}

/** Whether an answer keeps the rule. */
export const keepsRule = (letter, answer) => isVowel(answer) && isUpper(answer) !== isUpper(letter);
