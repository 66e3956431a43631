// Train: the admin's view. Asks for the token, then shows the form, the job and the versions.

import { ask } from "./api.js";
import { byId, h } from "./dom.js";
import { startJobs } from "./jobs.js";
import { jobSchema, makeForm } from "./recipe.js";
import { startVersions } from "./versions.js";

const KEY = "menny.token";

/** `onModelChange()` is called when another version may answer. */
export function startTrain({ onModelChange }) {
  const view = byId("train-view");
  let stop = new AbortController();

  function lock(reason = "") {
    stop.abort();
    sessionStorage.removeItem(KEY);
    view.replaceChildren(tokenCard(reason, unlock));
  }

  async function unlock(token) {
    await ask("models", { token }); // whether it is the right one
    sessionStorage.setItem(KEY, token);
    await open(token);
  }

  async function open(token) {
    stop = new AbortController();
    const call = async (path, options = {}) => {
      try {
        return await ask(path, { ...options, token });
      } catch (problem) {
        if (problem.status === 401) lock(problem.words);
        throw problem;
      }
    };
    const schema = jobSchema(await ask("openapi.json"));
    const [formBox, jobBox, versionBox] = ["recipe", "job", "versions"].map((name) =>
      h("div", { class: name === "versions" ? "whole" : "", id: `${name}-box` }),
    );
    view.replaceChildren(formBox, jobBox, versionBox);
    const versions = startVersions({ box: versionBox, call, onModelChange });
    const jobs = startJobs({
      box: jobBox,
      call,
      token,
      signal: stop.signal,
      onEnd() {
        versions.refresh();
        onModelChange();
      },
      onLock: lock,
    });
    formBox.append(formCard(schema, call, jobs, () => lock()));
    await Promise.all([versions.refresh(), jobs.resume()]);
  }

  const token = sessionStorage.getItem(KEY);
  if (token) open(token).catch((problem) => lock(problem.words));
  else lock();
}

function tokenCard(reason, unlock) {
  const input = h("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-status token-note",
  });
  const status = h("p", { class: "status fault", id: "token-status", role: "alert", text: reason });
  const button = h("button", { type: "submit", text: "Unlock" });
  const form = h(
    "form",
    {
      async submit(event) {
        event.preventDefault();
        status.textContent = "";
        if (!input.value.trim()) {
          status.textContent = "Enter the token that `menny token` prints.";
          input.focus();
          return;
        }
        button.disabled = true;
        try {
          await unlock(input.value.trim());
        } catch (problem) {
          button.disabled = false;
          status.textContent = problem.words;
          input.setAttribute("aria-invalid", String(problem.status === 401));
          input.focus();
        }
      },
    },
    h("label", { for: "token", text: "Admin token" }),
    h("div", { class: "row" }, input, button),
    status,
  );
  return h(
    "section",
    { class: "card whole token", "aria-labelledby": "token-title" },
    h("h2", { id: "token-title", text: "Train a new Menny" }),
    h("p", { class: "note", id: "token-note" }, "Training and choosing versions need the admin token: ", h("code", { text: "menny token" }), " prints it. It stays in this tab and is forgotten when the tab closes."),
    form,
  );
}

function formCard(schema, call, jobs, lock) {
  const status = h("p", { class: "status fault", role: "alert" });
  const form = makeForm(schema, async (body) => {
    status.textContent = "";
    form.button.disabled = true;
    try {
      jobs.watch(await call("train", { method: "POST", body }));
    } catch (problem) {
      if (!form.show(problem.errors)) status.textContent = problem.words;
    } finally {
      form.button.disabled = false;
    }
  });
  return h(
    "section",
    { class: "card", "aria-labelledby": "form-title" },
    h(
      "div",
      { class: "card-head" },
      h("h2", { id: "form-title", text: "New job" }),
      h("button", { type: "button", class: "quiet", text: "Forget the token", click: lock }),
    ),
    h("p", { class: "note", text: "She goes on answering while another Menny is trained." }),
    form.element,
    status,
  );
}
