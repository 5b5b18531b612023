"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("list");
  if (!data || !list) return;
  const at = (id) => document.getElementById(id);
  const STEP = 25;
  const [RIGHT, MADE, TOP] = [0, 1, 2];
  const where = (kind) => data.opinions.flatMap((one, i) => (one.kind === kind ? [i] : []));
  const [encoder] = where("encoder");
  const scorers = where("scorer");
  const system = 0;

  const make = (tag, css, text) => {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const isolated = (text) => make("bdi", "", text);

  const decided = (row) => new Set(row.o.map((told) => told[MADE].join())).size;
  const presets = [["all", "all rows", () => true]];
  if (data.kind === "comparison") presets.unshift(["split", "decided differently", (row) => decided(row) > 1]);
  if (data.kind === "run") {
    presets.unshift(["mistakes", "mistakes of the system", (row) => row.o[system][RIGHT] === 0]);
    if (encoder !== undefined && scorers.length) {
      const llm = scorers.length > 1 ? "an LLM" : "the LLM";
      presets.splice(1, 0,
        ["llm", `${llm} right, encoder wrong`, (row) => row.o[encoder][RIGHT] === 0 && scorers.some((s) => row.o[s][RIGHT] === 1)],
        ["encoder", "encoder right, " + (scorers.length > 1 ? "every LLM" : "the LLM") + " wrong",
          (row) => row.o[encoder][RIGHT] === 1 && scorers.every((s) => row.o[s][RIGHT] !== 1) && scorers.some((s) => row.o[s][RIGHT] === 0)],
        ["lost", "a member right, the system wrong", (row) => row.o[system][RIGHT] === 0 && [encoder, ...scorers].some((m) => row.o[m][RIGHT] === 1)],
        ["won", "all members wrong, the system right", (row) => row.o[system][RIGHT] === 1 && [encoder, ...scorers].every((m) => row.o[m][RIGHT] !== 1)]);
    }
  }

  const start = data.mistakes ? presets[0][0] : "all";

  const choose = (id, options) => {
    const select = at(id);
    if (select) for (const [value, text] of options) select.append(new Option(text, value));
    return select;
  };
  const labels = [["", "any"], ...data.labels.map((label, k) => [String(k), label])];
  const runs = [["", "any"], ...data.opinions.map((one, i) => [String(i), one.name])];
  const controls = {
    preset: choose("preset", presets.map(([key, text]) => [key, text])),
    true: choose("true", labels),
    made: choose("made", labels),
    winner: choose("winner", runs),
    loser: choose("loser", runs),
    search: at("search"),
  };
  let agree = null;
  let label = null;
  let shown = STEP;
  let found = data.rows;

  const value = (name) => (controls[name] ? controls[name].value : "");
  const search = data.rows.map((row) => [row.x || "", ...Object.values(row.r || {}), row.n].join("\n").toLowerCase());

  const filter = () => {
    const words = value("search").toLowerCase().split(/\s+/).filter(Boolean);
    const preset = presets.find(([key]) => key === value("preset"));
    const [yes, made, winner, loser] = ["true", "made", "winner", "loser"].map((name) => (value(name) === "" ? null : Number(value(name))));
    found = data.rows.filter((row, i) =>
      (!preset || preset[2](row)) &&
      (yes === null || row.y.includes(yes)) &&
      (made === null || row.o[system][MADE].includes(made)) &&
      (winner === null || row.o[winner][RIGHT] === 1) &&
      (loser === null || row.o[loser][RIGHT] === 0) &&
      (label === null || row.y.includes(label) || row.o[system][MADE].includes(label)) &&
      (agree === null || (row.o[encoder][RIGHT] === agree.encoder && row.o[agree.opinion][RIGHT] === agree.other)) &&
      words.every((word) => search[i].includes(word)));
    shown = STEP;
    draw(words);
  };

  const marked = (node, text, words) => {
    if (!words.length) { node.textContent = text; return node; }
    const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
    text.split(pattern).forEach((part, i) => node.append(i % 2 ? make("mark", "", part) : part));
    return node;
  };

  const names = (numbers) => (numbers.length ? numbers.map((k) => data.labels[k]).join(", ") : "none");

  const opinion = (one, told, row) => {
    const [right, made, top] = told;
    const item = make("li", `one ${right === 1 ? "yes" : right === 0 ? "no" : "none"}`);
    const line = make("div", "who");
    const who = make("span");
    const sign = make("span", "sign", right === 1 ? "✓" : right === 0 ? "✗" : "·");
    sign.setAttribute("aria-label", right === 1 ? "right" : right === 0 ? "wrong" : "no opinion");
    who.append(sign, isolated(one.name));
    const decided = make("span", "made");
    decided.append(isolated(right < 0 ? "no opinion" : names(made)));
    line.append(who, decided);
    item.append(line);
    const keep = one.kind === "system" ? top : top.filter(([k]) => made.includes(k) || row.y.includes(k));
    if (top.length && one.kind !== "reference") {
      const bars = make("div", "bars");
      for (const [k, p] of keep) {
        const truth = row.y.includes(k);
        const name = make("span", truth ? "truth" : "");
        name.append(isolated(data.labels[k]));
        name.title = data.labels[k];
        const bar = make("i", truth ? "true" : "");
        bar.style.setProperty("--p", `${(100 * p).toFixed(1)}%`);
        bars.append(name, bar, make("b", "", `${(100 * p).toFixed(p < 0.0995 && p > 0 ? 1 : 0)} %`));
      }
      item.append(bars);
    }
    return item;
  };

  const card = (row, words) => {
    const node = make("article", "row");
    const left = make("div");
    const about = make("p", "about");
    const truth = make("span");
    const name = make("b");
    name.append(isolated(names(row.y)));
    truth.append("true: ", name);
    about.append(truth, make("span", "", `row ${row.n}`));
    left.append(about);
    if (row.x !== undefined) {
      const text = marked(make("p", "text"), row.x, words);
      text.dir = "auto";
      left.append(row.x ? text : make("p", "cut", "(an empty text)"));
    }
    if (row.c) left.append(make("p", "cut", `… cut: the text has ${row.c.toLocaleString("en")} characters.`));
    for (const [scorer, reason] of Object.entries(row.r || {})) {
      const quote = make("blockquote", "reason");
      const body = marked(make("span"), reason, words);
      body.dir = "auto";
      quote.append(make("cite", "", `${scorer}'s reason`), body);
      left.append(quote);
    }
    const opinions = make("ul");
    row.o.forEach((told, i) => opinions.append(opinion(data.opinions[i], told, row)));
    node.append(left, opinions);
    return node;
  };

  let lastWords = [];
  const draw = (words) => {
    lastWords = words;
    list.replaceChildren(...found.slice(0, shown).map((row) => card(row, words)));
    finish();
  };
  const finish = () => {
    const rest = Math.max(0, found.length - shown);
    const number = (n) => n.toLocaleString("en");
    at("count").textContent = `${number(found.length)} of the ${number(data.rows.length)} rows on this page${found.length < data.rows.length ? " match" : ""}` + (label !== null ? `; with the label ${data.labels[label]}, true or decided` : "") + ".";
    if (!found.length) list.append(make("p", "empty", data.rows.length && value("preset") === "mistakes" && !data.mistakes ? "No mistake at all." : "No such row."));
    at("more").hidden = !rest;
    at("more").textContent = `Show ${number(Math.min(rest, STEP))} more`;
  };
  at("more").addEventListener("click", () => {
    const from = shown;
    shown += STEP;
    list.append(...found.slice(from, shown).map((row) => card(row, lastWords)));
    finish();
  });

  const pressed = (button) => {
    for (const other of document.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    if (button) button.setAttribute("aria-pressed", "true");
  };
  const reset = (preset) => {
    for (const control of Object.values(controls)) if (control) control.value = "";
    if (controls.preset) controls.preset.value = preset;
    agree = label = null;
  };
  const jump = (button) => {
    pressed(button);
    filter();
    at("rows").scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const told = button.dataset;
    if (told.true !== undefined) {
      reset("all");
      controls.true.value = told.true;
      controls.made.value = told.made;
      jump(button);
    } else if (told.label !== undefined) {
      reset("all");
      label = Number(told.label);
      jump(button);
    } else if (told.agree !== undefined) {
      reset("all");
      agree = { opinion: Number(told.agree), encoder: Number(told.encoder), other: Number(told.other) };
      jump(button);
    }
  });
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  const chosen = (event) => {
    if (event.type === "change" && event.target.tagName !== "SELECT") return;
    agree = label = null;
    pressed(null);
    filter();
  };
  at("filters").addEventListener("input", chosen);
  at("filters").addEventListener("change", chosen);
  at("clear").addEventListener("click", () => { reset(start); pressed(null); filter(); });

  const matrix = at("matrix");
  if (matrix) {
    const light = (cell, on) => {
      if (!cell) return;
      for (const k of [["row", cell.dataset.true], ["col", cell.dataset.made]])
        matrix.querySelector(`th[scope=${k[0]}][data-k="${k[1]}"]`).classList.toggle("hot", on);
    };
    for (const [on, kinds] of [[true, ["mouseover", "focusin"]], [false, ["mouseout", "focusout"]]])
      for (const kind of kinds) matrix.addEventListener(kind, (event) => light(event.target.closest("button"), on));
    const columns = [...matrix.querySelectorAll("thead th span")];
    if (columns.some((span) => span.scrollWidth > span.parentElement.clientWidth + 1)) matrix.classList.add("tilt");
  }

  reset(start);
  filter();
})();
