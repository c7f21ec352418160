// The first run: from an install to the first device, in five steps.
import { Problem, get, onceKey, remember, send } from "../api.js";
import { announce, h, put, show } from "../dom.js";
import { errorBox, field, whenSubmitted } from "../dialog.js";
import { plain } from "../format.js";
import { setTitle, themeSwitch } from "../shell.js";
import { table } from "../table.js";
import { deviceFields, linkView } from "../provision.js";

export const title = "Setup";

const STEPS = ["Administrator", "Network", "Certificates", "Check", "First device"];

export default async function setup({ root, restart, login = null, session = null }) {
  setTitle("Setup");
  const state = await get("/setup").catch(() => ({}));
  const chosen = { pool: state.proposed_pool ?? "", subnets: "0.0.0.0/0", dns: "", ca_name: `${state.name || "Gateway"} CA`.slice(0, 64) };
  const list = h("ol", { class: "steps", "aria-label": "Steps" });
  const box = h("div", { class: "card" });
  const inPage = session !== null;
  if (!inPage) put(root, h("div", { class: "corner" }, themeSwitch()));
  put(root, h("h1", { tabindex: "-1" }, "Set up this gateway"), h("p", { class: "soft" }, "Five steps, about five minutes. Nothing counts before the fourth."), list, box);
  let step = 0;

  function show_(number) {
    step = number;
    show(list, STEPS.map((text, index) => h("li", { class: index < step ? "done" : null, "aria-current": index === step ? "step" : null }, `${index + 1}. ${text}`, index < step && h("span", { class: "unseen" }, " (done)"))));
    const [heading, content] = [administrator, network, certificates, check, first][step]();
    show(box, h("h2", { tabindex: "-1" }, heading), content);
    const control = box.querySelector("input:not([readonly]), textarea, select");
    (control ?? box.querySelector("h2")).focus();
    announce(`Step ${step + 1} of ${STEPS.length}: ${heading}`);
  }

  function stepForm(content, verb, submit, back = true) {
    const trouble = h("div");
    const go = h("button", { type: "submit", class: "button primary" }, verb);
    const form = h("form", { class: "stack", novalidate: true }, content, trouble, h("div", { class: "row" }, go, back && step > 1 && h("button", { type: "button", class: "button", onclick: () => show_(step - 1) }, "Back")));
    whenSubmitted(form, go, trouble, () => submit(form));
    return form;
  }

  function administrator() {
    const given = new URLSearchParams(window.location.hash.replace(/^#\/?(setup)?[/?]*/, ""));
    const code = h("input", { type: "text", required: true, maxlength: 64, value: given.get("code") ?? given.get("setup") ?? "", autocomplete: "one-time-code", autocapitalize: "characters", spellcheck: "false" });
    const name = h("input", { type: "text", required: true, maxlength: 63, value: "admin", autocomplete: "username", autocapitalize: "none", spellcheck: "false" });
    const password = h("input", { type: "password", required: true, autocomplete: "new-password" });
    const again = h("input", { type: "password", required: true, autocomplete: "new-password" });
    return [
      "Who looks after it",
      stepForm([
        h("p", { class: "soft" }, "The gateway printed a code when it was installed. ", h("code", null, "gateway admin code"), ", as root on the gateway, prints a new one."),
        field("Code", code, { name: "code" }),
        field("Your name", name, { name: "name" }),
        field("Password", password, { name: "password", hint: "At least 10 characters; three or four words are good." }),
        field("Password again", again, { name: "again" }),
      ], "Continue", async () => {
        if (password.value !== again.value) throw new Problem(422, { detail: "The two passwords differ.", field: "again" });
        const opened = await send("POST", "/setup/claim", { code: code.value.trim(), name: name.value.trim(), password: password.value });
        remember(opened?.csrf ?? (await get("/session")).csrf);
        history.replaceState(null, "", "#/"); // the code is not needed any more
        if (state.needed === false) await restart(); // the rest was set up before
        else show_(1);
      }, false),
      login && h("p", null, h("button", { type: "button", class: "button quiet", onclick: login }, "I have an account: log in")),
    ];
  }

  function network() {
    const pool = h("input", { type: "text", required: true, value: chosen.pool, maxlength: 43, spellcheck: "false" });
    const subnets = h("input", { type: "text", required: true, value: chosen.subnets, maxlength: 1000, spellcheck: "false" });
    const dns = h("input", { type: "text", value: chosen.dns, maxlength: 200, spellcheck: "false" });
    return [
      "What devices get",
      stepForm([
        h("p", { class: "soft" }, "Devices reach this gateway as ", h("strong", null, state.name || "(no name yet)"), ". That name comes from gateway.toml and must be known to public name servers."),
        field("Inner addresses", pool, { name: "pool", hint: "This network was chosen at random, so that it does not collide with the networks of homes and hotels." }),
        field("What devices reach through the tunnel", subnets, { name: "subnets", hint: "0.0.0.0/0 sends all their traffic through it; or name your networks, with commas between them: 10.1.0.0/16, 10.2.0.0/16." }),
        field("Name servers", dns, { name: "dns", hint: "Addresses with commas between them; may stay empty." }),
      ], "Continue", async () => {
        Object.assign(chosen, { pool: pool.value.trim(), subnets: subnets.value.trim(), dns: dns.value.trim() });
        await send("POST", "/setup/basics", { ...basics(), dry_run: true });
        show_(2);
      }),
    ];
  }

  function certificates() {
    const name = h("input", { type: "text", required: true, value: chosen.ca_name, maxlength: 64 });
    return [
      "How devices prove who they are",
      stepForm([
        h("p", { class: "soft" }, "The gateway makes a certificate authority of its own. Every device gets a certificate of it, in one file that you pass on by a link or a QR code. Each can be revoked alone."),
        field("Name of the authority", name, { name: "ca_name", hint: "People see it when they set a device up." }),
      ], "Continue", async () => {
        chosen.ca_name = name.value.trim();
        show_(3);
      }),
    ];
  }

  function check() {
    return [
      "All together",
      stepForm([
        table("What is set up", [
          { title: "What", cell: ([what]) => what },
          { title: "Value", cell: ([, value]) => h("strong", null, value) },
        ], [["Name of the gateway", state.name || "–"], ["Inner addresses", chosen.pool], ["Reached through the tunnel", chosen.subnets], ["Name servers", plain(chosen.dns)], ["Certificate authority", chosen.ca_name]]),
        h("p", { class: "soft" }, "All of it can be changed later under Configuration."),
      ], "Set it up", async () => {
        await send("POST", "/setup/basics", basics(), { key: onceKey() });
        show_(4);
      }),
    ];
  }

  function basics() {
    return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== ""));
  }

  function first() {
    const holder = h("div", { class: "stack" }, h("p", { class: "soft" }, "One moment."));
    deviceFields().then(({ elements, body }) => {
      const form = stepForm(elements, "Add it", async (self) => {
        const made = await send("POST", "/provision", body(self), { key: onceKey() });
        show(box, h("h2", { tabindex: "-1" }, `${made.device?.name ?? made.device} is ready to be set up`), linkView(made), h("div", { class: "row" }, h("button", { type: "button", class: "button primary", onclick: done }, "Go to the overview")));
        box.querySelector("h2").focus();
      }, false);
      show(holder, form, h("div", { class: "row" }, h("button", { type: "button", class: "button quiet", onclick: done }, "Later")));
      form.querySelector("input").focus();
    }, (error) => show(holder, errorBox(error)));
    return ["Your first device", holder];
  }

  const done = () => {
    history.replaceState(null, "", "#/");
    return inPage ? window.dispatchEvent(new HashChangeEvent("hashchange")) : restart();
  };

  show_(inPage ? 1 : 0);
}
