// Of one device: which rules apply to it, whether it may reach something, what its path carries.
import { Problem, get, onceKey, part, send } from "./api.js";
import { badge, button, h, show } from "./dom.js";
import { errorBox, openDialog } from "./dialog.js";
import { count, octets } from "./format.js";
import { reachTester } from "./reach.js";
import { facts } from "./shell.js";
import { table } from "./table.js";

const missing = (error) => error instanceof Problem && [404, 409].includes(error.status);

/** Fill `box` with the rules of the device `name`; its tester stays as it is when this is called again. */
export async function deviceRules(box, name, signal) {
  if (!box.tester) {
    box.list = h("div", { class: "stack" });
    box.tester = h("details", { data: { id: "tester" } }, h("summary", null, "May it reach that?"), reachTester(name, signal));
    show(box, box.list, box.tester);
  }
  let found;
  try {
    found = await get(`/devices/${part(name)}/rules`, null, signal);
  } catch (error) {
    if (!missing(error)) throw error;
    show(box.list, h("p", { class: "soft" }, error.message));
    return;
  }
  const limits = [found.bandwidth_up_kbit_s && `${count(found.bandwidth_up_kbit_s)} kbit/s up`, found.bandwidth_down_kbit_s && `${count(found.bandwidth_down_kbit_s)} kbit/s down`].filter(Boolean);
  show(
    box.list,
    found.rules.length > 0 && table("Rules that apply", [
      { title: "Rule", cell: (one) => h("a", { href: `#/config/rules/${part(one.name)}` }, one.name) },
      { title: "What", cell: (one) => [badge(one.action, one.action === "refuse" ? "bad" : "good"), ` ${one.words}`, !one.in_force && h("div", { class: "hint" }, "not at this time")] },
      { title: "By", wide: true, cell: (one) => one.why },
      { title: "Packets", number: true, wide: true, cell: (one) => count(one.packets) },
    ], found.rules),
    facts([
      ...Object.entries(found.otherwise ?? {}).map(([direction, text]) => [found.rules.length ? `Otherwise ${direction}` : direction, text]),
      ["At most", limits.join(", ")],
      ["Refused", found.usage && `${count(found.usage.refused)} packets since it connected`],
      ["Passed", found.usage && `${octets(found.usage.bytes_in)} in, ${octets(found.usage.bytes_out)} out`],
    ]),
  );
}

/** Fill `box` with how the device's MTU comes about, and a test of its path for who may. */
export async function deviceMtu(box, name, signal, may) {
  let found;
  try {
    found = await get(`/devices/${part(name)}/mtu`, null, signal);
  } catch (error) {
    if (!missing(error)) throw error;
    show(box);
    return;
  }
  const focused = box.contains(document.activeElement);
  const test = may && found.connected && button("Test the path", () => testPath(name));
  show(
    box,
    facts([
      ["Largest packet", `${found.effective} octets`],
      ["TCP MSS", `${found.mss_ipv4} (IPv4), ${found.mss_ipv6} (IPv6)`],
      ["Path outside", `${found.path} octets, ${found.path_source}`],
      ["Told by", found.published?.join("; ")],
    ]),
    found.warnings?.map((text) => h("p", { class: "remedy" }, text)),
    h("details", { data: { id: "mtu" } }, h("summary", null, "The arithmetic"), table("From the path's MTU downward", [
      { title: "What", cell: (step) => step.what },
      { title: "Octets", number: true, cell: (step) => String(-step.octets) },
      { title: "Left", number: true, cell: (step) => String(step.left) },
    ], found.steps ?? [])),
    test && h("div", { class: "row" }, test),
  );
  if (focused && test) test.focus();
}

function testPath(name) {
  return openDialog("Test the path", (close) => {
    const box = h("div", { class: "stack", role: "status" }, h("p", null, "Probes of growing size go through the tunnel. This takes some seconds."));
    send("POST", `/devices/${part(name)}/path-test`, {}, { key: onceKey() }).then(
      (found) => show(
        box,
        h("p", null, badge(found.ok ? "as it should be" : "not as it should be", found.ok ? "good" : "bad"), ` ${found.summary}`),
        table("Probes", [
          { title: "Octets", number: true, cell: (one) => String(one.octets) },
          { title: "Arrived", cell: (one) => (one.arrived ? badge("yes", "good") : badge("no", "bad")) },
          { title: "ms", number: true, cell: (one) => (typeof one.rtt_ms === "number" ? one.rtt_ms.toFixed(1) : "–") },
          { title: "", wide: true, cell: (one) => one.detail },
        ], found.probes ?? []),
      ),
      (error) => show(box, errorBox(error)),
    );
    return [box, h("div", { class: "dialog-foot" }, button("Close", () => close()))];
  }, { wide: true });
}
