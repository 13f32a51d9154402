// Keeps a page true: follows the topics of <main data-live>, and swaps the regions
// (data-region) that have changed. Without it each page is right when it is loaded.
"use strict";
(() => {
  const main = document.getElementById("main");
  const link = document.getElementById("link");
  const calm = 1000; // ms between two questions for the same region
  const asked = new Map(); // region -> {at, timer, again, running}
  let source = null;

  // morph makes the children of an element like those of another and leaves alone what is
  // the same: what has the focus or is selected stays so, and a bar moves.
  function morph(now, next) {
    const a = [...now.childNodes], b = [...next.childNodes];
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      const x = a[i], y = b[i];
      if (!y) { x.remove(); continue; }
      if (!x) { now.append(document.importNode(y, true)); continue; }
      if (x.nodeType !== y.nodeType || x.nodeName !== y.nodeName || (x.dataset && x.dataset.key !== y.dataset.key)) {
        x.replaceWith(document.importNode(y, true));
        continue;
      }
      if (x.nodeType !== Node.ELEMENT_NODE) {
        if (x.nodeValue !== y.nodeValue) x.nodeValue = y.nodeValue;
        continue;
      }
      if (x.dataset.keep !== undefined) continue; // it is the reader's: an open fold, a field
      for (const { name } of [...x.attributes]) if (!y.hasAttribute(name)) x.removeAttribute(name);
      for (const { name, value } of y.attributes) if (x.getAttribute(name) !== value) x.setAttribute(name, value);
      morph(x, y);
    }
  }

  function swap(region, html) {
    const place = document.querySelector(`[data-region="${CSS.escape(region)}"]`);
    if (!place) return;
    const next = document.createElement("template");
    next.innerHTML = html; // the server has escaped what came from hosts, and no script may run but this file
    localTimes(next.content);
    morph(place, next.content);
    place.dispatchEvent(new CustomEvent("region", { bubbles: true }));
  }

  // ask asks the server for a region of this very page: at once, and then not more often
  // than the calm allows.
  function ask(region) {
    const state = asked.get(region) || { at: 0 };
    asked.set(region, state);
    if (state.running) { state.again = true; return; }
    if (state.timer) return;
    const wait = Math.max(0, state.at + calm - Date.now());
    state.timer = setTimeout(async () => {
      state.timer = null;
      state.running = true;
      state.at = Date.now();
      const from = location.href;
      try {
        const answer = await fetch(from, { headers: { "Muster-Region": region } });
        const html = await answer.text();
        if (answer.ok && from === location.href) swap(region, html);
      } catch { /* the live connection notices, and asks for all when it is back */ }
      state.running = false;
      if (state.again) { state.again = false; ask(region); }
    }, wait);
  }

  function askAll() {
    for (const place of document.querySelectorAll("[data-region]")) ask(place.dataset.region);
  }

  function say(text) {
    link.textContent = text;
    link.hidden = text === "";
  }

  function open() {
    if (source || !main || !main.dataset.live || document.hidden) return;
    const of = main.dataset.live.split(" ").map((t) => "of=" + encodeURIComponent(t)).join("&");
    source = new EventSource("/live?" + of);
    source.addEventListener("hello", () => { say(""); askAll(); });
    source.addEventListener("stale", (e) => ask(JSON.parse(e.data).region));
    source.addEventListener("swap", (e) => { const m = JSON.parse(e.data); swap(m.region, m.html); });
    source.addEventListener("error", () => {
      say("No connection to the dashboard; trying again");
      if (source && source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 5000); }
    });
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // Times are written in UTC by the server and in the reader's zone here.
  function localTimes(root) {
    for (const t of root.querySelectorAll("time[datetime]")) {
      const at = new Date(t.dateTime);
      if (isNaN(at)) continue;
      const two = (n) => String(n).padStart(2, "0");
      const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
      t.title = t.dateTime;
      t.textContent = t.classList.contains("clock") ? clock : `${day} ${clock}`;
    }
  }

  // A search field looks while one types, and the address of the page says what for.
  let typing = null;
  document.addEventListener("input", (e) => {
    const form = e.target.closest("form[data-refresh]");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(() => {
      const words = new URLSearchParams(new FormData(form));
      for (const [name, value] of [...words]) if (value === "") words.delete(name);
      const query = words.toString();
      history.replaceState(null, "", form.getAttribute("action") + (query ? "?" + query : ""));
      ask(form.dataset.refresh);
    }, 200);
  });

  // "/" goes to the search field, as elsewhere.
  document.addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea")) return;
    const field = document.querySelector("input[type=search]");
    if (field) { e.preventDefault(); field.focus(); field.select(); }
  });

  // A browser has six connections to a server: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  localTimes(document);
  open();
})();
