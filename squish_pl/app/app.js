"use strict";
// What the page does: it sends what was typed to its own server and draws what comes back. Texts become part of the
// page through textContent alone; nothing of them is kept.

document.addEventListener("DOMContentLoaded", startApp);

const PAUSE = 600; // ms without a key before what was typed is scored
const MOST_BYTES = 1_500_000;

function startApp() {
  const index = JSON.parse(byId("index").textContent);
  const names = index.adapter
    ? { yours: "You", before: "Model before training", after: "Model after training" }
    : { yours: "You", before: "Model" };
  const texts = {}; // who -> { text, note } of what the model wrote
  const results = {}; // who -> { data, summary } of what was scored
  const waiting = new Set(); // whose scores are to be asked for
  let chosen = "yours";
  let ready = false;
  let scoring = false;
  let writing = false;
  let pause;

  const value = (id) => byId(id).value;
  const textOf = (who) => (who === "yours" ? value("own") : (texts[who]?.text ?? ""));
  const asked = (who) => JSON.stringify([value("document"), value("budget"), textOf(who)]);

  function tell(sentence, isBusy = false) {
    byId("status").textContent = sentence;
    byId("status").hidden = !sentence;
    byId("status").classList.toggle("busy", isBusy);
  }

  function complain(sentence) {
    byId("problem").textContent = sentence;
    byId("problem").hidden = !sentence;
  }

  // The server's answer, or a sentence that says why there is none.
  async function ask(address, fields) {
    const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(fields) };
    const response = await fetch(address, request).catch(() => null);
    const answer = await response?.json().catch(() => null);
    if (!answer) throw new Error("The server does not answer. Is it still running?");
    if (!response.ok) throw new Error(answer.problem ?? "The server could not do it.");
    return answer;
  }

  async function watch() {
    const answer = await fetch("status").then((response) => response.json()).catch(() => null);
    if (answer?.state === "ready") {
      ready = true;
      tell("");
      update();
      return scoreAll();
    }
    tell(answer?.told ?? "The server does not answer. Is it still running?", answer?.state === "loading");
    if (answer?.state !== "failed") setTimeout(watch, 700);
  }

  function update() {
    byId("write").disabled = !ready || writing || !value("document").trim();
    const count = (id) => `${figure(Array.from(value(id)).length, 0)} characters`;
    byId("document-length").textContent = value("document") ? count("document") : "";
    byId("own-length").textContent = value("own") ? count("own") : "";
  }

  function scoreAll(...whose) {
    for (const who of whose.length ? whose : Object.keys(names)) waiting.add(who);
    if (ready && !scoring) score();
  }

  async function score() {
    scoring = true;
    while (waiting.size) {
      const [who] = waiting;
      waiting.delete(who);
      const before = asked(who);
      if (!textOf(who).trim() || !value("document").trim()) {
        delete results[who];
        draw();
        continue;
      }
      const fields = { document: value("document"), summary: textOf(who), budget: value("budget"), name: names[who] };
      try {
        const data = await ask("score", fields);
        if (before !== asked(who)) continue; // it was changed meanwhile, and is waiting again
        results[who] = { data, summary: data.summaries[0] };
        complain("");
      } catch ({ message }) {
        if (before !== asked(who)) continue;
        delete results[who];
        complain(message);
        waiting.clear(); // the others would fail for the same reason
      }
      draw();
    }
    scoring = false;
  }

  async function write() {
    writing = true;
    update();
    complain("");
    const asking = () => JSON.stringify([value("document"), value("budget")]);
    const before = asking();
    for (const who of Object.keys(names).filter((name) => name !== "yours")) {
      tell(`${names[who]}: writing …`, true);
      try {
        const written = await ask("write", { document: value("document"), budget: value("budget"), who });
        if (before !== asking()) break; // of a document or budget that is not there any more
        texts[who] = written;
        if (!results[chosen]) chosen = who;
        scoreAll(who);
      } catch ({ message }) {
        complain(message);
        break;
      }
      draw();
    }
    writing = false;
    tell("");
    update();
  }

  function draw() {
    const whose = Object.keys(names).filter((who) => results[who] || texts[who]);
    byId("results").hidden = !whose.length;
    if (!whose.length) return;
    if (!whose.includes(chosen)) [chosen] = whose;
    drawRadios(byId("writers"), "writer", whose.map((who) => ({ value: who, parts: card(who) })), chosen);
    const result = results[chosen];
    const limit = Math.max(...Object.values(results).map(({ data }) => data.limit)); // so that shades compare
    const nothing = { text: value("document"), information: null, limit: 0 };
    drawSummary(result ? { ...result.data, limit } : nothing, result?.summary, index.scores);
    if (!result) byId("verdict").textContent = "Nothing of this one could be scored.";
  }

  function card(who) {
    const { summary } = results[who] ?? {};
    const scores = index.scores.map(([key, title]) =>
      element("span", {}, [element("span", { textContent: `${title} ` }), figure(summary?.scores[key], 4)]));
    const parts = [
      element("b", { textContent: names[who] }),
      element("span", { className: "scores" }, scores),
      element("span", { className: "said", textContent: textOf(who) }),
    ];
    const notes = [summary?.verdict && `Does not count: ${summary.verdict}.`, texts[who]?.note].filter(Boolean);
    return [...parts, ...notes.map((textContent) => element("small", { textContent }))];
  }

  function later(...whose) {
    update();
    clearTimeout(pause);
    pause = setTimeout(() => scoreAll(...whose), PAUSE);
  }

  function changeDocument() {
    for (const who of Object.keys(texts)) { // they were written of another one
      delete texts[who];
      delete results[who];
    }
    draw();
    later("yours");
  }

  async function open(file) {
    if (!file) return;
    complain("");
    if (file.size > MOST_BYTES) return complain(`${file.name} is too long for this page.`);
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      if (text.includes("\0")) throw new TypeError("not a text");
      byId("document").value = text;
      changeDocument();
    } catch {
      complain(`${file.name} is not a text in UTF-8: open it where it can be read, and paste the text.`);
    }
  }

  byId("document").addEventListener("input", changeDocument);
  byId("own").addEventListener("input", () => {
    if (results.yours || !Object.keys(texts).length) chosen = "yours";
    later("yours");
  });
  byId("budget").addEventListener("input", () => later());
  byId("write").addEventListener("click", write);
  byId("writers").addEventListener("change", ({ target }) => {
    chosen = target.value;
    draw();
  });
  byId("file").addEventListener("change", ({ target }) => {
    open(target.files[0]);
    target.value = "";
  });
  const area = byId("document");
  const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault(); // else the browser would leave the page for the file
      area.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget || area.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    area.classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
  listenToText();
  update();
  watch();
}
