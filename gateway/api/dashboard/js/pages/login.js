import { Problem, send } from "../api.js";
import { h, put } from "../dom.js";
import { errorBox, field, whenSubmitted } from "../dialog.js";
import { setTitle, themeSwitch } from "../shell.js";

export default function login({ root, restart }) {
  setTitle("Log in");
  const name = h("input", { type: "text", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 63 });
  const password = h("input", { type: "password", autocomplete: "current-password", required: true, maxlength: 1024 });
  const trouble = h("div");
  const go = h("button", { type: "submit", class: "button primary" }, "Log in");
  const form = h(
    "form",
    { class: "stack card login", novalidate: true },
    h("h1", { tabindex: "-1" }, "Log in to the gateway"),
    field("Name", name, { name: "name" }),
    field("Password", password, { name: "password" }),
    trouble,
    go,
    h("details", null, h("summary", null, "I cannot log in"), h("p", { class: "soft" }, "On the gateway itself, as root: ", h("code", null, "gateway admin user password NAME"), " sets a new password, ", h("code", null, "gateway admin code"), " prints a one-time address to begin anew.")),
  );
  whenSubmitted(form, go, trouble, async () => {
    await send("POST", "/session", { name: name.value.trim(), password: password.value });
    password.value = "";
    await restart();
  }, (error) => {
    if (error instanceof Problem && error.status === 401) {
      trouble.append(errorBox(new Problem(401, { detail: "Name or password is wrong. Try again; after several tries you have to wait." })));
      password.select();
    } else trouble.append(errorBox(error));
  });
  put(root, h("div", { class: "corner" }, themeSwitch()), form);
  name.focus();
}
