// The form for a new job: fields, bounds and defaults come from /openapi.json, so that the page
// can't fall behind the service.

import { h } from "./dom.js";

/** The JobRequest schema as a form; `onSubmit(body)` gets what differs from the recipe. */
export function makeForm(schema, onSubmit) {
  const recipes = schema["x-recipes"];
  const fields = Object.entries(schema.properties).map(([name, property]) =>
    makeField(name, property),
  );
  const recipe = fields.find(({ name }) => name === "recipe");
  const grid = h("div", { class: "fields" }, ...fields.map(({ element }) => element));
  const button = h("button", { type: "submit", text: "Start training" });
  const reset = h("button", { type: "button", class: "quiet", text: "Back to the recipe", click: refill });
  const form = h(
    "form",
    {
      novalidate: true, // the hints say it in our words
      submit: (event) => {
        event.preventDefault();
        const wrong = fields.filter((field) => !field.check());
        if (wrong.length) wrong[0].input.focus();
        else onSubmit(body());
      },
    },
    grid,
    h("div", { class: "row" }, button, reset),
  );

  function refill() {
    const values = recipes[recipe.input.value];
    for (const field of fields) if (field.name in values) field.set(values[field.name]);
  }

  /** Only what was changed: what is left out is the recipe's. */
  function body() {
    const values = recipes[recipe.input.value];
    const asked = fields.map(({ name, get }) => [name, get()]);
    return Object.fromEntries(asked.filter(([name, value]) => value !== values[name]));
  }

  recipe.input.addEventListener("change", refill);
  refill();
  return {
    element: form,
    button,
    /** Put the errors of a 422 where they belong; returns whether all of them had a place. */
    show(errors) {
      let areAllPlaced = errors.length > 0;
      for (const { pointer, detail } of errors) {
        const field = fields.find(({ name }) => pointer === `#/${name}`);
        if (field) field.complain(detail);
        else areAllPlaced = false;
      }
      return areAllPlaced;
    },
  };
}

function makeField(name, property) {
  const bounds = property.anyOf?.find(({ type }) => type !== "null") ?? property;
  const values = bounds.enum ?? null;
  const id = `job-${name}`;
  const hintId = `${id}-hint`;
  const label = name.replaceAll("_", " ");
  const isNumber = bounds.type === "integer" || bounds.type === "number";
  const low = bounds.minimum ?? bounds.exclusiveMinimum;
  const high = bounds.maximum ?? (bounds.exclusiveMaximum && bounds.exclusiveMaximum - 1);
  const about = [
    property.description,
    isNumber && `${"exclusiveMinimum" in bounds ? "above " : ""}${number(low)} to ${number(high)}`,
  ];
  const hintText = about.filter(Boolean).join("; ");

  let input;
  if (values) {
    input = h("select", { id }, ...values.map((value) => h("option", { value, text: value.replaceAll("_", " ") })));
    if (property.default !== undefined) input.value = property.default;
  } else if (bounds.type === "boolean") {
    input = h("select", { id }, h("option", { value: "true", text: "yes" }), h("option", { value: "false", text: "no" }));
  } else {
    input = h("input", {
      id,
      type: "number",
      min: low,
      max: high,
      step: bounds.type === "integer" ? "1" : "any",
      inputmode: bounds.type === "integer" ? "numeric" : "decimal",
    });
  }
  const hint = h("p", { class: "hint", id: hintId, text: hintText });
  input.setAttribute("aria-describedby", hintId);
  input.addEventListener("input", () => complain(""));

  function complain(detail) {
    input.setAttribute("aria-invalid", String(Boolean(detail)));
    hint.classList.toggle("fault", Boolean(detail));
    hint.textContent = detail || hintText;
  }

  return {
    name,
    input,
    complain,
    element: h("div", { class: "field" }, h("label", { for: id, text: label }), input, hint),
    set(value) {
      input.value = String(value);
      complain("");
    },
    get() {
      if (bounds.type === "boolean") return input.value === "true";
      return isNumber ? Number(input.value) : input.value;
    },
    check() {
      const { validity } = input;
      const isAtOpenEnd = "exclusiveMinimum" in bounds && Number(input.value) <= low;
      const isWrong = !validity.valid || (isNumber && input.value === "") || isAtOpenEnd;
      const kind = bounds.type === "integer" ? "a whole number" : "a number";
      complain(isWrong ? `${label} is ${kind}, ${about[1]}.` : "");
      return !isWrong;
    },
  };
}

const number = (value) => value.toLocaleString("en-US");

/** The JobRequest schema in an OpenAPI document, with its references to enumerations followed. */
export function jobSchema({ components: { schemas } }) {
  const schema = structuredClone(schemas.JobRequest);
  for (const [name, property] of Object.entries(schema.properties)) {
    const reference = property.$ref ?? property.allOf?.[0]?.$ref;
    if (reference) {
      const target = schemas[reference.split("/").at(-1)];
      schema.properties[name] = { ...target, ...property, description: property.description };
    }
  }
  return schema;
}
