"use strict";
// What the meta-evaluation's page shows: parts that carry data for every choice made.

document.addEventListener("DOMContentLoaded", () => {
  document.addEventListener("change", showChosen);
  showChosen();
});

function showChosen() {
  const checked = [...document.querySelectorAll("input[type=radio]:checked")];
  const chosen = Object.fromEntries(checked.map(({ name, value }) => [name, value]));
  for (const part of document.querySelectorAll(".choice")) {
    const fits = Object.entries(part.dataset).every(([name, value]) => chosen[name] === value);
    part.classList.toggle("chosen", fits);
  }
}
