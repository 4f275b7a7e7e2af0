"use strict";
// What is in a cell is kept as text until the cell is opened, so a page of a thousand cells opens at once. Without
// this script a browser shows what is in <noscript> by itself.
const fill = (cell) => {
  const waiting = cell.querySelector("noscript");
  if (!waiting) return;
  const made = document.createElement("template");
  made.innerHTML = waiting.textContent;
  waiting.replaceWith(made.content);
};
document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.classList.contains("cell")) fill(event.target);
}, true);

document.querySelectorAll(".cell[open]").forEach(fill);

const follow = () => {
  const target = document.getElementById(location.hash.slice(1));
  const cell = target && target.closest("details");
  if (!cell) return;
  cell.hidden = false;
  cell.closest("section").hidden = false;
  cell.open = true;
  fill(cell);
  cell.scrollIntoView();
  cell.querySelector("summary").focus({ preventScroll: true });
};
addEventListener("hashchange", follow);
// a link to the cell that the address names already changes no address
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) setTimeout(follow); // after the browser's own move
});
follow();
addEventListener("load", follow); // the browser has scrolled by itself until then

const search = document.querySelector(".search");
if (search) {
  const words = document.getElementById("words");
  const only = document.getElementById("only");
  const sections = [...document.querySelectorAll(".state")].map((section) => ({
    section,
    name: section.querySelector("h3").textContent.toLowerCase(),
    cells: [...section.querySelectorAll(".cell")].map((cell) => ({
      cell,
      text: cell.querySelector("summary").textContent.toLowerCase(),
      unexpected: cell.matches(".differs, .unclear"),
    })),
  }));
  const sift = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let all = 0;
    for (const { section, name, cells } of sections) {
      let here = 0;
      for (const { cell, text, unexpected } of cells) {
        cell.hidden = (only.checked && !unexpected) || !wanted.every((word) => text.includes(word) || name.includes(word));
        here += cell.hidden ? 0 : 1;
      }
      section.hidden = here === 0;
      shown += here;
      all += cells.length;
    }
    document.getElementById("shown").textContent = shown === all ? `${all} cells` : `${shown} of ${all} cells`;
  };
  words.addEventListener("input", sift);
  only.addEventListener("change", sift);
  search.hidden = false;
  sift();
}
