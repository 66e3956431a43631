// Server-sent events by fetch: an EventSource could not send the admin token.
// https://html.spec.whatwg.org/multipage/server-sent-events.html

import { Problem, send } from "./api.js";

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 5000;

/**
 * Follow a stream of events until `end`; calls `onEvent(name, data)` for each and
 * `onState(isConnected)`. Whenever the connection drops, it comes back with Last-Event-ID,
 * and so misses nothing. Throws a `Problem` that waiting won't cure.
 */
export async function follow(path, { token, signal, onEvent, onState }) {
  let lastId = "";
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      const response = await send(path, {
        token,
        signal,
        headers: lastId ? { "Last-Event-ID": lastId } : {},
      });
      if (response.status === 204) return;
      onState(true);
      for await (const { name, data, id } of parse(response.body)) {
        wait = FIRST_WAIT_MS;
        if (id) lastId = id;
        onEvent(name, JSON.parse(data));
        if (name === "end") return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && !error.isPassing) throw error;
    }
    if (signal.aborted) return;
    onState(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, MAX_WAIT_MS);
  }
}

/** The events in a body, one at a time: { name, data, id }. */
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "", id: "" };
      for (const line of block.split("\n")) {
        const [, field, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (field === "event") event.name = text;
        else if (field === "id") event.id = text;
        else if (field === "data") event.data += text;
      }
      if (event.data) yield event;
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
