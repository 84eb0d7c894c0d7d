// Drawing: lanes, spans and events on a canvas; the few marks that carry meaning by themselves as SVG above it.

const AXIS = 24, LINE = 20, ROW = 17, GAP = 8, ROWS_TALL = 6;
const SHAPES = { change: "diamond", flush: "triangle", access: "circle", lock: "square", call: "bar", other: "dot" };
const SAID = {
  change: "an entry changes", flush: "a flush, an invalidation", access: "an access of a device", lock: "a lock",
  call: "a call, a hypercall", other: "anything else",
};

const chart = document.getElementById("chart"), canvas = document.getElementById("lanes");
const overview = document.getElementById("overview"), svg = document.getElementById("marks");
const size = { width: 0, gutter: 0, height: 0 };
let colours = {};
let tops = new Map(); // the top of each lane that is shown

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["back", "raised", "ink", "dim", "rule", "accent", "alarm", "hypercall", "call", "held", "waiting", "flag",
    "window", "change", "flush", "access", "lock", "calls", "other"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

const colourOf = (sort) => colours[sort === "call" ? "calls" : sort];
const rowHeight = (lane) => (lane.rows > ROWS_TALL ? Math.max(2, (ROWS_TALL * ROW) / lane.rows) : ROW);
const laneHeight = (lane) => (lane.kind === "windows" ? 0 : LINE) + rowHeight(lane) * lane.rows + GAP;
const plotWidth = () => Math.max(1, size.width - size.gutter);
const scaleMin = () => Math.min(SCALE_MAX, plotWidth() / (last + 2));
const x = (step) => size.gutter + (step - state.start) * state.scale;
const stepAt = (pixel) => state.start + (pixel - size.gutter) / state.scale;
const eventX = (number) => x(events[number].step) + places[number] * Math.min(6, state.scale / 3);
const eventY = (number) => tops.get(events[number].lane) + LINE / 2 + 2;

function clampView() {
  state.scale = Math.max(scaleMin(), Math.min(SCALE_MAX, state.scale));
  const most = last + 1 - plotWidth() / state.scale;
  state.start = Math.max(-1, Math.min(Math.max(-1, most), state.start));
}

function layOut() {
  size.width = chart.clientWidth;
  size.gutter = size.width < 500 ? 100 : 116;
  tops = new Map();
  let top = AXIS;
  for (const number of state.lanes) {
    tops.set(number, top);
    top += laneHeight(lanes[number]);
  }
  size.height = Math.max(top, AXIS + 60);
  clampView();
}

function prepared(target, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (target.width !== wide || target.height !== high) [target.width, target.height] = [wide, high];
  target.style.height = `${height}px`;
  const pen = target.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  return pen;
}

function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let kept = text;
  while (kept && pen.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return kept ? `${kept}…` : "";
}

function drawAxis(pen) {
  const nice = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000];
  const gap = nice.find((one) => one * state.scale >= 54) ?? 1000000;
  pen.fillStyle = colours.dim;
  pen.textAlign = "center";
  for (let step = Math.max(0, Math.ceil(stepAt(size.gutter) / gap) * gap); step <= last && x(step) <= size.width;
    step += gap) {
    pen.fillText(String(step), x(step), AXIS / 2);
    pen.globalAlpha = 0.5;
    pen.fillStyle = colours.rule;
    pen.fillRect(Math.round(x(step)), AXIS - 4, 1, size.height);
    pen.globalAlpha = 1;
    pen.fillStyle = colours.dim;
  }
  pen.textAlign = "left";
}

function spanBox(span) {
  const lane = lanes[span.lane], high = rowHeight(lane);
  const top = tops.get(span.lane) + (lane.kind === "windows" ? 2 : LINE + 2) + span.row * high;
  const [left, right] = [x(span.first), span.open ? Math.max(x(last), size.width) : x(span.last)];
  return { left, top, wide: Math.max(3, right - left), high: Math.max(1, high - (high > 4 ? 3 : 0)) };
}

function hatch(pen, box) {
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.wide, box.high);
  pen.clip();
  pen.strokeStyle = colours.ink;
  pen.globalAlpha = 0.22;
  pen.beginPath();
  const from = Math.max(box.left, size.gutter) - box.high, to = Math.min(box.left + box.wide, size.width);
  for (let at = from - (from % 7); at < to; at += 7) {
    pen.moveTo(at, box.top + box.high);
    pen.lineTo(at + box.high, box.top);
  }
  pen.stroke();
  pen.restore();
}

function drawSpan(pen, span) {
  const box = spanBox(span);
  if (box.left > size.width || box.left + box.wide < size.gutter) return;
  pen.fillStyle = colours[span.sort];
  if (span.sort === "waiting") {
    pen.strokeStyle = colours.waiting;
    pen.setLineDash([4, 3]);
    pen.strokeRect(box.left + 0.5, box.top + 0.5, Math.max(1, box.wide - 1), Math.max(1, box.high - 1));
    pen.setLineDash([]);
  } else {
    pen.fillRect(box.left, box.top, box.wide, box.high);
    if ((span.sort === "flag" || span.sort === "window") && box.high > 6) hatch(pen, box);
  }
  if (box.high < 11) return;
  const from = Math.max(box.left, size.gutter) + 4;
  const text = fitted(pen, span.sort === "waiting" ? `waits: ${span.name}` : span.name,
    Math.min(box.left + box.wide, size.width) - from - 3);
  if (text.length < 2) return;
  pen.fillStyle = colours.ink;
  pen.fillText(text, from, box.top + box.high / 2 + 0.5);
}

function drawShape(pen, shape, at, y, r) {
  pen.beginPath();
  if (shape === "diamond") {
    pen.moveTo(at, y - r - 1); pen.lineTo(at + r + 1, y); pen.lineTo(at, y + r + 1); pen.lineTo(at - r - 1, y);
  } else if (shape === "triangle") {
    pen.moveTo(at, y - r); pen.lineTo(at + r, y + r); pen.lineTo(at - r, y + r);
  } else if (shape === "square") pen.rect(at - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1);
  else if (shape === "bar") pen.rect(at - 1.5, y - r - 2, 3, 2 * r + 4);
  else pen.arc(at, y, shape === "circle" ? r : 2.4, 0, 7);
  pen.fill();
}

function drawEvents(pen) {
  const isDense = state.scale < 5, taken = new Map();
  const radius = Math.max(2.5, Math.min(5, state.scale / 2.2));
  const from = placeOf(state.shown, eventAt(stepAt(size.gutter) - 2));
  for (let place = from; place < state.shown.length; place += 1) {
    const number = state.shown[place], event = events[number], at = eventX(number);
    if (at > size.width + 8) break;
    pen.fillStyle = colourOf(event.sort);
    if (!isDense) drawShape(pen, SHAPES[event.sort], at, eventY(number), radius);
    else if (taken.get(event.lane) !== Math.round(at)) {
      taken.set(event.lane, Math.round(at));
      pen.fillRect(Math.round(at), eventY(number) - 6, 1, 12);
    }
  }
}

function drawLabels(pen) {
  pen.fillStyle = colours.raised;
  pen.fillRect(0, 0, size.gutter, size.height);
  pen.fillStyle = colours.rule;
  pen.fillRect(size.gutter - 1, 0, 1, size.height);
  pen.fillStyle = colours.dim;
  pen.fillText("step", 8, AXIS / 2);
  for (const number of state.lanes) {
    const lane = lanes[number], top = tops.get(number);
    pen.fillStyle = colours.rule;
    pen.fillRect(0, top - 2, size.width, 1);
    pen.font = `${lane.kind === "windows" ? "" : "600 "}12px system-ui, sans-serif`;
    pen.fillStyle = lane.kind === "windows" ? colours.dim : colours.ink;
    const text = lane.kind === "windows" ? `${lane.name} windows` : lane.name;
    pen.fillText(fitted(pen, text, size.gutter - 12), 8, top + LINE / 2 + 2);
    pen.font = "12px system-ui, sans-serif";
  }
}

function drawFindingWindows(pen) {
  pen.fillStyle = colours.window;
  pen.globalAlpha = 0.28;
  for (const span of spans) {
    if (!span.marked || !tops.has(span.lane) || !spanPasses(span, state.filter)) continue;
    const { left, wide } = spanBox(span);
    pen.fillRect(left, AXIS, wide, size.height);
  }
  pen.globalAlpha = 1;
}

function drawOverview() {
  const width = overview.clientWidth, pen = prepared(overview, width, 26), at = (step) => ((step + 1) / (last + 2)) * width;
  pen.fillStyle = colours.raised;
  pen.fillRect(0, 0, width, 26);
  pen.fillStyle = colours.window;
  for (const span of spans) if (span.sort === "window") {
    pen.fillRect(at(span.first), 15, Math.max(1, at(span.last) - at(span.first)), 8);
  }
  pen.fillStyle = colours.dim;
  let before = -1;
  for (const number of state.shown) {
    const here = Math.round(at(events[number].step));
    if (here !== before) pen.fillRect(here, 5, 1, 7);
    before = here;
  }
  pen.fillStyle = colours.alarm;
  for (const number of marked) pen.fillRect(Math.round(at(events[number].step)) - 1, 0, 2, 26);
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 2;
  const left = Math.max(1, at(state.start)), right = Math.min(width - 1, at(state.start + plotWidth() / state.scale));
  pen.strokeRect(left, 1, Math.max(2, right - left), 24);
  pen.lineWidth = 1;
}

function drawn(name, attributes, parent) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  parent.append(one);
  return one;
}

const isInView = (number) => state.isShown[number] && eventX(number) > size.gutter - 2000 && eventX(number) < size.width + 2000;

function drawFindingMarks(parent) {
  const steps = new Set();
  for (const number of marked) {
    if (!isInView(number)) continue;
    const group = drawn("g", { class: "finding-mark", "data-step": events[number].step }, parent), at = eventX(number);
    drawn("circle", { cx: at, cy: eventY(number), r: 8 }, group);
    if (steps.has(events[number].step)) continue;
    steps.add(events[number].step);
    const middle = x(events[number].step);
    drawn("line", { x1: middle, x2: middle, y1: AXIS, y2: size.height }, group);
    drawn("path", { d: `M${middle - 5} ${AXIS - 5}h10l-5 7Z` }, group);
  }
}

function arrow(from, to, kind, parent) {
  if (!state.isShown[from] || !state.isShown[to]) return;
  const [x1, y1, x2, y2] = [eventX(from), eventY(from), eventX(to), eventY(to)];
  const down = Math.sign(y2 - y1) || 1, bend = Math.min(80, Math.abs(y2 - y1) / 2 + 10);
  const path = `M${x1} ${y1 + 6 * down}C${x1} ${y1 + bend * down} ${x2} ${y2 - bend * down} ${x2} ${y2 - 7 * down}`;
  drawn("path", { class: `arrow ${kind}`, d: path, "data-from": events[from].step, "data-to": events[to].step }, parent);
}

function drawSelection(parent) {
  const number = state.selected;
  if (number === null || !state.isShown[number]) return;
  const group = drawn("g", { class: "selected", "data-step": events[number].step }, parent);
  drawn("line", { x1: x(events[number].step), x2: x(events[number].step), y1: AXIS, y2: size.height }, group);
  for (const one of events[number].after) arrow(one, number, "earlier", group);
  for (const one of events[number].before) arrow(number, one, "later", group);
  drawn("circle", { cx: eventX(number), cy: eventY(number), r: 10 }, group);
}

function draw() {
  layOut();
  const pen = prepared(canvas, size.width, size.height);
  drawFindingWindows(pen);
  drawAxis(pen);
  for (const number of state.lanes) {
    for (const span of spansOf[number]) if (spanPasses(span, state.filter)) drawSpan(pen, span);
  }
  drawEvents(pen);
  drawLabels(pen);
  drawOverview();
  const clip = document.querySelector("#plot rect");
  for (const [key, value] of Object.entries({ x: size.gutter, y: 0, width: plotWidth(), height: size.height })) {
    clip.setAttribute(key, value);
  }
  const [marks, selection] = ["finding-marks", "selection"].map((id) => document.getElementById(id));
  marks.replaceChildren();
  selection.replaceChildren();
  drawFindingMarks(marks);
  drawSelection(selection);
}

let isAsked = false;
function redraw() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => { isAsked = false; draw(); });
}

// The event, else the span, at a place of the chart; null where there is none.
function hit(left, top) {
  if (left < size.gutter) return null;
  for (const [number, from] of tops) {
    const lane = lanes[number];
    if (top < from || top >= from + laneHeight(lane)) continue;
    if (lane.kind !== "windows" && top < from + LINE + 2) return hitEvent(number, left);
    const under = spansOf[number].filter((span) => {
      const box = spanBox(span);
      return left >= box.left - 1 && left <= box.left + box.wide + 1 && top >= box.top && top <= box.top + box.high + 2;
    });
    return under.length ? { span: under[under.length - 1] } : null;
  }
  return null;
}

function hitEvent(lane, left) {
  let best = null, nearest = 9;
  const from = placeOf(state.shown, eventAt(Math.floor(stepAt(left - 16))));
  for (let place = from; place < state.shown.length; place += 1) {
    const number = state.shown[place], distance = Math.abs(eventX(number) - left);
    if (eventX(number) > left + 16) break;
    if (events[number].lane === lane && distance < nearest) [best, nearest] = [number, distance];
  }
  return best === null ? null : { event: best };
}
