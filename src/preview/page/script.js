"use strict";
// Keeps the page up to date: asks for its parts every two seconds and swaps
// only the elements that differ, so that nothing flickers or loses its place.
(() => {
  const source = document.body.dataset.fragment;
  const PAUSE = 2000;

  const patch = (live, next, greet) => {
    const known = new Map([...live.children].filter((node) => node.id).map((node) => [node.id, node]));
    let at = live.firstElementChild;
    for (const node of [...next.children]) {
      const old = known.get(node.id);
      if (old && old.isEqualNode(node)) {
        if (old === at) at = at.nextElementSibling;
        else live.insertBefore(old, at);
        continue;
      }
      const fresh = document.importNode(node, true);
      if (old) {
        if (old === at) at = at.nextElementSibling;
        old.remove();
      } else if (greet && node.matches("article")) {
        fresh.classList.add("new");
        fresh.addEventListener("animationend", () => {
          fresh.classList.remove("new");
          if (!fresh.className) fresh.removeAttribute("class");
        }, { once: true });
      }
      const place = old?.querySelector(".strip")?.scrollLeft;
      live.insertBefore(fresh, at);
      if (place) fresh.querySelector(".strip")?.scrollTo(place, 0);
    }
    while (at) {
      const gone = at;
      at = at.nextElementSibling;
      gone.remove();
    }
  };

  const refresh = async () => {
    const answer = await fetch(source, { signal: AbortSignal.timeout(5 * PAUSE) });
    if (!answer.ok) throw new Error(answer.status);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["feed", "side"]) {
      const [live, part] = [document.getElementById(id), next.getElementById(id)];
      if (live && part) patch(live, part, id === "feed");
    }
  };

  const loop = async () => {
    if (!document.hidden) {
      try {
        await refresh();
        document.body.classList.remove("away");
      } catch {
        document.body.classList.add("away");
      }
    }
    setTimeout(loop, PAUSE);
  };
  if (source) setTimeout(loop, PAUSE);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      // Without the permission: select it, so that Ctrl-C does.
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Press Ctrl-C";
    }
  });
})();
