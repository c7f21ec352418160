// Configured objects by the interface: read with a version, try a change out, carry it out.
import { get, getVersion, onceKey, part, send } from "./api.js";

const path = (kind, name = null) => `/config/${part(kind.replaceAll("_", "-"))}${name === null ? "" : `/${part(name)}`}`;

let kindsKnown = null;

/** All kinds with their titles and schemas. */
export async function kinds(signal) {
  kindsKnown ??= (await get("/config/kinds", null, signal)).kinds;
  return kindsKnown;
}

/** One object and its version: `{data, etag}`. */
export const read = (kind, name, signal) => getVersion(path(kind, name), signal);

/** Path of the list of a kind. */
export const listPath = (kind) => path(kind);

/** Store a new object; with `dryRun` only say what that would do. */
export const create = (kind, name, document, dryRun = false) =>
  send("POST", path(kind), { name, document }, { query: dryRun ? { dry_run: true } : null, key: dryRun ? null : onceKey() });

/** Change fields of an object of this version (RFC 7396). */
export const merge = (kind, name, patch, etag, dryRun = false) =>
  send("PATCH", path(kind, name), patch, { etag, query: dryRun ? { dry_run: true } : null, key: dryRun ? null : onceKey() });

/** Remove an object of this version. */
export const remove = (kind, name, etag, dryRun = false) =>
  send("DELETE", path(kind, name), undefined, { etag, query: dryRun ? { dry_run: true } : null });

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** What turns one document into the other (RFC 7396). */
export function mergePatch(before, after) {
  const patch = {};
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) patch[key] = null;
  for (const [key, value] of Object.entries(after)) {
    const old = before[key];
    if (isObject(value) && isObject(old) && value.secret !== true && old.secret !== true) {
      const inner = mergePatch(old, value);
      if (Object.keys(inner).length) patch[key] = inner;
    } else if (JSON.stringify(old) !== JSON.stringify(value)) patch[key] = value;
  }
  return patch;
}

/** Names of fields in which two documents differ, with both values. */
export function differences(one, other, prefix = "") {
  const found = [];
  for (const key of new Set([...Object.keys(one ?? {}), ...Object.keys(other ?? {})])) {
    const [a, b] = [one?.[key], other?.[key]];
    if (isObject(a) && isObject(b)) found.push(...differences(a, b, `${prefix}${key}.`));
    else if (JSON.stringify(a) !== JSON.stringify(b)) found.push([prefix + key, a, b]);
  }
  return found;
}
