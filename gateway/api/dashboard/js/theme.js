// Runs before the first paint, so that a dark page never flashes white.
(function () {
  var dark = matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    try {
      return localStorage.getItem("theme");
    } catch (_error) {
      return null; // storage is forbidden: follow the system
    }
  }
  function apply() {
    var theme = chosen();
    document.documentElement.dataset.theme =
      theme === "dark" || theme === "light" ? theme : dark.matches ? "dark" : "light";
  }
  apply();
  dark.addEventListener("change", apply);
})();
