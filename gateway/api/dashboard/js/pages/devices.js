import { part, rank } from "../api.js";
import { badge, button, h, put } from "../dom.js";
import { octets, rate, since } from "../format.js";
import { empty, pageHead } from "../shell.js";
import { WindowedList, choice, searchField, toolbar } from "../table.js";
import { PLACES, TONES, WHERES } from "../topology.js";
import { addDevice } from "../provision.js";

export const title = "Devices";

const SORTS = [
  ["name", "Name"],
  ["-last_seen", "Last seen, newest first"],
  ["-traffic", "Most traffic"],
  ["-handovers", "Most moves"],
  ["where", "Where"],
  ["user", "User"],
  ["connection", "Connection"],
];

const COLUMNS = [
  { title: "Name", sort: "name", cell: (device) => h("a", { href: `#/device/${part(device.name)}`, title: device.identity }, device.source === "seen" ? device.identity : device.name) },
  { title: "Where", size: "m", sort: "where", cell: (device) => badge(PLACES[device.where] ?? device.where, TONES[device.where] ?? "") },
  { title: "Mode", size: "xs", sort: "mode", wide: true, cell: (device) => (device.mode ? badge(device.mode, "mode") : "–") },
  { title: "User", size: "s", sort: "user", wide: true, cell: (device) => device.user ?? "–" },
  { title: "Address", size: "l", sort: "outer", wide: true, cell: (device) => h("span", { class: "mono" }, device.outer ?? device.care_of_addresses?.[0] ?? "–") },
  { title: "Inner", size: "m", wide: true, cell: (device) => h("span", { class: "mono" }, device.inner_addresses?.[0] ?? device.home_address ?? "–") },
  { title: "Traffic", size: "s", sort: "traffic", number: true, wide: true, cell: (device) => h("span", { title: `${rate((device.rate_in ?? 0) + (device.rate_out ?? 0))} now` }, octets((device.bytes_in ?? 0) + (device.bytes_out ?? 0))) },
  { title: "Seen", size: "s", sort: "last_seen", wide: true, cell: (device) => since(device.last_seen) },
];

export default function devices({ root, query, signal, session }) {
  const filters = { q: query.get("q") ?? "", where: query.get("where") ?? "" };
  const mayAdd = rank(session) >= 3;
  const add = () => addDevice().then((made) => made && list.restart());
  const remember = () => {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...filters, sort: list.sort === "name" ? "" : list.sort })) if (value) parameters.set(name, value);
    const text = parameters.toString();
    history.replaceState(null, "", `#/devices${text ? `?${text}` : ""}`);
  };
  const list = new WindowedList({
    caption: "Devices",
    path: "/devices",
    columns: COLUMNS,
    query: () => filters,
    signal,
    sort: query.get("sort") ?? "name",
    setSort: () => setTimeout(remember),
    empty: () =>
      filters.q || filters.where
        ? empty("Nothing found", "No device matches. Search for a part of a name, an identity, a user or an address, or look at all.", button("Show all", () => (window.location.hash = "#/devices")))
        : empty("No device yet", "Add the first: the gateway makes a bundle that sets the device up.", mayAdd && button("Add a device", add, { kind: "primary" })),
  });
  put(root, 
    pageHead("Devices", "All that are configured, and those that logged in without.", mayAdd ? [button("Add a device", add, { kind: "primary", picture: "plus" })] : []),
    toolbar(
      searchField("Search devices", filters.q, (text) => {
        filters.q = text;
        remember();
        list.restart();
      }, "Name, identity, user or address"),
      choice("Where", [["", "Everywhere"], ...Object.entries(WHERES)], filters.where, (value) => {
        filters.where = value;
        remember();
        list.restart();
      }),
      choice("Sort", SORTS, list.sort, (value) => list.order(value)),
    ),
    list.element,
  );
}
