/* Gradio draws all that it has of a conversation at each piece of an answer, and sends all of it with each event: of a
   long one it is given the end. What is before that goes to the server with each question, and is drawn on demand. */
"use strict";

const ogaEarlier = (() => {
  const MOST = 30, LEFT = 20; // turns that are drawn: where an answer makes more than MOST, LEFT of them stay
  const FEW = 4; // and where less is left of a long one, more are drawn
  let earlier = []; // what is not drawn
  let before = null; // what was not drawn until the last cut, as long as the page may still tell of that time
  let wanted = LEFT; // turns of the next cut; more of them where somebody asks

  const { element, plainTurn, textOf } = ogaPage;

  /* The end of a conversation, from a question on; what is before it is kept here. */
  function cut(history) {
    let from = Math.max(0, history.length - wanted);
    while (from > 0 && (history[from].role !== "user" || history[from - 1].role === "user")) from--;
    before = { earlier, first: history[from] };
    earlier = history.slice(0, from);
    wanted = LEFT;
    return history.slice(from);
  }

  /* The conversation of which so much is drawn; who empties what is drawn means all of it. */
  function whole(drawn) {
    if (!drawn.length) [earlier, before] = [[], null];
    const { role } = drawn[0] || {}, first = before?.first;
    if (first && first.role === role && textOf(first) === textOf(drawn[0])) before = null;
    return [...(before ? before.earlier : earlier), ...drawn];
  }

  /* What is to be drawn once nothing runs: less where it is much and its reader is at the end, more where it is little. */
  function fitted(drawn) {
    const fits = drawn.length >= FEW || !earlier.length;
    return fits && (drawn.length <= MOST || !ogaPage.follows()) ? [{ __type__: "update" }] : [cut(whole(drawn))];
  }

  /* Have more of it drawn. */
  function more(drawn) {
    wanted = drawn + LEFT;
    ogaPage.hold();
    document.querySelector("#opened")?.click();
  }

  /* What an answer is asked for with: what is drawn, what is before it, the rest. */
  const sent = ([drawn, , ...rest]) => [drawn, earlier.map(plainTurn), ...rest];

  function draw() {
    const log = document.querySelector("#chat .bubble-wrap"), old = log?.querySelector(":scope > .earlier");
    const text = earlier.length ? `${earlier.length} earlier messages` : "";
    if (!log || (old?.dataset.text || "") === text) return;
    old?.remove();
    const show = element("button", { type: "button", onclick: () => ogaChat.earlier() }, "Show more of them");
    if (text) log.prepend(element("div", { class: "earlier", "data-text": text }, text, show));
  }

  ogaPage.each(draw);
  return { cut, whole, fitted, more, sent, count: () => earlier.length, asked: () => wanted > LEFT };
})();
