/* The text of a PDF, read in this browser by Mozilla's pdf.js (see serving/page/pdf.py), which is loaded for the first. */
"use strict";

const ogaPdf = (() => {
  const MOST_BYTES = 64 << 20, MOST_CHARACTERS = 1 << 20, MOST_MS = 60000;
  const WHY = { PasswordException: "it is encrypted", InvalidPDFException: "it is broken, or no PDF" };
  let library = null;

  const is = (file) => /\.pdf$/i.test(file.name) || file.type === "application/pdf";
  const at = (name) => new URL(`pdfjs/${name}`, document.baseURI).href;

  async function loaded() {
    library = library || await import(at("pdf.min.mjs"));
    library.GlobalWorkerOptions.workerSrc = at("pdf.worker.min.mjs");
    return library;
  }

  async function pageText(paper, number) {
    const page = await paper.getPage(number), { items } = await page.getTextContent();
    page.cleanup();
    return items.map((item) => (item.str || "") + (item.hasEOL ? "\n" : "")).join("").trim();
  }

  async function pages(paper, told) {
    const texts = [];
    let length = 0;
    for (let number = 1; number <= paper.numPages && length <= MOST_CHARACTERS; number++) {
      texts.push(await pageText(paper, number));
      length += texts.at(-1).length;
      if (number % 20 === 0) told(`page ${number} of ${paper.numPages}`);
    }
    // No control characters or halves of a character: the server takes neither.
    return texts.filter(Boolean).join("\n\n").replace(/[\0\p{Surrogate}]/gu, "\uFFFD");
  }

  /* {text}, or {why} there is none. told: is called with how far it is. */
  async function read(file, told) {
    if (file.size > MOST_BYTES) return { why: "it is larger than 64 MB" };
    let task = null, timer = 0;
    try {
      const { getDocument } = await loaded();
      task = getDocument({ data: await file.arrayBuffer(), disableFontFace: true, isOffscreenCanvasSupported: false, useWasm: false, verbosity: 0 });
      const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("it takes too long to read")), MOST_MS); });
      const text = await Promise.race([task.promise.then((paper) => pages(paper, told)), late]);
      if (!text) return { why: "it has no text in it, as a scan has none" };
      return text.length > MOST_CHARACTERS ? { why: "it has more than a million characters" } : { text };
    } catch (error) {
      return { why: WHY[error?.name] || error?.message || "it cannot be read" };
    } finally {
      clearTimeout(timer);
      task?.destroy();
    }
  }

  return { is, read };
})();
