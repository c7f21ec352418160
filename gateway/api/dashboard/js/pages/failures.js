import { get, part } from "../api.js";
import { badge, h, put, show } from "../dom.js";
import { failureCard } from "../failure.js";
import { since } from "../format.js";
import { card, empty, pageHead, tabs } from "../shell.js";
import { CardList, choice, searchField, toolbar } from "../table.js";
import { TONES, WHERES } from "../topology.js";

export const title = "Failures";

export default function failures({ root, rest, query, signal }) {
  const kind = rest[0] === "registrations" ? "registrations" : "logins";
  const filters = { who: query.get("who") ?? "", within_s: query.get("within_s") ?? "" };
  const verdict = h("div", { "aria-live": "polite" });
  const list = new CardList({
    path: kind === "registrations" ? "/registration-failures" : "/ike-failures",
    query: () => filters,
    signal,
    build: (one) => failureCard(one),
    empty: () =>
      filters.who
        ? empty(`Nothing failed for “${filters.who}”`, "Then its messages do not reach the gateway: check the address the device was given, that UDP ports 500 and 4500 pass, and try again while you look here.")
        : empty("No failures", kind === "logins" ? "Every login worked, as far as the gateway remembers." : "Every registration was accepted, as far as the gateway remembers."),
    page: 30,
  });
  const judge = async () => {
    if (!filters.who) return show(verdict);
    try {
      const page = await get("/devices", { q: filters.who, limit: 5 }, signal);
      if (!page.items.length) return show(verdict, h("p", { class: "soft" }, "No device of that name or address is known."));
      return show(verdict, card("Devices that match", h("ul", { class: "timeline" }, page.items.map((device) => h("li", null, h("a", { href: `#/device/${part(device.name)}` }, device.name), h("span", { class: "row" }, badge(WHERES[device.where] ?? device.where, TONES[device.where] ?? ""), h("span", { class: "soft" }, explain(device))))))));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return show(verdict);
    }
  };
  const change = () => {
    const parameters = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
    const text = parameters.toString();
    history.replaceState(null, "", `#/failures/${kind}${text ? `?${text}` : ""}`);
    judge().catch(() => {});
    return list.restart();
  };
  put(root, 
    pageHead("Why can't this device connect?", "Type its name, its user or its address: you see what it tried, what both sides wanted, and what to do."),
    tabs("Kinds of failures", [["#/failures/logins", "Logins (IKE)"], ["#/failures/registrations", "Registrations (Mobile IP)"]], `#/failures/${kind}`),
    toolbar(
      searchField("Name, user or address", filters.who, (text) => {
        filters.who = text;
        change();
      }, "anns-phone, ann@example.com or 192.0.2.7"),
      choice("When", [["", "Any time"], ["3600", "Last hour"], ["86400", "Last day"], ["604800", "Last week"]], filters.within_s, (value) => {
        filters.within_s = value;
        change();
      }),
    ),
    verdict,
    list.element,
  );
  judge().catch(() => {});
}

function explain(device) {
  if (device.blocked) return "Its logins are refused: it is blocked.";
  if (device.where === "failed") return "Its last login was refused; see below.";
  if (device.where === "offline") return `Not connected. Last seen ${since(device.last_seen)}.`;
  return "It is connected now.";
}
