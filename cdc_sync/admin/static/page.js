// Keeps the page up to date, and shows instants in the reader's own time. Everything works without it.
"use strict";

const EVERY = 5_000; // milliseconds

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString(document.documentElement.lang);
  }
  for (const text of root.querySelectorAll("[data-local]")) {
    text.textContent = new Date(text.dataset.local).toLocaleString(document.documentElement.lang);
  }
  for (const text of root.querySelectorAll("[data-hour]")) {
    const hour = new Date(text.dataset.hour);
    const numbers = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    text.textContent = hour.toLocaleTimeString(document.documentElement.lang, numbers);
  }
}

// What somebody is reading or about to press stays as it is.
function isInUse(part) {
  return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
}

async function renew() {
  const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" }, credentials: "same-origin" });
  if (answer.status === 401) location.reload(); // the log-in has ended: ask for another
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localise(fresh);
  document.title = fresh.title;
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = fresh.getElementById(part.id);
    if (newer !== null && !isInUse(part) && part.innerHTML !== newer.innerHTML) {
      part.className = newer.className;
      part.replaceChildren(...newer.childNodes);
    }
  }
}

function main() {
  localise(document);
  const refresh = document.getElementById("refresh");
  const stale = document.getElementById("stale");
  if (refresh === null) return;
  document.body.classList.add("scripted");
  setInterval(() => {
    if (!refresh.checked || document.hidden) return;
    renew().then(() => { stale.hidden = true; }, () => { stale.hidden = false; });
  }, EVERY);
}

main();
