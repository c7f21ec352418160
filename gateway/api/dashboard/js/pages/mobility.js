import { part, rank, send } from "../api.js";
import { badge, button, h, put } from "../dom.js";
import { confirm } from "../dialog.js";
import { duration, plain } from "../format.js";
import { empty, pageHead, tabs } from "../shell.js";
import { WindowedList, searchField, toolbar } from "../table.js";
import { details } from "./sas.js";

export const title = "Bindings and visitors";

const mono = (text) => h("span", { class: "mono" }, text);
const expiry = (one) => (one.expires_in_s === null ? "never" : `in ${duration(one.expires_in_s)}`);

export default function mobility({ root, rest, signal, session }) {
  const kind = ["visitors", "networks"].includes(rest[0]) ? rest[0] : "bindings";
  const may = rank(session) >= 2;
  const filters = { node: "" };
  const settings = { bindings, visitors, networks }[kind](may, () => list);
  const list = new WindowedList({ ...settings, signal, query: () => (kind === "bindings" ? filters : {}) });
  put(root, 
    pageHead("Bindings and visitors", "Mobile IP: which device is away from home and where, and who visits our foreign agents."),
    tabs("Kinds", [["#/mobility/bindings", "Bindings"], ["#/mobility/visitors", "Visitors"], ["#/mobility/networks", "Home networks"]], `#/mobility/${kind}`),
    kind === "bindings" && toolbar(searchField("Search bindings", "", (text) => {
      filters.node = text;
      list.restart();
    }, "Part of a node's name")),
    list.element,
  );
}

function bindings(may, list) {
  const open = (one) => details(`Binding of ${one.node}`, one, (close) => may && button("Revoke", async () => {
    close();
    const done = await confirm(`Revoke the binding of ${one.node}?`, "Packets to its home address reach it no more until it registers again; it is told.", "Revoke", () => send("DELETE", `/bindings/${part(one.home_address)}`));
    if (done) list().restart();
  }, { kind: "danger" }));
  return {
    caption: "Bindings",
    path: "/bindings",
    columns: [
      { title: "Node", cell: (one) => h("button", { type: "button", class: "cell-button", onclick: () => open(one) }, one.node) },
      { title: "Home address", cell: (one) => mono(one.home_address) },
      { title: "Care-of address", wide: true, cell: (one) => mono(plain(one.care_of_addresses.map((each) => each.address))) },
      { title: "Tunnel", wide: true, cell: (one) => one.care_of_addresses.at(-1)?.tunnel ?? "–" },
      { title: "Home agent", wide: true, cell: (one) => one.home_agent },
      { title: "Expires", size: "m", wide: true, number: true, cell: expiry },
    ],
    empty: () => empty("No bindings", "No mobile node is away from home and registered. A home agent is configured under Configuration, Home agents.", h("a", { href: "#/config/home_agents" }, "Home agents")),
  };
}

function visitors() {
  return {
    caption: "Visitors",
    path: "/visitors",
    columns: [
      { title: "Home address", cell: (one) => h("button", { type: "button", class: "cell-button", onclick: () => details(`Visitor ${one.home_address}`, one) }, one.home_address) },
      { title: "Foreign agent", cell: (one) => one.foreign_agent },
      { title: "Name", wide: true, cell: (one) => one.nai ?? "–" },
      { title: "Home agent", wide: true, cell: (one) => mono(one.home_agent) },
      { title: "State", size: "m", wide: true, cell: (one) => (one.installed ? badge("carried", "good") : badge("waiting", "warn")) },
      { title: "Expires", size: "m", wide: true, number: true, cell: expiry },
    ],
    empty: () => empty("No visitors", "No mobile node is registered by way of a foreign agent of this gateway.", h("a", { href: "#/config/foreign_agents" }, "Foreign agents")),
  };
}

function networks() {
  return {
    caption: "Home networks",
    path: "/home-networks",
    columns: [
      { title: "Name", cell: (one) => h("a", { href: `#/config/home_networks/${part(one.name)}` }, one.name) },
      { title: "Network", cell: (one) => mono(one.network) },
      { title: "Home agent", wide: true, cell: (one) => `${one.home_agent} (${one.placement})` },
      { title: "Link", wide: true, cell: (one) => one.interface ?? "virtual" },
      { title: "Away", size: "xs", number: true, wide: true, cell: (one) => String(one.bindings) },
      { title: "Leased", size: "s", number: true, wide: true, cell: (one) => `${one.dynamic_addresses_in_use} of ${one.dynamic_addresses}` },
    ],
    empty: () => empty("No home networks", "They are for devices that keep one address wherever they are.", h("a", { href: "#/config/home_networks" }, "Configure one")),
  };
}
