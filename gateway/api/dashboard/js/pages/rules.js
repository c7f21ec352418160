import { part, rank } from "../api.js";
import { badge, h, put } from "../dom.js";
import { count, octets } from "../format.js";
import { reachTester } from "../reach.js";
import { card, empty, pageHead, tabs } from "../shell.js";
import { WindowedList, searchField, toolbar } from "../table.js";
import { details, mono } from "./sas.js";

export const title = "Rules";

const TABS = [["#/rules", "Rules"], ["#/rules/test", "May it reach that?"], ["#/rules/forwards", "Port forwards"], ["#/rules/napt", "Sessions by NAPT"]];
const LISTS = { "": rules, forwards, napt };
const INTRO = "Who may reach what, which inside ports lead to devices, and who appears as the gateway.";

export default function page({ root, rest, signal, session }) {
  const kind = ["test", "forwards", "napt"].includes(rest[0]) ? rest[0] : "";
  const may = rank(session) >= 3;
  const actions = may && kind !== "test" && kind !== "napt" ? [h("a", { class: "button primary", href: `#/config/${kind ? "redirects" : "rules"}?new=1` }, kind ? "Add a port forward" : "Add a rule")] : [];
  put(root, pageHead("Rules", INTRO, actions), tabs("Kinds", TABS, kind ? `#/rules/${kind}` : "#/rules"));
  if (kind === "test") {
    put(root, card("May it reach that?", h("p", { class: "soft" }, "The gateway answers from the rules as they are in force now, and says which one decides."), reachTester(null, signal)));
    return;
  }
  const filters = {};
  const list = new WindowedList({ ...LISTS[kind](may), signal, query: () => filters });
  const search = searchField("Search", "", (text) => {
    filters.q = text;
    list.restart();
  }, kind ? "Part of an identity or address" : "Part of a name");
  put(root, kind !== "forwards" && toolbar(search), list.element);
}

const more = (heading, one, text) => h("button", { type: "button", class: "cell-button", onclick: () => details(heading, one) }, text);

function rules(may) {
  return {
    caption: "Rules",
    path: "/rules",
    columns: [
      { title: "Name", size: "m", cell: (one) => h("a", { href: `#/config/rules/${part(one.name)}` }, one.name) },
      { title: "What", size: "s", cell: (one) => badge(one.action, one.action === "refuse" ? "bad" : "good") },
      { title: "In words", wide: true, cell: (one) => one.words.replace(`${one.action} `, "") },
      { title: "Now", size: "s", wide: true, cell: (one) => (one.in_force ? "in force" : "later") },
      { title: "Sessions", size: "s", number: true, wide: true, cell: (one) => count(one.sessions) },
      { title: "Packets", size: "s", number: true, cell: (one) => count(one.packets) },
      { title: "Octets", size: "s", number: true, wide: true, cell: (one) => octets(one.bytes) },
    ],
    empty: () => empty("No rules", "Without rules, devices reach what their connection's networks hold, but neither each other nor the gateway's administration.", may && h("a", { href: "#/config/rules?new=1" }, "Add a rule")),
  };
}

function forwards(may) {
  const inside = (one) => `${one.address ?? "every inside address"} ${one.protocol} ${one.ports}`;
  return {
    caption: "Port forwards",
    path: "/redirects",
    columns: [
      { title: "Name", cell: (one) => h("a", { href: `#/config/redirects/${part(one.name)}` }, one.name) },
      { title: "State", size: "m", cell: (one) => badge(one.state === "active" ? "active" : "device is away", one.state === "active" ? "good" : "warn") },
      { title: "Inside", wide: true, cell: (one) => mono(inside(one)) },
      { title: "Leads to", cell: (one) => mono(one.leads_to ?? "–") },
      { title: "Device", wide: true, cell: (one) => one.device },
      { title: "Connections", size: "m", number: true, wide: true, cell: (one) => count(one.connections) },
      { title: "Octets", size: "s", number: true, wide: true, cell: (one) => octets(one.bytes) },
    ],
    empty: () => empty("No port forwards", "A port forward gives inside hosts an address and port that leads to a device, wherever it is.", may && h("a", { href: "#/config/redirects?new=1" }, "Add a port forward")),
  };
}

function napt() {
  return {
    caption: "Sessions by NAPT",
    path: "/napt-sessions",
    columns: [
      { title: "Device", cell: (one) => more(`Session of ${one.identity}`, one, one.user ?? one.identity) },
      { title: "Own address", cell: (one) => mono(one.addresses.join(", ")) },
      { title: "Seen inside as", wide: true, cell: (one) => mono(one.seen_as.join(", ") || "the interface's address") },
      { title: "Addresses from", wide: true, cell: (one) => (one.napt ? h("a", { href: `#/config/napt/${part(one.napt)}` }, one.napt) : "usual") },
      { title: "Zone", size: "xs", number: true, wide: true, cell: (one) => String(one.zone) },
    ],
    empty: () => empty("No sessions by NAPT", "Devices of connections with presence = “napt” keep their own addresses and appear as the gateway; they are listed here."),
  };
}
