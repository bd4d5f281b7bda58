"use strict";
// Names of files and classes are text of strangers: they are set by textContent, never as HTML.

const SHOWN = 8; // classes before "show all"
const RETRIES = 5; // of a request that the server was too busy for

const byId = (id) => document.getElementById(id);
const input = byId("files");
const drop = byId("drop");
let about = { classes: [], explains: false, max_megabytes: Infinity };
let queue = Promise.resolve();
let waiting = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

async function introduce() {
  const answer = await fetch("/model");
  about = await answer.json();
  document.title = `${about.title} - Darkroom`;
  byId("title").textContent = `Which of ${about.classes.length} classes? (${about.title} model)`;
  byId("limits").textContent = `up to ${about.max_megabytes} MB and ${about.max_megapixels} megapixels each`;
  byId("heat-means").hidden = !about.explains;
}

function say(text) {
  byId("status").textContent = text;
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

async function post(file) {
  for (let attempt = 0; ; attempt++) {
    const form = new FormData();
    form.append("files", file);
    form.append("explain", String(about.explains));
    const answer = await fetch("/predict", { method: "POST", body: form });
    if (answer.status === 503 && attempt < RETRIES) {
      await pause(Number(answer.headers.get("retry-after")) || 1);
      continue;
    }
    const content = await answer.json();
    if (content.results) return content.results[0];
    return { name: file.name, reason: content.detail };
  }
}

async function classify(file) {
  if (file.size > about.max_megabytes * 1e6) {
    return { name: file.name, reason: `is larger than ${about.max_megabytes} MB` };
  }
  try {
    return await post(file);
  } catch {
    return { name: file.name, reason: "was not answered: is the server running?" };
  }
}

function picture(source, caption, className) {
  const figure = element("figure");
  const image = element("img", undefined, className);
  image.alt = caption;
  image.addEventListener("error", () => figure.remove()); // a format that browsers do not show, such as TIFF
  image.src = source;
  figure.append(image, element("figcaption", caption));
  return figure;
}

function row([name, share], inSet) {
  const made = element("tr", undefined, inSet ? "in-set" : "");
  const bar = element("div", undefined, "bar");
  const filled = element("div");
  filled.style.width = percent(share).replace(" ", "");
  bar.append(filled);
  const head = element("th", inSet ? `${name} ●` : name);
  head.scope = "row";
  if (inSet) head.setAttribute("aria-label", `${name}, in the set`);
  const cell = element("td");
  cell.append(bar);
  made.append(head, cell, element("td", percent(share), "number"));
  return made;
}

function bars(result) {
  const rows = Object.entries(result.probabilities);
  rows.sort((a, b) => b[1] - a[1]); // an object has names that are numbers first
  const inSet = new Set(result.set);
  const table = element("table");
  table.setAttribute("aria-label", "Probabilities");
  table.append(...rows.slice(0, SHOWN).map((one) => row(one, inSet.has(one[0]))));
  if (rows.length <= SHOWN) return [table];
  const rest = element("table");
  rest.setAttribute("aria-label", "Other probabilities");
  rest.append(...rows.slice(SHOWN).map((one) => row(one, inSet.has(one[0]))));
  const more = element("details");
  more.append(element("summary", `${rows.length - SHOWN} more classes`, "more"), rest);
  return [table, more];
}

function card(file, result) {
  const article = element("article");
  article.append(element("h2", file.name));
  if (result.reason) {
    article.classList.add("failed");
    article.append(element("p", result.reason));
    return article;
  }
  const inSet = result.set.length ? result.set.join(", ") : "no class";
  const pictures = element("div", undefined, "pictures");
  pictures.append(picture(URL.createObjectURL(file), "The image"));
  if (result.heat) pictures.append(picture(result.heat, "Where the reason lies", "heat"));
  article.append(
    element("p", `${result.class}, ${percent(result.probability)}`, result.answer === "unknown" ? "label doubtful" : "label"),
    element("span", result.answer, `answer ${result.answer}`),
    element("p", result.answer === "unknown" ? "unlike the training images" : `● may be: ${inSet}`),
    ...bars(result),
    pictures,
  );
  return article;
}

function take(files) {
  for (const file of files) {
    waiting++;
    queue = queue.then(async () => {
      say(`${file.name} … (${waiting} to go)`);
      const result = await classify(file);
      waiting--;
      byId("results").prepend(card(file, result));
      const found = result.reason || `${result.class}, ${percent(result.probability)}, ${result.answer}`;
      say(waiting ? "" : `${file.name}: ${found}`);
    });
  }
}

input.addEventListener("change", () => {
  take(input.files);
  input.value = ""; // so that the same file can be chosen again
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
introduce().catch(() => say("The server does not answer."));
