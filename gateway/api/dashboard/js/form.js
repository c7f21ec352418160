// A form out of a JSON schema: every field of gateway.toml without a line of code for each.
import { button, h, unique } from "./dom.js";
import { field } from "./dialog.js";
import { plain, words } from "./format.js";
import { FIRST, fieldWords } from "./hints.js";

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isSecret = (value) => isObject(value) && value.secret === true;

function resolve(schema, root) {
  let found = schema ?? {};
  for (let depth = 0; depth < 8; depth += 1) {
    if (found.$ref) {
      const target = found.$ref.replace("#/$defs/", "");
      found = { ...(root.$defs?.[target] ?? {}), ...found, $ref: undefined };
    } else if (found.allOf?.length === 1) {
      found = { ...found.allOf[0], ...found, allOf: undefined };
    } else if (found.anyOf) {
      const some = found.anyOf.filter((one) => one.type !== "null");
      if (some.length === found.anyOf.length && some.length !== 1) {
        const object = some.find((one) => one.$ref || one.type === "object");
        return object ? { ...resolve(object, root), ...found, anyOf: undefined } : { ...found, anyOf: undefined };
      }
      found = { ...(some[0] ?? {}), ...found, anyOf: undefined, nullable: true };
    } else break;
  }
  return found;
}

/**
 * Build the fields of a document. Gives `{element, read()}`; `read()` returns the document with
 * what was there before and what was filled in. Fields have the names that problems use.
 */
export function documentForm(kind, schema, value, readOnly = false) {
  return objectPart(kind, schema, schema, value ?? {}, "", readOnly);
}

function objectPart(kind, root, schema, value, prefix, readOnly) {
  const properties = Object.entries(schema.properties ?? {});
  const required = new Set(schema.required ?? []);
  const first = new Set(prefix ? [] : (FIRST[kind] ?? []));
  const parts = properties.map(([name, one]) => {
    const part = propertyPart(kind, root, resolve(one, root), { name, value: value[name], prefix, required: required.has(name), readOnly });
    part.name = name;
    part.early = required.has(name) || first.has(name) || Object.hasOwn(value, name) || properties.length <= 6;
    part.order = first.has(name) ? [...first].indexOf(name) : required.has(name) ? -1 : 99;
    return part;
  });
  const early = parts.filter((part) => part.early).sort((a, b) => a.order - b.order);
  const late = parts.filter((part) => !part.early);
  const known = new Set(properties.map(([name]) => name));
  return {
    element: h(
      "div",
      { class: "stack" },
      early.map((part) => part.element),
      late.length > 0 && h("details", null, h("summary", null, `More settings (${late.length})`), h("div", { class: "stack" }, late.map((part) => part.element))),
    ),
    read() {
      const document = {};
      for (const [name, one] of Object.entries(value)) if (!known.has(name)) document[name] = one;
      for (const part of parts) {
        const found = part.read();
        if (found !== undefined) document[part.name] = found;
      }
      return document;
    },
  };
}

function propertyPart(kind, root, schema, given) {
  const { name, value } = given;
  const [label, hint] = fieldWords(kind, name, words(name));
  const full = { ...given, label, hint: hint ?? (schema.description?.startsWith("``[") ? null : schema.description) ?? null, path: given.prefix + name };
  if (schema.writeOnly || schema.format === "password" || isSecret(value)) return secretPart(full);
  if (schema.enum) return choicePart(schema, full);
  if (schema.type === "boolean") return flagPart(schema, full);
  if (schema.type === "integer" || schema.type === "number") return numberPart(schema, full);
  if (schema.type === "array" || (!schema.type && (Array.isArray(schema.default) || Array.isArray(value)))) return listPart(root, schema, full);
  if (schema.type === "object" || schema.properties) {
    if (schema.properties) return groupPart(kind, root, schema, full);
    return mapPart(kind, root, schema, full);
  }
  return textPart(schema, full);
}

const usual = (schema) => ([undefined, null, ""].includes(schema.default) || schema.default.length === 0 ? null : `Usually ${plain(schema.default)}.`);
const hintOf = (schema, given) => [given.hint, usual(schema)].filter(Boolean).join(" ") || null;

function textPart(schema, given) {
  const long = (schema.maxLength ?? 0) > 300;
  const control = h(long ? "textarea" : "input", { type: long ? null : "text", value: given.value === undefined || given.value === null ? "" : isObject(given.value) ? JSON.stringify(given.value) : String(given.value), required: given.required, disabled: given.readOnly, maxlength: schema.maxLength, spellcheck: "false", autocapitalize: "none", autocomplete: "off" });
  return {
    element: field(given.label, control, { name: given.path, hint: hintOf(schema, given) }),
    read: () => {
      if (control.value.trim() === "") return undefined;
      if (isObject(given.value) && control.value === JSON.stringify(given.value)) return given.value;
      return control.value.trim();
    },
  };
}

function secretPart(given) {
  const stored = isSecret(given.value);
  const control = h("input", { type: "password", disabled: given.readOnly, autocomplete: "new-password", required: given.required && !stored });
  const hint = [given.hint, stored ? "Stored and never shown. Leave this empty to keep it." : null].filter(Boolean).join(" ");
  return {
    element: field(given.label, control, { name: given.path, hint: hint || null }),
    read: () => (control.value === "" ? (stored ? given.value : undefined) : control.value),
  };
}

function choicePart(schema, given) {
  const current = given.value ?? null;
  const none = schema.default !== undefined && schema.default !== null ? `As usual (${schema.default})` : schema.nullable || !given.required ? "Not set" : "Choose";
  const control = h(
    "select",
    { required: given.required, disabled: given.readOnly },
    h("option", { value: "" }, none),
    schema.enum.map((one) => h("option", { value: String(one), selected: one === current }, String(one))),
  );
  return {
    element: field(given.label, control, { name: given.path, hint: given.hint }),
    read: () => schema.enum.find((one) => String(one) === control.value && control.value !== ""),
  };
}

function flagPart(schema, given) {
  const id = unique("flag");
  const start = given.value ?? schema.default ?? false;
  const control = h("input", { type: "checkbox", id, name: given.path, checked: start === true, disabled: given.readOnly });
  const wrong = h("p", { class: "wrong", id: `${id}-wrong` });
  control.setAttribute("aria-describedby", wrong.id);
  return {
    element: h("div", { class: "field check" }, control, h("label", { for: id }, given.label), given.hint && h("p", { class: "hint" }, given.hint), wrong),
    read: () => (given.value === undefined && control.checked === (schema.default ?? false) ? undefined : control.checked),
  };
}

function numberPart(schema, given) {
  const low = schema.minimum ?? schema.ge ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.le ?? schema.exclusiveMaximum;
  const control = h("input", { type: "number", step: schema.type === "integer" ? 1 : "any", min: low, max: high, value: given.value ?? "", required: given.required, disabled: given.readOnly, inputmode: schema.type === "integer" ? "numeric" : "decimal" });
  const range = low !== undefined && high !== undefined ? `${low} to ${high}.` : null;
  return {
    element: field(given.label, control, { name: given.path, hint: [given.hint, range, usual(schema)].filter(Boolean).join(" ") || null }),
    read: () => (control.value === "" ? undefined : Number(control.value)),
  };
}

function listPart(root, schema, given) {
  const items = resolve(schema.items ?? {}, root);
  if (items.enum) return severalPart(items, schema, given);
  const nested = items.type === "object" || items.properties;
  const text = (given.value ?? []).map((one) => (nested || isObject(one) ? JSON.stringify(one) : String(one)));
  const control = h("textarea", { rows: Math.min(6, Math.max(2, text.length)), value: text.join("\n"), required: given.required, disabled: given.readOnly, spellcheck: "false", autocapitalize: "none" });
  const hint = [given.hint ?? "One a line.", usual(schema)].filter(Boolean).join(" ");
  return {
    element: field(given.label, control, { name: given.path, hint: nested ? `${hint} Each as JSON.` : hint }),
    read: () => {
      const lines = control.value.split(/\n/).map((line) => line.trim()).filter(Boolean);
      if (lines.length === 0) return given.value === undefined || given.value.length > 0 ? undefined : [];
      return lines.map((line) => {
        if (!nested) return items.type === "integer" || items.type === "number" ? Number(line) : line;
        try {
          return JSON.parse(line);
        } catch (_error) {
          return line; // the gateway says what is wrong with it
        }
      });
    },
  };
}

function severalPart(items, schema, given) {
  const chosen = new Set(given.value ?? []);
  const boxes = items.enum.map((one) => h("input", { type: "checkbox", name: given.path, value: one, checked: chosen.has(one), disabled: given.readOnly }));
  const started = items.enum.filter((one) => chosen.has(one)).join();
  return {
    element: h(
      "fieldset",
      { class: "field" },
      h("legend", null, given.label),
      (given.hint || usual(schema)) && h("p", { class: "hint" }, [given.hint, usual(schema)].filter(Boolean).join(" ")),
      h("div", { class: "row" }, boxes.map((box) => h("label", { class: "row" }, box, box.value))),
      h("p", { class: "wrong" }),
    ),
    read: () => {
      const found = boxes.filter((box) => box.checked).map((box) => box.value);
      if (found.join() === started) return given.value;
      return found;
    },
  };
}

function groupPart(kind, root, schema, given) {
  const inner = objectPart(kind, root, schema, isObject(given.value) ? given.value : {}, `${given.path}.`, given.readOnly);
  return {
    element: h("details", { open: given.value !== undefined }, h("summary", null, given.label), h("fieldset", null, h("legend", { class: "unseen" }, given.label), given.hint && h("p", { class: "hint" }, given.hint), inner.element)),
    read: () => {
      const found = inner.read();
      return Object.keys(found).length || given.value !== undefined ? found : undefined;
    },
  };
}

function mapPart(kind, root, schema, given) {
  const entry = resolve(schema.additionalProperties === true ? {} : (schema.additionalProperties ?? {}), root);
  const rows = new Map();
  const box = h("div", { class: "stack" });
  const add = (name, value) => {
    const part = entry.properties
      ? objectPart(kind, root, entry, value ?? {}, `${given.path}.${name}.`, given.readOnly)
      : propertyPart(kind, root, entry, { name: name, value, prefix: `${given.path}.`, required: true, readOnly: given.readOnly });
    const holder = h("fieldset", null, h("legend", null, name), part.element, !given.readOnly && button("Remove", () => {
      rows.delete(name);
      holder.remove();
    }, { kind: "small danger", "aria-label": `Remove ${name}` }));
    rows.set(name, part);
    box.append(holder);
  };
  for (const [name, value] of Object.entries(given.value ?? {})) add(name, value);
  const label = h("input", { type: "text", "aria-label": `Name of a new entry of ${given.label}`, placeholder: "Name", maxlength: 63 });
  const adder = h("div", { class: "row" }, h("div", { class: "search" }, label), button("Add", () => {
    const name = label.value.trim();
    if (!name || rows.has(name)) return label.focus();
    add(name, undefined);
    label.value = "";
    return box.lastElementChild.querySelector("input, select, textarea")?.focus();
  }));
  return {
    element: h("fieldset", { class: "field" }, h("legend", null, given.label, given.required && h("span", { class: "needed", "aria-hidden": "true" }, " *")), given.hint && h("p", { class: "hint" }, given.hint), box, !given.readOnly && adder, h("p", { class: "wrong" })),
    read: () => {
      if (rows.size === 0) return given.value === undefined ? undefined : {};
      return Object.fromEntries([...rows].map(([name, part]) => [name, part.read()]));
    },
  };
}
