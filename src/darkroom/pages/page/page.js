"use strict";
// The data of the page, written by report/gallery.py and comparison/page.py:
//   classes       names
//   models        {name, title} of each
//   images        [path in data/raw, number of its class, side, class that its label should perhaps be] of each
//   thumbs        a data: URI of each image
//   predictions   model -> [number of the image, class predicted, its probability, that of the label] of each test image
//   heat          model -> number of the image -> a data: URI
//   map           model -> [number of the image, x, y] of each image
//   figures       model -> class -> test_images, recall, precision, f1 on all test images
//   charts        Vega-Lite specifications, which [data-chart] elements name by their numbers
// Names of files and classes are text of strangers: they are set by textContent, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#B8A600", "#000000"]; // Okabe and Ito 2008
const SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-left", "triangle-right"];
const PAGE = 60; // images that a click adds
const SHEET = 32; // training images of a class
const SHEETS = 40; // classes that are listed at once
const LEGEND = 24; // classes at most

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function picture(source, text) {
  if (!source) return element("span", "no picture", "missing");
  const image = element("img");
  image.src = source;
  image.alt = text;
  return image;
}

function options(select, entries) {
  select.replaceChildren(
    ...entries.map(([value, text]) => {
      const option = element("option", text);
      option.value = value;
      return option;
    }),
  );
}

const name = (k) => data.classes[k];
const described = (i) => `${data.images[i][0]}, ${name(data.images[i][1])}`;

// --- charts ---

// Vega files values as properties of objects, of which some names are taken: __proto__, constructor. A blank changes them.
const tame = (text) => (typeof text === "string" && text in {} ? `${text} ` : text);

// Breaks a text of more than `width` pixels into two lines.
function broken(text, width) {
  const middle = text.indexOf(" ", text.length / 2);
  return 7 * text.length < width || middle < 0 ? text : [text.slice(0, middle), text.slice(middle + 1)];
}

// Gives each legend as many columns as there is room for, and breaks the title of the horizontal axis if it is too long.
function fit(spec, width) {
  for (const encoding of [spec, ...(spec.layer || [])].map((view) => view.encoding || {})) {
    if (encoding.x && encoding.x.title) encoding.x.title = broken(String(encoding.x.title), width - 60);
    for (const [channel, of] of Object.entries(encoding)) {
      if (["x", "y", "tooltip"].includes(channel) || !of.field || of.legend === null) continue;
      const labels = of.type === "nominal" ? (of.scale && of.scale.domain) || spec.data.values.map((row) => row[of.field]) : ["10,000"];
      const longest = labels.reduce((most, label) => Math.max(most, String(label).length), 0);
      const limit = Math.min(180, width - 60);
      const label = Math.min(limit, 6.4 * longest);
      of.legend = { ...of.legend, orient: "bottom", columns: Math.max(1, Math.floor((width - 60) / (label + 30))), labelLimit: limit };
    }
  }
}

function draw(target, spec, tooltip) {
  spec.data.values = spec.data.values.map((row) => Object.fromEntries(Object.entries(row).map(([key, one]) => [key, tame(one)])));
  fit(spec, target.clientWidth);
  return vegaEmbed(target, spec, { actions: false, renderer: "svg", logLevel: 1, tooltip: tooltip || tip }).catch((error) => {
    target.replaceChildren(element("p", `This chart cannot be drawn (${error.message}).`));
  });
}

const bubble = element("div", undefined, "tip");
bubble.hidden = true;
document.body.append(bubble);

function place(event) {
  bubble.hidden = false;
  const left = Math.min(event.clientX + 14, innerWidth - bubble.offsetWidth - 8);
  const top = Math.min(event.clientY + 14, innerHeight - bubble.offsetHeight - 8);
  bubble.style.left = `${Math.max(4, left)}px`;
  bubble.style.top = `${Math.max(4, top)}px`;
}

function tip(handler, event, item, value) {
  bubble.hidden = true;
  if (value === null || value === undefined || value === "") return;
  const lines = typeof value === "object" ? Object.entries(value).map(([key, one]) => `${key}: ${one}`) : [String(value)];
  bubble.replaceChildren(...lines.map((line) => element("div", line)));
  place(event);
}

for (const target of document.querySelectorAll("[data-chart]")) draw(target, data.charts[Number(target.dataset.chart)]);

// --- images ---

const predictions = (data.models || []).map((model) => new Map(data.predictions[model.name].map((row) => [row[0], row.slice(1)])));

function open(i) {
  const [path, label, side, suggested] = data.images[i];
  const box = byId("detail");
  const title = element("h2", path, "path");
  title.id = "detail-title";
  const close = element("button", "Close", "close");
  close.addEventListener("click", () => box.close());
  const big = element("div", undefined, "big");
  big.append(picture(data.thumbs[i], described(i)));
  const list = element("ul");
  list.append(element("li", `class: ${name(label)}, side: ${side}`));
  if (suggested) list.append(element("li", `the label looks wrong: rather ${suggested}`, "wrong"));
  data.models.forEach((model, m) => {
    const found = predictions[m].get(i);
    if (found) {
      const [k, share, own] = found;
      const text = `${model.title}: ${name(k)}, ${percent(share)}` + (k === label ? "" : ` (${name(label)}: ${percent(own)})`);
      list.append(element("li", text, k === label ? "right" : "wrong"));
    }
    const heat = (data.heat[model.name] || {})[i];
    if (heat) {
      const figure = element("figure");
      figure.append(picture(heat, `where the ${model.title} model looks`), element("figcaption", `where ${model.title} looks`));
      big.append(figure);
    }
  });
  box.replaceChildren(close, title, big, list);
  box.showModal();
}

function card(i, m) {
  const [path, label, , suggested] = data.images[i];
  const [k, share, own] = predictions[m].get(i);
  const button = element("button");
  const pictures = element("span", undefined, "pictures");
  pictures.append(picture(data.thumbs[i], described(i)));
  const heat = (data.heat[data.models[m].name] || {})[i];
  if (heat) pictures.append(picture(heat, "where the model looks"));
  button.append(
    pictures,
    element("span", `${name(k)}, ${percent(share)}`, k === label ? "right" : "wrong"),
    element("br"),
    element("span", k === label ? "right" : `label: ${name(label)}, ${percent(own)}`),
    element("br"),
    element("span", path, "path"),
  );
  if (suggested) button.append(element("br"), element("span", `label looks wrong: rather ${suggested}`, "wrong"));
  button.addEventListener("click", () => open(i));
  const item = element("li");
  item.append(button);
  return item;
}

function chosen(filters) {
  const wanted = (text, value) => text === "" || Number(text) === value;
  const found = [...predictions[Number(filters.model)]].filter(([i, [k]]) => {
    const right = k === data.images[i][1];
    const shown = filters.show === "all" || (filters.show === "right") === right;
    return shown && wanted(filters.class, data.images[i][1]) && wanted(filters.predicted, k);
  });
  const orders = {
    sure: (a, b) => b[1][1] - a[1][1],
    unsure: (a, b) => a[1][1] - b[1][1],
    name: (a, b) => (data.images[a[0]][0] < data.images[b[0]][0] ? -1 : 1),
  };
  return found.sort(orders[filters.order]).map(([i]) => i);
}

function ofClass(filters) {
  const place = byId("of-class");
  place.replaceChildren();
  if (filters.class === "") return;
  const label = name(Number(filters.class));
  const list = element("ul");
  for (const model of data.models) {
    const of = data.figures[model.name][label];
    const recall = of.test_images ? `of ${of.test_images} test images of this class ${percent(of.recall)} are recognised` : "there is no test image of this class";
    const precision = of.precision === null ? "none is predicted as it" : `of those predicted as it ${percent(of.precision)} are right`;
    const text = `${model.title}: ${recall}; ${precision}.`;
    list.append(element("li", text));
  }
  place.append(element("h4", label), list);
}

function gallery() {
  const form = byId("filters");
  const all = ["", "all"];
  const classes = data.classes.map((label, k) => [String(k), label]);
  options(form.elements.model, data.models.map((model, m) => [String(m), model.title]));
  options(form.elements.class, [all, ...classes]);
  options(form.elements.predicted, [all, ...classes]);
  let indices = [];
  const filters = () => Object.fromEntries(new FormData(form));

  function more() {
    const list = byId("gallery");
    const at = list.children.length;
    list.append(...indices.slice(at, at + PAGE).map((i) => card(i, Number(form.elements.model.value))));
    byId("more").hidden = list.children.length >= indices.length;
  }

  function update() {
    indices = chosen(filters());
    byId("gallery").replaceChildren();
    const total = predictions[0] ? predictions[0].size : 0;
    const part = data.tested > total ? ` The page has ${total.toLocaleString("en")} of the ${data.tested.toLocaleString("en")} test images.` : "";
    byId("found").textContent = `${indices.length.toLocaleString("en")} images.${part}`;
    ofClass(filters());
    more();
  }

  function follow() {
    const [place, query] = location.hash.slice(1).split("?");
    if (place !== "images" || query === undefined) return;
    const asked = new URLSearchParams(query);
    const defaults = { model: "0", class: "", predicted: "", show: "all", order: "sure" };
    for (const [key, value] of Object.entries(defaults)) form.elements[key].value = asked.get(key) ?? value;
    update();
    byId("images").focus({ preventScroll: true }); // the next Tab leads to the filters and the images
    byId("images").scrollIntoView();
  }

  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", more);
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash && link.hash === location.hash) follow(); // the browser reports no change
  });
  update();
  follow();
}

function sheets() {
  const place = byId("contact-sheets");
  const rest = element("details");
  data.classes.forEach((label, k) => {
    const members = data.images.map((image, i) => i).filter((i) => data.images[i][1] === k && data.images[i][2] === "train");
    if (!members.length) return;
    const step = Math.max(1, Math.floor(members.length / SHEET));
    const shown = members.filter((_, at) => at % step === 0).slice(0, SHEET);
    const box = element("details");
    box.append(element("summary", `${label} (${shown.length} of ${data.train[label]} training images)`));
    box.addEventListener("toggle", () => {
      if (box.querySelector(".sheet")) return;
      const sheet = element("div", undefined, "sheet");
      for (const i of shown) {
        const button = element("button");
        button.append(picture(data.thumbs[i], described(i)));
        button.addEventListener("click", () => open(i));
        sheet.append(button);
      }
      box.append(sheet);
    });
    (place.children.length < SHEETS ? place : rest).append(box);
  });
  if (!rest.children.length) return;
  rest.prepend(element("summary", `${rest.children.length} more classes`));
  place.append(rest);
}

// --- map ---

function value(i, m, colour) {
  const [, label, side, suggested] = data.images[i];
  if (colour === "class") return name(label);
  if (colour === "side") return side;
  if (colour === "suspect") return suggested ? "label looks wrong" : "label looks right";
  const found = predictions[m].get(i);
  return found ? (found[0] === label ? "right" : "wrong") : "not tested";
}

function scatter(m, colour, highlight) {
  const points = (data.map[data.models[m].name] || []).map(([i, x, y]) => ({ i, x, y, side: data.images[i][2], c: value(i, m, colour) }));
  const domains = {
    class: data.classes, side: ["train", "val", "test"], right: ["right", "wrong", "not tested"],
    suspect: ["label looks right", "label looks wrong"],
  };
  const domain = domains[colour].filter((one) => points.some((point) => point.c === one)).map(tame);
  const muted = { right: ["#0072B2", "#D55E00", "#c8c8c8"], suspect: ["#c8c8c8", "#D55E00"] };
  const range = colour in muted ? domain.map((one) => muted[colour][domains[colour].indexOf(one)]) : domain.map((_, k) => COLOURS[k % COLOURS.length]);
  const shapes = domain.map((_, k) => SHAPES[colour === "class" ? Math.floor(k / COLOURS.length) % SHAPES.length : 0]);
  const legend = domain.length > LEGEND ? null : { title: null, symbolOpacity: 1 };
  const hidden = highlight === "" ? [] : points.filter((point) => data.images[point.i][1] !== Number(highlight));
  hidden.forEach((point) => (point.pale = true));
  return {
    data: { values: points },
    width: "container",
    height: 460,
    autosize: { type: "fit-x", contains: "padding" },
    config: { legend: { layout: { bottom: { anchor: "start" } } } },
    params: [{ name: "zoom", select: "interval", bind: "scales" }],
    description: "Map of the images. The gallery of test images shows them without the map.",
    mark: { type: "point", filled: true, cursor: "pointer", aria: false },
    encoding: {
      x: { field: "x", type: "quantitative", title: "t-SNE 1 (no unit)", axis: { labels: false, ticks: false }, scale: { zero: false } },
      y: { field: "y", type: "quantitative", title: "t-SNE 2 (no unit)", axis: { labels: false, ticks: false }, scale: { zero: false } },
      color: { field: "c", type: "nominal", scale: { domain, range }, legend },
      shape: { field: "c", type: "nominal", scale: { domain, range: shapes }, legend },
      size: { condition: { test: "datum.side == 'test'", value: 45 }, value: 18 },
      opacity: { condition: { test: "datum.pale", value: 0.06 }, value: 0.8 },
      tooltip: { field: "i", type: "quantitative" },
    },
  };
}

function map() {
  const form = byId("map-filters");
  options(form.elements.model, data.models.map((model, m) => [String(m), model.title]));
  options(form.elements.highlight, [["", "all classes"], ...data.classes.map((label, k) => [String(k), label])]);

  function hover(handler, event, item) {
    bubble.hidden = true;
    if (!item || !item.datum || item.datum.i === undefined) return;
    const { i } = item.datum;
    const [path, label, side] = data.images[i];
    const found = predictions[Number(form.elements.model.value)].get(i);
    bubble.replaceChildren(picture(data.thumbs[i], ""), element("div", path, "path"), element("div", `${name(label)}, ${side}`));
    if (found) bubble.append(element("div", `predicted: ${name(found[0])}, ${percent(found[1])}`, found[0] === label ? "right" : "wrong"));
    place(event);
  }

  async function update() {
    const { model, colour, highlight } = Object.fromEntries(new FormData(form));
    const spec = scatter(Number(model), colour, highlight);
    const count = spec.data.values.length;
    byId("map-note").textContent = count
      ? `${count.toLocaleString("en")} images; large marks are test images. The gallery above shows the test images without the map.`
      : "There is no map of this model.";
    const drawn = await draw(byId("scatter"), spec, hover);
    if (drawn) drawn.view.addEventListener("click", (event, item) => item && item.datum && item.datum.i !== undefined && open(item.datum.i));
  }

  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}

if (byId("gallery")) gallery();
if (byId("contact-sheets")) sheets();
if (byId("scatter")) map();
