import { all, download, get, onceKey, part, rank, save, send } from "../api.js";
import { badge, button, h, put, show, toast } from "../dom.js";
import { confirm, errorBox, field, formDialog } from "../dialog.js";
import { duration, plain, since, until, when } from "../format.js";
import { card, empty, facts, pageHead, tabs } from "../shell.js";
import { table } from "../table.js";
import { showOnce } from "../provision.js";

export const title = "Settings";

const TABS = [
  ["access", "Access"],
  ["certificates", "Certificates"],
  ["backup", "Backup"],
  ["gateway", "This gateway"],
];
const ROLES = [
  ["read-only", "Read-only: may look at everything but secrets"],
  ["operator", "Operator: also disconnect, block, test"],
  ["admin", "Administrator: everything"],
];

export default async function settings({ root, rest, signal, session }) {
  const current = TABS.find(([name]) => name === rest[0])?.[0] ?? "access";
  put(root, 
    pageHead("Settings"),
    tabs("Settings", TABS.map(([name, text]) => [`#/settings/${name}`, text]), `#/settings/${current}`),
  );
  await { access, certificates, backup, gateway }[current]({ root, signal, session, may: rank(session) >= 3 });
}

const roleSelect = (chosen = "read-only") => h("select", { required: true }, ROLES.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));

async function access({ root, signal, session, may }) {
  put(root, card("Your password", h("p", { class: "soft" }, `You are ${session.administrator ?? session.actor}, ${session.role}.`), session.administrator ? h("div", { class: "row" }, button("Change my password", ownPassword)) : null));
  if (!may) {
    put(root, card("Tokens and administrators", h("p", { class: "soft" }, "Only administrators see these.")));
    return;
  }
  const tokenBox = h("div");
  const personBox = h("div");
  put(root, 
    card("Tokens", h("p", { class: "soft" }, "For programs that use the REST interface: sent as “Authorization: Bearer TOKEN”. Only a hash of each is stored."), h("div", { class: "row" }, button("New token", newToken, { kind: "primary", picture: "plus" })), tokenBox),
    card("Administrators", h("p", { class: "soft" }, "People who log in to this page."), h("div", { class: "row" }, button("New administrator", newPerson, { kind: "primary", picture: "plus" })), personBox),
  );
  await Promise.all([tokens(), persons()]);

  async function tokens() {
    const found = await all("/tokens", {}, { signal });
    show(tokenBox, found.length === 0 ? empty("No tokens", "Make one for each program, with the least role that does, and an end.") : table("Tokens", [
      { title: "Name", cell: (one) => one.name },
      { title: "Role", cell: (one) => badge(one.role, one.role === "admin" ? "violet" : "info") },
      { title: "Last used", wide: true, cell: (one) => (one.last_used_at ? h("span", { title: when(one.last_used_at) }, since(one.last_used_at), one.last_used_from && ` from ${one.last_used_from}`) : "never") },
      { title: "Expires", cell: (one) => (one.expired ? badge("expired", "bad") : h("span", { title: when(one.expires_at) }, until(one.expires_at))) },
      { title: "Made by", wide: true, cell: (one) => one.created_by },
      { title: "", cell: (one) => button("Delete", async () => {
        if (await confirm(`Delete the token ${one.name}?`, "Programs that use it are refused from then on.", "Delete", () => send("DELETE", `/tokens/${part(one.id)}`))) await tokens();
      }, { kind: "small danger", "aria-label": `Delete token ${one.name}` }) },
    ], found));
  }

  async function newToken() {
    const name = h("input", { type: "text", required: true, maxlength: 63, spellcheck: "false", autocapitalize: "none" });
    const role = roleSelect();
    const ends = h("select", null, [["2592000", "In 30 days"], ["7776000", "In 90 days"], ["31536000", "In a year"], ["", "Never"]].map(([value, text]) => h("option", { value, selected: value === "7776000" }, text)));
    const key = onceKey();
    const made = await formDialog("New token", [field("Name", name, { name: "name", hint: "Which program it is for." }), field("Role", role, { name: "role" }), field("Ends", ends, { name: "expires_in_s" })], "Make it", () =>
      send("POST", "/tokens", { name: name.value.trim(), role: role.value, ...(ends.value ? { expires_in_s: Number(ends.value) } : {}) }, { key: `${key}${name.value.trim().length}` }));
    if (!made) return;
    await showOnce(`Token ${made.name}`, "Token", made.token, "Store it now where the program finds it. It is shown this one time; the gateway keeps only a hash.");
    await tokens();
  }

  async function persons() {
    const found = await all("/administrators", {}, { signal });
    show(personBox, table("Administrators", [
      { title: "Name", cell: (one) => one.name },
      { title: "Role", cell: (one) => badge(one.role, one.role === "admin" ? "violet" : "info") },
      { title: "Last login", wide: true, cell: (one) => since(one.last_login_at) },
      { title: "", cell: (one) => h("span", { class: "row" },
        button("Change", () => changePerson(one), { kind: "small", "aria-label": `Change ${one.name}` }),
        button("Delete", async () => {
          if (await confirm(`Delete ${one.name}?`, "They can log in no more, and what they have open ends.", "Delete", () => send("DELETE", `/administrators/${part(one.name)}`, undefined, { etag: `"${one.version}"` }))) await persons();
        }, { kind: "small danger", disabled: one.name === session.administrator, "aria-label": `Delete ${one.name}` })) },
    ], found));
  }

  async function newPerson() {
    const name = h("input", { type: "text", required: true, maxlength: 63, spellcheck: "false", autocapitalize: "none" });
    const role = roleSelect("operator");
    const password = h("input", { type: "password", required: true, autocomplete: "new-password" });
    const made = await formDialog("New administrator", [field("Name", name, { name: "name" }), field("Role", role, { name: "role" }), field("Password", password, { name: "password", hint: "They change it themselves after the first login." })], "Add", () =>
      send("POST", "/administrators", { name: name.value.trim(), role: role.value, password: password.value }));
    if (made) await persons();
  }

  async function changePerson(one) {
    const role = roleSelect(one.role);
    const password = h("input", { type: "password", autocomplete: "new-password" });
    const made = await formDialog(`Change ${one.name}`, [field("Role", role, { name: "role" }), field("New password", password, { name: "password", hint: "Leave it empty to keep the present one." })], "Save", () =>
      send("PATCH", `/administrators/${part(one.name)}`, { ...(role.value !== one.role ? { role: role.value } : {}), ...(password.value ? { password: password.value } : {}) }, { etag: `"${one.version}"` }));
    if (made) {
      toast(`${one.name} is changed; what they had open ended.`);
      await persons();
    }
  }
}

async function ownPassword() {
  const current = h("input", { type: "password", required: true, autocomplete: "current-password" });
  const password = h("input", { type: "password", required: true, autocomplete: "new-password" });
  const done = await formDialog("Change my password", [field("Present password", current, { name: "current" }), field("New password", password, { name: "password" })], "Change", async () => {
    await send("PUT", "/session/password", { current: current.value, password: password.value });
    return true;
  });
  if (done) toast("Your password is changed. Other places where you were logged in are logged out.");
}

async function certificates({ root, signal, may }) {
  const caBox = h("div", { class: "stack" });
  const listBox = h("div");
  const linkBox = h("div");
  put(root, card("Certificate authority", caBox), card("Links that wait for their download", linkBox), card("Issued certificates", listBox));
  const load = async () => {
    const [ca, issued, links] = await Promise.all([
      get("/ca", null, signal).catch(passOn),
      all("/certificates", {}, { signal, most: 400 }).catch(passOn),
      get("/links", null, signal).catch(passOn),
    ]);
    show(caBox, ca instanceof Error ? errorBox(ca) : caView(ca));
    show(listBox, issued instanceof Error ? errorBox(issued) : issuedView(issued));
    show(linkBox, links instanceof Error ? errorBox(links) : linksView(links.items ?? []));
  };

  function caView(ca) {
    const authorities = ca.authorities ?? [];
    return [
      authorities.length === 0
        ? empty("No certificate authority", "With one, the gateway issues certificates to devices: a device is set up by one link. Without one, certificates come from elsewhere.", may && button("Make one", makeCa, { kind: "primary" }))
        : table("Certificate authorities", [
            { title: "Name", cell: (one) => one.title },
            { title: "State", cell: (one) => [one.current ? badge("issues", "good") : badge("old"), " ", one.external && badge("of others", "info")] },
            { title: "Expires", cell: (one) => h("span", { title: when(one.not_after) }, until(one.not_after)) },
            { title: "Fingerprint (SHA-256)", wide: true, cell: (one) => h("span", { class: "mono" }, one.fingerprint) },
          ], authorities),
      ca.gateway && facts([["The gateway's own certificate", plain(ca.gateway.names)], ["It expires", h("span", { title: when(ca.gateway.not_after) }, until(ca.gateway.not_after))], ["List of revoked ones", ca.crl_number && `number ${ca.crl_number}, next ${until(ca.crl_next_update)}`]]),
      h("div", { class: "row" },
        ca.pem && button("Download the CA's certificate", () => save(new Blob([ca.pem], { type: "application/x-pem-file" }), "gateway-ca.pem")),
        may && authorities.length > 0 && button("Use another CA", importCa),
        may && authorities.length === 0 && button("Use a CA of ours", importCa)),
    ];
  }

  async function makeCa() {
    const name = h("input", { type: "text", required: true, maxlength: 64, value: "Gateway CA" });
    const made = await formDialog("Make a certificate authority", [field("Name", name, { name: "name", hint: "People see it when they install a device's profile." })], "Make it", async () => (await send("POST", "/ca", { name: name.value.trim() }, { key: onceKey() })) ?? true);
    if (made) await load();
  }

  async function importCa() {
    const certificate = h("textarea", { required: true, rows: 6, spellcheck: "false", placeholder: "-----BEGIN CERTIFICATE-----" });
    const key = h("textarea", { rows: 4, spellcheck: "false", placeholder: "-----BEGIN PRIVATE KEY-----" });
    const made = await formDialog("Use a CA of yours", [field("Its certificate (PEM)", certificate, { name: "certificate" }), field("Its private key (PEM)", key, { name: "key", hint: "Without it, certificates are issued elsewhere and uploaded here." })], "Use it", async () =>
      (await send("POST", "/ca/import", { certificate: certificate.value, ...(key.value.trim() ? { key: key.value } : {}) }, { key: onceKey() })) ?? true, { wide: true });
    if (made) await load();
  }

  function issuedView(found) {
    if (!found.length) return empty("None yet", "Add a device: it gets the first.");
    return table("Issued certificates", [
      { title: "For", cell: (one) => (one.device ? h("a", { href: `#/device/${part(one.device)}` }, one.device) : one.purpose) },
      { title: "Identity", wide: true, cell: (one) => one.identity },
      { title: "Serial", wide: true, cell: (one) => h("span", { class: "mono" }, one.serial.slice(0, 16)) },
      { title: "Expires", cell: (one) => h("span", { title: when(one.not_after) }, until(one.not_after)) },
      { title: "State", cell: (one) => (one.revoked_at ? badge(`revoked: ${one.reason ?? ""}`, "bad") : badge("valid", "good")) },
      { title: "", cell: (one) => may && !one.revoked_at && one.purpose === "device" && button("Revoke", async () => {
        if (await confirm(`Revoke the certificate of ${one.device ?? one.identity}?`, "It is never accepted again, and sessions that used it end. This cannot be undone.", "Revoke", () => send("POST", `/certificates/${part(one.serial)}/revoke`, {}, { key: onceKey() }))) await load();
      }, { kind: "small danger", "aria-label": `Revoke the certificate ${one.serial}` }) },
    ], found);
  }

  function linksView(found) {
    const waiting = found.filter((one) => !one.used_at);
    if (!waiting.length) return h("p", { class: "soft" }, "None.");
    return table("Links", [
      { title: "Device", cell: (one) => h("a", { href: `#/device/${part(one.device)}` }, one.device) },
      { title: "File", wide: true, cell: (one) => h("code", null, one.file_name) },
      { title: "Made by", wide: true, cell: (one) => one.created_by },
      { title: "Expires", cell: (one) => until(one.expires_at) },
    ], waiting);
  }

  await load();
}

const passOn = (error) => {
  if (error.name === "AbortError") throw error;
  return error;
};

function backup({ root, may }) {
  if (!may) {
    put(root, card("Backup", h("p", { class: "soft" }, "Only administrators make and restore backups.")));
    return;
  }
  const passphrase = h("input", { type: "password", required: true, minlength: 12, autocomplete: "new-password" });
  const trouble = h("div");
  const form = h("form", { class: "stack", novalidate: true }, field("Passphrase", passphrase, { name: "passphrase", hint: "Seals the secrets in the file. Without it the file cannot be read; the gateway does not keep it." }), trouble, h("div", { class: "row" }, h("button", { type: "submit", class: "button primary" }, "Export everything")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    trouble.replaceChildren();
    if (!passphrase.value) {
      passphrase.focus();
      return;
    }
    try {
      const { blob, name } = await download("POST", "/export", { passphrase: passphrase.value }, "gateway-export.json");
      save(blob, name);
      toast("The export is made.");
      passphrase.value = "";
    } catch (error) {
      show(trouble, errorBox(error));
    }
  });
  put(root, 
    card("Export", h("p", { class: "soft" }, "Everything an administrator stored, as one file: objects, certificates, tokens' hashes, administrators. To move to another machine or to keep a copy elsewhere."), form),
    card("Import and backup", h("p", null, "Import such a file on the gateway itself: ", h("code", null, "gateway import FILE"), ". It shows first what would change."), h("p", null, "A copy of the database while the gateway runs: ", h("code", null, "gateway backup FILE"), ".")),
  );
}

async function gateway({ root, signal }) {
  const status = await get("/status", null, signal);
  put(root, 
    card("This gateway", facts([
      ["Name", status.name], ["Version", status.version], ["Running for", duration(status.uptime_s)], ["Started", when(status.started_at)], ["Memory", status.rss_kib && `${Math.round(status.rss_kib / 1024)} MiB`],
      ["Listens for IKE on", plain(status.listen)], ["This page on", status.api?.listen], ["Configuration", status.config], ["Dataplane", status.dataplane?.kind], ["Database", status.store?.url ?? status.store?.kind],
    ])),
    card("Metrics", h("p", null, "Prometheus reads ", h("code", null, "/metrics"), " with a read-only token. The names are documented in docs/observability.md; a dashboard for Grafana is in deploy/grafana.json."), h("pre", { tabindex: "0" }, `scrape_configs:\n  - job_name: gateway\n    scheme: https\n    authorization: { credentials_file: /etc/prometheus/gateway.token }\n    static_configs: [{ targets: ["${window.location.host}"] }]`)),
    card("For a bug report", h("p", null, "On the gateway itself, ", h("code", null, "gateway support"), " collects everything that a report needs, without secrets.")),
  );
}
