// Keeps the page fresh: asks for the part that changes once a second and puts it in place of the old one, node by node, so that the
// focus, a selection and what somebody opened or closed stay. The server renders all of it; this only moves it.
(() => {
  "use strict";
  const every = 1000, patience = 5000;
  const status = document.getElementById("status"), lost = document.getElementById("lost"), button = document.getElementById("pause");
  const root = document.documentElement.classList;
  let paused = false, failingSince = null, timer = 0, asking = false;

  // morph makes a what b is. Elements with an id are the same wherever they stand.
  function morph(a, b) {
    if (a.nodeType !== Node.ELEMENT_NODE) {
      if (a.data !== b.data) a.data = b.data;
      return;
    }
    for (const { name } of [...a.attributes]) {
      if (!b.hasAttribute(name) && name !== "open") a.removeAttribute(name);
    }
    for (const { name, value } of b.attributes) {
      if (a.getAttribute(name) !== value && name !== "open") a.setAttribute(name, value);
    }
    const known = new Map();
    for (const child of a.children) if (child.id) known.set(child.id, child);
    let at = a.firstChild;
    for (const next of [...b.childNodes]) {
      const match = next.id ? known.get(next.id) : at && !at.id && at.nodeName === next.nodeName ? at : null;
      if (!match) {
        a.insertBefore(next, at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else a.insertBefore(match, at);
      morph(match, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function answered(main) {
    morph(document.getElementById("live"), main);
    document.title = main.dataset.title;
    status.textContent = "live, as of " + main.dataset.at + " UTC";
    failingSince = null;
    lost.hidden = true;
    root.remove("lost");
  }

  function unanswered() {
    if (!failingSince) {
      failingSince = new Date();
      // Said once: a reader's program announces it when it changes.
      lost.textContent = "No answer from the daemon since " + failingSince.toISOString().slice(11, 19) +
        " UTC. What is shown is of " + document.getElementById("live").dataset.at + "; asking again every second.";
      lost.hidden = false;
      root.add("lost");
      document.title = "no answer – grpclb-refresher";
    }
    status.textContent = "no answer for " + Math.round((Date.now() - failingSince) / 1000) + " s";
  }

  async function ask() {
    if (asking) return;
    asking = true;
    try {
      const r = await fetch("/debug/fragment" + location.search, { cache: "no-store", signal: AbortSignal.timeout(patience) });
      if (!r.ok) throw new Error(r.status);
      const main = new DOMParser().parseFromString(await r.text(), "text/html").getElementById("live");
      if (!main) throw new Error("not the page");
      if (!paused) answered(main);
    } catch {
      if (!paused) unanswered();
    } finally {
      asking = false;
    }
  }

  function schedule() {
    clearInterval(timer);
    if (!paused && !document.hidden) {
      ask();
      timer = setInterval(ask, every);
    }
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    root.toggle("paused", paused);
    if (paused) status.textContent = status.textContent.replace(/^live, /, "paused, ");
    schedule();
  });
  // Nobody looks at a hidden tab.
  document.addEventListener("visibilitychange", schedule);
  button.hidden = false;
  root.add("live");
  schedule();
})();
