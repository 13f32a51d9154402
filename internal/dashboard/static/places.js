// A browser has six connections to a server for all its windows together. Four of them may
// be live: a fifth window would wait for its own pages. Places are the browser's own locks,
// which its windows share, and which a window that ends gives back. Where there are none (a
// page over plain HTTP from another machine) each window is live.
"use strict";
const livePlaces = (() => {
  const names = ["live-1", "live-2", "live-3", "live-4"];

  // grab resolves to what gives a lock back, or to null if it is not free at the moment.
  function grab(name, options) {
    return new Promise((resolve, reject) => {
      navigator.locks.request(name, options, (lock) => {
        if (!lock) { resolve(null); return null; }
        return new Promise((release) => resolve(release));
      }).catch(reject);
    });
  }

  // take resolves to what gives the place back. Before it waits for one it calls crowded.
  // Once the signal is aborted it rejects.
  async function take(signal, crowded) {
    if (!navigator.locks) return () => {};
    for (const name of names) {
      const release = await grab(name, { ifAvailable: true });
      if (!release) continue;
      if (signal.aborted) { release(); throw signal.reason; }
      return release;
    }
    signal.throwIfAborted();
    crowded();
    const rest = new AbortController();
    signal.addEventListener("abort", () => rest.abort(signal.reason));
    let mine = null;
    return Promise.any(names.map(async (name) => {
      const release = await grab(name, { signal: rest.signal });
      if (mine || signal.aborted) { release(); throw new Error("one is enough"); }
      mine = release;
      rest.abort();
      return release;
    }));
  }

  return { take };
})();
