// Requests to Menny's own API, and their failures as one kind of error in plain words.

/** What went wrong: an RFC 9457 problem of the service, or (status 0) no service to be reached. */
export class Problem extends Error {
  constructor(status, title, detail, { errors = [], retryAfter = null } = {}) {
    super(detail);
    this.status = status;
    this.title = title;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  /** Whether it may work later without anybody changing the request. */
  get isPassing() {
    return this.status === 0 || this.status === 503 || this.status === 504;
  }

  /** One line for people. */
  get words() {
    return this.status ? `${this.title} (${this.status}): ${this.message}` : this.message;
  }
}

/** Ask the service; returns the JSON of the answer, throws a `Problem` (or an AbortError). */
export async function ask(path, { method = "GET", body, token, signal } = {}) {
  const response = await send(path, { method, body, token, signal });
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
}

/** The same, for whoever reads the response as a stream. */
export async function send(path, { method = "GET", body, token, signal, headers = {} } = {}) {
  const all = { ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  if (token) all.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

function unreachable() {
  return new Problem(0, "No connection", "Menny can’t be reached. Is the service running?");
}

async function problemOf(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // not a problem document: a proxy's page, perhaps
  }
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  return new Problem(
    response.status,
    document.title ?? (response.statusText || "Error"),
    document.detail ?? "the answer was no problem document; is it Menny that answers here?",
    { errors: document.errors ?? [], retryAfter: Number.isFinite(seconds) ? seconds : null },
  );
}

/**
 * Wrap a request so that only the last call counts: a new call aborts the one before it, and
 * an answer that comes late all the same is dropped (`undefined`), as is its error.
 */
export function lastOnly(request) {
  let current = null;
  const run = async (...values) => {
    current?.abort();
    const mine = (current = new AbortController());
    try {
      const answer = await request(mine.signal, ...values);
      return mine === current ? answer : undefined;
    } catch (error) {
      if (mine !== current || error.name === "AbortError") return undefined;
      throw error;
    }
  };
  run.cancel = () => {
    current?.abort();
    current = null;
  };
  return run;
}
