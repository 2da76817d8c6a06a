/* What the page asks of the server one by one: what was refused for now is asked again, and who changes what the page
   shows waits for what is under way, whose answer would otherwise come into another conversation. */
"use strict";

const ogaPosts = (() => {
  const PATH = /\/gradio_api\/(run\/predict|queue\/join)(\?|$)/;
  const TRIES = 8, WAIT_MS = 1000; // as the server says with a 429
  const DRAWN_MS = 50; // until Gradio has put in what came, and asked for what follows
  const LONGEST_MS = 15000; // that anybody waits

  const send = window.fetch.bind(window), waiting = new Set();
  let underWay = 0;
  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

  async function tried(resource, options) {
    for (let n = 1; ; n++) {
      const answer = await send(resource, options);
      if (answer.status !== 429 || n === TRIES) return new Response(await answer.arrayBuffer(), answer);
      await pause(WAIT_MS);
    }
  }

  async function ended() {
    await pause(DRAWN_MS);
    underWay--;
    if (!underWay) for (const resume of waiting) resume();
  }

  window.fetch = async (resource, options) => {
    if (!PATH.test(String(resource))) return send(resource, options);
    underWay++;
    try {
      return await tried(resource, options);
    } finally {
      ended();
    }
  };

  /* Once nothing is under way. */
  const quiet = () => !underWay ? Promise.resolve() : new Promise((resolve) => {
    const resume = () => { waiting.delete(resume); resolve(); };
    waiting.add(resume);
    setTimeout(resume, LONGEST_MS);
  });

  return { quiet };
})();
