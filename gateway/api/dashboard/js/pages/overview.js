import { get, rank } from "../api.js";
import { announce, badge, button, h, put, show } from "../dom.js";
import { errorBox } from "../dialog.js";
import { count, duration, rate, since, when } from "../format.js";
import { keepFresh } from "../live.js";
import { card, empty, pageHead } from "../shell.js";
import { TopologyPicture } from "../topology.js";
import { addDevice } from "../provision.js";

export const title = "Overview";

const MOVES = /moved|endpoint|handover|binding|visitor/;
const LATEST = 12;
const latest = [];

function numberCard(value, what, href, tone = "") {
  return h("a", { class: `number-card ${tone}`, href }, h("span", { class: "big" }, value), h("span", { class: "what" }, what));
}

function problemsOf(status, failures, devices) {
  const found = [];
  if (status?.api?.state === "lost") found.push(["The API's keeper ended.", "Restart the gateway service.", "bad"]);
  const reload = status?.reloads ?? {};
  if (reload.last_error) found.push([`The configuration was not applied: ${reload.last_error}`, "Correct gateway.toml and reload.", "bad"]);
  const store = status?.store ?? {};
  if (store.fault) found.push([`The database: ${store.fault}`, store.remedy ?? "Look at the disk's space and permissions.", "bad"]);
  for (const one of status?.broken ?? []) found.push([`${one.kind}/${one.name} is left out: ${one.broken ?? one.reason}`, "Correct it under Configuration.", "warn", `#/config/${one.kind}/${one.name}`]);
  for (const pool of status?.pools ?? []) {
    if (pool.size && pool.in_use / pool.size >= 0.9) found.push([`Pool ${pool.name} is nearly used up: ${pool.in_use} of ${pool.size}.`, "Enlarge its network, or end sessions that nobody needs.", "warn", "#/pools"]);
  }
  for (const one of failures) found.push([`${one.peer || one.remote} could not log in (${one.count === 1 ? "once" : `${one.count} times`}): ${one.reason}`, one.remedy, "warn", `#/failures?who=${encodeURIComponent(one.peer || one.remote)}`]);
  if (devices.failed > failures.length) found.push([`${devices.failed} devices have failed to log in and are not connected.`, "See what they tried, and what to do.", "warn", "#/devices?where=failed"]);
  return found;
}

function movedIn(events) {
  const names = new Set();
  for (const event of events) {
    if (!MOVES.test(event.name ?? "")) continue;
    const name = event.fields?.device ?? event.fields?.node ?? event.fields?.peer;
    if (typeof name === "string") names.add(name);
  }
  return names;
}

export default async function overview({ root, signal, session }) {
  const numbers = h("div", { class: "numbers" });
  const trouble = h("div");
  const fault = h("div");
  const picture = new TopologyPicture(signal);
  const problems = h("div", { class: "stack" });
  const feed = h("div");
  const foot = h("p", { class: "soft" });
  const pictureBox = h("div");
  const mayAdd = rank(session) >= 3;
  put(root, 
    pageHead("Overview", "Everything here comes from the running gateway and follows it by itself.", mayAdd ? [button("Add a device", () => addDevice(), { kind: "primary", picture: "plus" })] : []),
    trouble,
    fault,
    numbers,
    card("Where the devices are", pictureBox),
    h("div", { class: "columns" }, card("Needs attention", problems), card("Just now", feed)),
    foot,
  );
  show(feed, h("p", { class: "soft" }, "Nothing happened since this page was opened."));

  const unfinished = mayAdd && (await get("/setup", null, signal).catch(() => null))?.needed === true;
  if (unfinished) put(trouble, h("div", { class: "note warn" }, h("p", null, "Nobody can connect yet: the gateway has no connection for devices."), h("a", { class: "button primary", href: "#/setup" }, "Finish the setup")));

  async function load(events) {
    const [topology, status, failures] = await Promise.all([
      get("/topology", null, signal),
      get("/status", null, signal).catch((error) => (error.name === "AbortError" ? Promise.reject(error) : null)),
      get("/ike-failures", { within_s: 3600, limit: 5 }, signal),
    ]);
    const where = topology.where ?? {};
    const away = (where.outside ?? 0) + (where.inside ?? 0) + (where["behind-fa"] ?? 0) + (where.away ?? 0);
    const busy = status?.traffic ?? null;
    show(
      numbers,
      numberCard(count(away), "connected", "#/devices"),
      numberCard(count(where.outside ?? 0), "outside, by VPN", "#/devices?where=outside"),
      numberCard(count(where.inside ?? 0), "inside", "#/devices?where=inside"),
      numberCard(count(where["behind-fa"] ?? 0), "behind a foreign agent", "#/devices?where=behind-fa"),
      numberCard(count(where.offline ?? 0), "offline", "#/devices?where=offline"),
      numberCard(count(where.failed ?? 0), "failed to log in", "#/devices?where=failed", where.failed ? "bad" : ""),
      busy && numberCard(rate(busy.rate_in + busy.rate_out), "all devices together", "#/devices?sort=-traffic"),
    );
    if (topology.total === 0) {
      show(pictureBox, empty("No device yet", "Add one: it gets a file or a QR code that sets it up, and appears here when it connects.", mayAdd && button("Add a device", () => addDevice(), { kind: "primary" })), picture.element);
    } else show(pictureBox, picture.element);
    picture.update(topology, movedIn(events));
    const found = problemsOf(status, failures.items ?? [], where);
    show(problems, found.length ? found.map(([text, remedy, tone, href]) => h("div", { class: `note ${tone}` }, h("p", null, text), remedy && h("p", { class: "soft" }, remedy), href && h("a", { href }, "Look at it"))) : h("p", { class: "soft" }, "Nothing. All is well."));
    tellAbout(events);
    if (status) show(foot, [status.name, `version ${status.version}`, `running for ${duration(status.uptime_s)}`, status.rss_kib && `${Math.round(status.rss_kib / 1024)} MiB of memory`].filter(Boolean).join(" · "));
  }

  function tellAbout(events) {
    const worth = events.filter((event) => event.text && event.severity !== "debug");
    if (worth.length) {
      latest.unshift(...worth.reverse());
      latest.length = Math.min(latest.length, LATEST);
      const move = worth.find((event) => MOVES.test(event.name ?? ""));
      if (move) announce(move.text);
    }
    if (latest.length === 0) return;
    show(feed, h("ul", { class: "timeline" }, latest.map((event) => h("li", null, h("time", { datetime: event.time, title: when(event.time) }, since(event.time)), h("span", null, event.severity === "warning" && [badge("warning", "warn"), " "], event.text)))));
  }

  await keepFresh(load, signal, (error) => show(fault, error && errorBox(error)));
}
