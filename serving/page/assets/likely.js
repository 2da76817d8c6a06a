/* How likely each token of the last answer was: a colour for each, and beneath them what else could have come. */
"use strict";

const ogaLikely = (() => {
  const { element, textOf } = ogaPage;
  let known = null; // {text, tokens} as serving/page/likely.py tells them

  const percent = (probability) => `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;
  const shown = (text) => `“${text.replaceAll("\n", "↵")}”`;

  function drawn({ tokens }) {
    const line = element("output", {}), text = element("p", { tabindex: "0", role: "group", "aria-label": "Tokens of the answer; arrow keys tell of each" });
    let at = -1;
    const choose = (n) => {
      text.children[at]?.classList.remove("chosen");
      at = Math.min(Math.max(0, n), tokens.length - 1);
      text.children[at].classList.add("chosen");
      const [said, probability, others] = tokens[at];
      line.textContent = `${shown(said)} ${percent(probability)}, of ${others.map(([other, its]) => `${shown(other)} ${percent(its)}`).join(" · ")}`;
    };
    text.append(...tokens.map(([said, probability], n) =>
      element("span", { style: `--unlikely: ${Math.round(100 * (1 - probability))}`, onmouseenter: () => choose(n) }, said)));
    text.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(at + step);
    });
    return element("details", { class: "likely", open: "" }, element("summary", {}, "Token probabilities"), text, line);
  }

  /* Beneath the last answer, as long as it is the one that they are of. */
  function draw() {
    const place = known && [...document.querySelectorAll("#chat .message-row.bot-row")].at(-1)?.querySelector(".flex-wrap");
    const last = known && ogaVersions.path().at(-1), fits = Boolean(place && last && textOf(last) === known.text);
    for (const old of document.querySelectorAll("#chat .likely")) if (!fits || old.parentElement !== place) old.remove();
    if (fits && place.querySelector(".about") && !place.querySelector(".likely")) place.append(drawn(known));
  }

  function take(text) {
    try {
      known = JSON.parse(text);
    } catch {
      known = null; // there are none
    }
    if (known && !known.tokens.length) known = null;
    draw();
  }

  ogaPage.each(draw);
  return { take };
})();
