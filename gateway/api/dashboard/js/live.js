// Live updates: server-sent events, and asking now and then where those do not come through.

const QUIET_MS = 700;
const POLL_WITH_EVENTS_MS = 20000;
const POLL_WITHOUT_MS = 5000;

const listeners = new Set();
const watchers = new Set();
let source = null;
let state = "off";
let poll = null;
let pending = null;
let gathered = [];

function become(next) {
  if (next === state) return;
  state = next;
  for (const watcher of watchers) watcher(state);
  schedule();
}

function schedule() {
  clearInterval(poll);
  if (state === "off") return;
  poll = setInterval(
    () => {
      if (!document.hidden) tell();
    },
    state === "live" ? POLL_WITH_EVENTS_MS : POLL_WITHOUT_MS,
  );
}

function tell() {
  clearTimeout(pending);
  pending = null;
  const events = gathered;
  gathered = [];
  for (const listener of [...listeners]) listener(events);
}

function took(message) {
  try {
    gathered.push(JSON.parse(message.data));
  } catch (_error) {
    return;
  }
  if (gathered.length > 500) gathered.shift();
  pending ??= setTimeout(tell, QUIET_MS);
}

/** Begin to listen. Does nothing while it runs already. */
export function start() {
  if (source) return;
  become("waiting");
  source = new EventSource("/api/v1/events");
  source.onopen = () => become("live");
  source.onmessage = took;
  source.onerror = () => {
    become("polling");
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => state !== "off" && start(), 5000);
    }
  };
}

/** Stop listening: nobody is logged in. */
export function stop() {
  source?.close();
  source = null;
  gathered = [];
  become("off");
}

/** Call `listener(events)` after something happened, at most once in a moment; ends with `signal`. */
export function onChange(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener("abort", () => listeners.delete(listener));
}

/** Call `watcher(state)` when the way of updates changes: off, waiting, live or polling. */
export function onState(watcher) {
  watchers.add(watcher);
  watcher(state);
}

/** Load now and after every change, one load at a time; a failed load keeps what is shown. */
export function keepFresh(load, signal, failed = () => {}) {
  let running = false;
  let again = null;
  const run = async (events) => {
    if (signal.aborted) return;
    if (running) {
      again = [...(again ?? []), ...events];
      return;
    }
    running = true;
    try {
      await load(events);
      failed(null);
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    } finally {
      running = false;
    }
    if (again && !signal.aborted) {
      const next = again;
      again = null;
      run(next);
    }
  };
  onChange(run, signal);
  return run([]);
}
