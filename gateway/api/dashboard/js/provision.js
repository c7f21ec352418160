// Adding a device: one form, then a link and a QR code that set the device up.
import { get, onceKey, part, send } from "./api.js";
import { append, button, h, s, toast } from "./dom.js";
import { field, formDialog, openDialog } from "./dialog.js";
import { until, when } from "./format.js";

export const PLATFORMS = [
  ["gateway-mn", "This project's client", "One file for “gateway mn run”: all access modes, follows every move."],
  ["android", "Android", "Opens in the strongSwan app."],
  ["apple", "iPhone, iPad, Mac", "A profile for the system's own VPN."],
  ["windows", "Windows", "A script for the system's own VPN."],
  ["strongswan", "strongSwan", "For swanctl on Linux and others."],
  ["networkmanager", "Linux desktop", "A connection for NetworkManager."],
  ["other", "Something else", "Plain text with everything one has to fill in."],
];

/** The platform's name for people. */
export const platformName = (platform) => (PLATFORMS.find(([name]) => name === platform) ?? [null, platform ?? "–"])[1];

/** Radio buttons for the platform. */
export function platformChoice(chosen = "gateway-mn") {
  return h(
    "fieldset",
    null,
    h("legend", null, "What it runs"),
    h(
      "div",
      { class: "platforms" },
      PLATFORMS.map(([value, text, hint]) => h("label", { title: hint }, h("input", { type: "radio", name: "platform", value, checked: value === chosen }), h("span", null, text))),
    ),
  );
}

/** The drawing of a QR code out of the gateway's SVG: only its path is taken, nothing else. */
export function qrPicture(text) {
  if (typeof text !== "string" || !text) return null;
  const given = new DOMParser().parseFromString(text, "image/svg+xml");
  const path = [...given.querySelectorAll("path")].find((one) => one.getAttribute("stroke"));
  const drawing = path?.getAttribute("d") ?? "";
  if (!/^[MmHhVvLlZz0-9 .,-]+$/.test(drawing)) return null;
  const right = [...drawing.matchAll(/([hHmM])(-?[\d.]+)/g)].reduce(
    (place, [, kind, value]) => {
      place.x = kind === "M" || kind === "H" ? Number(value) : place.x + Number(value);
      place.most = Math.max(place.most, place.x);
      return place;
    },
    { x: 0, most: 0 },
  ).most;
  const size = Math.ceil(right) + 4;
  return s("svg", { class: "qr", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "QR code of the link", "shape-rendering": "crispEdges" }, s("path", { d: drawing }));
}

/** Link, QR code and expiry of a bundle that waits for its one download. */
export function linkView(made) {
  const url = new URL(made.url ?? made.link, window.location.origin);
  const safe = url.protocol === "https:" || url.protocol === "http:";
  const text = safe ? url.href : "";
  const box = h("input", { type: "text", readonly: true, value: text, "aria-label": "One-time link", onfocus: (event) => event.target.select() });
  return h(
    "div",
    { class: "stack" },
    h("p", null, "Open this link on the device, or scan the code with its camera. ", h("strong", null, "It works once"), made.expires_at ? ` and expires ${until(made.expires_at)} (${when(made.expires_at)}).` : "."),
    h("div", { class: "row" }, qrPicture(made.qr_svg)),
    h(
      "div",
      { class: "secret-once" },
      box,
      button("Copy", async () => {
        try {
          await navigator.clipboard.writeText(text);
          toast("The link is copied.");
        } catch (_error) {
          box.select(); // the browser forbids it: then by hand
        }
      }),
    ),
    made.file_name && h("p", { class: "soft" }, "The file is called ", h("code", null, made.file_name), ". It holds the device's key, which is kept nowhere else: if it gets lost, make a new bundle."),
  );
}

/** Show a bundle that was made. */
export function showBundle(title, made) {
  return openDialog(title, (close) => [linkView(made), h("div", { class: "dialog-foot" }, button("Done", () => close(true), { kind: "primary", autofocus: true }))]);
}

async function names(kind) {
  try {
    const page = await get(`/config/${kind}`, { limit: 200 });
    return (page.items ?? []).map((item) => item.name);
  } catch (_error) {
    return []; // a role that may not look: the gateway chooses
  }
}

/** The fields that make a device. */
export async function deviceFields({ connections = null } = {}) {
  const [found, users] = await Promise.all([connections ?? names("connections"), names("users")]);
  const name = h("input", { type: "text", required: true, maxlength: 63, autocapitalize: "none", spellcheck: "false", autocomplete: "off", placeholder: "anns-phone" });
  const connection = h("select", null, found.length === 1 ? null : h("option", { value: "" }, "The gateway chooses"), found.map((one) => h("option", { value: one }, one)));
  const user = h("select", null, h("option", { value: "" }, "Nobody in particular"), users.map((one) => h("option", { value: one }, one)));
  const identity = h("input", { type: "text", maxlength: 253, autocapitalize: "none", spellcheck: "false" });
  const days = h("input", { type: "number", min: 1, max: 3650, inputmode: "numeric", placeholder: "365" });
  const minutes = h("input", { type: "number", min: 1, max: 10080, inputmode: "numeric", placeholder: "60" });
  return {
    elements: [
      field("Name of the device", name, { name: "name", hint: "Letters, digits, dots, hyphens and underscores." }),
      platformChoice(),
      field("Connection", connection, { name: "connection" }),
      h(
        "details",
        null,
        h("summary", null, "More"),
        h(
          "div",
          { class: "stack" },
          users.length > 0 && field("User", user, { name: "user" }),
          field("Identity", identity, { name: "identity", hint: "What it proves to be with its certificate. Without one, made from the name." }),
          field("Certificate is good for (days)", days, { name: "lifetime_days" }),
          field("Link is good for (minutes)", minutes, { name: "link_minutes" }),
        ),
      ),
    ],
    body: (form) => {
      const body = { name: name.value.trim(), platform: form.elements.platform.value };
      for (const [key, control] of [["connection", connection], ["user", user], ["identity", identity]]) if (control.value.trim()) body[key] = control.value.trim();
      for (const [key, control] of [["lifetime_days", days], ["link_minutes", minutes]]) if (control.value) body[key] = Number(control.value);
      return body;
    },
  };
}

/** Ask for a name and a platform, make the device, show its link. */
export async function addDevice() {
  const { elements, body } = await deviceFields();
  const key = onceKey();
  let sent = null;
  let current = key;
  const made = await formDialog(
    "Add a device",
    elements,
    "Add it",
    (form) => {
      const now = JSON.stringify(body(form));
      if (sent !== null && sent !== now) current = onceKey(); // another request: another key
      sent = now;
      return send("POST", "/provision", body(form), { key: current });
    },
    { wide: true, intro: "The gateway issues a certificate, makes a bundle for the device, and knows it from then on." },
  );
  if (!made) return null;
  const name = made.device?.name ?? made.device ?? JSON.parse(sent).name;
  await showBundle(`${name} is ready to be set up`, made);
  return made;
}

/** A new bundle (and certificate) for a device that exists. */
export async function newBundle(name, platform) {
  const made = await formDialog(
    `New bundle for ${name}`,
    [platformChoice(platform ?? "gateway-mn")],
    "Make it",
    (form) => send("POST", `/devices/${part(name)}/bundle`, { platform: form.elements.platform.value }, { key: onceKey() }),
    { wide: true, intro: "The device gets a new certificate. What it has now goes on working until you revoke it." },
  );
  if (made) await showBundle(`New bundle for ${name}`, made);
  return made;
}

/** A secret that is shown this one time. */
export function showOnce(title, label, secret, words) {
  return openDialog(title, (close) => {
    const box = h("input", { type: "text", readonly: true, value: secret, "aria-label": label, onfocus: (event) => event.target.select() });
    return append(h("div", { class: "stack" }), [
      h("p", null, words),
      h("div", { class: "secret-once" }, box, button("Copy", async () => {
        try {
          await navigator.clipboard.writeText(secret);
          toast("Copied.");
        } catch (_error) {
          box.select();
        }
      })),
      h("div", { class: "dialog-foot" }, button("I have stored it", () => close(true), { kind: "primary" })),
    ]);
  });
}
