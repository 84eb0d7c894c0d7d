// What the page answers: keys, pointer, filter, theme. Data becomes text only: nothing of it is ever parsed as HTML.

const byId = (id) => document.getElementById(id);

function made(name, text = "", attributes = {}) {
  const one = document.createElement(name);
  one.textContent = text;
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  return one;
}

function button(text, action, attributes = {}) {
  const one = made("button", text, { type: "button", ...attributes });
  one.addEventListener("click", action);
  return one;
}

// --- selecting

function bringIntoView(number) {
  const at = eventX(number), margin = Math.min(80, plotWidth() / 4);
  if (at < size.gutter + margin || at > size.width - margin) {
    state.start = events[number].step - plotWidth() / state.scale / 2;
  }
  const y = chart.getBoundingClientRect().top + eventY(number);
  if (state.isShown[number] && (y < 40 || y > innerHeight - 40)) scrollBy(0, y - innerHeight / 2);
}

function select(number) {
  state.selected = number;
  if (number !== null) bringIntoView(number);
  showSelected();
  redraw();
}

function selectStep(step) {
  const number = eventAt(step);
  if (events[number]?.step !== step) return;
  if (!state.isShown[number]) byId("filters").reset();
  select(number);
  chart.focus({ preventScroll: true });
}

function showSelected() {
  const box = byId("details"), event = events[state.selected];
  if (!event) {
    byId("status").textContent = `Press → for the first event${marked.length ? ", f for a step of the finding" : ""}.`;
    box.replaceChildren(made("p", "No event is selected."));
    return;
  }
  const isFound = event.marked ? ", a step of the finding" : "";
  byId("status").textContent = `${describe(event)}${isFound}: ${event.keys.map(([key, text]) => `${key}=${text}`).join(" ")}`;
  const parts = [made("h2", `${describe(event)}${isFound}`)];
  if (DATA.meanings[event.name]) parts.push(made("p", DATA.meanings[event.name], { class: "meaning" }));
  const values = made("dl", "", { class: "values" });
  for (const [key, text] of event.keys) values.append(made("dt", key), made("dd", text));
  parts.push(values);
  const around = made("ul");
  for (const span of spansAround(event)) around.append(made("li", span.note));
  if (around.children.length) parts.push(made("h3", "Meanwhile"), around);
  parts.push(...links("Depends directly on", event.after), ...links("What depends on it directly", event.before));
  box.replaceChildren(...parts);
}

function links(title, numbers) {
  if (!numbers.length) return [];
  const list = made("ul");
  for (const number of numbers) {
    const item = made("li");
    item.append(button(describe(events[number]), () => selectStep(events[number].step)));
    list.append(item);
  }
  return [made("h3", title), list];
}

// --- the view

function zoom(factor, at = size.gutter + plotWidth() / 2) {
  const step = stepAt(at);
  state.scale = Math.max(scaleMin(), Math.min(SCALE_MAX, state.scale * factor));
  state.start = step - (at - size.gutter) / state.scale;
  redraw();
}

function zoomAroundSelected(factor) {
  const at = state.selected === null ? undefined : eventX(state.selected);
  zoom(factor, at >= size.gutter && at <= size.width ? at : undefined);
}

function showAll() {
  state.scale = 0;
  state.start = -1;
  redraw();
}

// At first all steps, if each can be told from the next; else those of the finding; else the first ones.
function firstView() {
  layOut();
  state.scale = Math.max(scaleMin(), SCALE_READABLE);
  const steps = marked.map((number) => events[number].step);
  const wide = plotWidth() / state.scale;
  if (!steps.length || wide > last + 1) state.start = -1;
  else {
    const [first, end] = [steps[0], steps[steps.length - 1]];
    state.start = end - first < wide - 4 ? (first + end - wide) / 2 : first - 4;
  }
}

// --- the finding

function showFindings() {
  const section = byId("findings"), most = 3;
  if (!DATA.findings.length) section.append(made("p", "No check has found anything.", { class: "quiet" }));
  DATA.findings.forEach((finding, number) => {
    const box = made("p", "", { class: "finding" });
    box.append(made("strong", "Finding: "));
    let from = 0;
    for (const found of finding.message.matchAll(/(?<=\bsteps? (?:\d+ and )?)\d+/g)) {
      if (!finding.steps.includes(Number(found[0]))) continue;
      box.append(finding.message.slice(from, found.index));
      const step = Number(found[0]);
      box.append(button(found[0], () => selectStep(step), { class: "step", "aria-label": `step ${step}: show it` }));
      from = found.index + found[0].length;
    }
    box.append(finding.message.slice(from));
    box.hidden = number >= most;
    section.append(box);
  });
  if (DATA.findings.length > most) {
    const more = button(`${DATA.findings.length - most} more`, () => {
      for (const box of section.children) box.hidden = false;
      more.remove();
    }, { id: "more" });
    section.append(more);
  }
}

// --- the filter

function number(text) {
  return /^(0x[0-9a-f]+|\d+)$/i.test(text.trim()) ? Number(text.trim()) : null;
}

function readFilter() {
  const dfn = byId("dfn"), domain = byId("domain").value;
  const page = dfn.value.trim() ? number(dfn.value) : null;
  dfn.setAttribute("aria-invalid", String(dfn.value.trim() !== "" && page === null));
  applyFilter({
    words: byId("event").value.trim().split(/[\s,]+/).filter(Boolean),
    agent: byId("agent").value,
    domain: domain ? Number(domain) : null,
    dfn: page,
  });
  const are = state.shown.length === events.length ? "" : `${state.shown.length} of `;
  byId("count").textContent = state.shown.length || state.lanes.length
    ? `${are}${events.length} events in ${state.lanes.length} of ${lanes.length} lanes` : "No event passes the filter.";
  redraw();
}

function fillFilter() {
  const agents = new Set(lanes.map((lane) => lane.name));
  for (const name of agents) byId("agent").append(made("option", name, { value: name }));
  const domains = [...new Set([...events, ...spans].map((one) => one.domain))].filter((one) => one !== null);
  for (const domain of domains.sort((a, b) => a - b)) byId("domain").append(made("option", domain, { value: domain }));
  const form = byId("filters");
  form.addEventListener("input", readFilter);
  form.addEventListener("submit", (event) => { event.preventDefault(); chart.focus(); });
  form.addEventListener("reset", () => setTimeout(readFilter));
}

// --- the theme

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let isDark = prefersDark.matches, isChosen = false;

function showTheme() {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  byId("theme").textContent = isDark ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `${isDark ? "Light" : "Dark"} theme`);
  readColours();
  showLegend();
  redraw();
}

function toggleTheme() {
  [isDark, isChosen] = [!isDark, true];
  showTheme();
}

prefersDark.addEventListener("change", () => {
  if (isChosen) return;
  isDark = prefersDark.matches;
  showTheme();
});

function showLegend() {
  const items = Object.keys(SHAPES).map((sort) => {
    const item = made("li"), sample = made("canvas", "", { width: 22, height: 22, "aria-hidden": "true" });
    const pen = sample.getContext("2d");
    pen.fillStyle = colourOf(sort);
    drawShape(pen, SHAPES[sort], 11, 11, 5);
    item.append(sample, made("span", `${SHAPES[sort]}: ${SAID[sort]}`));
    return item;
  });
  byId("legend").replaceChildren(...items);
}

// --- keys

const KEYS = {
  ArrowRight: () => select(neighbour(state.shown, 1)),
  ArrowLeft: () => select(neighbour(state.shown, -1)),
  ArrowDown: () => select(inNextLane(1)),
  ArrowUp: () => select(inNextLane(-1)),
  Home: () => select(state.shown[0] ?? null),
  End: () => select(state.shown[state.shown.length - 1] ?? null),
  Escape: () => select(null),
};
const LETTERS = {
  f: () => select(nextMarked(1) ?? state.selected),
  F: () => select(nextMarked(-1) ?? state.selected),
  "/": () => byId("event").focus(),
  "?": () => byId("help").showModal(),
  "+": () => zoomAroundSelected(1.5),
  "=": () => zoomAroundSelected(1.5),
  "-": () => zoomAroundSelected(1 / 1.5),
  0: showAll,
  t: toggleTheme,
};

function inLane(direction) {
  const lane = state.selected === null ? state.lanes[0] : events[state.selected].lane;
  select(neighbour(shownInLane(lane), direction) ?? state.selected);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.closest("input, select")) {
    if (event.key === "Escape") { chart.focus(); event.preventDefault(); }
    return;
  }
  const scrolls = ["ArrowUp", "ArrowDown", "Home", "End"].includes(event.key); // where the chart is not focused
  const isInChart = event.target === chart || (event.target === document.body && !scrolls);
  const isLane = event.shiftKey && (event.key === "ArrowRight" || event.key === "ArrowLeft");
  const action = isLane ? () => inLane(event.key === "ArrowRight" ? 1 : -1) : KEYS[event.key];
  const found = LETTERS[event.key] ?? (isInChart ? action : undefined);
  if (!found) return;
  event.preventDefault();
  found();
});

// --- pointer

let drag = null;
const offset = (event) => {
  const box = chart.getBoundingClientRect();
  return [event.clientX - box.left - chart.clientLeft, event.clientY - box.top - chart.clientTop];
};

chart.addEventListener("pointerdown", (event) => {
  if (event.button === 0) drag = { from: event.clientX, start: state.start, isMoving: false };
});
chart.addEventListener("pointermove", (event) => {
  if (!drag) return showTip(event);
  if (!drag.isMoving && Math.abs(event.clientX - drag.from) < 4) return;
  if (!drag.isMoving) chart.setPointerCapture(event.pointerId);
  drag.isMoving = true;
  byId("tip").hidden = true;
  chart.classList.add("moving");
  state.start = drag.start - (event.clientX - drag.from) / state.scale;
  redraw();
});
chart.addEventListener("pointerup", (event) => {
  const found = drag && !drag.isMoving ? hit(...offset(event)) : null;
  if (found?.event !== undefined) select(found.event);
  endDrag();
});
chart.addEventListener("pointercancel", endDrag);
chart.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
chart.addEventListener("wheel", (event) => {
  const isAcross = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
  if (!event.ctrlKey && !isAcross) return;
  event.preventDefault();
  if (event.ctrlKey) zoom(Math.exp(-event.deltaY / 300), offset(event)[0]);
  else {
    state.start += (event.deltaX || event.deltaY) / state.scale;
    redraw();
  }
}, { passive: false });

function endDrag() {
  drag = null;
  chart.classList.remove("moving");
}

function showTip(event) {
  const [left, top] = offset(event), found = hit(left, top), tip = byId("tip");
  tip.hidden = !found;
  if (!found) return;
  const one = events[found.event];
  tip.textContent = one ? `${describe(one)}\n${one.keys.map(([key, text]) => `${key}=${text}`).join(" ")}` : found.span.note;
  const right = Math.max(4, Math.min(left + 12, size.width - tip.offsetWidth - 4));
  const under = top + 18 + tip.offsetHeight < size.height ? top + 18 : Math.max(0, top - tip.offsetHeight - 8);
  [tip.style.left, tip.style.top] = [`${right}px`, `${under}px`];
}

overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  goTo(event);
});
overview.addEventListener("pointermove", (event) => { if (event.buttons) goTo(event); });

function goTo(event) {
  const box = overview.getBoundingClientRect();
  const step = ((event.clientX - box.left) / box.width) * (last + 2) - 1;
  state.start = step - plotWidth() / state.scale / 2;
  redraw();
}

// --- the beginning

byId("title").textContent = DATA.scenario;
byId("about").textContent = [DATA.parameters.join(" "), DATA.strategy && `${DATA.strategy}, seed ${DATA.seed}`,
  `${last} steps`].filter(Boolean).join(" · ");
byId("theme").addEventListener("click", toggleTheme);
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("zoom-in").addEventListener("click", () => zoomAroundSelected(1.5));
byId("zoom-out").addEventListener("click", () => zoomAroundSelected(1 / 1.5));
byId("zoom-fit").addEventListener("click", showAll);
fillFilter();
showFindings();
showSelected();
readColours();
readFilter();
firstView();
showTheme();
new ResizeObserver(redraw).observe(chart);
