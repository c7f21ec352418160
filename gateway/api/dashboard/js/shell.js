// What is around every page: navigation, who is logged in, whether updates come.
import { send } from "./api.js";
import { append, button, h, icon, show } from "./dom.js";
import { onState } from "./live.js";

const SECTIONS = [
  [
    "Now",
    [
      ["", "Overview", "overview"],
      ["devices", "Devices", "devices"],
      ["users", "Users", "users"],
    ],
  ],
  [
    "Traffic",
    [
      ["sas", "Security associations", "sas"],
      ["mobility", "Bindings and visitors", "mobility"],
      ["nar", "Address reuse", "nar"],
      ["pools", "Address pools", "pools"],
      ["rules", "Rules", "rules"],
      ["names", "Names", "names"],
    ],
  ],
  [
    "Care",
    [
      ["failures", "Failures", "failures"],
      ["config", "Configuration", "config"],
      ["audit", "Audit", "audit"],
      ["settings", "Settings", "settings"],
    ],
  ],
];

const STATES = {
  off: ["", ""],
  waiting: ["Connecting", "waiting"],
  live: ["Live", "live"],
  polling: ["Updated every few seconds", "polling"],
};

/** Put the frame around the pages; returns where pages go. */
export function frame(root, session, { logout }) {
  const menu = button("", () => toggle(), {
    kind: "quiet menu-button",
    picture: "menu",
    "aria-label": "Menu",
    "aria-expanded": "false",
    "aria-controls": "nav",
  });
  const nav = h(
    "nav",
    { id: "nav", "aria-label": "Pages" },
    SECTIONS.map(([title, pages]) => [
      h("p", { class: "nav-title" }, title),
      h(
        "ul",
        null,
        pages.map(([hash, text, picture]) =>
          h("li", null, h("a", { href: `#/${hash}`, data: { page: hash } }, icon(picture), text)),
        ),
      ),
    ]),
  );
  const toggle = (open = !nav.classList.contains("open")) => {
    nav.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) nav.querySelector("[aria-current], a").focus();
  };
  nav.addEventListener("click", (event) => {
    if (event.target.closest("a")) toggle(false);
  });
  nav.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !nav.classList.contains("open")) return;
    toggle(false);
    menu.focus();
  });
  const state = h("span", { class: "live-state" });
  onState((now) => {
    const [text, tone] = STATES[now];
    state.className = `live-state ${tone}`;
    show(state, h("span", { class: "dot", "aria-hidden": "true" }), h("span", null, text));
  });
  const who = session.administrator ?? session.name ?? "";
  const header = h(
    "header",
    { class: "top" },
    menu,
    h("a", { class: "brand", href: "#/" }, h("img", { src: "icon.svg", alt: "", width: 26, height: 26 }), "Gateway"),
    state,
    h("span", { class: "grow" }),
    h("span", { class: "who" }, who, h("span", { class: "soft" }, ` ${session.role ?? ""}`)),
    themeSwitch(),
    button("", async () => {
      try {
        await send("DELETE", "/session");
      } finally {
        logout();
      }
    }, { kind: "quiet", picture: "out", "aria-label": "Log out", title: "Log out" }),
  );
  const main = h("main", { id: "main", tabindex: "-1" });
  show(root, append(h("div", { class: "frame" }), [header, nav, main]));
  return main;
}

/** Switch between light and dark; the choice stays in this browser. */
export function themeSwitch() {
  const page = document.documentElement;
  const label = () => (page.dataset.theme === "dark" ? "Use light colours" : "Use dark colours");
  const paint = () => {
    show(knob, icon(page.dataset.theme === "dark" ? "sun" : "moon"));
    knob.setAttribute("aria-label", label());
    knob.title = label();
  };
  const knob = h("button", {
    type: "button",
    class: "button quiet",
    onclick: () => {
      page.dataset.theme = page.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("theme", page.dataset.theme);
      } catch (_error) {
        // not stored: it counts until the page is closed
      }
      paint();
    },
  });
  paint();
  return knob;
}

/** Mark the page of the navigation that is shown. */
export function markCurrent(page) {
  const shown = page === "device" ? "devices" : page;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Name the window. */
export function setTitle(text) {
  document.title = text === "Gateway" ? text : `${text} – Gateway`;
}

/** The top of a page: its heading, what it is for, and what can be done. */
export function pageHead(title, intro = null, actions = []) {
  return h(
    "div",
    { class: "page-head" },
    h("div", null, h("h1", { tabindex: "-1" }, title), intro && h("p", { class: "soft" }, intro)),
    actions.length ? h("div", { class: "actions" }, actions) : null,
  );
}

/** A part of a page. */
export function card(title, ...content) {
  return h("section", { class: "card" }, title && h("h2", null, title), content);
}

/** Nothing here yet, and what to do about it. */
export function empty(title, text, action = null) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", { class: "soft" }, text), action);
}

/** Tabs by links: each has an address, so that the way back works. */
export function tabs(label, items, current) {
  return h(
    "nav",
    { class: "tabs", "aria-label": label },
    items.map(([href, text]) => h("a", { href, "aria-current": href === current ? "page" : null }, text)),
  );
}

/** Names and values. */
export function facts(rows) {
  return h(
    "dl",
    { class: "facts" },
    rows
      .filter((row) => row && ![null, undefined, "", false].includes(row[1]))
      .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}
