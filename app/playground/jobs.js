// Training jobs: the one that is watched, live, and the list of all of them.

import { makeCurve } from "./curve.js";
import { duration, h, moment, percent, thousands } from "./dom.js";
import { FLOOR, FLOOR_IN_WORDS } from "./letters.js";
import { follow } from "./stream.js";

const PAGE = 5;
const isOver = ({ state }) => state !== "queued" && state !== "running";

/** `call` is `ask` with the token; `onEnd()` is called when a watched job has ended. */
export function startJobs({ box, call, token, signal, onEnd, onLock }) {
  const panel = makePanel(cancel);
  const list = makeList(watch, more);
  box.append(panel.element, list.element);
  let watching = null;
  let next = null;

  async function watch(job) {
    watching?.abort();
    const mine = (watching = new AbortController());
    signal.addEventListener("abort", () => mine.abort(), { once: true });
    panel.start(job);
    const wasOver = isOver(job);
    try {
      await follow(`train/${job.id}/events`, {
        token,
        signal: mine.signal,
        onState: panel.setConnected,
        onEvent(name, data) {
          if (name === "epoch") panel.addEpoch(data);
          else panel.show(data);
          if (name === "end" && !wasOver) {
            refresh();
            onEnd();
          }
        },
      });
    } catch (problem) {
      if (problem.status === 401) onLock(problem.words);
      else panel.say(problem.words, true);
    }
  }

  async function cancel(job) {
    try {
      panel.show(await call(`train/${job.id}`, { method: "DELETE" }));
    } catch (problem) {
      panel.say(problem.words, true);
    }
  }

  async function refresh() {
    try {
      const page = await call(`train?limit=${PAGE}`);
      next = page.next;
      list.show(page.jobs, Boolean(next));
    } catch (problem) {
      list.fail(problem);
    }
  }

  async function more() {
    try {
      const { search } = new URL(next); // the page's own address may differ from the service's
      const page = await call(`train${search}`);
      next = page.next;
      list.append(page.jobs, Boolean(next));
    } catch (problem) {
      list.fail(problem);
    }
  }

  return {
    watch(job) {
      watch(job);
      refresh();
    },
    /** After a reload: list the jobs, and watch the one that is running. */
    async resume() {
      await refresh();
      const running = list.jobs.find((job) => !isOver(job));
      if (running) watch(running);
    },
  };
}

/** What there is to see of one job: how far, how well, how long still. */
function makePanel(cancel) {
  const title = h("h2", { id: "job-title", text: "No job yet" });
  const stop = h("button", { type: "button", class: "quiet danger", text: "Cancel", click: () => cancel(job) });
  const bar = h("progress", { max: "1", value: "0", "aria-labelledby": "job-title" });
  const status = h("p", { class: "status", role: "status", text: "Start one, and watch it here." });
  const connection = h("p", { class: "status fault", role: "status" });
  const names = ["Epoch", "Training loss", "Validation loss", "Rule accuracy", "Time left"];
  const figures = names.map((name) => [h("dt", { text: name }), h("dd", { text: "–" })]);
  const chart = h("div", { class: "curve", role: "img", "aria-label": "Curve of the training: no epoch yet" });
  const tableBox = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The curve as a table" });
  const gate = h("p", { class: "note" });
  const keys = [
    ["loss", "training loss"],
    ["validation", "validation loss"],
    ["floor", `the floor, ${FLOOR_IN_WORDS}`],
    ["accuracy", "rule accuracy (right)"],
  ];
  const element = h(
    "section",
    { class: "card", "aria-labelledby": "job-title" },
    h("div", { class: "card-head" }, title, stop),
    bar,
    status,
    h("dl", { class: "figures" }, ...figures.map((pair) => h("div", {}, ...pair))),
    chart,
    h("ul", { class: "keys" }, ...keys.map(([name, text]) => h("li", { class: `key ${name}`, text }))),
    gate,
    connection,
    h("details", {}, h("summary", { text: "The curve as a table" }), tableBox),
  );
  const curve = makeCurve(chart, tableBox);
  let job = null;
  stop.hidden = true;

  function set(...texts) {
    texts.forEach((text, at) => (figures[at][1].textContent = text));
  }

  const panel = {
    element,
    start(started) {
      curve.reset();
      set(...names.map(() => "–"));
      connection.textContent = "";
      panel.show(started);
    },
    addEpoch(epoch) {
      curve.add(epoch);
      set(
        `${epoch.epoch} of ${epoch.num_epochs}`,
        epoch.loss.toFixed(4),
        (epoch.validation.excess_nll + FLOOR).toFixed(4),
        percent(epoch.validation.rule_accuracy, 2),
      );
    },
    show(shown) {
      job = shown;
      const over = isOver(job);
      title.textContent = `Job ${job.id}: ${over ? job.state : (job.phase ?? job.state)}`;
      bar.value = over && job.state === "succeeded" ? 1 : job.progress;
      stop.hidden = over;
      panel.say(over ? `${sentence(job.reason)} ${outcome(job)}` : doing(job), job.state === "failed");
      figures[4][1].textContent = over ? "ended" : job.eta_seconds === null ? "–" : duration(job.eta_seconds);
      gate.textContent = job.gate ? measured(job.gate) : "";
    },
    say(text, isFault = false) {
      if (status.textContent !== text) status.textContent = text;
      status.classList.toggle("fault", isFault);
    },
    setConnected(isConnected) {
      connection.textContent = isConnected
        ? ""
        : "The connection is lost; the job goes on without it. Trying to come back …";
    },
  };
  return panel;
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

function outcome(job) {
  return job.version ? "" : "The version before it goes on answering.";
}

/** What the service itself has measured, of the new version and of the active one. */
function measured({ candidate, active, active_version: name }) {
  const figures = ({ rule_accuracy: share, excess_nll: excess }) =>
    `rule accuracy ${percent(share, 2)}, excess NLL ${excess.toFixed(4)}`;
  const beside = active ? `; version ${name}: ${figures(active)}` : "";
  return `Measured on ${thousands(candidate.num_queries)} fresh queries: ${figures(candidate)}${beside}.`;
}

function doing(job) {
  const recipe = `The ${job.recipe} recipe, seed ${job.config.seed}`;
  const what = {
    starting: "is about to start",
    training: "is being trained",
    saving: "is written down",
    checking: "is measured beside the active version",
    promoting: "is being activated",
  };
  return `${recipe}, ${what[job.phase] ?? "waits"}.`;
}

function makeList(watch, more) {
  const items = h("tbody");
  const status = h("p", { class: "status", role: "status" });
  const older = h("button", { type: "button", class: "quiet", text: "Older jobs", click: more });
  const heads = ["Job", "State", "What", "When", ""];
  const element = h(
    "section",
    { class: "card job-list", "aria-labelledby": "jobs-title" },
    h("h2", { id: "jobs-title", text: "Jobs" }),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "List of jobs" },
      h(
        "table",
        { class: "plain stacked" },
        h("thead", {}, h("tr", {}, ...heads.map((text) => (text ? h("th", { scope: "col", text }) : h("td"))))),
        items,
      ),
    ),
    status,
    older,
  );
  let jobs = [];

  function row(job) {
    const mood = { succeeded: "good", failed: "poor" }[job.state] ?? "";
    return h(
      "tr",
      {},
      h("th", { scope: "row", text: job.id }),
      h("td", {}, h("span", { class: `badge ${mood}`, text: job.state })),
      h("td", {}, `${job.recipe}, seed ${job.config.seed}`, h("br"), h("small", { text: job.reason ?? "" })),
      h("td", { text: moment(job.created) }),
      h("td", {}, h("button", { type: "button", class: "quiet", "aria-label": `Watch job ${job.id}`, text: "Watch", click: () => watch(job) })),
    );
  }

  const list = {
    element,
    get jobs() {
      return jobs;
    },
    show(found, hasMore) {
      jobs = [];
      items.replaceChildren();
      list.append(found, hasMore);
    },
    append(found, hasMore) {
      jobs.push(...found);
      items.append(...found.map(row));
      older.hidden = !hasMore;
      status.textContent = jobs.length ? "" : "There has been no job yet.";
      status.classList.remove("fault");
    },
    fail(problem) {
      status.textContent = problem.words;
      status.classList.add("fault");
    },
  };
  return list;
}
