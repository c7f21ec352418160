// A packet of the device's, with every header that is put in front of it and behind it.
import { h, s, unique } from "./dom.js";
import { table } from "./table.js";

const WIDTH = 860;
const ROW = 54;
const SMALLEST = 66;
const TRAILER = /trailer|pad|icv|check/i;
const BRIEF = { "ESP: SPI, sequence": "ESP", "ESP: IV": "IV", "ESP: check value": "ICV", "ESP: padding, at most": "Padding", "ESP: pad length, next header": "Trailer" };
const SHORT = { "x-mip": "MIP outside", vpn: "VPN", "i-mip": "MIP inside" };
const NAMES = { "x-mip": "Mobile IP outside", vpn: "VPN", "i-mip": "Mobile IP inside" };

/** `device` has `layers` (the outermost first) and `path_mtu`. */
export function layersPicture(device) {
  const layers = device.layers ?? [];
  const mtu = device.path_mtu;
  if (!layers.length) {
    return h("p", { class: "soft" }, mtu?.inner && device.where === "inside" ? `Nothing is put in front of its packets: they may have all ${mtu.inner} octets.` : "Not connected: there are no layers now.");
  }
  const each = layers.flatMap((layer) => (layer.headers ?? []).map((header) => ({ ...header, layer })));
  const front = each.filter((header) => !TRAILER.test(header.name));
  const back = [...layers].reverse().flatMap((layer) => each.filter((header) => header.layer === layer && TRAILER.test(header.name)));
  const inner = mtu?.inner ?? device.mtu ?? 0;
  const payload = Math.max(150, WIDTH - (front.length + back.length) * 96);
  const extra = Math.max(0, WIDTH - payload - (front.length + back.length) * SMALLEST);
  const sum = each.reduce((all, header) => all + header.octets, 0) || 1;
  const total = mtu?.link ?? inner + sum;
  const spans = new Map();
  let x = 0;
  const boxes = [];
  const add = (header) => {
    const width = SMALLEST + (extra * header.octets) / sum;
    boxes.push(block(x, width, BRIEF[header.name] ?? header.name, `${header.octets} B`, `layer tone-${header.layer.name[0]}`));
    const list = spans.get(header.layer) ?? [];
    const last = list.at(-1);
    if (last && Math.abs(last[1] - x) < 0.5) last[1] = x + width;
    else list.push([x, x + width]);
    spans.set(header.layer, list);
    x += width;
  };
  front.forEach(add);
  boxes.push(block(x, payload, "The user's packet", `up to ${inner} B`, "layer payload"));
  x += payload;
  back.forEach(add);
  const id = unique("layers");
  const words = layers.map((layer) => `${NAMES[layer.name] ?? layer.name}, ${layer.what}, ${layer.octets} octets`).join("; ");
  const braces = [...spans].flatMap(([layer, list]) => list.map(([from, to], index) => [
    s("path", { class: `brace tone-${layer.name[0]}`, d: `M${from + 3} ${ROW + 4}v5H${to - 3}v-5` }),
    index === 0 && s("text", { class: "axis", x: (from + to) / 2, y: ROW + 25, "text-anchor": "middle" }, to - from < 70 ? layer.name : to - from < 120 ? (SHORT[layer.name] ?? layer.name) : (NAMES[layer.name] ?? layer.name)),
  ]));
  return h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "picture-box", tabindex: "0", role: "region", "aria-label": "Layers of a packet" },
      s(
        "svg",
        { class: "layers", viewBox: `0 0 ${Math.max(WIDTH, x)} ${ROW + 34}`, role: "img", "aria-labelledby": `${id} ${id}-desc` },
        s("title", { id }, "Layers of encapsulation"),
        s("desc", { id: `${id}-desc` }, `From the outside: ${words}; then the user's packet of at most ${inner} octets.`),
        boxes,
        braces,
      ),
    ),
    h("p", { class: "sum" }, `${total} octets on the link, ${mtu?.overhead ?? device.overhead_octets ?? sum} of them for the layers: `, h("strong", null, `MTU ${inner}`), mtu?.arithmetic && h("span", { class: "soft" }, ` (${mtu.arithmetic})`)),
    h("details", { data: { id: "layers" } }, h("summary", null, "The same in words"), table("Layers, the outermost first", [
      { title: "Layer", cell: (layer) => NAMES[layer.name] ?? layer.name },
      { title: "What", cell: (layer) => layer.what },
      { title: "Headers", cell: (layer) => (layer.headers ?? []).map((header) => `${header.name} ${header.octets}`).join(", ") },
      { title: "Octets", number: true, cell: (layer) => String(layer.octets) },
      { title: "From and to", wide: true, cell: (layer) => `${layer.local} → ${layer.remote}` },
    ], layers)),
  );
}

function block(x, width, name, octets, kind) {
  const most = Math.max(4, Math.floor((width - 8) / 7.2));
  const short = name.length > most ? `${name.slice(0, most - 1)}…` : name;
  return s(
    "g",
    { class: kind },
    s("title", null, `${name}, ${octets}`),
    s("rect", { x: x + 1, y: 1, width: Math.max(width - 2, 1), height: ROW - 4, rx: 6 }),
    s("text", { x: x + width / 2, y: 22, "text-anchor": "middle" }, short),
    s("text", { class: "small", x: x + width / 2, y: 40, "text-anchor": "middle" }, octets),
  );
}
