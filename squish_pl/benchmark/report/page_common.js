"use strict";
// What the script of every page has: the theme, and ways to reach its parts.

const root = document.documentElement;
root.classList.add("js");
startTheme();

// Theme: as the system has it until the button is used.

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => {
    const button = byId("theme");
    if (button) button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  const kept = memory("theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  system.addEventListener("change", label);
  document.addEventListener("DOMContentLoaded", () => {
    label();
    byId("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      memory("theme", root.dataset.theme);
      label();
    });
  });
}

// Reads what the browser keeps for this page, or writes it; a browser may forbid both.
function memory(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`squish ${name}`, value);
    return localStorage.getItem(`squish ${name}`);
  } catch {
    return null;
  }
}

// Parts of the page

const byId = (id) => document.getElementById(id);

function setRadios(name, value) {
  for (const radio of document.getElementsByName(name)) radio.checked = radio.value === value;
}
