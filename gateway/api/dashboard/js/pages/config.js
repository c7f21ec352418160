import { Problem, part, rank } from "../api.js";
import { badge, button, h, put, show, toast } from "../dom.js";
import { confirm, errorBox, field, openDialog, whenSubmitted } from "../dialog.js";
import { plain, since, when, words } from "../format.js";
import { documentForm } from "../form.js";
import { KIND_HINTS } from "../hints.js";
import * as objects from "../objects.js";
import { card, empty, pageHead, setTitle } from "../shell.js";
import { WindowedList, searchField, table, toolbar } from "../table.js";

export const title = "Configuration";

const isAdministrator = (session) => rank(session) >= 3;

export default async function config({ root, rest, query, signal, session }) {
  const kinds = await objects.kinds(signal);
  const kind = kinds.find((one) => one.kind === rest[0]);
  if (!rest[0]) return overview(root, kinds);
  if (!kind) {
    put(root, pageHead("Configuration"), empty("There is no such part", "Choose one of the list.", h("a", { href: "#/config" }, "All parts")));
    return null;
  }
  if (rest[1]) return editPage({ root, kind, name: rest[1], signal, session });
  if (query.get("new")) return editPage({ root, kind, name: null, signal, session });
  return listPage({ root, kind, signal, session });
}

function overview(root, kinds) {
  const order = Object.keys(KIND_HINTS);
  const place = (one) => (order.indexOf(one.kind) + 1 || 99);
  put(root, 
    pageHead("Configuration", "What is stored here comes on top of gateway.toml. Every change is checked as a whole before it counts, and you see beforehand which sessions it ends."),
    h("div", { class: "columns" }, [...kinds].sort((a, b) => place(a) - place(b)).map((one) => h("a", { class: "number-card", href: `#/config/${part(one.kind)}` }, h("strong", null, one.title ?? words(one.kind)), h("span", { class: "what" }, KIND_HINTS[one.kind] ?? "")))),
  );
}

function crumbs(kind, name = null) {
  return h("nav", { "aria-label": "Way back", class: "soft" }, h("a", { href: "#/config" }, "Configuration"), " / ", name === null ? null : [h("a", { href: `#/config/${part(kind.kind)}` }, kind.title ?? words(kind.kind)), " / "]);
}

function listPage({ root, kind, signal, session }) {
  const heading = kind.title ?? words(kind.kind);
  setTitle(heading);
  const filters = { q: "" };
  const may = isAdministrator(session);
  const add = `#/config/${part(kind.kind)}?new=1`;
  const list = new WindowedList({
    caption: heading,
    path: objects.listPath(kind.kind),
    query: () => filters,
    signal,
    columns: [
      { title: "Name", cell: (item) => h("a", { href: `#/config/${part(kind.kind)}/${part(item.name)}` }, item.name) },
      { title: "State", size: "m", cell: (item) => (item.broken?.length ? badge("left out", "bad") : item.source === "file" ? badge("gateway.toml") : badge("in force", "good")) },
      { title: "What", wide: true, cell: (item) => summary(item.document) },
      { title: "Changed", size: "s", wide: true, cell: (item) => h("span", { title: when(item.changed_at) }, item.changed_at ? since(item.changed_at) : "–") },
    ],
    empty: () => empty(filters.q ? "Nothing found" : "Nothing here yet", KIND_HINTS[kind.kind] ?? "", !filters.q && may && h("a", { class: "button primary", href: add }, "Add the first")),
  });
  put(root, 
    crumbs(kind),
    pageHead(heading, KIND_HINTS[kind.kind], may ? [h("a", { class: "button primary", href: add }, "Add")] : []),
    toolbar(searchField(`Search ${heading}`, "", (text) => {
      filters.q = text;
      list.restart();
    }, "Part of a name or value")),
    list.element,
  );
}

const summary = (document) => Object.entries(document ?? {}).slice(0, 4).map(([name, value]) => `${words(name)}: ${plain(value)}`).join(" · ");

async function editPage({ root, kind, name, signal, session }) {
  const adding = name === null;
  const heading = kind.title ?? words(kind.kind);
  setTitle(adding ? `New: ${heading}` : name);
  const found = adding ? { data: { document: {}, source: "store" }, etag: null } : await objects.read(kind.kind, name, signal);
  let { etag } = found;
  let before = found.data.document;
  const readOnly = found.data.source === "file" || !isAdministrator(session);
  const nameBox = h("input", { type: "text", required: true, maxlength: 63, spellcheck: "false", autocapitalize: "none" });
  let part_ = documentForm(kind.kind, kind.document_schema, before, readOnly);
  const body = h("div", null, part_.element);
  const trouble = h("div");
  const save = h("button", { type: "submit", class: "button primary" }, "Check and save");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    adding && field("Name", nameBox, { name: "name", hint: "Cannot be changed later." }),
    body,
    trouble,
    readOnly ? null : h("div", { class: "row" }, save, h("a", { class: "button", href: `#/config/${part(kind.kind)}` }, "Cancel")),
  );
  const read = () => part_.read();
  whenSubmitted(form, save, trouble, submit, async (error, show) => {
    if (error instanceof Problem && error.status === 412) await conflict();
    else show(error);
  });

  async function submit() {
    const document = read();
    const run = adding
      ? (dry) => objects.create(kind.kind, nameBox.value.trim(), document, dry)
      : (dry) => objects.merge(kind.kind, name, objects.mergePatch(before, document), etag, dry);
    if (!adding && Object.keys(objects.mergePatch(before, document)).length === 0) {
      toast("Nothing was changed.");
      return;
    }
    const plan = await run(true);
    const done = await preview(plan, () => run(false));
    if (!done) return;
    toast(adding ? `${nameBox.value.trim()} is in force.` : "The change is in force.");
    window.location.hash = `#/config/${part(kind.kind)}`;
  }

  async function conflict() {
    const theirs = await objects.read(kind.kind, name, signal);
    const mine = read();
    const answer = await openDialog("Somebody else changed this", (close) => [
      h("p", null, "While you edited it, it was changed elsewhere. This is how it is now, and what you have:"),
      table("Differences", [
        { title: "Field", cell: ([key]) => words(key) },
        { title: "Now", cell: ([, now]) => plain(now) },
        { title: "Yours", cell: ([, , own]) => plain(own) },
      ], objects.differences(theirs.data.document, mine)),
      h("div", { class: "dialog-foot" }, button("Take what is there", () => close("theirs")), button("Keep my changes", () => close("mine"), { kind: "primary" })),
    ], { wide: true });
    if (!answer) return;
    const patch = objects.mergePatch(before, mine);
    etag = theirs.etag;
    before = theirs.data.document;
    const merged = answer === "mine" ? apply(before, patch) : before;
    part_ = documentForm(kind.kind, kind.document_schema, merged, readOnly);
    const original = before;
    show(body, part_.element);
    before = original;
    if (answer === "mine") toast("Your changes are on top of what is there now. Check and save again.");
    body.querySelector("input, select, textarea")?.focus();
  }

  const actions = [];
  if (!adding && !readOnly) {
    actions.push(button("Delete", async () => {
      try {
        const plan = await objects.remove(kind.kind, name, etag, true);
        const done = await confirm(`Delete ${name}?`, "It is gone at once.", "Delete", () => objects.remove(kind.kind, name, etag), { details: planView(plan) });
        if (!done) return;
        toast(`${name} is deleted.`);
        window.location.hash = `#/config/${part(kind.kind)}`;
      } catch (error) {
        if (error instanceof Problem && error.status === 412) await conflict();
        else show(trouble, errorBox(error));
      }
    }, { kind: "danger" }));
  }
  put(root, 
    crumbs(kind, name ?? "new"),
    pageHead(adding ? `New: ${heading}` : name, KIND_HINTS[kind.kind], actions),
    found.data.source === "file" && h("div", { class: "note warn" }, h("p", null, "This comes from gateway.toml and is changed there, not here.")),
    found.data.broken?.length > 0 && h("div", { class: "note bad", role: "alert" }, h("p", null, "It is not in force:"), h("ul", null, found.data.broken.map((one) => h("li", null, one)))),
    card(null, form),
  );
}

function apply(target, patch) {
  const result = { ...target };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (typeof value === "object" && !Array.isArray(value) && typeof result[key] === "object" && result[key] !== null) result[key] = apply(result[key], value);
    else result[key] = value;
  }
  return result;
}

function planView(plan) {
  const changes = plan?.changes ?? [];
  const cut = plan?.sessions_cut ?? [];
  return h(
    "div",
    { class: "stack" },
    cut.length > 0
      ? h("div", { class: "note warn" }, h("p", null, h("strong", null, `${cut.length} ${cut.length === 1 ? "session ends" : "sessions end"}`), " and must connect again:"), h("p", { class: "mono" }, cut.slice(0, 12).map((one) => one.peer).join(", "), cut.length > 12 && ` and ${cut.length - 12} more`))
      : h("div", { class: "note good" }, h("p", null, "No session ends.")),
    changes.some((one) => one.needs_restart) && h("div", { class: "note warn" }, h("p", null, "Some of it counts only after a restart of the gateway.")),
    changes.length > 0 && table("Changes", [
      { title: "What", cell: (one) => h("span", { class: "mono" }, one.key) },
      { title: "Before", cell: (one) => plain(one.old) },
      { title: "After", cell: (one) => plain(one.new) },
      { title: "Effect", wide: true, cell: (one) => one.effect },
    ], changes.slice(0, 50)),
  );
}

/** What a change would do, and whether to do it. */
export function preview(plan, act) {
  const cut = (plan?.sessions_cut ?? []).length;
  return confirm("What this does", "The gateway checked it: it is valid. Nothing has changed yet.", cut ? "Save and end these sessions" : "Save", act, { tone: cut ? "danger" : "primary", details: planView(plan) });
}
