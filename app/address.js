"use strict";
// One press of Back for each page: what the page writes into the address right after it was opened replaces the empty one.
if (!window.labAddress) {
  window.labAddress = true;
  const push = history.pushState.bind(history);
  history.pushState = (state, unused, url) => {
    const to = new URL(url ?? location.href, location.href);
    const first = to.pathname === location.pathname && !location.search;
    (first ? history.replaceState.bind(history) : push)(state, unused, url);
  };
}
