// Keeps a page true: follows the topics of <main data-live>, and swaps the regions
// (data-region) that have changed. Without it each page is right when it is loaded.
"use strict";
(() => {
  const main = document.getElementById("main");
  const link = document.getElementById("link");
  const calm = 1000; // ms between two questions for the same region
  const patience = 20000; // ms for an answer
  const deaf = 40000; // ms without a word from the server: a still comes every 15 s
  const glance = 10000; // ms between two looks of a window that has no live connection
  const pause = 5000; // ms, and up to half as many more, until what the server could not make is asked for again
  const asked = new Map(); // region -> {at, timer, again, running}
  let source = null;
  let heard = 0;
  let opening = null;
  let waiting = null; // for a place: aborted when the window does not want it any more
  let leave = () => {}; // gives the place back
  let glances = null;
  let second = null; // the look to come at what could not be made
  let fresh = true; // as the server has sent it: not connected yet
  let page = address(); // what is shown

  // address is where the reader is, without the place in the page.
  function address() { return location.pathname + location.search; }

  // blank tells white space between rows, which is in the way of finding a row again.
  const blank = (n) => n.nodeType === Node.TEXT_NODE && n.nodeValue.trim() === "";
  const key = (n) => n.dataset ? n.dataset.key : undefined;

  // morph makes the children of an element like those of another and leaves alone what is
  // the same: what has the focus or is selected stays so, and a bar moves. Rows are known
  // by their data-key: one that is above a new one stays the same element.
  function morph(now, next) {
    const keyed = [...next.children].some(key);
    if (keyed) {
      const stays = new Set([...next.children].map(key));
      for (const x of [...now.childNodes]) if (blank(x) || (key(x) !== undefined && !stays.has(key(x)))) x.remove();
      for (const y of [...next.childNodes]) if (blank(y)) y.remove();
    }
    const there = new Map();
    if (keyed) for (const x of now.children) if (key(x) !== undefined) there.set(key(x), x);
    let x = now.firstChild;
    for (const y of [...next.childNodes]) {
      if (!x) { now.append(document.importNode(y, true)); continue; }
      if (key(x) !== key(y)) {
        const old = there.get(key(y));
        if (!old) { // a new row, or no row in the place of one
          now.insertBefore(document.importNode(y, true), x);
          continue;
        }
        now.insertBefore(old, x);
        x = old;
      } else if (x.nodeType !== y.nodeType || x.nodeName !== y.nodeName) {
        const fresh = document.importNode(y, true);
        x.replaceWith(fresh);
        x = fresh.nextSibling;
        continue;
      }
      if (x.nodeType === Node.ELEMENT_NODE) become(x, y);
      else if (x.nodeValue !== y.nodeValue) x.nodeValue = y.nodeValue;
      x = x.nextSibling;
    }
    while (x) {
      const gone = x;
      x = x.nextSibling;
      gone.remove();
    }
  }

  function become(x, y) {
    if (x.dataset.keep !== undefined) return; // it is the reader's: an open fold, a field
    for (const { name } of [...x.attributes]) if (!y.hasAttribute(name)) x.removeAttribute(name);
    for (const { name, value } of y.attributes) if (x.getAttribute(name) !== value) x.setAttribute(name, value);
    morph(x, y);
  }

  // failed tells a page that could not be made, since Redis was in the way.
  const failed = () => main.dataset.failed !== undefined;

  // awaits tells a page of what is not there, as a task set that is yet to be made.
  const awaits = () => main.dataset.awaits !== undefined;

  function place(region) {
    return document.querySelector(`[data-region="${CSS.escape(region)}"]`);
  }

  function fill(region, next) {
    const at = place(region);
    if (!at) return;
    localTimes(next);
    morph(at, next);
    at.dispatchEvent(new CustomEvent("region", { bubbles: true }));
  }

  function swap(region, html) {
    const next = document.createElement("template");
    next.innerHTML = html; // the server has escaped what came from hosts, and no script may run but these files
    if (region === "redis" && !next.content.querySelector("#redis-away") && failed()) location.reload(); // Redis is back
    if (region !== "redis" && awaits()) { ask("", 0); return; }
    fill(region, next.content);
    follow(region, 0);
  }

  // follow has those regions asked for that change when another one does (data-also).
  function follow(region, within) {
    for (const at of document.querySelectorAll(`[data-also~="${CSS.escape(region)}"]`)) ask(at.dataset.region, within);
  }

  function stale(region, within) {
    if (awaits()) { ask("", within); return; }
    if (place(region)) ask(region, within);
    follow(region, within);
  }

  // ask asks the server for a region of this very page, "" for all of them: within so many
  // ms, since there may be others who ask, and not more often than the calm allows.
  function ask(region, within) {
    const state = asked.get(region) || { at: 0 };
    asked.set(region, state);
    if (state.running) { state.again = true; return; }
    if (state.timer) return;
    const wait = Math.max(state.at + calm - Date.now(), Math.random() * (within || 0), 0);
    state.timer = setTimeout(async () => {
      state.timer = null;
      state.running = true;
      state.at = Date.now();
      const from = location.href;
      try {
        const answer = await fetch(from, { headers: region ? { "Muster-Region": region } : {}, signal: AbortSignal.timeout(patience) });
        const html = await answer.text();
        if (from !== location.href) state.again = true; // the reader has turned the page meanwhile
        else if (region && answer.ok) swap(region, html);
        else if (!region && (awaits() || failed()) && answer.ok) location.reload(); // it has come
        else if (!region) fillAll(html);
        if (answer.status === 503) later();
      } catch { // without a live connection all is asked for when it is back
        state.again = state.again || (source && source.readyState === EventSource.OPEN);
        state.at = Date.now();
      }
      state.running = false;
      if (state.again) { state.again = false; ask(region); }
    }, wait);
  }

  // later looks again at the whole page: what was in the way may go without a word, and
  // the word that Redis is back may come before the server can read all of it.
  function later() {
    if (second || document.hidden) return;
    second = setTimeout(() => { second = null; ask("", 0); }, pause + Math.random() * pause / 2);
  }

  function fillAll(html) {
    const next = new DOMParser().parseFromString(html, "text/html");
    for (const at of next.querySelectorAll("[data-region]")) fill(at.dataset.region, at);
  }

  // say tells how the page is kept true: "live", "crowded" or "broken".
  function say(state, text) {
    link.dataset.state = state;
    link.textContent = text;
    link.hidden = text === "";
  }

  // open follows the page's topics once this window has a place among the live ones.
  function open() {
    clearTimeout(opening);
    if (source || waiting || !main || !main.dataset.live || document.hidden) return;
    if (failed()) later();
    const mine = waiting = new AbortController();
    livePlaces.take(mine.signal, crowded).then((release) => {
      if (mine.signal.aborted) { release(); return; }
      waiting = null;
      leave = release;
      clearInterval(glances);
      listen();
    }, () => {}); // it is not wanted any more
  }

  // crowded is called while too many windows of this browser are live: this one looks now
  // and then.
  function crowded() {
    say("crowded", "Many windows are open: this one looks every 10 seconds");
    fresh = false;
    ask("", 0);
    glances = setInterval(() => ask("", 0), glance);
  }

  function listen() {
    const of = main.dataset.live.split(" ").map((t) => "of=" + encodeURIComponent(t)).join("&");
    heard = Date.now();
    // A page that was just loaded asks for what has changed since, one that comes back and
    // may have missed messages for all.
    const since = fresh ? "&since=" + encodeURIComponent(main.dataset.stamp) : "";
    fresh = false;
    source = new EventSource("/live?" + of + since);
    let first = true;
    const on = (name, then) => source.addEventListener(name, (e) => {
      heard = Date.now();
      then(JSON.parse(e.data));
    });
    on("hello", (m) => {
      say("live", "");
      if (m.tag !== document.documentElement.dataset.tag) location.reload(); // a newer muster
      else if (!m.known || !first) ask("", m.within);
      else for (const region of m.changed || []) stale(region, m.within);
      first = false; // a browser that connects again by itself asks with the same address
    });
    on("still", () => {});
    on("stale", (m) => stale(m.region, m.within));
    on("swap", (m) => swap(m.region, m.html));
    source.addEventListener("error", () => {
      say("broken", "No connection to the dashboard; trying again");
      if (source && source.readyState === EventSource.CLOSED) again(); // it was answered, but not let in
    });
  }

  function close() {
    clearTimeout(opening);
    clearTimeout(second);
    clearInterval(glances);
    if (waiting) waiting.abort();
    if (source) source.close();
    source = waiting = second = null;
    leave();
    leave = () => {};
  }

  function again() {
    close();
    opening = setTimeout(open, 3000 + Math.random() * 5000);
  }

  // After a sleep, or behind a proxy that has lost it, a connection may be dead without a
  // word.
  setInterval(() => {
    if (source && source.readyState === EventSource.OPEN && Date.now() - heard > deaf) { close(); open(); }
  }, 5000);

  // Times are written in UTC by the server and in the reader's zone here. Those of class
  // clock are of today, those of class when are short.
  function localTimes(root) {
    const two = (n) => String(n).padStart(2, "0");
    const now = new Date();
    for (const t of root.querySelectorAll("time[datetime]")) {
      const at = new Date(t.dateTime);
      if (isNaN(at)) continue;
      const date = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
      const today = at.toDateString() === now.toDateString();
      let text = `${at.getFullYear()}-${date} ${clock}`;
      if (t.classList.contains("clock") || (today && t.classList.contains("when"))) text = clock;
      else if (t.classList.contains("when")) text = at.getFullYear() === now.getFullYear() ? `${date} ${clock.slice(0, 5)}` : `${at.getFullYear()}-${date}`;
      t.title = t.dateTime.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
      if (t.textContent !== text) t.textContent = text;
    }
  }

  // A search field looks while one types, and the address of the page says what for.
  let typing = null;
  document.addEventListener("input", (e) => {
    const form = e.target.closest("form[data-refresh]");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(() => {
      // What the address says besides stays: the order may have been changed by a click.
      const words = new URLSearchParams(location.search);
      words.delete("page");
      for (const field of form.querySelectorAll("[name]:not([type=hidden])")) {
        if (field.value === "") words.delete(field.name); else words.set(field.name, field.value);
      }
      const query = words.toString();
      history.replaceState(history.state, "", form.getAttribute("action") + (query ? "?" + query : ""));
      page = address();
      turn(form.dataset.refresh);
    }, 200);
  });

  // It has looked already when its button is pressed: the reader stays where he is.
  document.addEventListener("submit", (e) => {
    const form = e.target.closest("form[data-refresh]");
    if (!form || !place(form.dataset.refresh)) return;
    e.preventDefault();
    place(form.dataset.refresh).scrollIntoView({ block: "nearest" });
  });

  // turn asks for a region at once: the reader waits for it.
  function turn(region) {
    const state = asked.get(region);
    if (state) {
      clearTimeout(state.timer);
      state.timer = null;
      state.at = 0;
    }
    ask(region);
  }

  // A link that changes one word of the address leaves the others as they are by now.
  document.addEventListener("click", (e) => {
    const a = e.target.closest("a[data-merge]");
    if (!a) return;
    const to = new URL(a.href), words = new URLSearchParams(location.search), name = a.dataset.merge;
    if (to.searchParams.has(name)) words.set(name, to.searchParams.get(name)); else words.delete(name);
    to.search = words.toString();
    a.href = to.href;
  });

  // A link that turns a page of a list swaps that list alone.
  document.addEventListener("click", (e) => {
    const a = e.target.closest("a[data-turn]");
    if (!a || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || !place(a.dataset.turn)) return;
    e.preventDefault();
    history.pushState({ turned: true }, "", a.getAttribute("href").replace(/#.*$/, ""));
    page = address();
    turn(a.dataset.turn);
  });
  addEventListener("popstate", () => { if (address() !== page) location.reload(); }); // not for a link within the page

  // "/" goes to the search field, as elsewhere.
  document.addEventListener("keydown", (e) => {
    if (e.key !== "/" || e.ctrlKey || e.metaKey || e.altKey || (e.target.closest && e.target.closest("input, select, textarea"))) return;
    const field = document.querySelector("input[type=search]");
    if (field) { e.preventDefault(); field.focus(); field.select(); }
  });

  // A browser has six connections to a server: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  addEventListener("online", () => { close(); open(); });
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = "times are this browser's";
  localTimes(document);
  open();
})();
