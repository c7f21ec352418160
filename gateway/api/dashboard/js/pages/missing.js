import { h, put } from "../dom.js";
import { empty, pageHead } from "../shell.js";

export const title = "Not found";

export default function missing({ root }) {
  put(root, 
    pageHead("There is no such page"),
    empty("The address leads nowhere", "Choose a page from the menu.", h("a", { href: "#/" }, "Go to the overview")),
  );
}
