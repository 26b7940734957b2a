// Sorting: within each body, so that reference rows stay separate; cells without a value come last.
const compare = (left, right, sign) => {
  if (left === "" || right === "") return (left === "") - (right === "");
  const difference = Number(left) - Number(right);
  return sign * (Number.isNaN(difference) ? left.localeCompare(right, undefined, { numeric: true }) : difference);
};
for (const button of document.querySelectorAll("th button")) {
  const header = button.closest("th"), table = button.closest("table");
  button.addEventListener("click", () => {
    const before = header.getAttribute("aria-sort");
    const order = before === "none" ? header.dataset.first : before === "ascending" ? "descending" : "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const column = header.cellIndex, sign = order === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows];
      rows.sort((a, b) => compare(a.cells[column].dataset.value, b.cells[column].dataset.value, sign));
      body.append(...rows);
    }
    document.getElementById("status").textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
  });
}

// Boxes that scroll sideways are reachable by keyboard; others need no tab stop.
const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".scroll, .canvas")) sized.observe(box);

// Columns: one box per metric shows or hides it in its table.
for (const box of document.querySelectorAll(".columns input")) {
  const show = () => {
    for (const cell of document.getElementById(box.dataset.table).querySelectorAll("[data-metric]")) {
      if (cell.dataset.metric === box.value) cell.hidden = !box.checked;
    }
  };
  box.addEventListener("change", show);
  show();
}
for (const node of document.querySelectorAll(".columns")) node.hidden = false;

// Printing opens what is folded, and folds it again afterwards.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.columns)")];
  for (const node of opened) node.open = true;
});
addEventListener("afterprint", () => { for (const node of opened) node.open = false; });
