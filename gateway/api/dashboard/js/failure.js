// One failed login or registration: what it tried, what each side wanted, and what to do.
import { part } from "./api.js";
import { badge, h } from "./dom.js";
import { since, when } from "./format.js";

/** A card. `bare` leaves out whose it is. */
export function failureCard(one, { bare = false } = {}) {
  const who = one.peer ?? one.node ?? "";
  const address = one.remote ?? one.source ?? "";
  return h(
    "article",
    { class: "card" },
    h(
      "div",
      { class: "card-top" },
      h("h3", null, bare ? one.reason : who || address || "unknown"),
      h("span", { class: "soft" }, h("time", { datetime: one.last_at, title: when(one.last_at) }, since(one.last_at)), one.count > 1 && ` · ${one.count} times since ${when(one.first_at)}`),
    ),
    !bare && h("p", null, h("strong", null, one.reason)),
    h(
      "p",
      { class: "row" },
      one.step && badge(`at ${one.step}`, "warn"),
      one.denied_by && badge(`denied by ${one.denied_by} ${one.agent ?? ""}`, "warn"),
      typeof one.code === "number" && one.code > 0 && badge(`code ${one.code}`),
      one.connection && badge(`connection ${one.connection}`),
      address && h("span", { class: "soft mono" }, address),
    ),
    (one.theirs || one.ours) && h(
      "div",
      { class: "offers" },
      one.theirs && h("div", { class: "offer" }, h("b", null, "The device offered"), h("span", { class: "mono" }, one.theirs)),
      one.ours && h("div", { class: "offer" }, h("b", null, "The gateway would take"), h("span", { class: "mono" }, one.ours)),
    ),
    one.remedy && h("p", { class: "remedy" }, h("b", null, "What to do: "), one.remedy),
    one.device && h("p", null, h("a", { href: `#/device/${part(one.device)}` }, "Look at the device")),
  );
}
