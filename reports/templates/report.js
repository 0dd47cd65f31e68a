"use strict";
// On a phone the table of contents begins folded.
const contents = document.querySelector("#contents details"), narrow = matchMedia("(max-width: 40rem)");
const fold = () => { contents.open = !narrow.matches; };
fold();
narrow.addEventListener("change", fold);

// Tables can be sorted by their headings, and long ones filtered. Without this script they are as they are.
for (const table of document.querySelectorAll("main table:not(.facts)")) {
  const body = table.tBodies[0], rows = [...body.rows];
  if (rows.length < 3) continue;

  const number = (cell) => {
    const found = cell.textContent.replace(/[\u2212]/g, "-").replace(/,(?=\d{3})/g, "").match(/^[^\d-]{0,2}(-?\d+(\.\d+)?)/);
    return found ? parseFloat(found[1]) : null;
  };
  const compare = (one, two) => {
    const numbers = [number(one), number(two)];
    if (numbers[0] !== null && numbers[1] !== null) return numbers[0] - numbers[1];
    if (numbers[0] === null && numbers[1] === null) return one.textContent.localeCompare(two.textContent, "en");
    return numbers[0] === null ? 1 : -1;
  };
  const ungroup = () => body.querySelectorAll(".same").forEach((cell) => cell.classList.remove("same"));

  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const upwards = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      ungroup();
      rows.sort((one, two) => (upwards ? 1 : -1) * compare(one.cells[column], two.cells[column]));
      body.append(...rows);
    });
  });

  if (rows.length < 30) continue;
  const label = document.createElement("label"), input = document.createElement("input");
  label.className = "filter";
  input.type = "search";
  label.append("Filter rows ", input);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    ungroup();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
