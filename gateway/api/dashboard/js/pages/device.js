import { Problem, download, get, onceKey, part, rank, save, send } from "../api.js";
import { badge, button, h, put, show, toast } from "../dom.js";
import { confirm, errorBox, field, formDialog } from "../dialog.js";
import { trafficChart } from "../chart.js";
import { count, duration, octets, plain, rate, since, until, when } from "../format.js";
import { deviceMtu, deviceRules } from "../device_access.js";
import { layersPicture } from "../layers.js";
import { keepFresh } from "../live.js";
import { card, empty, facts, pageHead, setTitle } from "../shell.js";
import { CardList, choice, table } from "../table.js";
import { TONES, WHERES } from "../topology.js";
import { newBundle, platformName } from "../provision.js";
import { failureCard } from "../failure.js";

export const title = "Device";

const mono = (text) => h("span", { class: "mono" }, text);
const short = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const gapOf = (move) => (typeof move.gap_ms === "number" ? `${short(move.gap_ms)}${move.precision_ms > 1 ? ` (±${short(move.precision_ms)})` : ""}` : "not measured");

export default async function device({ root, rest, signal, session }) {
  const name = rest[0] ?? "";
  const path = `/devices/${part(name)}`;
  const may = rank(session);
  const head = h("div");
  const trouble = h("div");
  const parts = { state: h("div", { class: "stack" }), layers: h("div"), mtu: h("div", { class: "stack" }), rules: h("div", { class: "stack" }), traffic: h("div"), moves: h("div"), failures: h("div", { class: "cards" }), sessions: h("div", { class: "stack" }), certificates: h("div"), captures: h("div") };
  let span = "1h";
  let now = null;
  const loadTraffic = async () => show(parts.traffic, trafficChart(await get(`${path}/traffic`, { span }, signal)));
  const history = new CardList({
    path: `${path}/history`,
    signal,
    build: (entry) => h("div", { class: "timeline" }, h("div", { class: "row" }, h("time", { datetime: entry.at, class: "soft" }, when(entry.at)), badge(entry.what, { connected: "good", moved: "info", failed: "bad" }[entry.what] ?? ""), h("span", null, entry.text))),
    empty: () => h("p", { class: "soft" }, "Nothing is recorded yet."),
    page: 20,
  });
  put(root, 
    head,
    trouble,
    card("Now", parts.state),
    card("Layers and MTU", parts.layers, parts.mtu),
    card("What it may reach", parts.rules),
    h("div", { class: "columns" },
      card("Traffic", choice("Span", [["1h", "Last hour"], ["24h", "Last day"], ["30d", "Last month"]], span, (value) => {
        span = value;
        loadTraffic().catch((error) => error.name !== "AbortError" && show(parts.traffic, errorBox(error)));
      }), parts.traffic),
      card("Moves", parts.moves)),
    card("Failures", parts.failures),
    card("Security associations and bindings", parts.sessions),
    card("History", history.element),
    card("Certificates", parts.certificates),
    may >= 3 && card("Packet captures", parts.captures),
  );
  await keepFresh(async () => {
    now = await get(path, null, signal);
    setTitle(now.source === "seen" ? now.identity : now.name);
    paint(now);
    await Promise.all([loadTraffic(), certificates(), deviceMtu(parts.mtu, name, signal, may >= 2), deviceRules(parts.rules, name, signal), may >= 3 && captures()]);
  }, signal, (error) => show(trouble, error && (error instanceof Problem && error.status === 404 ? empty("There is no such device", "It may have been deleted, or its name is another one.", h("a", { href: "#/devices" }, "Look at all devices")) : errorBox(error))));

  async function act(verb, words, { method = "POST", body, danger = false, then = null, text = null } = {}) {
    const run = () => send(method, `${path}/${verb}`, body ?? {}, { key: onceKey() });
    const done = danger ? await confirm(danger, text, words, run) : { result: await run().catch((error) => void toast(error.message, "bad")) };
    if (!done || (!danger && done.result === undefined)) return;
    toast(then ?? "Done.");
    now = await get(path, null, signal);
    paint(now);
  }

  function paint(shown) {
    const configured = shown.source !== "seen";
    const connected = (shown.ike_sas ?? []).length > 0;
    const display = configured ? shown.name : shown.identity;
    const actions = [];
    if (may >= 2) {
      if (connected) {
        actions.push(button("Disconnect", () => act("disconnect", "Disconnect", { danger: `Disconnect ${display}?`, text: "Its sessions end. It may connect again at once; to keep it out, block it.", then: `${display} is disconnected.` })));
        actions.push(button("Rekey", async () => {
          try {
            for (const sa of shown.ike_sas) await send("POST", `/ike-sas/${part(sa.id)}/rekey`, {}, { key: onceKey() });
            toast("New keys are being negotiated.");
          } catch (error) {
            toast(error.message, "bad");
          }
        }));
      }
      if (shown.blocked) actions.push(button("Unblock", () => act("unblock", "Unblock", { then: `${display} may connect again.` })));
      else if (configured) actions.push(button("Block", () => act("block", "Block", { danger: `Block ${display}?`, text: "Its sessions end and its logins are refused until you unblock it.", then: `${display} is blocked.` }), { kind: "danger" }));
    }
    if (may >= 3 && configured) {
      actions.push(button("New bundle", () => newBundle(shown.name, shown.platform)));
      actions.push(button("Rotate secret", () => act("rotate", "Rotate", { danger: `Rotate the secrets of ${display}?`, text: "It gets a new certificate; the present one is revoked. You get a new link for the device, which does not connect until it was set up again.", then: "Rotated." })));
      actions.push(button("Revoke", () => act("revoke", "Revoke", { danger: `Revoke ${display}?`, text: "Its certificates are never accepted again and its sessions end. This cannot be undone; a new bundle can be made later.", then: `The certificates of ${display} are revoked.` }), { kind: "danger" }));
    }
    const focused = head.contains(document.activeElement) ? document.activeElement.textContent : null;
    show(head, pageHead(display, configured && shown.identity !== shown.name ? shown.identity : configured ? null : "This device logged in without being configured by name.", actions));
    if (focused) [...head.querySelectorAll("button, h1")].find((one) => one.textContent === focused)?.focus();
    state(shown, connected);
    show(parts.layers, layersPicture(shown));
    moves(shown);
    failures(shown);
    sessions(shown);
  }

  function state(shown, connected) {
    show(
      parts.state,
      facts([
        ["State", [badge(WHERES[shown.where] ?? shown.where, TONES[shown.where] ?? ""), shown.blocked && [" ", badge("blocked", "bad")]]],
        ["Access mode", shown.mode && h("span", { class: "row" }, badge(shown.mode, "mode"), h("span", { class: "soft" }, modeWords(shown.mode)))],
        ["Connected", connected && since(shown.connected_since)],
        ["Last seen", since(shown.last_seen)],
        ["Outer address", shown.outer && [mono(shown.outer), shown.nat && " (behind a NAT)"]],
        ["Inner address", shown.inner_addresses?.length > 0 && mono(shown.inner_addresses.join(", "))],
        ["Home address", shown.home_address && mono(shown.home_address)],
        ["Care-of address", shown.care_of_addresses?.length > 0 && mono(shown.care_of_addresses.join(", "))],
        ["Foreign agent", shown.foreign_agent],
        ["Round trip", typeof shown.rtt_ms === "number" && `${shown.rtt_ms.toFixed(1)} ms`],
        ["Traffic now", connected && `${rate(shown.rate_in)} in, ${rate(shown.rate_out)} out`],
        ["Since it connected", connected && `${octets(shown.bytes_in)} in, ${octets(shown.bytes_out)} out`],
        ["User", shown.user && h("a", { href: `#/config/users/${part(shown.user)}` }, shown.user)],
        ["Connection", shown.connection && h("a", { href: `#/config/connections/${part(shown.connection)}` }, shown.connection)],
        ["Platform", shown.platform && platformName(shown.platform)],
        ["Address leases (NAR)", shown.nar_leases > 0 && h("a", { href: "#/nar" }, count(shown.nar_leases))],
        ["Note", shown.note],
      ]),
      shown.source === "stored" && may >= 3 && h("p", null, h("a", { href: `#/config/devices/${part(shown.name)}` }, "Change this device's settings")),
    );
  }

  function moves(shown) {
    const found = shown.moves ?? [];
    if (!found.length) return show(parts.moves, h("p", { class: "soft" }, "It did not move since it connected."));
    return show(parts.moves, table("Moves, the newest first", [
      { title: "When", cell: (move) => h("time", { datetime: move.at, title: when(move.at) }, since(move.at)) },
      { title: "From and to", cell: (move) => [mono(move.old), " → ", mono(move.new), h("div", { class: "hint" }, move.proof)] },
      { title: "Gap", number: true, cell: gapOf },
    ], found));
  }

  function failures(shown) {
    const found = shown.recent_failures ?? [];
    show(parts.failures, found.length ? found.map((one) => failureCard({ ...one, peer: display(shown) }, { bare: true })) : h("p", { class: "soft" }, "None on record."));
  }

  function sessions(shown) {
    const children = shown.child_sas ?? [];
    const bindings = shown.bindings ?? [];
    const visitors = shown.visitors ?? [];
    show(
      parts.sessions,
      (shown.ike_sas ?? []).map((sa) => [
        h("h3", null, `IKE SA, version ${sa.version}`),
        facts([
          ["State", sa.state], ["Identity", sa.remote_id], ["Proved by", sa.auth], ["Algorithms", mono(sa.suite)], ["Age", duration(sa.age_s)], ["Rekeyed in", typeof sa.rekey_in_s === "number" && duration(sa.rekey_in_s)],
          ["MOBIKE", plain(sa.mobike)], ["SA endpoint update", plain(sa.knows?.endpoint_update)], ["Session in the log", sa.session && h("code", null, sa.session)],
        ]),
      ]),
      children.length > 0 && table("Child SAs", [
        { title: "SPI in / out", cell: (sa) => mono(`${sa.spi_in} / ${sa.spi_out}`) },
        { title: "In", number: true, cell: (sa) => octets(sa.bytes_in) },
        { title: "Out", number: true, cell: (sa) => octets(sa.bytes_out) },
        { title: "Encapsulation", wide: true, cell: (sa) => sa.encapsulation },
        { title: "Networks", wide: true, cell: (sa) => mono(`${plain(sa.local_ts)} ⇄ ${plain(sa.remote_ts)}`) },
      ], children),
      bindings.length > 0 && table("Bindings", [
        { title: "Home address", cell: (one) => mono(one.home_address) },
        { title: "Care-of address", cell: (one) => mono(plain(one.care_of_addresses.map((each) => each.address))) },
        { title: "Home agent", wide: true, cell: (one) => one.home_agent },
        { title: "Expires", cell: (one) => (one.expires_in_s === null ? "never" : `in ${duration(one.expires_in_s)}`) },
      ], bindings),
      visitors.length > 0 && table("Visitor of", [
        { title: "Foreign agent", cell: (one) => one.foreign_agent },
        { title: "Home agent", cell: (one) => mono(one.home_agent) },
        { title: "Tunnel", wide: true, cell: (one) => one.tunnel ?? "–" },
      ], visitors),
      (shown.ike_sas ?? []).length + bindings.length + visitors.length === 0 && h("p", { class: "soft" }, "None now."),
    );
  }

  async function certificates() {
    let found;
    try {
      found = (await get("/certificates", { device: name }, signal)).items ?? [];
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return show(parts.certificates, h("p", { class: "soft" }, error.message));
    }
    return show(parts.certificates, found.length === 0 ? h("p", { class: "soft" }, "The gateway's own CA has issued none to it.") : table("Certificates", [
      { title: "Serial", cell: (one) => h("span", { class: "mono", title: one.serial }, one.serial.slice(0, 12)) },
      { title: "Identity", wide: true, cell: (one) => one.identity },
      { title: "Expires", cell: (one) => h("span", { title: when(one.not_after) }, until(one.not_after)) },
      { title: "State", cell: (one) => (one.revoked_at ? badge("revoked", "bad") : badge("valid", "good")) },
    ], found));
  }

  async function captures() {
    const found = ((await get(`${path}/captures`, null, signal)).items ?? []).filter((one) => one.device === name);
    show(
      parts.captures,
      h("p", { class: "soft" }, "Records this device's packets, outer and inner, for a bounded time and size, as a file for Wireshark."),
      h("div", { class: "row" }, button("Start a capture", startCapture, { disabled: found.some((one) => one.state === "running") })),
      found.length > 0 && table("Captures", [
        { title: "Began", cell: (one) => when(one.started_at) },
        { title: "State", cell: (one) => badge(one.state, one.state === "running" ? "good" : "") },
        { title: "Packets", number: true, cell: (one) => `${count(one.packets)}, ${octets(one.octets)}` },
        { title: "", cell: (one) => (one.state === "running" ? button("Stop", () => stopCapture(one), { kind: "small" }) : button("Download", () => readCapture(one), { kind: "small" })) },
      ], found),
    );
  }

  async function startCapture() {
    const seconds = h("input", { type: "number", min: 1, max: 300, value: 60, required: true });
    const size = h("input", { type: "number", min: 1, max: 64, value: 16, required: true });
    const made = await formDialog(`Capture packets of ${name}`, [field("Seconds", seconds, { name: "seconds", hint: "1 to 300." }), field("At most (MB)", size, { name: "octets", hint: "1 to 64." })], "Start", () =>
      send("POST", `${path}/captures`, { seconds: Number(seconds.value), octets: Number(size.value) * 1000000 }, { key: onceKey() }));
    if (made) await captures();
  }

  async function stopCapture(one) {
    await send("POST", `${path}/captures/${part(one.id)}/stop`, {}).catch((error) => toast(error.message, "bad"));
    await captures();
  }

  async function readCapture(one) {
    try {
      const { blob, name: file } = await download("GET", `${path}/captures/${part(one.id)}`, undefined, one.file_name);
      save(blob, file);
    } catch (error) {
      toast(error.message, "bad");
    }
  }
}

const display = (shown) => (shown.source === "seen" ? shown.identity : shown.name);

function modeWords(mode) {
  const external = { c: "Mobile IP outside by its own address", f: "Mobile IP outside by a foreign agent", m: "moves by MOBIKE" };
  if (mode === "c") return "Mobile IP inside by its own address, no VPN";
  if (mode === "f") return "Mobile IP inside by a foreign agent, no VPN";
  if (mode === "v") return "VPN alone";
  if (mode === "home") return "on its home link, no tunnel";
  const inner = mode.endsWith("f") ? "Mobile IP inside by the gateway's foreign agent" : "Mobile IP inside by the VPN's address";
  return [mode.length === 3 && external[mode[0]], "VPN", mode.length > 1 && inner].filter(Boolean).join(", ");
}
