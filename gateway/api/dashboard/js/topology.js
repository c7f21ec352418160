// The networks of document 001, section 2, as they are here, and every device where it is now.
import { h, s, show, unique } from "./dom.js";
import { count } from "./format.js";
import { table } from "./table.js";

const GAP = 14;
const HEAD = 30;
const LINE = 21;
const NAMED = 6;
const DOTS = 24;
const PANELS = [
  ["outside", "Outside: the internet"],
  ["dmz", "DMZ"],
  ["inside", "Inside: the intranet"],
];
const ORDER = { outside: ["foreign-agent", "home-agent", "internet"], dmz: ["gateway", "home-agent", "foreign-agent"], inside: ["home-agent", "home-network", "intranet", "foreign-agent"] };
const KINDS = {
  internet: "Anywhere on the internet",
  intranet: "On the intranet",
  gateway: "VPN gateway",
  "home-agent": "Home agent",
  "foreign-agent": "Foreign agent",
  "home-network": "Home network",
};
/** Access modes of a place, as the document's figure has them in braces. */
const MODES = { "outside/foreign-agent": "{fvc, fvf}", "outside/internet": "{cvc, vc, cvf, vf, v}", "inside/home-network": "{home}", "inside/intranet": "{c}", "inside/foreign-agent": "{f}" };

export const WHERES = {
  outside: "Outside, by VPN",
  inside: "Inside",
  "behind-fa": "Behind a foreign agent",
  away: "Away, without VPN here",
  offline: "Offline",
  blocked: "Blocked",
  failed: "Login failed",
};
/** The same in one or two words, for lists. */
export const PLACES = { outside: "Outside", inside: "Inside", "behind-fa": "Behind an FA", away: "Away", offline: "Offline", blocked: "Blocked", failed: "Failed" };
export const TONES = { outside: "info", inside: "good", "behind-fa": "violet", away: "warn", offline: "", blocked: "bad", failed: "bad" };

/** What a place is called: ours by name, others by what they are. */
export function placeName(place) {
  if (place.kind === "internet" || place.kind === "intranet") return KINDS[place.kind];
  if (place.kind === "home-agent") return `${place.zone === "outside" ? "x-HA" : "i-HA"} ${place.name}`;
  if (place.kind === "foreign-agent") return `${place.zone === "inside" ? "i-FA" : "FA"} ${place.name}`;
  if (place.kind === "gateway") return KINDS.gateway;
  return place.name || KINDS[place.kind] || place.kind;
}

const modesOf = (place) => MODES[`${place.zone}/${place.kind}`] ?? "";

const namesPerRow = (width) => (width > 300 ? 2 : 1);
const perRowOf = (width) => Math.max(1, Math.floor((width - 24) / LINE));

function heightOf(place, width) {
  const devices = place.devices ?? 0;
  const base = 48;
  if (devices === 0) return base;
  if (devices <= NAMED) return base + Math.ceil(devices / namesPerRow(width)) * LINE + 6;
  return base + (devices <= DOTS ? Math.ceil(devices / perRowOf(width)) * LINE + 8 : 66);
}

/** Positions of panels and places: columns side by side, or one below the other on a phone. */
function layout(places, narrow) {
  const widths = narrow ? { outside: 380, dmz: 380, inside: 380 } : { outside: 408, dmz: 172, inside: 408 };
  const found = { places: new Map(), panels: [], width: narrow ? 380 : 1000, height: 0 };
  let x = 0;
  let top = 0;
  for (const [zone, name] of PANELS) {
    const width = widths[zone];
    const own = places.filter((place) => place.zone === zone).sort((a, b) => ORDER[zone].indexOf(a.kind) - ORDER[zone].indexOf(b.kind));
    const perRow = width > 300 ? 2 : 1;
    const inner = (width - GAP * (perRow + 1)) / perRow;
    const panel = { zone, name, x, y: top, width, height: HEAD };
    let y = top + HEAD;
    let row = [];
    const flush = () => {
      if (!row.length) return;
      const alone = row.length === 1 && (row[0].kind === "internet" || row[0].kind === "intranet");
      const each = alone ? width - 2 * GAP : inner;
      const height = Math.max(...row.map((place) => heightOf(place, each)));
      row.forEach((place, index) => {
        found.places.set(place.id, { place, x: x + GAP + index * (inner + GAP), y, width: each, height: heightOf(place, each) });
      });
      y += height + GAP;
      row = [];
    };
    for (const place of own) {
      if (place.kind === "internet" || place.kind === "intranet") {
        flush();
        row.push(place);
        flush();
      } else {
        row.push(place);
        if (row.length === perRow) flush();
      }
    }
    flush();
    panel.height = Math.max(y - top, HEAD + 60);
    found.panels.push(panel);
    if (narrow) top += panel.height + GAP;
    else x += width + 6;
  }
  const tallest = Math.max(...found.panels.map((panel) => panel.height));
  if (!narrow) {
    for (const panel of found.panels) {
      const spare = tallest - panel.height;
      panel.height = tallest;
      const own = [...found.places.values()].filter((box) => box.place.zone === panel.zone);
      const lowest = Math.max(...own.map((box) => box.y));
      const oneRow = own.every((box) => box.y === lowest);
      for (const box of own) {
        if (oneRow) box.y += spare / 2;
        else if (box.y === lowest) box.y += spare;
      }
    }
  }
  found.height = narrow ? top - GAP : tallest;
  return found;
}

function centre(box) {
  return [box.x + box.width / 2, box.y + box.height / 2];
}

function wayPath(a, b, narrow) {
  const [ax, ay] = centre(a);
  const [bx, by] = centre(b);
  if (narrow) return `M${ax} ${ay}C${ax} ${(ay + by) / 2} ${bx} ${(ay + by) / 2} ${bx} ${by}`;
  return `M${ax} ${ay}C${(ax + bx) / 2} ${ay} ${(ax + bx) / 2} ${by} ${bx} ${by}`;
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The living picture. Give it every new topology; devices that went elsewhere travel there. */
export class TopologyPicture {
  constructor(signal) {
    this.spots = new Map();
    this.holder = h("div");
    this.words = h("div");
    this.details = h("details", { data: { id: "places" } }, h("summary", null, "The same as a list"), this.words);
    this.element = h(
      "div",
      { class: "stack" },
      this.holder,
      h("p", { class: "legend" }, ["outside", "inside", "behind-fa", "away"].map((where) => h("span", { class: `key ${where}` }, WHERES[where]))),
      this.details,
    );
    const phone = window.matchMedia("(max-width: 640px)");
    phone.addEventListener("change", () => this.data && this.update(this.data), { signal });
    this.phone = phone;
  }

  /** Draw; `moved` has names of devices whose address changed just now. */
  update(data, moved = new Set()) {
    const text = JSON.stringify([data.places, data.edges, this.phone.matches]);
    if (text === this.drawn && moved.size === 0) return;
    this.drawn = text;
    this.data = data;
    const places = (data.places ?? []).filter((place) => place.kind !== "offline");
    const plan = layout(places, this.phone.matches);
    const before = this.narrow === this.phone.matches ? this.spots : new Map(); // another layout is no move
    this.narrow = this.phone.matches;
    this.spots = new Map();
    const id = unique("topology");
    const picture = s(
      "svg",
      { class: "topology", viewBox: `0 0 ${plan.width} ${plan.height}`, role: "img", "aria-labelledby": `${id} ${id}-desc` },
      s("title", { id }, "Where the devices are"),
      s("desc", { id: `${id}-desc` }, this.sentence(places)),
      plan.panels.map((panel) => [
        s("rect", { class: `panel ${panel.zone}`, x: panel.x, y: panel.y, width: panel.width, height: panel.height, rx: 16 }),
        s("text", { class: "panel-name", x: panel.x + 16, y: panel.y + 20 }, panel.name),
      ]),
      (data.edges ?? []).map((edge) => this.way(plan, edge)),
      [...plan.places.values()].map((box) => this.site(box)),
    );
    this.travellers = [];
    for (const [name, spot] of this.spots) {
      const old = before.get(name);
      if (old && (Math.abs(old.x - spot.x) > 2 || Math.abs(old.y - spot.y) > 2)) this.travellers.push([spot, old.x - spot.x, old.y - spot.y, old.place !== spot.place]);
      if (moved.has(name)) spot.element.prepend(s("circle", { class: "pulse", r: 7 }));
    }
    show(this.holder, picture);
    if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
      for (const [spot, dx, dy, far] of this.travellers) {
        spot.inner.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "translate(0, 0)" }], { duration: far ? 1100 : 350, easing: "cubic-bezier(.4, 0, .2, 1)" });
      }
    }
    this.list(places);
  }

  sentence(places) {
    const parts = places.filter((place) => place.devices > 0).map((place) => `${placeName(place)}: ${place.devices}`);
    return parts.length ? `Devices by place. ${parts.join("; ")}.` : "No device is connected now.";
  }

  way(plan, edge) {
    const a = plan.places.get(edge.a);
    const b = plan.places.get(edge.b);
    if (!a || !b) return null;
    const far = a.place.zone !== "dmz" ? a : b;
    const busy = far.place.devices > 0 || a.place.devices + b.place.devices > 0;
    return s("path", { class: busy ? "way busy" : "way", d: wayPath(a, b, this.phone.matches) });
  }

  site(box) {
    const { place } = box;
    const most = Math.floor((box.width - 20) / 7.9);
    return s(
      "g",
      null,
      s("rect", { class: place.ours ? "site ours" : "site", x: box.x, y: box.y, width: box.width, height: box.height, rx: 11 }),
      s("text", { class: "site-name", x: box.x + 12, y: box.y + 20 }, clip(placeName(place), most)),
      s("text", { class: "small", x: box.x + 12, y: box.y + 37 }, clip([place.kind === "gateway" ? place.name || place.address : place.address, modesOf(place)].filter(Boolean).join("  "), Math.floor((box.width - 20) / 6.4))),
      this.devices(box),
    );
  }

  devices(box) {
    const { place } = box;
    const total = place.devices ?? 0;
    const first = place.first ?? [];
    if (total === 0) return null;
    if (total <= NAMED) {
      const across = namesPerRow(box.width);
      const step = (box.width - 14) / across;
      return first.map((device, index) => this.dot(place, device, box.x + 20 + (index % across) * step, box.y + 59 + Math.floor(index / across) * LINE, step - 24));
    }
    const perRow = perRowOf(box.width);
    if (total <= DOTS) {
      return first.map((device, index) => this.dot(place, device, box.x + 20 + (index % perRow) * LINE, box.y + 59 + Math.floor(index / perRow) * LINE));
    }
    const shown = first.slice(0, Math.max(0, Math.min(DOTS, Math.floor((box.width - 120) / LINE) * 2)));
    const wide = Math.ceil(shown.length / 2);
    const left = box.x + box.width - 88;
    return [
      shown.map((device, index) => this.dot(place, device, box.x + 20 + (index % wide) * LINE, box.y + 66 + Math.floor(index / wide) * LINE)),
      s("rect", { class: "crowd", x: left, y: box.y + 56, width: 76, height: 40, rx: 20 }),
      s("text", { class: "crowd-text", x: left + 38, y: box.y + 81, "text-anchor": "middle" }, count(total)),
    ];
  }

  dot(place, device, x, y, width = 0) {
    const room = Math.floor((width - 14 - (device.mode ? 30 : 0)) / 6.9);
    const inner = s(
      "g",
      { class: `device ${device.where ?? place.zone}`, onclick: () => (window.location.hash = `#/device/${encodeURIComponent(device.name)}`) },
      s("title", null, [device.name, device.identity, device.mode && `mode ${device.mode}`].filter(Boolean).join(", ")),
      s("circle", { r: 7 }),
      width > 0 && s("text", { x: 14, y: 4 }, clip(device.name, Math.max(room, 6))),
      width > 0 && device.mode && s("text", { class: "mode", x: width, y: 4, "text-anchor": "end" }, device.mode),
    );
    this.spots.set(device.name, { x, y, place: place.id, inner, element: inner });
    return s("g", { transform: `translate(${x} ${y})` }, inner);
  }

  list(places) {
    const rows = places.flatMap((place) => {
      const known = (place.first ?? []).map((device) => ({ place, device }));
      const rest = (place.devices ?? 0) - known.length;
      return rest > 0 ? [...known, { place, rest }] : known;
    });
    show(
      this.words,
      rows.length === 0
        ? h("p", { class: "soft" }, "No device is connected now.")
        : table("Devices by place", [
            { title: "Device", cell: (row) => (row.device ? h("a", { href: `#/device/${encodeURIComponent(row.device.name)}` }, row.device.name) : `and ${count(row.rest)} more`) },
            { title: "Place", cell: (row) => placeName(row.place) },
            { title: "Where", wide: true, cell: (row) => WHERES[row.device?.where] ?? "" },
            { title: "Mode", cell: (row) => row.device?.mode ?? "" },
          ], rows),
    );
  }
}
