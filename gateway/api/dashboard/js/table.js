// Tables: a plain one for what is short, and a windowed one that stays fast with 10,000 rows.
import { append, button, h, show } from "./dom.js";
import { count } from "./format.js";
import { errorBox } from "./dialog.js";
import { get } from "./api.js";
import { keepFresh } from "./live.js";

/**
 * A short table. `columns` are `{title, cell(item), number?, wide?}`; wide ones are left out on a
 * phone. The caption is for those who do not see the heading above.
 */
export function table(caption, columns, items) {
  return h(
    "div",
    { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      null,
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map((column) => h("th", { scope: "col", class: classes(column) }, column.title)))),
      h(
        "tbody",
        null,
        items.map((item) => h("tr", null, columns.map((column) => h("td", { class: classes(column) }, column.cell(item))))),
      ),
    ),
  );
}

const classes = (column) => `${column.number ? "number" : ""} ${column.wide ? "wide" : ""}`.trim() || null;

const PAGE = 200;
const SPARE = 8;

/**
 * A list of any length out of pages of the interface. Only rows near the window are in the
 * document; pages are asked for as one scrolls, and asked again when something happens.
 *
 * `query()` gives the filters now. `setSort(sort)` is called by headings of columns with `sort`.
 */
export class WindowedList {
  constructor({ caption, path, columns, query = () => ({}), signal, empty, onLoad = () => {}, sort = null, setSort = null, rowHeight = 44 }) {
    Object.assign(this, { caption, path, columns, query, signal, emptyView: empty, onLoad, sort, setSort, rowHeight });
    this.items = [];
    this.cursors = [null];
    this.total = 0;
    this.loading = false;
    this.generation = 0;
    this.body = h("tbody");
    this.head = h("tr", { "aria-rowindex": "1" });
    this.table = h(
      "table",
      { class: "windowed", "aria-rowcount": "-1" },
      h("caption", { class: "unseen" }, caption),
      h("thead", null, this.head),
      this.body,
    );
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, this.table);
    this.status = h("p", { class: "soft list-status", "aria-live": "polite" });
    this.trouble = h("div");
    this.element = h("div", { class: "list" }, this.trouble, this.scroller, this.status);
    this.paintHead();
    let waiting = false;
    const paintSoon = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        this.paint();
      });
    };
    this.scroller.addEventListener("scroll", paintSoon, { passive: true });
    window.addEventListener("resize", paintSoon, { signal });
    keepFresh(() => this.refresh(), signal, (error) => this.failed(error));
  }

  paintHead() {
    show(
      this.head,
      this.columns.map((column) => {
        const attributes = { scope: "col", class: classes(column), data: { size: column.size ?? "" } };
        if (!column.sort) return h("th", attributes, column.title);
        const down = this.sort === `-${column.sort}`;
        const up = this.sort === column.sort;
        attributes["aria-sort"] = down ? "descending" : up ? "ascending" : "none";
        return h(
          "th",
          attributes,
          h("button", { type: "button", class: "sort", onclick: () => this.order(up ? `-${column.sort}` : column.sort) }, column.title, h("span", { "aria-hidden": "true" }, down ? " ↓" : up ? " ↑" : "")),
        );
      }),
    );
  }

  order(sort) {
    const column = sort.replace("-", "");
    this.sort = sort;
    this.setSort?.(sort);
    this.paintHead();
    const headings = [...this.head.querySelectorAll("button.sort")];
    const sorted = this.columns.filter((one) => one.sort).findIndex((one) => one.sort === column);
    headings[sorted]?.focus();
    this.restart();
  }

  /** Begin anew: the filters changed. */
  restart() {
    this.generation += 1;
    this.items = [];
    this.cursors = [null];
    this.scroller.scrollTop = 0;
    this.loading = false;
    return this.load(0).catch((error) => this.failed(error));
  }

  failed(error) {
    if (error?.name === "AbortError") return;
    if (error?.status === 404) {
      this.put(0, { items: [], total: 0, next: null }); // nothing is configured that has such a list
      this.paint();
      return;
    }
    if (error?.status === 409) {
      this.scroller.hidden = true; // it is switched off: no fault, and the words say what to do
      show(this.status, h("div", { class: "empty" }, h("p", { class: "soft" }, error.message)));
      return;
    }
    show(this.trouble, error && errorBox(error, () => this.restart()));
  }

  async fetchPage(number) {
    const mine = this.generation;
    const page = await get(this.path, { ...this.query(), sort: this.sort, limit: PAGE, cursor: this.cursors[number] }, this.signal);
    if (mine !== this.generation) return null;
    return page;
  }

  async load(number) {
    if (this.loading) return;
    this.loading = true;
    try {
      const page = await this.fetchPage(number);
      if (page) this.put(number, page);
    } finally {
      this.loading = false;
    }
    this.paint();
  }

  put(number, page) {
    const start = number * PAGE;
    const last = number === this.cursors.length - 1;
    this.items.splice(start, last ? Infinity : PAGE, ...page.items);
    this.total = page.total ?? this.items.length;
    if (page.next === null || page.next === undefined) {
      this.items.length = start + page.items.length;
      this.cursors.length = number + 1;
      this.complete = true;
    } else {
      if (last) this.complete = false;
      this.cursors[number + 1] = page.next;
    }
    this.onLoad(page);
    this.failed(null);
  }

  /** Ask again for what is in sight. */
  async refresh() {
    if (this.loading) return;
    const { first, last } = this.range();
    const from = Math.min(Math.floor(first / PAGE), this.cursors.length - 1);
    const to = Math.min(Math.floor(Math.max(first, last - 1) / PAGE), this.cursors.length - 1);
    for (let number = from; number <= to; number += 1) {
      const page = await this.fetchPage(number);
      if (!page) return;
      if (number < this.cursors.length) this.put(number, page);
    }
    this.stale = true;
    this.paint();
  }

  range() {
    const height = this.scroller.clientHeight || 600;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / this.rowHeight) - SPARE);
    const last = Math.min(this.items.length, Math.ceil((this.scroller.scrollTop + height) / this.rowHeight) + SPARE);
    return { first, last };
  }

  paint() {
    if (this.signal.aborted) return;
    const nothing = this.items.length === 0 && this.complete === true;
    this.scroller.hidden = nothing;
    if (nothing) {
      show(this.status, this.emptyView());
      this.body.replaceChildren();
      return;
    }
    const { first, last } = this.range();
    this.table.setAttribute("aria-rowcount", String(this.total + 1));
    const focused = this.body.contains(document.activeElement) ? this.focusedPlace() : null;
    const rows = [];
    if (first > 0) rows.push(this.spacer(first));
    for (let index = first; index < last; index += 1) rows.push(this.row(index));
    const rest = this.items.length - last;
    if (rest > 0) rows.push(this.spacer(rest));
    show(this.body, rows);
    if (focused) this.restoreFocus(focused);
    const known = this.items.length;
    show(this.status, this.complete ? `${count(this.total)} in total` : `${count(known)} of ${count(this.total)} loaded; the rest comes as you scroll`);
    if (!this.complete && !this.loading && last + 40 > known && known) {
      this.load(this.cursors.length - 1).catch((error) => this.failed(error));
    }
  }

  focusedPlace() {
    const row = document.activeElement.closest("tr");
    const among = [...row.querySelectorAll("a, button")];
    return { index: row.getAttribute("aria-rowindex"), place: among.indexOf(document.activeElement) };
  }

  restoreFocus({ index, place }) {
    const row = this.body.querySelector(`tr[aria-rowindex="${index}"]`);
    const target = row?.querySelectorAll("a, button")[place] ?? this.scroller;
    target.focus({ preventScroll: true });
  }

  spacer(rows) {
    const phone = window.matchMedia("(max-width: 640px)").matches;
    const cell = h("td", { colspan: this.columns.filter((column) => !phone || !column.wide).length });
    const row = h("tr", { "aria-hidden": "true", class: "spacer" }, cell);
    cell.style.height = `${rows * this.rowHeight}px`;
    return row;
  }

  row(index) {
    const item = this.items[index];
    return h(
      "tr",
      { "aria-rowindex": String(index + 2), class: "fixed" },
      this.columns.map((column) => h("td", { class: classes(column) }, column.cell(item))),
    );
  }
}

/** A list of cards of any height, a page at a time. `filters()` gives the query now. */
export class CardList {
  constructor({ path, query = () => ({}), signal, build, empty, page = 50 }) {
    Object.assign(this, { path, query, signal, build, emptyView: empty, page });
    this.pages = 1;
    this.box = h("div", { class: "cards" });
    this.trouble = h("div");
    this.foot = h("p", { class: "list-status soft" });
    this.element = h("div", null, this.trouble, this.box, this.foot);
    this.open = new Set();
    this.run = keepFresh(() => this.load(), signal, (error) => show(this.trouble, error && errorBox(error, () => this.load())));
  }

  async load() {
    const items = [];
    let cursor = null;
    let total = 0;
    for (let number = 0; number < this.pages; number += 1) {
      const page = await get(this.path, { ...this.query(), limit: this.page, cursor }, this.signal);
      items.push(...page.items);
      total = page.total ?? items.length;
      cursor = page.next;
      if (!cursor) break;
    }
    const text = JSON.stringify(items.map((item) => ({ ...item, age_s: 0 })));
    if (text === this.shown) return;
    this.shown = text;
    const opened = [...this.box.querySelectorAll("details")].map((one) => one.open && one.dataset.id).filter(Boolean);
    show(this.box, items.length ? items.map((item) => this.build(item)) : this.emptyView());
    for (const one of this.box.querySelectorAll("details")) if (opened.includes(one.dataset.id)) one.open = true;
    show(
      this.foot,
      items.length > 0 && `${count(items.length)} of ${count(total)} `,
      cursor && button("Show more", () => {
        this.pages += 1;
        this.load();
      }, { kind: "small" }),
    );
  }

  restart() {
    this.pages = 1;
    this.shown = null;
    return this.load().catch((error) => error.name !== "AbortError" && show(this.trouble, errorBox(error)));
  }
}

/** A search field that waits until one stops typing. */
export function searchField(label, value, changed, hint = "") {
  let timer = null;
  const control = h("input", { type: "search", value, placeholder: hint, "aria-label": label, maxlength: 253, spellcheck: "false", autocapitalize: "none" });
  control.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => changed(control.value.trim()), 250);
  });
  return h("div", { class: "search" }, control);
}

/** A drop-down with a label. `options` are `[value, text]`. */
export function choice(label, options, value, changed) {
  return h(
    "label",
    { class: "choice" },
    h("span", null, label),
    h(
      "select",
      { onchange: (event) => changed(event.target.value) },
      options.map(([one, text]) => h("option", { value: one, selected: one === value }, text)),
    ),
  );
}

/** A row of controls above a list. */
export const toolbar = (...content) => append(h("div", { class: "toolbar" }), content);

