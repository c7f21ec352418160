import { get, part, rank } from "../api.js";
import { button, h, put, show } from "../dom.js";
import { usageBar } from "../chart.js";
import { errorBox } from "../dialog.js";
import { count, plain } from "../format.js";
import { keepFresh } from "../live.js";
import { empty, pageHead } from "../shell.js";

export const title = "Address pools";

function poolCard(name, network, used, size, rows, href) {
  const share = size > 0 ? Math.round((used / size) * 100) : 0;
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-top" }, h("h2", null, href ? h("a", { href }, name) : name), h("span", { class: "mono soft" }, network)),
    usageBar(`Use of ${name}`, used, size),
    h("p", null, h("strong", null, count(used)), ` of ${count(size)} addresses in use (${share} %)`),
    rows,
  );
}

export default async function pools({ root, signal, session }) {
  const trouble = h("div");
  const box = h("div", { class: "stack" });
  const may = rank(session) >= 3;
  put(root, 
    pageHead("Address pools", "Inner addresses for devices, and home addresses that are lent.", may ? [button("Add a pool", () => (window.location.hash = "#/config/pools/+"), { kind: "primary", picture: "plus" })] : []),
    trouble,
    box,
  );
  await keepFresh(async () => {
    const [status, networks] = await Promise.all([get("/status", null, signal), get("/home-networks", null, signal)]);
    const found = [
      ...(status.pools ?? []).map((pool) => poolCard(pool.name, pool.network, pool.in_use ?? 0, pool.size ?? 0, pool.dns && h("p", { class: "soft" }, `Name servers: ${plain(pool.dns)}`), `#/config/pools/${part(pool.name)}`)),
      ...(networks.items ?? []).filter((one) => one.dynamic_addresses > 0).map((one) => poolCard(`Home network ${one.name}`, one.network, one.dynamic_addresses_in_use, one.dynamic_addresses, h("p", { class: "soft" }, `${one.bindings} of its devices are away.`), `#/config/home_networks/${part(one.name)}`)),
    ];
    show(box, found.length ? h("div", { class: "columns" }, found) : empty("No pools", "Devices need inner addresses. Choose a random private network: home networks such as 192.168.0.0/24 collide with the pool when a device is in one.", may && h("a", { href: "#/config/pools/+" }, "Add a pool")));
  }, signal, (error) => show(trouble, error && errorBox(error)));
}
