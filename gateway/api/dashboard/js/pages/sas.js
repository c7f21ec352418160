import { onceKey, part, rank, send } from "../api.js";
import { badge, button, h, put, toast } from "../dom.js";
import { confirm, openDialog } from "../dialog.js";
import { duration, octets, plain, words } from "../format.js";
import { empty, facts, pageHead, tabs } from "../shell.js";
import { WindowedList } from "../table.js";

export const title = "Security associations";

export const mono = (text) => h("span", { class: "mono" }, text);

/** Everything that is known of one thing, as names and values. */
export function details(heading, item, actions = null) {
  return openDialog(heading, (close) => [
    facts(Object.entries(item).map(([name, value]) => [words(name), typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value).map(([key, one]) => h("div", null, `${words(key)}: ${plain(one)}`)) : Array.isArray(value) && typeof value[0] === "object" ? value.map((one) => h("div", null, Object.entries(one).map(([key, part_]) => `${words(key)}: ${plain(part_)}`).join(" · "))) : name.endsWith("_s") && typeof value === "number" ? duration(value) : plain(value)])),
    h("div", { class: "dialog-foot" }, actions?.(close), button("Close", () => close(), { autofocus: true })),
  ], { wide: true });
}

export default function sas({ root, rest, signal, session }) {
  const kind = rest[0] === "child" ? "child" : "ike";
  const may = rank(session) >= 2;
  const list = new WindowedList(kind === "ike" ? ikeList(signal, may, () => list) : childList(signal));
  put(root, 
    pageHead("Security associations", "What devices and gateway agreed on: IKE SAs carry the agreement, child SAs the traffic."),
    tabs("Kinds", [["#/sas/ike", "IKE SAs"], ["#/sas/child", "Child SAs"]], `#/sas/${kind}`),
    list.element,
  );
}

function ikeList(signal, may, list) {
  const open = (sa) => details(`IKE SA of ${sa.remote_id || sa.remote}`, sa, (close) => may && [
    button("Rekey", async () => {
      await send("POST", `/ike-sas/${part(sa.id)}/rekey`, {}, { key: onceKey() }).then(() => toast("New keys are being negotiated."), (error) => toast(error.message, "bad"));
      close();
    }),
    button("Disconnect", async () => {
      close();
      const done = await confirm(`Disconnect ${sa.remote_id || sa.remote}?`, "The IKE SA and its child SAs end; the device is told and may connect again.", "Disconnect", () => send("DELETE", `/ike-sas/${part(sa.id)}`));
      if (done) list().restart();
    }, { kind: "danger" }),
  ]);
  return {
    caption: "IKE SAs",
    path: "/ike-sas",
    signal,
    columns: [
      { title: "Device", cell: (sa) => h("button", { type: "button", class: "cell-button", onclick: () => open(sa) }, sa.remote_id || sa.remote) },
      { title: "State", size: "m", cell: (sa) => badge(sa.state, sa.state === "established" ? "good" : "warn") },
      { title: "Address", wide: true, cell: (sa) => mono(sa.remote) },
      { title: "Algorithms", wide: true, cell: (sa) => mono(sa.suite) },
      { title: "Proved by", size: "m", wide: true, cell: (sa) => plain(sa.auth) },
      { title: "Age", size: "s", number: true, wide: true, cell: (sa) => duration(sa.age_s) },
      { title: "Rekey in", size: "s", number: true, wide: true, cell: (sa) => duration(sa.rekey_in_s) },
    ],
    empty: () => empty("No IKE SA", "No device is connected by VPN now. When one connects, it appears here at once.", h("a", { href: "#/failures" }, "A device should be here? See why it failed")),
  };
}

function childList(signal) {
  return {
    caption: "Child SAs",
    path: "/child-sas",
    signal,
    columns: [
      { title: "Device", cell: (sa) => h("button", { type: "button", class: "cell-button", onclick: () => details(`Child SA of ${sa.remote_id}`, sa) }, sa.remote_id) },
      { title: "In", size: "s", number: true, cell: (sa) => octets(sa.bytes_in) },
      { title: "Out", size: "s", number: true, cell: (sa) => octets(sa.bytes_out) },
      { title: "SPI in / out", size: "l", wide: true, cell: (sa) => mono(`${sa.spi_in} / ${sa.spi_out}`) },
      { title: "Encapsulation", size: "s", wide: true, cell: (sa) => sa.encapsulation },
      { title: "Networks", wide: true, cell: (sa) => mono(`${plain(sa.local_ts)} ⇄ ${plain(sa.remote_ts)}`) },
      { title: "Last packet", size: "m", wide: true, number: true, cell: (sa) => (typeof sa.last_in_age_s === "number" ? `${duration(sa.last_in_age_s)} ago` : "–") },
    ],
    empty: () => empty("No child SA", "No traffic is protected now: no device is connected by VPN."),
  };
}
