"use strict";
// Names of files and classes are text of strangers: they are set by textContent, never as HTML.

const SMALL = 200; // pixels up to which an image is enlarged with sharp edges
const DONE = { keep: "Kept", relabel: "Relabelled", remove: "To be removed", unsure: "Unsure" };
const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") || "";

let queue = { classes: [], notes: [], items: [] };
let at = 0; // the item that is shown
let beside = -1; // which of its other images is shown beside it
let waiting = false; // for the answer to a decision
let choices = []; // the classes that the list shows
let chosen = 0;
const notes = new Map(); // item -> a note that waits for its decision

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function say(text, failed) {
  byId("status").className = failed ? "failed" : "";
  byId("status").textContent = text;
}

function source(image, small) {
  return `/image/${image.number}?token=${encodeURIComponent(token)}${small ? "&small=true" : ""}`;
}

async function draw(target, caption, image, alternative) {
  const address = source(image);
  target.removeAttribute("src"); // a browser shows the image before until the new one has arrived
  target.alt = alternative;
  target.dataset.shows = "";
  target.src = address;
  try {
    await target.decode();
  } catch {
    if (target.getAttribute("src") !== address) return;
    caption.textContent += " cannot be shown: it has changed or is gone since the review began.";
  }
  if (target.getAttribute("src") !== address) return; // another one is drawn by now
  target.className = target.naturalWidth < SMALL ? "small" : "";
  target.dataset.shows = image.number;
}

// What is shown

function brief(decision) {
  return decision.decision === "relabel" ? `Relabelled to ${decision.label}` : DONE[decision.decision];
}

function sentenceOf(decision) {
  if (!decision) return "";
  const note = decision.note ? ` Note: ${decision.note}` : "";
  return `${brief(decision)}, ${decision.who ? `by ${decision.who}, ` : ""}${decision.when.replace("T", " ").replace("Z", " UTC")}.${note}`;
}

function show(number, before) {
  at = number;
  const item = queue.items[at];
  byId("item").hidden = byId("keys").hidden = false;
  byId("label").textContent = item.image.label;
  byId("suggested").textContent = item.suggested;
  byId("suggestion").hidden = !item.suggested;
  byId("reasons").replaceChildren(...item.reasons.map((reason) => element("li", reason)));
  byId("caption").textContent = item.image.path;
  draw(byId("image"), byId("caption"), item.image, `The image, labelled ${item.image.label}`);
  byId("others").replaceChildren(...item.others.map(thumbnail));
  byId("others-title").hidden = !item.others.length;
  compare(item.others.length && item.others[0].what !== "neighbour" ? 0 : -1);
  tell();
  const suggestion = item.suggested ? `, suggested: ${item.suggested}` : "";
  say(`${before || ""} Image ${at + 1} of ${queue.items.length}, label: ${item.image.label}${suggestion}.`.trim());
  const next = queue.items[at + 1];
  if (next) new Image().src = source(next.image); // so that it is there when it is asked for
}

function tell() {
  const decided = queue.items.filter((one) => one.decision).length;
  byId("progress").textContent = `${at + 1} of ${queue.items.length} (${decided} decided)`;
  byId("bar").max = queue.items.length;
  byId("bar").value = decided;
  const pending = notes.has(at) ? ` Note, stored with the next decision: ${notes.get(at)}` : "";
  byId("decision").textContent = (sentenceOf(queue.items[at].decision) + pending).trim();
}

function thumbnail(image, index) {
  const button = element("button");
  button.type = "button";
  const picture = element("img");
  picture.alt = "";
  picture.src = source(image, true);
  const label = element("span", image.label, image.label === queue.items[at].image.label ? "" : "differs");
  button.append(picture, label, element("span", `${image.what}, ${image.side}`, "what"));
  const same = queue.items.find((one) => one.image.number === image.number);
  if (same && same.decision) button.append(element("span", brief(same.decision), "done")); // of a pair, what the other one got
  if (index < 9) button.append(element("kbd", String(index + 1)));
  button.addEventListener("click", () => compare(beside === index ? -1 : index));
  const made = element("li");
  made.append(button);
  return made;
}

function compare(index) {
  beside = index;
  byId("beside").hidden = index < 0;
  [...byId("others").children].forEach((one, number) => {
    one.firstChild.setAttribute("aria-pressed", String(number === index));
  });
  if (index >= 0) {
    const image = queue.items[at].others[index];
    byId("other-caption").textContent = `${image.label} (${image.what}, ${image.side}): ${image.path}`;
    draw(byId("other"), byId("other-caption"), image, `${image.what}, labelled ${image.label}`);
  }
}

const isSeen = () => byId("image").dataset.shows === String(queue.items[at].image.number);

// What is decided

async function post(body) {
  const answer = await fetch("/decision", {
    method: "POST",
    headers: { "content-type": "application/json", "x-darkroom-token": token },
    body: JSON.stringify(body),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : "the server refused it");
  return content;
}

async function decide(decision, label = "", advances = true) {
  if (waiting || !isSeen()) return; // a decision is about the image that is seen
  waiting = true;
  const number = at;
  const item = queue.items[number];
  const note = notes.has(number) ? notes.get(number) : (item.decision || {}).note || "";
  try {
    item.decision = await post({ number, decision, label, note });
    notes.delete(number);
    if (advances) advance(label ? `Relabelled to ${label}.` : `${DONE[decision]}.`);
    else tell();
  } catch (error) {
    const reason = error instanceof TypeError ? "the server does not answer, start `darkroom review` again" : error.message;
    say(`Not stored: ${reason}.`, true);
  } finally {
    waiting = false;
  }
}

// Go to the next image that is not decided.
function advance(before) {
  const order = queue.items.map((_, index) => (at + 1 + index) % queue.items.length);
  const next = order.find((index) => !queue.items[index].decision);
  if (next !== undefined) return show(next, before);
  tell();
  return finished(before);
}

function finished(before = "") {
  say(`${before} All ${queue.items.length} images are decided. End this with Ctrl-C in the terminal; then \`darkroom review --apply\`.`.trim());
}

function step(by) {
  const next = at + by;
  if (next >= 0 && next < queue.items.length) show(next);
  else say(by < 0 ? "This is the first image." : "This is the last image.");
}

// The list of classes

const digitsChoose = () => !queue.classes.some((name) => /^\d/.test(name));

function openChooser() {
  byId("filter").value = "";
  list("");
  const suggested = choices.indexOf(queue.items[at].suggested);
  mark(Math.max(suggested, 0));
  byId("chooser-help").textContent = `Type a part of the name${digitsChoose() ? ", or a number" : ""}; arrows move; Enter chooses.`;
  byId("chooser").showModal();
  mark(chosen); // scrolls, now that there is something to scroll
  byId("filter").focus();
}

function list(text) {
  const item = queue.items[at];
  const wanted = text.trim().toLowerCase();
  const found = queue.classes.filter((name) => name !== item.image.label && name.toLowerCase().includes(wanted));
  const begins = (name) => name.toLowerCase().startsWith(wanted);
  choices = [...found.filter(begins), ...found.filter((name) => !begins(name))];
  byId("choices").replaceChildren(
    ...choices.map((name, index) => {
      const option = element("li");
      option.id = `choice-${index}`;
      option.setAttribute("role", "option");
      if (index < 9 && !text && digitsChoose()) option.append(element("kbd", String(index + 1)));
      option.append(element("span", name));
      if (name === item.suggested) option.append(element("small", "suggested"));
      option.addEventListener("click", () => choose(index));
      return option;
    }),
  );
  mark(0);
}

function mark(index) {
  chosen = index;
  [...byId("choices").children].forEach((option, number) => {
    option.setAttribute("aria-selected", String(number === index));
  });
  const option = byId(`choice-${index}`);
  if (option) {
    byId("filter").setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  } else {
    byId("filter").removeAttribute("aria-activedescendant");
  }
}

function choose(index) {
  if (choices[index] === undefined) return;
  byId("chooser").close();
  decide("relabel", choices[index]);
}

byId("filter").addEventListener("input", () => list(byId("filter").value));
byId("filter").addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by && choices.length) {
    mark((chosen + by + choices.length) % choices.length);
  } else if (event.key === "Enter") {
    choose(chosen);
  } else if (/^[1-9]$/.test(event.key) && !byId("filter").value && digitsChoose()) {
    if (Number(event.key) <= choices.length) mark(Number(event.key) - 1);
  } else {
    return;
  }
  event.preventDefault();
});

// Notes, help and keys

function openNoter() {
  const stored = queue.items[at].decision;
  byId("note").value = notes.get(at) ?? (stored ? stored.note : "");
  byId("noter").showModal();
  byId("note").focus();
}

byId("noter").querySelector("form").addEventListener("submit", () => {
  notes.set(at, byId("note").value);
  const stored = queue.items[at].decision;
  if (stored) decide(stored.decision, stored.label, false);
  else tell();
});
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

const ACTIONS = {
  k: () => decide("keep"),
  r: openChooser,
  d: () => decide("remove"),
  u: () => decide("unsure"),
  n: openNoter,
  "?": () => byId("help").showModal(),
  ArrowLeft: () => step(-1),
  Backspace: () => step(-1),
  ArrowRight: () => step(1),
};

function press(key) {
  if (!queue.items.length || waiting) return false;
  if (/^[1-9]$/.test(key)) {
    const index = Number(key) - 1;
    if (index < queue.items[at].others.length) compare(beside === index ? -1 : index);
    return true;
  }
  const action = ACTIONS[key.length === 1 ? key.toLowerCase() : key];
  if (action) action();
  return Boolean(action);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held decides once
  if (press(event.key)) event.preventDefault();
});
for (const button of document.querySelectorAll("#keys button")) {
  button.addEventListener("click", () => press(button.dataset.key));
}

async function begin() {
  const answer = await fetch(`/queue?token=${encodeURIComponent(token)}`);
  queue = await answer.json();
  byId("notes").replaceChildren(...queue.notes.map((note) => element("p", note)));
  const first = queue.items.findIndex((item) => !item.decision);
  show(Math.max(first, 0));
  if (first < 0) finished();
}

begin().catch(() => say("The server does not answer: start `darkroom review` again.", true));
