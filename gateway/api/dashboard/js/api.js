// The REST interface: every number and every change goes through here.

const BASE = "/api/v1";
const SAFE = new Set(["GET", "HEAD"]);
let csrf = null;

/** What went wrong, in words for people; `field` and `errors` name parts of what was sent. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The gateway answered with status ${status}.`);
    this.status = status;
    this.kind = String(body.type ?? "").replace("urn:gateway:problem:", "");
    this.field = body.field ?? null;
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.body = body;
  }
}

/** Where to go when nobody is logged in; set by the application. */
export const hooks = { loggedOut: () => {} };

/** Remember the token that goes with changes. */
export function remember(token) {
  csrf = token ?? null;
}

function address(path, query) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return BASE + path + (text ? `?${text}` : "");
}

/** One segment of a path; a name can be anything. */
export const part = (text) => encodeURIComponent(String(text));

async function ask(method, path, { query, body, etag, key, signal, raw = false } = {}) {
  const headers = { Accept: "application/json" };
  if (!SAFE.has(method) && csrf) headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (etag) headers["If-Match"] = etag;
  if (key) headers["Idempotency-Key"] = key;
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {
      detail: "The gateway does not answer. Check that it runs and that this device reaches it; the page tries again by itself.",
    });
  }
  if (raw && answer.ok) return answer;
  const text = await answer.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch (_error) {
    data = { detail: `The gateway's answer (status ${answer.status}) cannot be read.` };
    if (answer.ok) throw new Problem(answer.status, data);
  }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/session") hooks.loggedOut();
    throw new Problem(answer.status, data ?? {});
  }
  return { data, etag: answer.headers.get("ETag") };
}

/** The answer to a GET. */
export const get = async (path, query, signal) => (await ask("GET", path, { query, signal })).data;

/** The answer to a GET together with its version: `{data, etag}`. */
export const getVersion = (path, signal) => ask("GET", path, { signal });

/** Change something. Options: `etag`, `key` (idempotency), `query`. */
export const send = async (method, path, body, options = {}) =>
  (await ask(method, path, { body, ...options })).data;

/** The octets of a download, as `{blob, name}`. */
export async function download(method, path, body, fallback) {
  const answer = await ask(method, path, { body, raw: true });
  const given = /filename="([^"/\\]{1,200})"/.exec(answer.headers.get("Content-Disposition") ?? "");
  return { blob: await answer.blob(), name: given ? given[1] : fallback };
}

/** Hand octets to the browser as a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** A key under which a request is carried out once, however often it is sent. */
export function onceKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (octet) => octet.toString(16).padStart(2, "0")).join("");
}

/** Everything of a list that comes in pages, up to a bound. */
export async function all(path, query, { signal, most = 2000 } = {}) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(path, { limit: 200, ...query, cursor }, signal);
    items.push(...(page.items ?? []));
    cursor = page.next;
  } while (cursor && items.length < most);
  return items;
}

const RANKS = { "read-only": 1, operator: 2, admin: 3 };

/** What somebody may do: 1 look, 2 also operate, 3 everything. */
export const rank = (session) => RANKS[session?.role] ?? 0;
