// Numbers and times in words.

const PREFIXES = ["", "k", "M", "G", "T", "P"];

function scaled(value, unit) {
  let step = 0;
  let left = value;
  while (left >= 1000 && step < PREFIXES.length - 1) {
    left /= 1000;
    step += 1;
  }
  const digits = step === 0 || left >= 100 ? 0 : 1;
  return `${left.toFixed(digits)}\u00a0${PREFIXES[step]}${unit}`;
}

/** Octets as `1.2 MB`; a dash where nobody knows. */
export const octets = (value) => (typeof value === "number" ? scaled(value, "B") : "–");

/** Bits in a second as `1.2 Mbit/s`. */
export const rate = (octetsPerSecond) =>
  typeof octetsPerSecond === "number" ? scaled(octetsPerSecond * 8, "bit/s") : "–";

/** An integer with thin spaces between thousands. */
export const count = (value) =>
  typeof value === "number" ? Math.round(value).toLocaleString("en").replaceAll(",", "\u202f") : "–";

/** Seconds as `3 min`, `2 h 5 min` or `4 days`. */
export function duration(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

/** How long ago in words. */
export const ago = (seconds) => {
  if (typeof seconds !== "number") return "never";
  return seconds < 2 ? "just now" : `${duration(seconds)} ago`;
};

/** A date from an ISO text or seconds since the epoch; null where there is none. */
export function moment(value) {
  if (value === null || value === undefined || value === "") return null;
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** Date and time of where the reader is. */
export function when(value) {
  const date = moment(value);
  if (!date) return "–";
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** How long ago a moment was, in words. */
export function since(value) {
  const date = moment(value);
  return date ? ago(Math.max(0, (Date.now() - date.getTime()) / 1000)) : "never";
}

/** How far ahead a moment is, in words. */
export function until(value) {
  const date = moment(value);
  if (!date) return "never";
  const left = (date.getTime() - Date.now()) / 1000;
  return left <= 0 ? "expired" : `in ${duration(left)}`;
}

/** A word for people out of a name for programs: `home_networks` is `Home networks`. */
export function words(name) {
  const text = String(name).replaceAll("_", " ").replaceAll("-", " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Anything as one short text. */
export function plain(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : "–";
  if (typeof value === "object") return value.secret === true ? "(set, hidden)" : JSON.stringify(value);
  if (value === true) return "yes";
  if (value === false) return "no";
  return String(value);
}
