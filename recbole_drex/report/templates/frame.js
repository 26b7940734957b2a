// What every page's script starts with.
const root = document.documentElement;
// Every text goes into the page as text, in its own direction: what a review says is shown and never interpreted.
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
