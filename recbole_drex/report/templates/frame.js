// Common to the scripts of all pages.
const root = document.documentElement;
// All texts are inserted as text, in their own direction, so the text of a review is never interpreted as HTML.
const element = (name, text, className) => {
  const node = document.createElement(name);
  if (text !== undefined) {
    node.textContent = text;
    node.dir = "auto";
  }
  if (className) node.className = className;
  return node;
};

// Theme: the system's until the reader chooses.
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
dark.addEventListener("change", nameTheme);
theme.hidden = false;
nameTheme();
