// Keeps the page up to date, and shows instants in the reader's own time. Everything works without it.
"use strict";

const EVERY = 5_000; // milliseconds

function localise(root) {
  const language = document.documentElement.lang;
  const written = (instant) => {
    const joint = language === "fr" ? " à " : ", ";
    return instant.toLocaleDateString(language) + joint + instant.toLocaleTimeString(language);
  };
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = written(new Date(time.dateTime));
  }
  for (const text of root.querySelectorAll("[data-local]")) {
    text.textContent = written(new Date(text.dataset.local));
  }
  for (const text of root.querySelectorAll("[data-hour]")) {
    const numbers = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    text.textContent = new Date(text.dataset.hour).toLocaleTimeString(language, numbers);
  }
}

// What somebody is reading or about to press stays as it is.
function isInUse(part) {
  return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
}

async function renew() {
  // Not relative: an address with a user's name would refuse it.
  const page = location.origin + location.pathname + location.search;
  const answer = await fetch(page, { headers: { Accept: "text/html" }, credentials: "same-origin" });
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
