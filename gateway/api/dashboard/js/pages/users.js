import { part, rank } from "../api.js";
import { badge, button, h, put } from "../dom.js";
import { plain, since, when } from "../format.js";
import { empty, pageHead } from "../shell.js";
import { WindowedList, searchField, toolbar } from "../table.js";

export const title = "Users";

const COLUMNS = [
  { title: "Name", cell: (item) => h("a", { href: `#/config/users/${part(item.name)}` }, item.name) },
  { title: "State", size: "m", cell: (item) => (item.document?.enabled === false ? badge("off", "bad") : badge("may log in", "good")) },
  { title: "Groups", wide: true, cell: (item) => plain(item.document?.groups) },
  { title: "From", size: "m", wide: true, cell: (item) => (item.source === "file" ? "file" : "database") },
  { title: "Changed", size: "s", wide: true, cell: (item) => h("span", { title: when(item.changed_at) }, item.changed_at ? since(item.changed_at) : "–") },
  { title: "Devices", size: "s", wide: true, cell: (item) => h("a", { href: `#/devices?q=${encodeURIComponent(item.name)}`, "aria-label": `Devices of ${item.name}` }, "Show") },
];

export default function users({ root, query, signal, session }) {
  const filters = { q: query.get("q") ?? "" };
  const may = rank(session) >= 3;
  const add = () => (window.location.hash = "#/config/users/+");
  const list = new WindowedList({
    caption: "Users",
    path: "/config/users",
    columns: COLUMNS,
    query: () => filters,
    signal,
    empty: () =>
      filters.q
        ? empty("Nothing found", "No user's name has that in it.")
        : empty("No users here", "Devices with certificates need none. Add users for connections where people log in with a password; those of a RADIUS server are not listed.", may && button("Add a user", add, { kind: "primary" })),
  });
  put(root, 
    pageHead("Users", "People who log in with a name and a password of this gateway.", may ? [button("Add a user", add, { kind: "primary", picture: "plus" })] : []),
    toolbar(searchField("Search users", filters.q, (text) => {
      filters.q = text;
      list.restart();
    }, "Part of a name")),
    list.element,
  );
}
