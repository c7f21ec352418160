import { part, rank, send } from "../api.js";
import { badge, button, h, put } from "../dom.js";
import { confirm } from "../dialog.js";
import { duration, plain, since, when } from "../format.js";
import { empty, pageHead, tabs } from "../shell.js";
import { WindowedList, searchField, toolbar } from "../table.js";
import { details } from "./sas.js";

export const title = "Address reuse";

const mono = (text) => h("span", { class: "mono" }, text);
const left = (one) => (typeof one.expires_in_s === "number" ? `in ${duration(one.expires_in_s)}` : "with its connection");
const FILTERS = { clients: ["client", "Address of a client"], mappings: ["client", "Address of a client"], audit: ["address", "Address outside"] };

export default function nar({ root, rest, signal, session }) {
  const kind = ["mappings", "audit"].includes(rest[0]) ? rest[0] : "clients";
  const may = rank(session) >= 2;
  const filters = {};
  const [filter, hint] = FILTERS[kind];
  const list = new WindowedList({ ...{ clients, mappings, audit }[kind](may, () => list), signal, query: () => filters });
  put(root, 
    pageHead("Address reuse", "NAR: clients that have parts of our public addresses, what they have, and who had what when."),
    tabs("Kinds", [["#/nar/clients", "Clients"], ["#/nar/mappings", "Leases"], ["#/nar/audit", "Who had what when"]], `#/nar/${kind}`),
    toolbar(searchField(hint, "", (text) => {
      filters[filter] = /^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? text : "";
      if (filters[filter] || !text) list.restart();
    }, `${hint}, in full`)),
    list.element,
  );
}

function end(heading, text, path, list) {
  return (close) => button("End", async () => {
    close();
    if (await confirm(heading, text, "End", () => send("DELETE", path))) list().restart();
  }, { kind: "danger" });
}

function clients(may, list) {
  return {
    caption: "NAR clients",
    path: "/nar/clients",
    columns: [
      { title: "Client", cell: (one) => h("button", { type: "button", class: "cell-button", onclick: () => details(`Client ${one.client}`, one, may && end(`End everything of ${one.client}?`, "Its sessions, leases and connections end; it may negotiate again.", `/nar/clients/${part(one.client)}`, list)) }, one.client) },
      { title: "State", size: "m", cell: (one) => badge(one.state, one.connected ? "good" : "warn") },
      { title: "User", wide: true, cell: (one) => one.user ?? "–" },
      { title: "Address", wide: true, cell: (one) => mono(one.address ?? "–") },
      { title: "Delivery", wide: true, cell: (one) => one.delivery ?? "–" },
      { title: "Leases", size: "xs", number: true, wide: true, cell: (one) => String(one.leases) },
      { title: "Expires", size: "m", wide: true, cell: left },
    ],
    empty: () => empty("No clients", "Nobody has parts of our addresses now. NAR servers are configured under Configuration.", h("a", { href: "#/config/nar" }, "NAR servers")),
  };
}

function mappings(may, list) {
  return {
    caption: "Leases",
    path: "/nar/mappings",
    columns: [
      { title: "Address", cell: (one) => h("button", { type: "button", class: "cell-button", onclick: () => details(`Lease of ${one.address}`, one, may && end("End this lease?", "Its packets go nowhere from then on; the client is told if it knows leases.", `/nar/mappings/${part(one.id)}`, list)) }, one.address) },
      { title: "What", cell: (one) => mono(`${one.protocol} ${one.value}`) },
      { title: "Client", wide: true, cell: (one) => mono(one.client) },
      { title: "User", wide: true, cell: (one) => one.user ?? "–" },
      { title: "From", size: "m", wide: true, cell: (one) => mono(one.remote ? `${one.remote}${one.remote_port ? `:${one.remote_port}` : ""}` : "anybody") },
      { title: "Since", size: "s", wide: true, cell: (one) => since(one.since) },
      { title: "Expires", size: "m", wide: true, cell: left },
    ],
    empty: () => empty("No leases", "No client has anything of our addresses now."),
  };
}

function audit() {
  return {
    caption: "Who had what when",
    path: "/nar/audit",
    columns: [
      { title: "Address", cell: (one) => h("button", { type: "button", class: "cell-button", onclick: () => details(`Held of ${one.address}`, one) }, one.address) },
      { title: "What", cell: (one) => mono(`${one.protocol} ${one.value}`) },
      { title: "Client", wide: true, cell: (one) => mono(one.client) },
      { title: "User", wide: true, cell: (one) => one.user ?? "–" },
      { title: "From", size: "m", wide: true, cell: (one) => when(one.since) },
      { title: "Until", size: "m", wide: true, cell: (one) => (one.until ? when(one.until) : "still") },
      { title: "Why it ended", wide: true, cell: (one) => plain(one.ended_by) },
    ],
    empty: () => empty("Nothing recorded", "Leases are recorded from the first one on."),
  };
}
