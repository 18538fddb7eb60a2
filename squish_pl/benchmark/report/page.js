"use strict";
// What the page's script shows: the leaderboard and the document that were chosen.

document.addEventListener("DOMContentLoaded", start);

// What is shown: chosen values are kept in the address, the others follow from the findings.

function start() {
  const index = JSON.parse(byId("index").textContent);
  const budgets = [...document.getElementsByName("budget")].map((radio) => radio.value);
  const boards = [...document.getElementsByName("board-reference")].map((radio) => radio.value);
  const numbers = index.documents.map((_, number) => String(number + 1));
  let chosen = new URLSearchParams(location.hash.slice(1));
  let last = {}; // the document that was unpacked last
  let turns = 0;

  const choice = (name, allowed) => (allowed.includes(chosen.get(name)) ? chosen.get(name) : allowed[0]);

  function choose(name, value) {
    chosen.set(name, value);
    history.replaceState(null, "", `#${chosen}`);
    show();
  }

  async function show() {
    const budget = choice("budget", budgets);
    const board = choice("board", boards);
    setRadios("board-budget", budget);
    setRadios("board-reference", board);
    for (const part of document.querySelectorAll(".choice")) {
      const { budget: own = budget, reference } = part.dataset;
      part.classList.toggle("chosen", own === budget && reference === board);
    }
    setRadios("budget", budget);
    if (numbers.length) await showDocument(budget);
  }

  async function showDocument(budget) {
    const turn = ++turns;
    const number = choice("doc", numbers);
    const entry = index.documents[number - 1];
    const reference = choice("reference", index.references.filter((name) => name in entry.blocks));
    setRadios("reference", reference);
    byId("document").value = number;
    const block = entry.blocks[reference];
    if (last.block !== block) {
      const result = await unpacked(block).then((data) => ({ data }), ({ message }) => ({ problem: message }));
      if (turn !== turns) return; // another was chosen meanwhile
      last = { block, ...result };
    }
    const { data, problem } = last;
    byId("reader").hidden = !data;
    byId("status").textContent = data
      ? `Document ${number} of ${numbers.length}; ${figure(data.information, 1)} nats by itself`
      : `Document ${number} cannot be shown: ${problem}.`;
    if (!data) return;
    byId("title").textContent = entry.title;
    showSummary(data, budget);
  }

  function showSummary(data, budget) {
    const offered = data.summaries.filter((summary) => summary.budget === budget);
    const names = [...new Set(offered.map((summary) => summary.contender))];
    const contender = choice("contender", names);
    const pick = (name) => {
      const own = offered.filter((summary) => summary.contender === name);
      return own.find((summary) => String(summary.sample) === chosen.get("sample")) ?? own[0];
    };
    const options = names.map((value) => {
      const { scores, verdict } = pick(value);
      const name = element("span", {}, [element("bdi", { textContent: value })]);
      if (Object.hasOwn(index.marks, value)) {
        name.append(" ", element("span", { className: "mark", textContent: index.marks[value] }));
      }
      const score = element("span", { className: "value", textContent: figure(scores[index.rank_by], 4) });
      const small = element("small", { textContent: verdict, dir: "auto" });
      return { value, parts: verdict ? [name, score, small] : [name, score] };
    });
    drawRadios(byId("contenders"), "contender", options, contender);
    const summary = pick(contender);
    const samples = offered.filter((other) => other.contender === contender).map((other) => String(other.sample));
    byId("samples").hidden = samples.length < 2;
    const sampleOptions = samples.map((value) => ({ value, parts: [String(Number(value) + 1)] }));
    drawRadios(byId("samples"), "sample", sampleOptions, summary && String(summary.sample));
    drawSummary(data, summary, index.scores);
  }

  function step(by) {
    const options = [...byId("document").options].map((option) => option.value);
    const place = options.indexOf(choice("doc", numbers));
    const next = place < 0 ? options[0] : options[place + by];
    if (next) choose("doc", next);
  }

  function fillList() {
    const wanted = byId("find").value.trim().toLowerCase();
    const title = (number) => index.documents[number - 1].title;
    const options = numbers
      .filter((number) => title(number).toLowerCase().includes(wanted))
      .map((value) => element("option", { value, textContent: `${value}. ${title(value)}` }));
    byId("document").replaceChildren(...options);
    byId("document").value = choice("doc", numbers) ?? "";
    return options;
  }

  listen(choose, step, fillList);
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a link to a section
    chosen = new URLSearchParams(location.hash.slice(1));
    show();
  });
  fillList();
  if (!numbers.length) {
    byId("status").textContent = "No documents were kept for this page.";
    byId("picker").hidden = true;
  }
  show().then(() => chosen.has("doc") && byId("documents").scrollIntoView());
}

function listen(choose, step, fillList) {
  const ofBoard = { "board-budget": "budget", "board-reference": "board" }; // other groups are named as in the address
  document.addEventListener("change", ({ target }) => {
    if (target.type === "radio") choose(ofBoard[target.name] ?? target.name, target.value);
  });
  byId("document").addEventListener("change", ({ target }) => choose("doc", target.value));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("find").addEventListener("input", fillList);
  byId("find").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const [first] = fillList();
    if (first) choose("doc", first.value);
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    // fields, choices and boxes that scroll need these keys themselves
    const taken = event.key.startsWith("Arrow") ? "input, select, [role=region]" : "input[type=search], select";
    if (!by || event.target.closest(taken)) return;
    event.preventDefault();
    step(by);
  });
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the address holds what is shown
      const section = byId(link.hash.slice(1));
      section.scrollIntoView();
      section.focus({ preventScroll: true });
    });
  }
  listenToText();
}

async function unpacked(block) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack it (it has no DecompressionStream); one of 2023 or later can");
  }
  const bytes = Uint8Array.from(atob(byId(`block-${block}`).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}
