/* What stands around the chat: light or dark, keys, the address of the API and of the page, system prompts to keep. */
"use strict";

const ogaMenu = (() => {
  const THEME = "oga-chat/theme", PRESETS = "oga-chat/presets";
  const LONGEST_NAME = 40;
  const { element, button, tell, stored, store, type } = ogaPage;

  /* Light or dark: as the reader chose, or else as the address or the system says. */
  const dark = () => document.body.classList.contains("dark");
  function theme(wanted) {
    document.body.classList.toggle("dark", wanted);
    document.querySelector("#menu .theme")?.setAttribute("aria-pressed", String(wanted));
  }
  function chosenTheme() {
    const chosen = stored(localStorage, THEME);
    if (chosen && !new URLSearchParams(location.search).has("__theme")) theme(chosen === '"dark"');
  }

  /* Keys */
  const box = () => document.querySelector("#box textarea");
  const KEYS = [
    ["Enter", "send"],
    ["Shift + Enter", "a new line"],
    ["Escape", "stop the answer, or close what is open"],
    ["/", "write, from anywhere else on the page", (event) => event.key === "/" && !event.altKey && !typing(event), () => box()?.focus()],
    ["Alt + N", "a new conversation", alt("KeyN"), () => document.querySelector("#kept .new")?.click()],
    ["Alt + F", "search conversations", alt("KeyF"), search],
    ["Alt + S", "the settings, open or closed", alt("KeyS"), () => document.querySelector("#settings .toggle-button")?.click()],
    ["Alt + D", "dark or light", alt("KeyD"), () => document.querySelector("#menu .theme")?.click()],
    ["?", "these keys", (event) => event.key === "?" && !typing(event), () => keys()],
  ];
  function alt(code) {
    return (event) => event.altKey && !event.ctrlKey && !event.metaKey && event.code === code;
  }
  const typing = (event) => Boolean(event.target.closest?.("input:not([type=range]), textarea, select, [contenteditable]"));
  function search() {
    const side = document.querySelector("#conversations");
    if (side && !side.classList.contains("open")) side.querySelector(".toggle-button")?.click();
    document.querySelector("#kept [type=search]")?.focus();
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const found = KEYS.find(([, , is]) => is && is(event));
    if (!found) return;
    event.preventDefault();
    found[3]();
  });

  /* Dialogs */
  function dialog(title, ...content) {
    const made = element("dialog", { class: "oga", "aria-label": title, onclose: () => made.remove(),
      onclick: (event) => { if (event.target === made) made.close(); } },
    element("h2", {}, title), ...content, element("button", { type: "button", class: "close", onclick: () => made.close() }, "Close"));
    document.querySelector(".gradio-container").append(made);
    made.showModal();
  }

  function keys() {
    dialog("Keys", element("dl", {}, ...KEYS.flatMap(([key, what]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)])));
  }

  function copied(label, text) {
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(text);
        tell("Copied.");
      } catch {
        tell("This browser does not let a page copy: select the text.");
      }
    };
    return element("div", { class: "copied" }, element("code", { tabindex: "0" }, text), button(label, "Copy", copy));
  }

  function connect() {
    const model = ogaChat.model() || document.querySelector("#menu").dataset.model, base = `${location.origin}/v1`;
    const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello!" }] }).replaceAll("'", "'\\''");
    const local = /^(localhost|127\.|\[::1\])/.test(location.host);
    dialog("Address",
      element("h3", {}, "The API, for programs that speak OpenAI's"),
      copied("Copy the base address", base),
      copied("Copy the command", `curl ${base}/chat/completions -H 'content-type: application/json' -d '${body}'`),
      element("p", {}, "Where a login is asked for, its password is the API key."),
      element("h3", {}, "This page, elsewhere"),
      copied("Copy the link", `${location.origin}/`),
      local ? element("p", {}, "Only this machine can open it. Start with --host 0.0.0.0 or --share for others.")
        : element("img", { src: "address.svg", alt: `QR code of ${location.origin}/`, width: "180", height: "180" }));
  }

  /* System prompts, kept in this browser */
  function presets() {
    try {
      const value = JSON.parse(stored(localStorage, PRESETS));
      return Array.isArray(value) ? value.filter((each) => each && typeof each.name === "string" && typeof each.text === "string") : [];
    } catch {
      return [];
    }
  }
  const system = () => document.querySelector("#system textarea");

  function list(place) {
    const select = element("select", { "aria-label": "Kept system prompts", onchange: () => {
      const chosen = presets().find((each) => each.name === select.value);
      if (chosen) type(system(), chosen.text);
    } }, element("option", { value: "" }, "Kept prompts"), ...presets().map(({ name }) => element("option", { value: name }, name)));
    const keep = (values) => {
      if (!store(localStorage, PRESETS, JSON.stringify(values))) tell("This browser has no room for more.");
      list(place);
    };
    place.replaceChildren(select,
      button("Keep this system prompt", "Keep", () => {
        const text = system().value.trim(), name = text.replace(/\s+/g, " ").slice(0, LONGEST_NAME);
        if (!text) return tell("Write a system prompt first.");
        keep([...presets().filter((each) => each.name !== name), { name, text }]);
        place.querySelector("select").value = name;
      }),
      button("Delete the chosen system prompt", "Delete", () => {
        if (select.value) keep(presets().filter((each) => each.name !== select.value));
        else tell("Choose one first.");
      }));
  }

  ogaPage.each(() => {
    const place = document.querySelector("#menu"), kept = document.querySelector("#presets");
    if (kept && !kept.firstChild) list(kept);
    if (!place || place.firstChild) return;
    chosenTheme();
    const switched = () => {
      theme(!dark());
      store(localStorage, THEME, dark() ? '"dark"' : '"light"');
    };
    const made = button("Dark mode", "◐", switched);
    made.className = "theme";
    made.setAttribute("aria-pressed", String(dark()));
    place.append(made, button("Keys", "⌨", keys), button("Address of the API and of this page", "⇄", connect));
  });
})();
