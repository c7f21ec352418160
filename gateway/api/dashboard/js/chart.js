// Traffic over time, drawn by hand.
import { h, s, unique } from "./dom.js";
import { moment, octets, rate, when } from "./format.js";
import { table } from "./table.js";

const HEIGHT = 210;
const LEFT = 84;
const RIGHT = 12;
const TOP = 14;
const BOTTOM = 30;

function nice(value) {
  if (value <= 0) return 1000;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function clock(date, span) {
  const two = (number) => String(number).padStart(2, "0");
  if (span > 2 * 86400) return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** A chart of `{step_s, points: [{at, bytes_in, bytes_out}]}`, and the same as a table below it. */
export function trafficChart(data) {
  const WIDTH = window.matchMedia("(max-width: 640px)").matches ? 360 : 560;
  const step = data.interval_s || 60;
  const points = (data.samples ?? [])
    .map((point) => ({ at: moment(point.at), into: (point.bytes_in ?? 0) / step, out: (point.bytes_out ?? 0) / step, raw: point }))
    .filter((point) => point.at);
  if (points.length < 2) return h("p", { class: "soft" }, "Not enough measured yet for a picture. The first appears after a minute or two of traffic.");
  const first = points[0].at.getTime();
  const last = points.at(-1).at.getTime();
  const top = nice(Math.max(...points.map((point) => Math.max(point.into, point.out))) * 8) / 8;
  const x = (at) => LEFT + ((at.getTime() - first) / (last - first || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  const line = (key) => points.map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`).join("");
  const area = (key) => `${line(key)}L${x(points.at(-1).at).toFixed(1)} ${y(0)}L${x(points[0].at).toFixed(1)} ${y(0)}Z`;
  const title = unique("chart");
  const peak = points.reduce((best, point) => (point.into + point.out > best.into + best.out ? point : best));
  const grid = [0, 0.5, 1].map((share) => [
    s("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(top * share), y2: y(top * share) }),
    s("text", { class: "axis", x: LEFT - 8, y: y(top * share) + 4, "text-anchor": "end" }, rate(top * share)),
  ]);
  const span = (last - first) / 1000;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = new Date(first + (last - first) * share);
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    return s("text", { class: "axis", x: x(at), y: HEIGHT - 8, "text-anchor": anchor }, clock(at, span));
  });
  const picture = s(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-labelledby": `${title} ${title}-desc` },
    s("title", { id: title }, "Traffic over time"),
    s("desc", { id: `${title}-desc` }, `From ${when(points[0].at)} to ${when(points.at(-1).at)}. Most at ${when(peak.at)}: ${rate(peak.into)} from the device, ${rate(peak.out)} to it.`),
    grid,
    ticks,
    s("path", { class: "area out", d: area("out") }),
    s("path", { class: "area in", d: area("into") }),
    s("path", { class: "line out", d: line("out") }),
    s("path", { class: "line in", d: line("into") }),
  );
  const sum = (key) => points.reduce((all, point) => all + (point.raw[key] ?? 0), 0);
  return h(
    "div",
    null,
    h("p", { class: "legend" }, h("span", { class: "key in" }, `From the device: ${octets(sum("bytes_in"))}`), h("span", { class: "key out" }, `To the device: ${octets(sum("bytes_out"))}`)),
    picture,
    h(
      "details",
      { data: { id: "chart" } },
      h("summary", null, "The same in numbers"),
      table("Traffic over time", [
        { title: "From", cell: (point) => when(point.at) },
        { title: "From the device", number: true, cell: (point) => octets(point.raw.bytes_in) },
        { title: "To the device", number: true, cell: (point) => octets(point.raw.bytes_out) },
      ], points.filter((point) => point.raw.bytes_in || point.raw.bytes_out).slice(-120)),
    ),
  );
}

/** A bar that shows how much of something is used. */
export function usageBar(label, used, total) {
  const share = total > 0 ? Math.min(1, used / total) : 0;
  const tone = share >= 0.95 ? "bad" : share >= 0.8 ? "warn" : "good";
  const inner = h("span", { class: `fill ${tone}` });
  inner.style.width = `${Math.max(share * 100, used > 0 ? 1 : 0)}%`;
  return h(
    "div",
    { class: "usage", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": used, "aria-valuetext": `${used} of ${total}` },
    inner,
  );
}
