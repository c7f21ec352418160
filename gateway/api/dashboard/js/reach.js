// Whether a device may reach something: the form, and what the gateway says.
import { get, part } from "./api.js";
import { badge, h, show } from "./dom.js";
import { field, whenSubmitted } from "./dialog.js";

const PROTOCOLS = [["6", "TCP"], ["17", "UDP"], ["1", "ICMP (ping)"], ["58", "ICMPv6 (ping)"], ["132", "SCTP"], ["47", "GRE"]];
const WITH_PORTS = new Set(["6", "17", "132"]);
const DIRECTIONS = [["to-inside", "The device reaches an inside host"], ["from-inside", "An inside host reaches the device"], ["between-devices", "The device reaches another device"], ["to-gateway", "The device reaches the gateway itself"]];

const select = (options, attributes = {}) => h("select", attributes, options.map(([value, text]) => h("option", { value }, text)));

/** A form that asks about `device`, a name, or a control to enter one in. */
export function reachTester(device, signal) {
  const named = typeof device === "string";
  const who = named ? null : h("input", { type: "text", required: true, maxlength: 63, autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const direction = select(DIRECTIONS);
  const address = h("input", { type: "text", required: true, maxlength: 45, placeholder: "10.1.0.10", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const protocol = select(PROTOCOLS);
  const port = h("input", { type: "number", min: 1, max: 65535, inputmode: "numeric", value: 443 });
  const portField = field("Port", port, { name: "port", hint: "Of the side that is connected to." });
  const trouble = h("div");
  const answer = h("div", { role: "status" });
  protocol.addEventListener("change", () => {
    portField.hidden = !WITH_PORTS.has(protocol.value);
  });
  const go = h("button", { type: "submit", class: "button primary" }, "May it?");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    who && field("Device", who, { name: "device", hint: "Its name, as in the list of devices." }),
    field("Direction", direction, { name: "direction" }),
    field("Address of the other side", address, { name: "address" }),
    field("Protocol", protocol, { name: "protocol" }),
    portField,
    trouble,
    h("div", { class: "row" }, go),
    answer,
  );
  whenSubmitted(form, go, trouble, async () => {
    show(answer);
    const name = named ? device : who.value.trim();
    const query = { direction: direction.value, address: address.value.trim(), protocol: protocol.value, port: WITH_PORTS.has(protocol.value) ? port.value : null };
    const found = await get(`/devices/${part(name)}/rule-test`, query, signal);
    show(
      answer,
      h("p", null, badge(found.allowed ? "allowed" : "refused", found.allowed ? "good" : "bad"), found.rule && [" by ", h("a", { href: `#/config/rules/${part(found.rule)}` }, found.rule)], `: ${(found.why ?? "").replace(/^(allowed|refused): /, "")}`),
      found.sessions === 0 && h("p", { class: "hint" }, "The device is not connected: this is as if it connected now."),
    );
  });
  return form;
}
