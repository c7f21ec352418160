import { Problem, get, part, rank, send } from "../api.js";
import { badge, h, put, show } from "../dom.js";
import { usageBar } from "../chart.js";
import { confirm, errorBox } from "../dialog.js";
import { count, plain, since, until, when } from "../format.js";
import { keepFresh } from "../live.js";
import { empty, pageHead, tabs } from "../shell.js";
import { WindowedList, searchField, toolbar } from "../table.js";
import { details, mono } from "./sas.js";

export const title = "Address pools";

const TABS = [["#/pools", "Pools"], ["#/pools/leases", "Addresses in use"], ["#/pools/history", "Who had what when"]];
const STATES = { "in-use": ["in use", "good"], kept: ["kept", "warn"], static: ["static", "info"], reserved: ["reserved", ""] };
const REACHED = { ok: "good", todo: "warn", failed: "bad" };

export default async function pools({ root, rest, signal, session }) {
  const kind = ["leases", "history"].includes(rest[0]) ? rest[0] : "";
  const add = rank(session) >= 3 ? [h("a", { class: "button primary", href: "#/config/pools?new=1" }, "Add a pool")] : [];
  put(root, pageHead("Address pools", "Inner addresses for devices, and home addresses that are lent.", add), tabs("Kinds", TABS, kind ? `#/pools/${kind}` : "#/pools"));
  if (!kind) return overview(root, signal, session);
  const filters = {};
  const list = new WindowedList({ ...(kind === "leases" ? leases(rank(session) >= 2, () => list) : history()), signal, query: () => filters });
  put(root, toolbar(searchField("Search addresses", "", (text) => {
    filters.q = text;
    list.restart();
  }, "Part of an address, identity or user")), list.element);
  return null;
}

function poolCard(name, network, used, size, rows, href) {
  const share = size > 0 ? Math.round((used / size) * 100) : 0;
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-top" }, h("h2", null, href ? h("a", { href }, name) : name), h("span", { class: "mono soft" }, network)),
    usageBar(`Use of ${name}`, used, size),
    h("p", null, h("strong", null, count(used)), ` of ${count(size)} addresses in use (${share} %)`),
    rows,
  );
}

/** How the inside learns where a pool is, and what to enter there. */
function reached(one) {
  if (!one || (one.advertise === "none" && one.state !== "todo")) return null;
  return [
    h("p", null, badge({ ok: "reachable", todo: "to do", failed: "not reachable" }[one.state] ?? one.state, REACHED[one.state] ?? ""), ` ${one.detail ?? ""}`),
    one.routes?.length > 0 && h("pre", { tabindex: "0", "aria-label": "Routes to enter" }, one.routes.map((route) => route.command).join("\n")),
  ];
}

async function overview(root, signal, session) {
  const trouble = h("div");
  const box = h("div", { class: "stack" });
  put(root, trouble, box);
  const none = { items: [], pools: [] };
  const optional = (error) => (error instanceof Problem && [404, 409].includes(error.status) ? none : Promise.reject(error));
  await keepFresh(async () => {
    const [status, networks, inside] = await Promise.all([get("/status", null, signal), get("/home-networks", null, signal), get("/reachability", null, signal).catch(optional)]);
    const ways = new Map((inside.items ?? []).map((one) => [one.pool, one]));
    const uses = new Map((inside.pools ?? []).map((one) => [one.pool, one]));
    const also = (use) => use && h("p", { class: "soft" }, `${count(use.kept)} kept for devices that are away, ${count(use.static)} static, ${count(use.reserved)} reserved.`);
    const found = [
      ...(status.pools ?? []).map((pool) => poolCard(pool.name, pool.network, pool.in_use ?? 0, pool.size ?? 0, [also(uses.get(pool.name)), pool.dns && h("p", { class: "soft" }, `Name servers: ${plain(pool.dns)}`), reached(ways.get(pool.name))], `#/config/pools/${part(pool.name)}`)),
      ...(networks.items ?? []).filter((one) => one.dynamic_addresses > 0).map((one) => poolCard(`Home network ${one.name}`, one.network, one.dynamic_addresses_in_use, one.dynamic_addresses, h("p", { class: "soft" }, `${one.bindings} of its devices are away.`), `#/config/home_networks/${part(one.name)}`)),
    ];
    show(box, found.length ? h("div", { class: "columns" }, found) : empty("No pools", "Devices need inner addresses. Choose a random private network: home networks such as 192.168.0.0/24 collide with the pool when a device is in one.", rank(session) >= 3 && h("a", { href: "#/config/pools?new=1" }, "Add a pool")));
  }, signal, (error) => show(trouble, error && errorBox(error)));
}

const whose = (one) => (one.device ? h("a", { href: `#/device/${part(one.device)}` }, one.user ?? one.identity ?? one.device) : (one.user ?? one.identity ?? "–"));

function leases(may, list) {
  const release = (one) => may && one.state === "kept" && ((close) => h("button", { type: "button", class: "button danger", onclick: async () => {
    close();
    const done = await confirm(`Give ${one.address} free?`, `${one.identity ?? "Its device"} may get another address when it comes again.`, "Give free", () => send("DELETE", `/leases/${part(one.pool)}/${part(one.address)}`));
    if (done) list().restart();
  } }, "Give free"));
  return {
    caption: "Addresses in use",
    path: "/leases",
    columns: [
      { title: "Address", cell: (one) => h("button", { type: "button", class: "cell-button mono", onclick: () => details(`Address ${one.address}`, one, release(one) || null) }, one.address) },
      { title: "State", size: "m", cell: (one) => badge(...(STATES[one.state] ?? [one.state, ""])) },
      { title: "Whose", cell: whose },
      { title: "Pool", wide: true, cell: (one) => one.pool },
      { title: "Why", wide: true, cell: (one) => one.why },
      { title: "Since", size: "s", wide: true, cell: (one) => (one.since ? h("span", { title: when(one.since) }, since(one.since)) : "–") },
      { title: "Free", size: "s", wide: true, cell: (one) => (one.until ? h("span", { title: when(one.until) }, until(one.until)) : "–") },
    ],
    empty: () => empty("No address is in use", "Devices get one when they log in. An address is then kept for its device for a while."),
  };
}

function history() {
  return {
    caption: "Who had which address when",
    path: "/leases/history",
    columns: [
      { title: "Address", cell: (one) => mono(one.address) },
      { title: "Whose", cell: whose },
      { title: "Pool", wide: true, cell: (one) => one.pool },
      { title: "From", size: "m", wide: true, cell: (one) => when(one.first_at) },
      { title: "Until", size: "m", wide: true, cell: (one) => (one.last_at ? when(one.last_at) : "still") },
      { title: "Why it ended", wide: true, cell: (one) => one.reason ?? "–" },
    ],
    empty: () => empty("Nobody had an address yet", "Who had which address is recorded from the first login on."),
  };
}
