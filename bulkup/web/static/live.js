// Keeps the regions of a page up to date. Every page also works without this file.

const stream = document.body.dataset.stream;
const link = document.getElementById("link");
let source = null;

function say(text) {
  if (link.textContent !== text) link.textContent = text;
}

// What the reader has opened, focused or scrolled to stays so when its region is replaced.
function swap(region, { html, version }) {
  if (region.dataset.version === version) return;
  const open = new Map([...region.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
  const scrolled = [...region.querySelectorAll("[tabindex]")].map((e) => [e.scrollLeft, e.scrollTop]);
  const typed = new Map([...region.querySelectorAll("input[id]")].map((i) => [i.id, i.value]));
  const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
  const fresh = new DOMParser().parseFromString(html, "text/html");
  region.replaceChildren(...fresh.body.childNodes);
  region.dataset.version = version;
  for (const details of region.querySelectorAll("details[id]")) {
    if (open.has(details.id)) details.open = open.get(details.id);
  }
  for (const input of region.querySelectorAll("input[id]")) {
    if (typed.has(input.id)) input.value = typed.get(input.id);
  }
  [...region.querySelectorAll("[tabindex]")].forEach((element, i) => {
    if (scrolled[i]) [element.scrollLeft, element.scrollTop] = scrolled[i];
  });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function watch() {
  if (source || !stream || document.hidden) return;
  source = new EventSource(stream);
  source.onopen = () => say("Live");
  source.onerror = () => {
    const gone = source.readyState === EventSource.CLOSED;
    say(gone ? "Not live: reload the page to try again" : "Not connected; trying again");
  };
  source.addEventListener("regions", (event) => {
    for (const [name, fresh] of Object.entries(JSON.parse(event.data))) {
      const region = document.querySelector(`[data-live="${CSS.escape(name)}"]`);
      if (region) swap(region, fresh);
    }
  });
  source.addEventListener("end", () => {
    leave();
    say("bulkup serve has ended");
  });
}

function leave() {
  source?.close();
  source = null;
}

// A browser opens only a few connections to one server, so a hidden page gives its own back.
document.addEventListener("visibilitychange", () => (document.hidden ? leave() : watch()));
addEventListener("pagehide", leave);
addEventListener("pageshow", watch);

// Forms that change something: without a new page, and with the answer beside them.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const message = document.getElementById("message");
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) return;
  const action = event.submitter?.getAttribute("formaction") ?? form.action;
  message.textContent = "Sending";
  try {
    const answer = await fetch(action, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams(new FormData(form)),
    });
    const isOurs = answer.headers.get("Content-Type")?.startsWith("application/json");
    message.textContent = isOurs ? (await answer.json()).message : await answer.text();
    if (answer.ok) form.reset();
  } catch {
    message.textContent = "bulkup serve does not answer; is it still running?";
  }
});

watch();
