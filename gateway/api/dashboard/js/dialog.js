// Dialogs. <dialog> keeps the focus inside, closes with Escape and hides the rest from readers.
import { append, button, h, unique } from "./dom.js";
import { Problem } from "./api.js";

/**
 * Open a dialog. `build(close)` returns its content; `close(value)` ends it.
 * The promise gives that value, or null after Escape. The focus goes back to where it was.
 */
export function openDialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const id = unique("title");
    const close = (value = null) => {
      box.returned = value;
      box.close();
    };
    const heading = h("h2", { id, tabindex: "-1" }, title);
    const box = h(
      "dialog",
      { class: wide ? "broad" : null, "aria-labelledby": id },
      h(
        "div",
        { class: "dialog-head" },
        heading,
        button("", () => close(), { kind: "quiet", picture: "close", "aria-label": "Close" }),
      ),
    );
    append(box, [build(close)]);
    box.addEventListener("close", () => {
      box.remove();
      if (before?.isConnected) before.focus();
      resolve(box.returned ?? null);
    });
    document.body.append(box);
    box.showModal();
    (box.querySelector("[autofocus], input:not([type=hidden]), select, textarea") ?? heading).focus();
  });
}

/** What went wrong, where everybody sees it. */
export function errorBox(error, retry = null) {
  const text = error instanceof Problem ? error.message : `The page made a mistake: ${error.message}`;
  const more = error instanceof Problem ? error.errors : [];
  return h(
    "div",
    { class: "note bad", role: "alert" },
    h("p", null, text),
    more.length > 1 && h("ul", null, more.map((one) => h("li", null, one.field ? `${one.field}: ${one.message ?? one.detail}` : (one.message ?? one.detail)))),
    retry && button("Try again", retry, { kind: "small" }),
  );
}

/** Ask before something that cannot be undone. `act()` runs while the dialog is open. */
export function confirm(title, text, verb, act, { tone = "danger", details = null } = {}) {
  return openDialog(title, (close) => {
    const trouble = h("div");
    const go = button(
      verb,
      async () => {
        go.disabled = true;
        trouble.replaceChildren();
        try {
          close({ done: true, result: await act() });
        } catch (error) {
          trouble.append(errorBox(error));
          go.disabled = false;
        }
      },
      { kind: tone },
    );
    return [
      h("p", null, text),
      details,
      trouble,
      h("div", { class: "dialog-foot" }, button("Cancel", () => close(), { autofocus: true }), go),
    ];
  });
}

/**
 * Have a form do something: complaints of before go, required fields are looked at, the button `go`
 * rests meanwhile. What goes wrong is shown at its field, or in `trouble`; `failed` may do better.
 */
export function whenSubmitted(form, go, trouble, act, failed = null) {
  const show = (error) => {
    if (!placeError(form, error)) trouble.append(errorBox(error));
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors(form);
    trouble.replaceChildren();
    if (!checkRequired(form)) return;
    go.disabled = true;
    try {
      await act();
    } catch (error) {
      await (failed ?? show)(error, show);
    } finally {
      go.disabled = false;
    }
  });
}

/**
 * A form in a dialog. `fields` are elements of `field()`; `submit(form)` does the work and its
 * result closes the dialog; a problem that names a field is shown there.
 */
export function formDialog(title, fields, verb, submit, { wide = false, intro = null } = {}) {
  return openDialog(
    title,
    (close) => {
      const trouble = h("div");
      const go = h("button", { type: "submit", class: "button primary" }, verb);
      const form = h(
        "form",
        { class: "stack", novalidate: true },
        intro && h("p", { class: "soft" }, intro),
        fields,
        trouble,
        h("div", { class: "dialog-foot" }, button("Cancel", () => close()), go),
      );
      whenSubmitted(form, go, trouble, async () => close(await submit(form)));
      return form;
    },
    { wide },
  );
}

/** A labelled control. `name` is also what problems call the field. */
export function field(label, control, { hint = null, name = null } = {}) {
  const id = unique("field");
  control.id ||= id;
  if (name) control.name = name;
  const said = [];
  let hintBox = null;
  if (hint) {
    hintBox = h("p", { class: "hint", id: unique("hint") }, hint);
    said.push(hintBox.id);
  }
  const wrong = h("p", { class: "wrong", id: unique("wrong") });
  said.push(wrong.id);
  control.setAttribute("aria-describedby", said.join(" "));
  const needed = control.required ? h("span", { class: "needed", "aria-hidden": "true" }, " *") : null;
  return h(
    "div",
    { class: "field", data: { field: name ?? "" } },
    h("label", { for: control.id }, label, needed),
    control,
    hintBox,
    wrong,
  );
}

/** Mark a field as wrong, with words. */
export function markWrong(control, text) {
  const box = control.closest(".field");
  control.setAttribute("aria-invalid", "true");
  const wrong = box?.querySelector(".wrong");
  if (wrong) wrong.textContent = text;
  for (let up = control.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
}

/** Take all marks away. */
export function clearErrors(form) {
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const wrong of form.querySelectorAll(".wrong")) wrong.textContent = "";
}

/** Whether everything that is required is there; marks and focuses the first that is not. */
export function checkRequired(form) {
  let first = null;
  for (const control of form.querySelectorAll("[required]")) {
    if (control.value.trim() !== "") continue;
    markWrong(control, "Fill this in.");
    first ??= control;
  }
  first?.focus();
  return first === null;
}

/** Show a problem at the fields it names; false when no such field is there. */
export function placeError(form, error) {
  if (!(error instanceof Problem)) return false;
  const each = error.errors.length ? error.errors : [{ field: error.field, message: error.message }];
  let first = null;
  let missed = false;
  for (const one of each) {
    const control = one.field ? findControl(form, one.field) : null;
    if (control) {
      markWrong(control, one.message ?? one.detail ?? error.message);
      first ??= control;
    } else missed = true;
  }
  first?.focus();
  return first !== null && !missed;
}

function findControl(form, path) {
  const parts = String(path).replaceAll(/\[\d+\]/g, "").split(/[./]/);
  for (let from = 0; from < parts.length; from += 1) {
    for (let to = parts.length; to > from; to -= 1) {
      const name = parts.slice(from, to).join(".");
      const found = [...form.elements].find((one) => one.name === name);
      if (found) return found;
    }
  }
  return null;
}
