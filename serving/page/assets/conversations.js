/* Conversations stay in this browser, and nowhere else: in localStorage, a key for each, so that tabs do not overwrite
   what others keep. Which of them a tab shows, and what stands in its box, is in its sessionStorage. */
"use strict";

const ogaChat = (() => {
  const PREFIX = "oga-chat/conversation/", CURRENT = "oga-chat/current", DRAFT = "oga-chat/draft";
  const VERSION = 1;
  const WRITE_MS = 400, UNDO_MS = 15000, LONGEST_TITLE = 60;

  let names = []; // of the settings, in the page's order
  let known = []; // {name, least, most, choices} of each, as far as it has them
  let initial = []; // what the settings are at first
  let latest = null; // what the page has and is not kept yet: {history, settings}
  let seen = 0; // when what this tab shows was last changed, as far as it knows
  let turns = -1; // in what the page shows; before it has been told what to show, nothing that it says counts
  let timer = 0, removed = null, search = "";
  let model = null; // which one is chosen, where there are several

  const { MARK, said, tell, textOf, plainTurn, element, button, stored, store } = ogaPage;
  const busy = () => document.querySelector("#box .stop-button") !== null;

  /* What is kept */

  function isTurn(each) {
    const ok = each && ["user", "assistant"].includes(each.role) && Array.isArray(each.content) && each.content.length;
    return Boolean(ok) && each.content.every((part) => part && part.type === "text" && typeof part.text === "string");
  }

  const isPath = (path) => Boolean(path) && Number.isInteger(path.same) && path.same >= 0 && Array.isArray(path.tail) && path.tail.every(isTurn);
  const isVersions = (value) => Boolean(value) && Array.isArray(value.others) && value.others.every(isPath) && Number.isInteger(value.at);

  function checked(value) {
    const ok = value && value.version === VERSION && Array.isArray(value.history) && value.history.every(isTurn);
    if (!ok || typeof value.title !== "string" || !Number.isFinite(value.changed)) return null;
    const { others, at } = isVersions(value.versions) ? value.versions : { others: [], at: 0 };
    return {
      ...value, history: value.history.map(plainTurn),
      versions: { at, others: others.map(({ same, tail }) => ({ same, tail: tail.map(plainTurn) })) },
      settings: value.settings && typeof value.settings === "object" ? value.settings : {},
    };
  }

  function read(id) {
    try {
      return checked(JSON.parse(stored(localStorage, PREFIX + id)));
    } catch {
      return null;
    }
  }

  function all() {
    const found = [];
    try {
      for (let n = 0; n < localStorage.length; n++) {
        const key = localStorage.key(n);
        if (!key.startsWith(PREFIX)) continue;
        const id = key.slice(PREFIX.length), value = read(id);
        if (value) found.push({ id, ...value });
      }
    } catch {
      return [];
    }
    return found.sort((one, other) => other.changed - one.changed);
  }

  const current = () => stored(sessionStorage, CURRENT);
  const fresh = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 8);

  /* All that a kept conversation says, whenever it was changed. */
  function content({ history, settings, versions: { at, others } }) {
    return JSON.stringify([history.map(plainTurn), settings, at, others.map(({ same, tail }) => [same, tail.map(plainTurn)])]);
  }

  function write() {
    clearTimeout(timer);
    timer = 0;
    if (!latest) return;
    const { history, settings } = latest;
    latest = null;
    if (!history.length) return; // what was kept of it stays
    let id = current();
    const before = id && read(id), versions = ogaVersions.packed();
    if (before && content(before) === content({ history, settings, versions })) return;
    if (!id || (before && before.changed !== seen)) id = fresh(); // another tab has gone on with that one
    const question = history.find((each) => each.role === "user");
    const title = before && before.named ? before.title : textOf(question || history[0]).trim().slice(0, LONGEST_TITLE);
    seen = Math.max(Date.now(), seen + 1);
    const value = { version: VERSION, title, named: Boolean(before && before.named), changed: seen, settings, history, versions };
    if (!store(localStorage, PREFIX + id, JSON.stringify(value))) {
      tell("This browser has no room for more: export or delete conversations.");
    } else {
      store(sessionStorage, CURRENT, id);
    }
    draw();
  }

  /* What the page calls */

  function keep([shown, draft, ...values]) {
    if (turns < 0) return;
    chose(values);
    store(sessionStorage, DRAFT, draft || "");
    if (!Array.isArray(shown)) return;
    const history = ogaEarlier.whole(shown);
    const emptied = turns > 0 && !history.length;
    if (history.length > turns) ogaPage.follow();
    turns = history.length;
    if (emptied) {
      write();
      store(sessionStorage, CURRENT, null); // the next question begins another one
      ogaVersions.open([], null);
      draw();
      return;
    }
    if (!ogaVersions.follow(history)) return;
    latest = { history, settings: Object.fromEntries(names.map((name, n) => [name, values[n]])) };
    timer = timer || setTimeout(write, WRITE_MS);
  }

  function fitting(value, n) {
    if (typeof value !== typeof initial[n]) return initial[n];
    const { least, most, choices } = known[n];
    if (choices) return choices.includes(value) ? value : initial[n];
    if (least === undefined) return value;
    return Number.isFinite(value) ? Math.min(Math.max(value, least), most) : initial[n];
  }

  /* The values of the page for what this tab shows: history, status, settings. A question without an answer is to be
     written to the box. */
  function opened(write = ogaPage.write) {
    const same = { __type__: "update" };
    if (ogaEarlier.asked()) return [ogaEarlier.cut(ogaVersions.path()), same, ...names.map(() => same)];
    const value = current() && read(current());
    let history = value ? value.history : [];
    seen = value ? value.changed : 0;
    ogaVersions.open(history, value && value.versions);
    if (history.length && history[history.length - 1].role === "user") {
      const question = textOf(history[history.length - 1]); // it got no answer
      history = history.slice(0, -1);
      if (!document.querySelector("#box textarea").value) write(question);
    }
    turns = history.length;
    draw();
    return [ogaEarlier.cut(history), "", ...chose(names.map((name, n) => (value ? fitting(value.settings[name], n) : initial[n])))];
  }

  /* The values of the page once an answer has ended and the server did not say what then: history, box, status. */
  function freed(history, status, draft) {
    const last = history?.at(-1), asked = last?.role === "user" ? textOf(last) : ""; // it got no answer
    const box = { __type__: "update", value: [asked, draft].filter(Boolean).join("\n\n"), interactive: true, submit_btn: true, stop_btn: false };
    return [asked ? history.slice(0, -1) : history || [], box, (status || "").replace(/ …$/, " · stopped")];
  }

  /* More of what the page shows the end of. */
  async function earlier() {
    if (await calm()) ogaEarlier.more(turns - ogaEarlier.count());
  }

  function chose(values) {
    model = values[names.indexOf("Model")] ?? null;
    return values;
  }

  function start(values, settings) {
    initial = values.slice(2);
    known = settings;
    names = settings.map(({ name }) => name);
    build();
    let draft = values[1] || stored(sessionStorage, DRAFT); // somebody may be faster than the page
    const [history, ...rest] = opened((question) => { draft = draft || question; });
    return [history, draft || "", ...rest];
  }

  /* What is done with conversations */

  /* Whether what the page shows may be changed now. */
  async function calm() {
    await ogaPosts.quiet();
    if (busy()) tell("Stop the answer first.");
    return !busy();
  }

  function change(id) {
    write();
    store(sessionStorage, CURRENT, id);
    document.querySelector("#opened")?.click();
  }

  async function show(id) {
    if (await calm()) change(id);
  }

  /* Another version of a question or an answer. */
  async function turnTo(path) {
    if (!(await calm())) return;
    const settings = latest ? latest.settings : (read(current()) || {}).settings || {};
    latest = { history: path, settings };
    write();
    document.querySelector("#opened")?.click();
  }

  /* What the server would be asked with: for counting its tokens. */
  function asked() {
    const value = latest || (current() && read(current())) || { history: [], settings: {} };
    const said = value.history.filter((each) => !each.metadata?.title && textOf(each));
    const system = String(value.settings[names[0]] || "").trim();
    return [...(system ? [{ role: "system", content: system }] : []), ...said.map((each) => ({ role: each.role, content: textOf(each) }))];
  }

  async function remove(id) {
    if (id === current() && !(await calm())) return;
    write();
    removed = { id, text: stored(localStorage, PREFIX + id) };
    store(localStorage, PREFIX + id, null);
    if (id === current()) change(null);
    draw();
    const kept = removed;
    setTimeout(() => { if (removed === kept) { removed = null; draw(); } }, UNDO_MS);
  }

  function restore() {
    if (removed) store(localStorage, PREFIX + removed.id, removed.text);
    removed = null;
    draw();
  }

  function rename(id, title) {
    const value = read(id);
    if (!value || !title.trim()) return draw();
    store(localStorage, PREFIX + id, JSON.stringify({ ...value, title: title.trim().slice(0, 200), named: true }));
    draw();
  }

  function asMarkdown(value) {
    const system = value.settings[names[0]];
    const parts = value.history.map((each) => {
      const thought = each.metadata && each.metadata.title;
      const who = each.role === "user" ? "You" : thought ? thought : "Assistant";
      return `## ${who}\n\n${textOf(each)}\n`;
    });
    return [`# ${value.title}\n`, ...(system ? [`## ${names[0]}\n\n${system}\n`] : []), ...parts].join("\n");
  }

  function save(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name.replace(/[^\p{L}\p{N} _-]/gu, "").trim().slice(0, 50).concat(type.endsWith("json") ? ".json" : ".md");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const plain = ({ id, ...value }) =>
    ({ ...value, history: value.history.map(unmarked), versions: { ...value.versions,
      others: value.versions.others.map(({ same, tail }) => ({ same, tail: tail.map(unmarked) })) } });
  const unmarked = (each) => ({ ...each, content: [{ type: "text", text: textOf(each) }] });

  async function take(file) {
    let values = null;
    try {
      values = [JSON.parse(await file.text())].flat().map(checked);
    } catch {
      values = [];
    }
    values = values.filter(Boolean);
    const tags = (part) => ({ type: "text", text: said(part.text).replace(/<(?=[A-Za-z/!?])/g, "<" + MARK) });
    const marked = (each) => ({ ...each, content: each.content.map(tags) });
    for (const value of values) {
      const others = value.versions.others.map(({ same, tail }) => ({ same, tail: tail.map(marked) }));
      const kept = { ...value, history: value.history.map(marked), versions: { ...value.versions, others } };
      store(localStorage, PREFIX + fresh(), JSON.stringify(kept));
    }
    tell(values.length ? `${values.length} conversations imported.` : "This file has no conversations of this program.");
    draw();
  }

  /* The list at the side */

  function build() {
    const place = document.querySelector("#kept");
    if (!place || place.firstChild) return;
    const file = element("input", { type: "file", accept: ".json", hidden: "", onchange: () => {
      if (file.files.length) take(file.files[0]);
      file.value = "";
    } });
    place.append(
      element("div", { class: "row" },
        element("button", { type: "button", class: "new", onclick: () => show(null) }, "New conversation"),
      ),
      element("input", { type: "search", placeholder: "Search", "aria-label": "Search conversations", oninput: (event) => {
        search = event.target.value.toLowerCase();
        draw();
      } }),
      element("ul", {}),
      element("div", { class: "row" },
        element("button", { type: "button", onclick: () => {
          write();
          save("conversations", JSON.stringify(all().map(plain), null, 1), "application/json");
        } }, "Export all"),
        element("button", { type: "button", onclick: () => file.click() }, "Import"),
        file,
      ),
    );
  }

  function item(each) {
    const name = element("button", { type: "button", class: "open", "aria-current": each.id === current() ? "true" : null,
      onclick: () => show(each.id) }, each.title || "…");
    const line = element("li", {}, name,
      button(`Rename ${each.title}`, "✎", () => {
        const field = element("input", { value: each.title, "aria-label": "Name of the conversation",
          onkeydown: (event) => {
            if (event.key === "Enter") field.blur();
            if (event.key === "Escape") { field.value = ""; field.blur(); }
          },
          onblur: () => rename(each.id, field.value) });
        line.replaceChildren(field);
        field.select();
      }),
      button(`Export ${each.title} as Markdown`, "⤓", () => save(each.title, asMarkdown(each), "text/markdown")),
      button(`Delete ${each.title}`, "✕", () => remove(each.id)));
    return line;
  }

  function draw() {
    const list = document.querySelector("#kept ul");
    if (!list) return;
    const wanted = (each) => !search || each.title.toLowerCase().includes(search)
      || each.history.some((one) => textOf(one).toLowerCase().includes(search));
    list.replaceChildren(...all().filter(wanted).map(item));
    if (removed) {
      list.prepend(element("li", {}, element("span", {}, "Deleted."), element("button", { type: "button", class: "undo", onclick: restore }, "Undo")));
    }
  }

  ogaPage.each(() => ogaVersions.draw(busy(), ogaEarlier.count(), turnTo));
  ogaFiles.follow(asked, () => model);
  addEventListener("pagehide", write);
  document.addEventListener("visibilitychange", () => { if (document.hidden) write(); });
  addEventListener("storage", (event) => { if (!event.key || event.key.startsWith(PREFIX)) draw(); });

  return { start, opened, keep, freed, earlier, model: () => model };
})();
