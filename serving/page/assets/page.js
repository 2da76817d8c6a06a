/* What Gradio's page leaves out: texts as they are written, a reader who scrolls, the key that stops, names, what is heard. */
"use strict";

const ogaPage = (() => {
  const MARK = "\u2060"; // see serving/page/marks.py
  const NEAR = 32; // pixels from the end that count as the end
  const NOTE_MS = 8000;
  const SCROLL_MS = 500; // that a browser takes to scroll
  const ends = [{ height: 0, at: 0 }]; // how high the conversation was in that time, and before
  let following = true, held = null, height = 0, top = 0, due = 0, silence = 0, heard = "";
  const parts = []; // what else is drawn

  /* What a text says that was marked for Gradio. */
  const said = (text) => text.replace(/\u2060\\\((.*?)\\\)\u2060/g, "$$$1$$").replaceAll(MARK, "");

  /* A mark is for Gradio, which has drawn the message by then: neither what is read nor what is copied has one. */
  function unmark(node) {
    const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    for (let text = node.nodeType === Node.TEXT_NODE ? node : texts.nextNode(); text; text = texts.nextNode()) {
      if (text.data.includes(MARK)) text.data = text.data.replaceAll(MARK, "");
    }
  }

  if (navigator.clipboard) {
    const copy = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => copy(said(String(text)));
  }

  /* The end of an answer is followed, until its reader scrolls up. */
  const log = () => document.querySelector("#chat .bubble-wrap");

  function follow() {
    following = true;
    const place = log();
    if (place) place.scrollTop = place.scrollHeight;
  }

  /* What is read stays where it is while something is put in above it. */
  function hold() {
    const place = log();
    if (!place) return;
    following = false;
    held = place.scrollHeight - place.scrollTop;
    setTimeout(() => { held = null; }, SCROLL_MS);
  }

  /* How high the conversation was some moments ago. */
  function lately() {
    while (ends.length > 1 && ends[1].at < performance.now() - SCROLL_MS) ends.shift();
    return ends[0].height;
  }

  /* What came in the last moments does not count: who scrolls to the end means the end that there was. */
  document.addEventListener("scroll", (event) => {
    const place = log();
    if (event.target !== place) return;
    const end = place.scrollTop < top ? height : lately();
    if (place.scrollTop + place.clientHeight > end - NEAR) following = true;
    else if (place.scrollTop < top) following = false;
    top = place.scrollTop;
  }, true);

  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "characterData") unmark(change.target);
      for (const node of change.addedNodes) unmark(node);
    }
    if (!due) due = requestAnimationFrame(drawn);
  }).observe(document, { subtree: true, childList: true, characterData: true });

  /* Once for all that changes before the page is drawn: to ask for its height has it laid out. */
  function drawn() {
    due = 0;
    const place = log();
    if (place && place.scrollHeight !== height) {
      height = place.scrollHeight;
      ends.push({ height, at: performance.now() });
      lately();
      if (following) place.scrollTop = height;
      else if (held !== null) place.scrollTop = height - held;
      top = place.scrollTop;
    }
    for (const [place, attribute, value] of NAMES) {
      for (const found of document.querySelectorAll(place)) {
        if (value === null) found.removeAttribute(attribute);
        else if (found.getAttribute(attribute) !== value) found.setAttribute(attribute, value);
      }
    }
    announce();
    for (const part of parts) part();
  }

  /* What Gradio gives no name or role. */
  const NAMES = [
    ["#box .submit-button", "aria-label", "Send"],
    ["#box .stop-button", "aria-label", "Stop"],
    ["#chat .bubble-wrap", "tabindex", "0"],
    ["#chat pre", "tabindex", "0"], // it may be wider than the page
    ["#chat .examples", "role", "group"],
    ["#chat .title .icon-button", "aria-label", "Reasoning, shown or folded away"],
    ["#chat .title[role=button]", "role", null], // the button in it does the same, by keyboard too
    ["#chat .title[tabindex]", "tabindex", null],
  ];

  /* Who does not see the status line hears it: an error at once, the end of an answer after what is being read. */
  function announce() {
    const line = document.querySelector("#status"), text = line ? line.textContent.trim() : "";
    if (!line || text === heard) return;
    heard = text;
    const wrong = Boolean(line.querySelector("strong"));
    region("alert").textContent = wrong ? text : "";
    region("status").textContent = wrong || text.endsWith("…") ? "" : text;
  }

  /* Where something is put that is to be heard. */
  function region(role) {
    let place = document.querySelector(`#heard-${role}`);
    if (!place) document.body.append(place = element("p", { id: `heard-${role}`, role, class: "heard" }));
    return place;
  }

  addEventListener("keydown", (event) => {
    const stop = document.querySelector("#box .stop-button");
    if (event.key === "Escape" && stop && !event.defaultPrevented && !document.querySelector("dialog[open]")) stop.click();
  });

  /* Add to what stands in the box. */
  function write(text) {
    const box = document.querySelector("#box textarea");
    if (!text || !box || box.disabled) return;
    type(box, [box.value.trimEnd(), text].filter(Boolean).join("\n\n"));
    box.focus();
  }

  /* As if somebody had typed it. */
  function type(field, text) {
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /* Say something for a while, to those who see and to those who hear. */
  function tell(text) {
    let line = document.querySelector("#note");
    if (!line) document.body.append(line = element("p", { id: "note", role: "status" }));
    line.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => line.replaceChildren(), NOTE_MS);
  }

  /* Small things that the other scripts share */

  const CONTINUE = [{ value: "continue", label: "Continue" }]; // see serving/page/chat.py

  /* A turn as the server takes it, whatever has become of it. */
  function plainTurn({ role, content, metadata, options }) {
    const { title, log, status } = metadata || {};
    const told = typeof log === "string" && log.length <= 500 && ["pending", "done"].includes(status);
    return {
      role, content: content.map(({ text }) => ({ type: "text", text })),
      metadata: title === "Reasoning" ? { title } : told ? { log, status } : null,
      options: JSON.stringify(options) === JSON.stringify(CONTINUE) ? CONTINUE : null,
    };
  }

  const textOf = (turn) => said(turn.content.map((part) => part.text).join(""));

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  const button = (label, text, onclick) => element("button", { type: "button", "aria-label": label, title: label, onclick }, text);

  function stored(storage, key) {
    try {
      return storage.getItem(key);
    } catch {
      return null; // a browser may keep nothing at all
    }
  }

  function store(storage, key, value) {
    try {
      if (value === null) storage.removeItem(key);
      else storage.setItem(key, value);
      return true;
    } catch {
      return false;
    }
  }

  const each = (part) => parts.push(part); // called whenever something has changed, before the page is drawn

  const follows = () => following;

  return { MARK, said, follow, follows, hold, write, type, tell, plainTurn, textOf, element, button, stored, store, each };
})();
