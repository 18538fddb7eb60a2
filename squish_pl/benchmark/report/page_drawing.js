"use strict";
// How the page's script draws. Foreign text becomes part of the page through textContent and attributes alone, never as
// markup.

const NOTHING = "–";
const UNITS_A_NAT = 100;
const FORMATS = [0, 1, 2, 3, 4].map(
  (digits) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function figure(value, digits, signed = false) {
  if (value === null || value === undefined) return NOTHING;
  const text = FORMATS[digits].format(Math.abs(value));
  if (!/[1-9]/.test(text)) return text;
  return (value < 0 ? "−" : signed ? "+" : "") + text;
}

const percent = (value) => (value === null ? NOTHING : `${figure(100 * value, 0)} %`);

// A group of radio buttons drawn anew; the keyboard stays where it was.
function drawRadios(group, name, options, chosen) {
  const hadFocus = group.contains(document.activeElement);
  const labels = options.map(({ value, parts }) => {
    const radio = element("input", { type: "radio", name, value, checked: value === chosen });
    return element("label", {}, [radio, ...parts]);
  });
  group.querySelector("div").replaceChildren(...labels);
  if (hadFocus) group.querySelector(":checked")?.focus({ preventScroll: true });
}

// A summary, and what it saves where

// `scores` holds [key, title] of each.
function drawSummary(data, summary, scores) {
  const measured = Boolean(summary?.spans);
  let verdict = summary?.verdict ? `Does not count: ${summary.verdict}.` : "";
  if (!summary) verdict = "There is no summary under this budget.";
  else if (!measured) verdict += " What it saves was not measured.";
  byId("verdict").textContent = verdict.trim();
  byId("verdict").hidden = !verdict;
  byId("summary").textContent = summary?.text ?? "";
  byId("summary").hidden = !summary?.text;
  const figures = summary
    ? [
        ...scores.map(([key, title]) => [title, figure(summary.scores[key], 4)]),
        ["Nats saved", measured ? `${figure(summary.saved, 2)} of ${figure(data.information, 2)}` : NOTHING],
        ["Length used", percent(summary.length)],
        ["Copied", percent(summary.copied)],
      ]
    : [];
  const lines = figures.map(([name, value]) =>
    element("div", {}, [element("dt", { textContent: name }), element("dd", { textContent: value })]));
  byId("figures").replaceChildren(...lines);
  byId("by-sentence").hidden = !measured;
  byId("legend").hidden = !measured;
  byId("most-hurt").textContent = `${figure(-data.limit, 2)} nats or less`;
  byId("most-helped").textContent = `${figure(data.limit, 2, true)} nats or more`;
  byId("pointed").textContent = "";
  const letters = Array.from(data.text); // by code points, as the findings count
  byId("text").replaceChildren(...(measured ? heatMap(data, summary, letters) : [data.text]));
  byId("sentences").replaceChildren(...(measured ? sentenceBars(data, summary, letters) : []));
}

// A wrapper for each sentence with the spans that begin in it.
function heatMap(data, summary, letters) {
  const wrappers = [element("span", { className: "sentence", tabIndex: -1 })];
  let start = 0;
  data.ends.forEach((end, place) => {
    while (wrappers.length < data.sentences.length && data.sentences[wrappers.length][0] <= start) {
      wrappers.push(element("span", { className: "sentence", tabIndex: -1 }));
    }
    wrappers.at(-1).append(shaded(letters.slice(start, end).join(""), summary, place, data.limit));
    start = end;
  });
  return [...wrappers, letters.slice(start).join("")];
}

function shaded(text, summary, place, limit) {
  const units = summary.spans[place];
  const isCopied = summary.copies[place] === "1";
  const span = element("span", { textContent: text });
  const nats = units === null ? "not measured" : `${figure(units / UNITS_A_NAT, 2, true)} nats`;
  span.title = isCopied ? `${nats}, copied` : nats;
  if (isCopied) span.classList.add("copied");
  if (units) {
    span.classList.add(units > 0 ? "helps" : "hurts");
    span.style.setProperty("--shade", Math.min(1, Math.abs(units) / UNITS_A_NAT / limit).toFixed(3));
  }
  return span;
}

// Tells of the token that is pointed at.
function listenToText() {
  const point = ({ target }) => {
    if (target.title) byId("pointed").textContent = `“${target.textContent.trim()}”: ${target.title}`;
  };
  byId("text").addEventListener("pointerover", point);
  byId("text").addEventListener("click", point);
}

function sentenceBars(data, summary, letters) {
  const longest = Math.max(...summary.by_sentence.map(Math.abs), Number.MIN_VALUE);
  byId("longest").textContent = figure(longest, 2);
  return summary.by_sentence.map((nats, number) => {
    const bar = element("i", { className: nats < 0 ? "hurts" : "helps" });
    const width = (50 * Math.abs(nats)) / longest;
    bar.style.width = `${width}%`;
    bar.style.left = `${nats < 0 ? 50 - width : 50}%`;
    const words = letters.slice(...data.sentences[number]).join("").trim();
    const button = element("button", { type: "button", title: words }, [
      element("span", { className: "number", textContent: number + 1 }),
      element("bdi", { className: "words", textContent: words }),
      element("span", { className: "track" }, [bar]),
      element("span", { className: "nats", textContent: figure(nats, 2, true) }),
    ]);
    button.addEventListener("click", () => {
      const sentence = byId("text").querySelectorAll(".sentence")[number];
      if (!sentence) return;
      sentence.focus({ preventScroll: true });
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      sentence.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
    });
    return element("li", {}, [button]);
  });
}
