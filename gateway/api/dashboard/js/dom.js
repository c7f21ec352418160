// Elements from data. Text always goes in as text: there is no way to give HTML here.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else if (name === "checked" || name === "disabled" || name === "selected") element[name] = true;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Append nodes, texts, numbers and nested lists of them; nothing for null, undefined and false. */
export function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Append to an element, as {@link append}: native `append` would write "null" and "false". */
export const put = (element, ...children) => append(element, children);

/** An HTML element. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace everything inside an element. */
export function show(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

let ids = 0;

/** An id that no other element has. */
export function unique(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

const ICONS = {
  overview: "M4 12.5 12 5l8 7.5M6 11v8h4.5v-5h3v5H18v-8",
  devices: "M5 6h14v9H5zM3 18.5h18",
  users: "M12 12a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM5 19.5c.8-3.4 3.6-5 7-5s6.2 1.6 7 5",
  sas: "M7.5 11V8.5a4.5 4.5 0 0 1 9 0V11M6 11h12v8.5H6z",
  mobility: "M5 17c0-6 3-9.5 8-9.5h5M15 4l3.5 3.5L15 11M5 17a1.6 1.6 0 1 0 .1 0",
  nar: "M4 7h10m-3-3 3 3-3 3M20 17H10m3-3-3 3 3 3",
  pools: "M5 7c0-1.5 3.1-2.5 7-2.5s7 1 7 2.5-3.1 2.5-7 2.5S5 8.5 5 7zm0 0v10c0 1.5 3.1 2.5 7 2.5s7-1 7-2.5V7M5 12c0 1.5 3.1 2.5 7 2.5s7-1 7-2.5",
  rules: "M12 4.5 5 7v5c0 4 3 6.5 7 7.5 4-1 7-3.5 7-7.5V7zM9 12l2 2 4-4",
  names: "M4 7h16v10H4zM7 10.5h5M7 13.5h9",
  failures: "M12 4.5 21 19.5H3zM12 10v4.5m0 2.3v.2",
  config: "M5 7h9m4 0h1M5 17h1m4 0h9M16 5v4M8 15v4M5 12h5m4 0h5M12 10v4",
  audit: "M6 4.5h8l4 4v11H6zM9 11h6m-6 3.5h6",
  settings: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 4v2.5m0 11V20m8-8h-2.5m-11 0H4m13.7-5.7-1.8 1.8m-7.8 7.8-1.8 1.8m0-11.4 1.8 1.8m7.8 7.8 1.8 1.8",
  menu: "M4 7h16M4 12h16M4 17h16",
  moon: "M19 14.5A7.5 7.5 0 0 1 9.5 5 7.5 7.5 0 1 0 19 14.5z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v2m0 14v2m9-9h-2M5 12H3m15.4-6.4L17 7M7 17l-1.4 1.4m0-12.8L7 7m10 10 1.4 1.4",
  out: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
};

/** A small picture beside a text; hidden from screen readers. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    s("path", { d: ICONS[name] }),
  );
}

/** A button. */
export function button(text, onclick, { kind = "", disabled = false, picture = null, ...rest } = {}) {
  return h(
    "button",
    { type: "button", class: `button ${kind}`, disabled, onclick, ...rest },
    picture && icon(picture),
    text,
  );
}

/** A word in a coloured capsule; the word says it all, the colour only helps. */
export function badge(text, tone = "") {
  return h("span", { class: `badge ${tone}` }, text);
}

/** Say something to screen readers without moving the focus. */
export function announce(text) {
  const region = document.getElementById("announce");
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

/** A short notice at the edge of the window, also read out. */
export function toast(text, tone = "good") {
  const close = button("", () => box.remove(), { kind: "quiet", picture: "close", "aria-label": "Close" });
  const box = h("div", { class: `toast ${tone}` }, h("span", null, text), close);
  document.getElementById("toasts").append(box);
  announce(text);
  setTimeout(() => box.remove(), tone === "bad" ? 20000 : 6000);
}
