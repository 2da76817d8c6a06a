/* What was written before stays: every way that a conversation went is a path, a list of turns from its beginning. Where
   paths part, a question or an answer has versions. And beneath each answer: what it took. */
"use strict";

const ogaVersions = (() => {
  const MOST_PATHS = 50;
  let paths = [[]], at = 0; // all of them, the oldest first, and which one the page shows
  let drawn = ""; // what the lines beneath the messages were drawn from

  const { textOf, element, button } = ogaPage;
  const same = (one, other) => one.role === other.role && textOf(one) === textOf(other);
  const text = (row) => row.map(textOf).join("\0");

  function common(one, other) {
    let n = 0;
    while (n < one.length && n < other.length && same(one[n], other[n])) n++;
    return n;
  }

  /* Whether a path is another one as far as it had come: an answer grows while it is made. */
  function grown(from, to) {
    const n = common(from, to);
    if (n === from.length) return true;
    return n === from.length - 1 && n < to.length && from[n].role === "assistant" && to[n].role === "assistant"
      && Boolean(from[n].metadata?.title) === Boolean(to[n].metadata?.title) && textOf(to[n]).startsWith(textOf(from[n]));
  }

  /* Whether it is a question as it was just edited, with the old answer: Gradio's page shows that for a moment. */
  function isBetween(history) {
    const shown = paths[at], other = history.findIndex((turn, n) => n < shown.length && !same(turn, shown[n]));
    return history.length === shown.length && other >= 0 && other < history.length - 1 && history[other].role === "user"
      && history.slice(other + 1).every((turn, n) => same(turn, shown[other + 1 + n]));
  }

  /* The page shows this now; false if that is not to be kept. */
  function follow(history) {
    if (isBetween(history)) return false;
    if (grown(paths[at], history)) paths[at] = history;
    else at = paths.push(history) - 1;
    const kept = paths.filter((path, n) => n === at || !paths.some((other, m) =>
      m !== n && (other.length > path.length || m === at || m < n) && common(path, other) === path.length));
    while (kept.length > MOST_PATHS) kept.splice(kept[0] === history ? 1 : 0, 1);
    paths = kept;
    at = paths.indexOf(history);
    return true;
  }

  /* As it is stored beside the history that the page shows, and back. */
  function packed() {
    const shared = (path) => common(path, paths[at]);
    return { at, others: paths.filter((_, n) => n !== at).map((path) => ({ same: shared(path), tail: path.slice(shared(path)) })) };
  }

  function open(history, stored) {
    paths = (stored?.others || []).map(({ same: n, tail }) => [...history.slice(0, n), ...tail]);
    at = Math.min(Math.max(0, stored?.at || 0), paths.length);
    paths.splice(at, 0, history);
    drawn = "";
  }

  /* Messages as Gradio draws them, from one on: what one side says in turn is one row. [from, to) of the turns. */
  function rows(history, first) {
    const found = [];
    for (let n = first; n < history.length; n++) {
      if (found.length && history[n - 1].role === history[n].role) found.at(-1)[1] = n + 1;
      else found.push([n, n + 1]);
    }
    return found;
  }

  /* The versions of a row: the latest path of each. */
  function versions(from, to) {
    const shown = paths[at], found = new Map(), role = shown[from].role;
    for (const path of paths) {
      if (common(path, shown) < from || path[from]?.role !== role) continue;
      let end = from;
      while (end < path.length && path[end].role === role) end++;
      found.set(text(path.slice(from, end)), path);
    }
    found.set(text(shown.slice(from, to)), shown);
    return found;
  }

  function beside(from, to, step) {
    const found = versions(from, to), names = [...found.keys()];
    const place = names.indexOf(text(paths[at].slice(from, to))) + step;
    return found.get(names[place]);
  }

  function choose(from, to, step, show) {
    const path = beside(from, to, step);
    if (!path) return;
    at = paths.indexOf(path);
    show(path);
  }

  function line(turns, from, to, show) {
    const found = versions(from, to), log = turns.map((each) => each.metadata?.log).filter(Boolean).join(" · ");
    const parts = log ? [element("span", { class: "log" }, log)] : [];
    if (found.size > 1) {
      const place = [...found.keys()].indexOf(text(turns)) + 1;
      const go = (label, sign, step, ok) => {
        const made = button(label, sign, () => choose(from, to, step, show));
        made.disabled = !ok;
        return made;
      };
      parts.push(element("span", { class: "versions" }, go("Previous version", "‹", -1, place > 1),
        element("span", {}, `${place} of ${found.size}`), go("Next version", "›", 1, place < found.size)));
    }
    return parts;
  }

  /* Beneath the messages, once an answer is whole. first: turn that is drawn. show: is given the path that is chosen. */
  function draw(busy, first, show) {
    if (busy) return;
    const places = [...document.querySelectorAll("#chat .message-row")], history = paths[at];
    const state = `${at} ${first} ${JSON.stringify(paths.map((path) => path.map((each) => [textOf(each).length, each.metadata?.log])))}`;
    if (state === drawn && places.every((place) => place.querySelector(".about"))) return;
    const found = rows(history, first);
    if (found.length !== places.length) return; // Gradio has not drawn them yet
    drawn = state;
    for (const [n, place] of places.entries()) {
      let about = place.querySelector(".about");
      if (!about) (place.querySelector(".flex-wrap") || place).append(about = element("div", { class: "about" }));
      about.replaceChildren(...line(history.slice(...found[n]), ...found[n], show));
    }
  }

  const path = () => paths[at]; // that the page shows

  return { follow, packed, open, draw, path };
})();
