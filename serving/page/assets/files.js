/* A file becomes a text in the box: nothing of it leaves the browser in any other way. */
"use strict";

const ogaFiles = (() => {
  const MOST_BYTES = 1 << 20; // of a file
  const COUNTED = 400; // characters of a draft: the tokens of a shorter one are not worth asking for
  const WAIT_MS = 600;
  let timer = 0, counted = "", conversation = () => [], model = () => null;

  const { element, button, tell, write } = ogaPage;

  /* {text}, or {why} there is none. */
  async function read(file) {
    if (ogaPdf.is(file)) return ogaPdf.read(file, (far) => tell(`${file.name}: ${far}.`));
    const why = "it is no text of at most 1 MB";
    try {
      if (file.size > MOST_BYTES) return { why };
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
      return text.includes("\0") ? { why } : { text };
    } catch {
      return { why };
    }
  }

  async function take(files) {
    const parts = [], said = [];
    if (document.querySelector("#box textarea")?.disabled) return tell("Stop the answer first.");
    for (const file of files) {
      const { text, why } = await read(file);
      if (text === undefined) {
        said.push(`${file.name} cannot be read here: ${why}.`);
        continue;
      }
      const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map((ticks) => ticks[0].length + 1)));
      const kind = ogaPdf.is(file) ? null : /\.([A-Za-z0-9]{1,10})$/.exec(file.name);
      parts.push(`${file.name}:\n${fence}${kind ? kind[1] : ""}\n${text.replace(/\n$/, "")}\n${fence}\n`);
      const size = await tokens({ content: text });
      if (size) said.push(`${file.name}: ${size.count.toLocaleString("en")} tokens.`);
    }
    write(parts.join("\n\n"));
    if (said.length) tell(said.join(" "));
  }

  /* How many tokens a text or a conversation is, and how many the window has; null where that cannot be told. */
  async function tokens(body) {
    try {
      const answer = await fetch("tokenize", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ...body, model: model() }),
      });
      const { count, max_model_len: window } = await answer.json();
      return answer.ok ? { count, window } : null;
    } catch {
      return null;
    }
  }

  /* What a long draft leaves of the window. */
  function count() {
    const draft = document.querySelector("#box textarea")?.value || "";
    if (draft === counted) return;
    counted = draft;
    clearTimeout(timer);
    const place = document.querySelector("#tools .left");
    if (place) place.replaceChildren();
    if (draft.length >= COUNTED) timer = setTimeout(ask, WAIT_MS, draft);
  }

  async function ask(draft) {
    const size = await tokens({ messages: [...conversation(), { role: "user", content: draft }] });
    const place = document.querySelector("#tools .left");
    if (!size || !place || draft !== counted) return;
    const left = size.window - size.count;
    const number = Math.abs(left).toLocaleString("en"), all = size.window.toLocaleString("en");
    place.textContent = left > 0 ? `${number} of ${all} tokens of the window are left` : `${number} tokens too long for the window of ${all}`;
    place.classList.toggle("over", left <= 0);
  }

  const carriesFiles = (data) => Boolean(data) && [...data.types].includes("Files");
  addEventListener("dragover", (event) => {
    if (carriesFiles(event.dataTransfer)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event.dataTransfer) || event.target.closest?.("input[type=file]")) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (!carriesFiles(event.clipboardData) || [...event.clipboardData.types].includes("text/plain")) return;
    event.preventDefault();
    take(event.clipboardData.files);
  }, true);
  addEventListener("input", (event) => { if (event.target.closest?.("#box")) count(); });

  ogaPage.each(() => {
    count();
    const place = document.querySelector("#tools");
    if (!place || place.firstChild) return;
    const input = element("input", { type: "file", multiple: "", hidden: "", "aria-label": "Files", onchange: async () => {
      await take([...input.files]);
      input.value = "";
    } });
    place.append(button("Add files as text", "+ File", () => input.click()), input, element("span", { class: "left", role: "status" }));
  });

  /* asked: gives the messages of the conversation so far. chosen: the model's name, or null for the one there is. */
  return { follow: (asked, chosen) => { conversation = asked; model = chosen; } };
})();
