import { get, part } from "../api.js";
import { badge, button, h, put, show } from "../dom.js";
import { errorBox } from "../dialog.js";
import { count, plain } from "../format.js";
import { keepFresh } from "../live.js";
import { card, empty, facts, pageHead } from "../shell.js";
import { table } from "../table.js";
import { mono } from "./sas.js";

export const title = "Names";

const TONES = { running: "good", ok: "good", registered: "good", pending: "warn", failed: "bad", refused: "bad", missing: "bad", different: "bad", unknown: "warn" };
const state = (text) => badge(text, TONES[text] ?? "");

export default async function names({ root, signal }) {
  const trouble = h("div");
  const box = h("div", { class: "stack" });
  const records = h("div", { class: "stack" });
  const ask = button("Ask public DNS", async () => {
    ask.disabled = true;
    show(records, h("p", { role: "status" }, "Asking …"));
    try {
      verified(records, await get("/names/verify", null, signal));
    } catch (error) {
      if (error.name !== "AbortError") show(records, errorBox(error));
    } finally {
      ask.disabled = false;
    }
  });
  put(
    root,
    pageHead("Names", "Names that devices ask for and have inside, and how devices find this gateway in public DNS."),
    trouble,
    box,
    card("How devices find this gateway", h("p", { class: "soft" }, "Which records the public DNS of names.published should have, and whether it does."), h("div", { class: "row" }, ask), records),
  );
  await keepFresh(async () => {
    try {
      show(box, shown(await get("/names", null, signal)));
    } catch (error) {
      if (![404, 409].includes(error.status)) throw error;
      show(box, empty("No names are kept here", "Give [names] in gateway.toml addresses to listen at, or a server to register devices with.", null));
    }
  }, signal, (error) => show(trouble, error && errorBox(error)));
}

function shown(found) {
  const { forwarder, registration } = found;
  return [
    h("div", { class: "columns" },
      card("Forwarder",
        h("p", null, state(forwarder.state), ` ${forwarder.detail ?? ""}`),
        facts([
          ["Answers at", forwarder.listen?.length > 0 && mono(`${forwarder.listen.join(", ")} port ${forwarder.port}`)],
          ["Questions", count(forwarder.questions)], ["From memory", count(forwarder.from_cache)], ["Remembered", count(forwarder.cached)], ["Failed", count(forwarder.failures)],
        ]),
        forwarder.forward?.length > 0 && table("Who is asked", [
          { title: "Domains", cell: (one) => (one.domains.length ? one.domains.join(", ") : "all others") },
          { title: "Servers", cell: (one) => mono(plain(one.servers)) },
          { title: "State", cell: (one) => (one.answering === null ? badge("not asked yet") : one.answering ? badge("answers", "good") : badge("silent", "bad")) },
        ], forwarder.forward)),
      card("Registration",
        h("p", null, state(registration.state), ` ${registration.detail ?? ""}`),
        facts([["Server", registration.server && mono(registration.server)], ["Zone", registration.zone && mono(registration.zone)], ["Waiting", registration.pending > 0 && count(registration.pending)]]))),
    card("Names of devices", found.items?.length ? table("Names of devices", [
      { title: "Name", cell: (one) => (one.device ? h("a", { href: `#/device/${part(one.device)}` }, one.name) : one.name) },
      { title: "Addresses", cell: (one) => mono(plain(one.addresses)) },
      { title: "State", cell: (one) => [state(one.state), one.detail && h("div", { class: "hint" }, one.detail)] },
      { title: "Identity", wide: true, cell: (one) => one.identity },
    ], found.items) : h("p", { class: "soft" }, "No device has a name inside now."),
    found.total > (found.items?.length ?? 0) && h("p", { class: "soft" }, `${count(found.items.length)} of ${count(found.total)}.`)),
  ];
}

function verified(box, found) {
  show(
    box,
    h("p", { role: "status" }, found.ok ? badge("public DNS leads here", "good") : badge("not as it should be", "warn")),
    found.items?.length > 0 && table("Public records", [
      { title: "Record", cell: (one) => mono(one.record) },
      { title: "State", cell: (one) => state(one.state) },
      { title: "Found", wide: true, cell: (one) => mono(plain(one.found)) },
      { title: "What to do", wide: true, cell: (one) => one.detail || "–" },
    ], found.items),
    found.advice?.length > 0 && h("ul", null, found.advice.map((text) => h("li", null, text))),
  );
}
