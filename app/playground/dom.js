// Small helpers for the document: build elements, say numbers and times in words.

/** An element with attributes (a function is an event listener, `text` its text) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;

export const thousands = (number) => number.toLocaleString("en-US");

/** Seconds as "5 s" or "2 min 5 s". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** An ISO time as the reader's own date and time. */
export const moment = (iso) =>
  new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A colour of the style sheet, for a canvas. */
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Call `redraw` when the reader's system turns dark or light. */
export function onSchemeChange(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

/** A group of radio buttons in a fieldset; `choose(value)` is called with the picked one. */
export function choices(fieldset, name, values, chosen, choose) {
  const row = h("div", { class: "segments" });
  for (const [value, label] of values) {
    const input = h("input", { type: "radio", name, value, change: () => choose(value) });
    input.checked = value === chosen;
    row.append(h("label", {}, input, h("span", { text: label })));
  }
  fieldset.append(row);
  return (value) => {
    row.querySelector(`input[value="${value}"]`).checked = true;
  };
}
