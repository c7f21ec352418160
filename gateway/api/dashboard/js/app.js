// Begins everything: who is logged in, and which page belongs to the address.
import { get, hooks, Problem, remember } from "./api.js";
import { announce, h, show } from "./dom.js";
import { errorBox } from "./dialog.js";
import * as live from "./live.js";
import { frame, markCurrent, setTitle } from "./shell.js";

/** First part of the address, and which file has the page. */
const PAGES = {
  "": "overview",
  devices: "devices",
  device: "device",
  users: "users",
  sas: "sas",
  mobility: "mobility",
  nar: "nar",
  pools: "pools",
  rules: "rules",
  names: "names",
  failures: "failures",
  config: "config",
  audit: "audit",
  settings: "settings",
  setup: "setup",
};

const root = document.getElementById("app");
const session = { current: null };
let main = null;
let leaving = null;
let visit = 0;

function location_() {
  const hash = window.location.hash.replace(/^#\/?/, "");
  const [path, query] = hash.split("?", 2);
  const parts = path.split("/").map((text) => {
    try {
      return decodeURIComponent(text);
    } catch (_error) {
      return text;
    }
  });
  return { page: parts[0], rest: parts.slice(1), query: new URLSearchParams(query ?? "") };
}

async function whole(file, into) {
  leaving?.abort();
  leaving = new AbortController();
  const mine = ++visit;
  const { default: page } = await import(`./pages/${file}.js`);
  if (mine !== visit) return;
  show(into);
  await page({ root: into, signal: leaving.signal, restart: begin, login: () => whole("login", into) });
}

async function route({ focus = true } = {}) {
  if (!session.current) return;
  const { page, rest, query } = location_();
  const file = Object.hasOwn(PAGES, page) ? PAGES[page] : "missing";
  leaving?.abort();
  leaving = new AbortController();
  const mine = ++visit;
  const { signal } = leaving;
  markCurrent(page);
  main.setAttribute("aria-busy", "true");
  try {
    const module = await import(`./pages/${file}.js`);
    if (mine !== visit) return;
    const holder = h("div", { class: "page" });
    show(main, holder);
    window.scrollTo(0, 0);
    setTitle(module.title ?? "Gateway");
    await module.default({ root: holder, rest, query, signal, session: session.current });
  } catch (error) {
    if (error.name === "AbortError" || mine !== visit) return;
    show(main, h("div", { class: "page" }, h("h1", { tabindex: "-1" }, "This page cannot be shown"), errorBox(error, () => route())));
  } finally {
    if (mine === visit) main.removeAttribute("aria-busy");
  }
  if (mine !== visit) return;
  if (focus) main.querySelector("h1")?.focus({ preventScroll: true });
  announce(document.title);
}

async function loggedIn(current) {
  session.current = current;
  remember(current.csrf);
  main = frame(root, current, { logout: () => begin() });
  live.start();
  await route({ focus: false });
}

/** Look who is there and show what fits: the setup, the login, or the pages. */
export async function begin() {
  live.stop();
  session.current = null;
  try {
    const current = await get("/session");
    if (current && (current.administrator || current.name)) {
      await loggedIn(current);
      return;
    }
  } catch (error) {
    if (!(error instanceof Problem) || ![401, 403, 404].includes(error.status)) {
      show(root, h("main", { id: "main", class: "plain" }, h("h1", null, "Gateway"), errorBox(error, begin)));
      setTimeout(() => root.querySelector(".note.bad") && begin(), 5000);
      return;
    }
  }
  let setup = null;
  try {
    setup = await get("/setup");
  } catch (_error) {
    setup = null; // it cannot say: then there is somebody who can log in
  }
  const into = h("main", { id: "main", class: "plain" });
  show(root, into);
  await whole(setup?.needed || location_().query.has("code") ? "setup" : "login", into);
}

hooks.loggedOut = () => {
  if (session.current) begin();
};
window.addEventListener("hashchange", () => route());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the page's address
  const target = document.querySelector("#main h1") ?? document.getElementById("main");
  target?.focus();
});
begin();
