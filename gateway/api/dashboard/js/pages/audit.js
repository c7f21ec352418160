import { badge, h, put } from "../dom.js";
import { plain, when, words } from "../format.js";
import { differences } from "../objects.js";
import { empty, pageHead } from "../shell.js";
import { CardList, choice, searchField, table, toolbar } from "../table.js";

export const title = "Audit";

const TONES = { done: "good", refused: "warn", failed: "bad" };

export default function audit({ root, query, signal }) {
  const filters = { who: query.get("who") ?? "", target: query.get("target") ?? "", outcome: "", since: "" };
  const list = new CardList({
    path: "/audit",
    query: () => filters,
    signal,
    build: entry,
    empty: () => empty("Nothing found", "Everything that changes the gateway is recorded here: who, from where, what, before and after. Records cannot be changed or removed."),
    page: 50,
  });
  const set = (name) => (value) => {
    filters[name] = value;
    list.restart();
  };
  const days = (count) => new Date(Date.now() - count * 86400000).toISOString().slice(0, 19) + "Z";
  put(root, 
    pageHead("Audit", "Who changed what, the newest first."),
    toolbar(
      searchField("Who", filters.who, set("who"), "Who: a part of a name"),
      searchField("What it was done to", filters.target, set("target"), "To what: devices/anns-phone"),
      choice("Outcome", [["", "Any"], ["done", "Done"], ["refused", "Refused"], ["failed", "Failed"]], "", set("outcome")),
      choice("When", [["", "Any time"], ["1", "Last day"], ["7", "Last week"], ["30", "Last month"]], "", (value) => set("since")(value ? days(Number(value)) : "")),
    ),
    list.element,
  );
}

function entry(one) {
  const changed = one.before || one.after ? differences(one.before ?? {}, one.after ?? {}) : [];
  return h(
    "article",
    { class: "card" },
    h("div", { class: "card-top" }, h("h2", null, `${one.actor} – ${words(one.action)}`), h("time", { class: "soft", datetime: typeof one.at === "string" ? one.at : null }, when(one.at))),
    h("p", { class: "row" }, badge(one.outcome, TONES[one.outcome] ?? ""), one.target && h("code", null, one.target), h("span", { class: "soft mono" }, one.remote ?? "")),
    one.detail && h("p", null, one.detail),
    changed.length > 0 && h("details", { data: { id: String(one.id) } }, h("summary", null, `Before and after (${changed.length})`), table("Before and after", [
      { title: "Field", cell: ([name]) => h("span", { class: "mono" }, name) },
      { title: "Before", cell: ([, before]) => plain(before) },
      { title: "After", cell: ([, , after]) => plain(after) },
    ], changed)),
  );
}
