"use strict";
// The page works without this: the slider is a form. With it, what is shown follows the slider, plays, and stays live.
(() => {
  const main = document.getElementById("main");
  const slider = document.getElementById("slider");
  if (!main || !slider) return;
  const shown = document.getElementById("moment");
  const liveButton = document.getElementById("live");
  const playButton = document.getElementById("play");
  const speed = document.getElementById("speed");
  const query = document.querySelector("input[name=q]").value;
  const EVERY = 2000, STEP = 500;
  let at = document.body.dataset.at || null; // null: now
  let busy = false, again = false, playing = null;

  const text = (ms) => new Date(ms).toISOString();
  const address = (path) => {
    const parameters = new URLSearchParams();
    if (at) parameters.set("at", at);
    if (query) parameters.set("q", query);
    const rest = parameters.toString();
    return rest ? path + "?" + rest : path;
  };

  // Elements that are replaced keep the keyboard's focus, by their id or address.
  const focused = () => {
    const one = document.activeElement;
    if (!one || !main.contains(one)) return null;
    if (one.id) return "#" + CSS.escape(one.id);
    const href = one.getAttribute("href");
    return href ? '[href="' + CSS.escape(href) + '"]' : null;
  };

  async function show() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(address("/part"), { credentials: "same-origin", cache: "no-store" });
      const body = await answer.text();
      if (answer.ok) {
        const place = focused();
        const offsets = [...main.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollTop, one.scrollLeft]);
        const made = new DOMParser().parseFromString(body, "text/html");
        main.replaceChildren(...made.body.childNodes);
        for (const [id, top, left] of offsets) {
          const one = document.getElementById(id);
          if (one) { one.scrollTop = top; one.scrollLeft = left; }
        }
        if (place) main.querySelector(place)?.focus({ preventScroll: true });
        main.dataset.fault = "";
        const first = main.firstElementChild;
        if (first && first.dataset.first) {
          slider.min = first.dataset.first;
          slider.max = first.dataset.last;
          if (!at) { slider.value = first.dataset.last; shown.textContent = "live, " + first.dataset.time; }
        }
      } else {
        shown.textContent = "the console answers with " + answer.status;
      }
    } catch (error) {
      shown.textContent = "the console doesn't answer";
    } finally {
      busy = false;
    }
    if (again) { again = false; show(); }
  }

  function go(moment) {
    at = moment;
    document.body.classList.toggle("past", at !== null);
    liveButton.setAttribute("aria-pressed", String(at === null));
    if (at) shown.textContent = at.slice(0, 19).replace("T", " ") + " UTC";
    history.replaceState(null, "", address("/"));
    show();
  }

  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(() => {
      if (busy) return; // no faster than what is shown
      const next = Number(slider.value) + Number(speed.value) * STEP;
      if (next >= Number(slider.max)) { play(false); go(null); return; }
      slider.value = next;
      go(text(next));
    }, STEP) : null;
    playButton.setAttribute("aria-pressed", String(on));
    playButton.textContent = on ? "Pause" : "Play";
  }

  slider.addEventListener("input", () => { go(text(Number(slider.value))); });
  slider.form.addEventListener("submit", (event) => { event.preventDefault(); go(text(Number(slider.value))); });
  liveButton.addEventListener("click", (event) => { event.preventDefault(); play(false); go(null); });
  playButton.addEventListener("click", () => {
    if (at === null) slider.value = slider.min;
    play(playing === null);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); document.querySelector("input[name=q]").focus(); }
    if (event.key === "l") liveButton.click();
    if (event.key === "p") playButton.click();
  });
  for (const one of document.querySelectorAll("[data-script]")) one.hidden = false;
  setInterval(() => { if (at === null && !document.hidden) show(); }, EVERY);
})();
