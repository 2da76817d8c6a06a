/* Draws how far a build is, and opens the chat once it is there. */
"use strict";

(() => {
  const POLL_MS = 1000;
  const NAMES = { text: "on text", chats: "on conversations" };

  const spoken = (seconds) => {
    if (seconds < 100) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };

  function made(tag, content = "") {
    const element = document.createElement(tag);
    element.textContent = content;
    return element;
  }

  function row(stage) {
    const line = made("li"), bar = made("progress");
    bar.max = 1;
    if (stage.ended) bar.value = 1;
    else if (stage.total) bar.value = stage.done / stage.total;
    bar.setAttribute("aria-label", stage.name);
    const left = stage.ended || stage.left === null ? "" : `, about ${spoken(stage.left)} left`;
    line.append(made("span", stage.name), bar, made("span", stage.ended ? `✓ ${spoken(stage.seconds)}` : spoken(stage.seconds)));
    if (stage.note || left) line.append(made("small", `${stage.note}${stage.note ? left : left.slice(2)}`));
    return line;
  }

  /* Bars of what was lost, with their standard errors, beside the limit beyond which a build gives advice. */
  function picture(losses, limit) {
    const space = "http://www.w3.org/2000/svg", top = Math.max(limit, ...losses.map((loss) => loss.kl + loss.error)) * 1.1;
    const x = (value) => 130 + (value / top) * 350;
    const drawn = (tag, facts, content = "") => {
      const element = document.createElementNS(space, tag);
      for (const [name, value] of Object.entries(facts)) element.setAttribute(name, value);
      element.textContent = content;
      return element;
    };
    const height = 30 * losses.length + 34, svg = drawn("svg", { viewBox: `0 0 600 ${height}`, role: "img" });
    svg.setAttribute("aria-label", losses.map((loss) => `${NAMES[loss.name]}: ${loss.kl.toFixed(4)}`).join(", "));
    losses.forEach((loss, number) => {
      const y = 30 * number + 6, line = { y1: y + 9, y2: y + 9, stroke: "currentColor", "stroke-width": 2 };
      svg.append(
        drawn("text", { x: 0, y: y + 14 }, NAMES[loss.name]),
        drawn("rect", { x: 130, y, width: x(loss.kl) - 130, height: 18, fill: "var(--mark)" }),
        drawn("line", { x1: x(Math.max(0, loss.kl - loss.error)), x2: x(loss.kl + loss.error), ...line }),
        drawn("text", { x: x(loss.kl + loss.error) + 8, y: y + 14 }, loss.kl.toFixed(4)),
      );
    });
    const at = { x1: x(limit), x2: x(limit), y1: 0, y2: height - 22, stroke: "currentColor", "stroke-dasharray": "4 3" };
    svg.append(drawn("line", at), drawn("text", { x: x(limit), y: height - 6, "text-anchor": "middle" }, `advice above ${limit}`));
    return [made("figcaption", "Loss against the original, as KL divergence in nats per token:"), svg];
  }

  function draw(facts) {
    document.querySelector("#title").textContent = facts.title;
    document.title = `${facts.stages.at(-1)?.name ?? "building"} · oga-chat`;
    document.querySelector("#state").textContent =
      `${spoken(facts.seconds)} so far. The chat opens here by itself when the model is ready.`;
    document.querySelector("#stages").replaceChildren(...facts.stages.map(row));
    document.querySelector("#lines").textContent = facts.lines.join("\n");
    const loss = document.querySelector("#loss");
    if (facts.loss.length && loss.hidden) {
      loss.replaceChildren(...picture(facts.loss, facts.limit));
      loss.hidden = false;
    }
  }

  async function poll() {
    try {
      const reply = await fetch("building.json", { cache: "no-store" });
      if (reply.status === 404) return location.reload(); // the chat has no such thing
      if (reply.ok) draw(await reply.json());
      else if (reply.status === 401) return location.reload();
    } catch {
      document.querySelector("#state").textContent = "The server does not answer: it ends, or is about to open the chat.";
    }
    setTimeout(poll, POLL_MS);
  }

  poll();
})();
