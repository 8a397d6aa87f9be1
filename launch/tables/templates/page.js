"use strict";
// A click on a header sorts the lines of each group by that column; empty cells come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
    const down = header.getAttribute("aria-sort") === "descending";
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "ascending" : "descending");
    const sign = down ? 1 : -1;
    for (const body of table.tBodies) {
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [m, n] = [Number(x), Number(y)];
        return sign * (Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n);
      });
      body.append(...rows);
    }
  }));
}
// A click on a thumbnail shows the whole picture; a click on that, or Escape, closes it.
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => {
    const image = dialog.querySelector("img");
    image.src = button.dataset.whole;
    image.alt = button.querySelector("img").alt;
    dialog.showModal();
  });
}
if (dialog) dialog.addEventListener("click", () => dialog.close());
