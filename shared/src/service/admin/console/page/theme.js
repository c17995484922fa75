// Dark or light: as the system has it, or as a person wants it. Not a module, so that it is in force before the first paint.

(() => {
  const KEY = "countersign-theme";
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  let theme = "auto";
  try {
    theme = localStorage.getItem(KEY) ?? "auto";
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (!(theme in NEXT)) theme = "auto";

  function apply() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.textContent = theme;
      button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}`);
    }
  }

  function change() {
    theme = NEXT[theme];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // It is in force all the same.
    }
    apply();
  }

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    for (const button of document.querySelectorAll("[data-theme-toggle]")) button.addEventListener("click", change);
  });
})();
