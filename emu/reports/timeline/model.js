// What the page shows: the data, the filter, the view and the selected event. It knows nothing of drawing.

const DATA = JSON.parse(document.getElementById("data").textContent);
const { lanes, events, spans, last } = DATA;

const SCALE_MAX = 64; // pixels a step
const SCALE_READABLE = 9; // from here on the mark of each event can be told from the next

const state = {
  filter: { words: [], agent: "", domain: null, dfn: null },
  shown: [], // the numbers of the events that pass the filter, in order
  lanes: [], // the numbers of the lanes that are shown
  isShown: new Uint8Array(events.length),
  selected: null, // the number of an event
  start: 0, // the step at the left edge
  scale: SCALE_READABLE,
};

// Events of one step and lane stand side by side.
const places = events.map((event, number) => {
  let place = 0;
  while (number > place && events[number - place - 1].step === event.step &&
    events[number - place - 1].lane === event.lane) place += 1;
  return place;
});

const spansOf = lanes.map(() => []);
for (const span of spans) spansOf[span.lane].push(span);

const marked = events.map((event, number) => number).filter((number) => events[number].marked);

function inScope(one, { domain, dfn }) {
  if (domain !== null && one.domain !== domain) return false;
  return dfn === null || (one.pages !== null && one.pages[0] <= dfn && dfn < one.pages[0] + one.pages[1]);
}

function passes(event, filter) {
  if (filter.agent && lanes[event.lane].name !== filter.agent) return false;
  if (filter.words.length && !filter.words.some((word) => event.name.includes(word))) return false;
  return inScope(event, filter);
}

// A span that is of no domain and of no page, such as a lock that is held, is shown with the events around it.
function spanPasses(span, filter) {
  return (span.domain === null && span.pages === null) || inScope(span, filter);
}

function applyFilter(filter) {
  state.filter = filter;
  state.shown = [];
  const used = new Set();
  events.forEach((event, number) => {
    const isShown = passes(event, filter);
    state.isShown[number] = Number(isShown);
    if (!isShown) return;
    state.shown.push(number);
    used.add(event.lane);
  });
  lanes.forEach((lane, number) => {
    const isAsked = !filter.agent || lane.name === filter.agent;
    if (lane.kind === "windows" && isAsked && spansOf[number].some((span) => spanPasses(span, filter))) {
      used.add(number);
    }
  });
  state.lanes = lanes.map((lane, number) => number).filter((number) => used.has(number));
}

// The first place in a list of numbers of events whose event is at this number or later.
function placeOf(list, number) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The number of the first event at this step or later.
function eventAt(step) {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (events[middle].step < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The next event of a list after the selected one, or before it; the first or last one where there is none.
function neighbour(list, direction) {
  if (!list.length) return null;
  if (state.selected === null) return direction > 0 ? list[0] : list[list.length - 1];
  const place = placeOf(list, state.selected);
  const isHere = list[place] === state.selected;
  const wanted = direction > 0 ? place + Number(isHere) : place - 1;
  return list[Math.max(0, Math.min(list.length - 1, wanted))];
}

function shownInLane(lane) {
  return state.shown.filter((number) => events[number].lane === lane);
}

// The event nearest in time in the next lane above or below that has one.
function inNextLane(direction) {
  if (state.selected === null) return neighbour(state.shown, 1);
  const from = events[state.selected];
  for (let place = state.lanes.indexOf(from.lane) + direction; state.lanes[place] !== undefined; place += direction) {
    const there = shownInLane(state.lanes[place]);
    if (there.length) {
      const distance = (number) => Math.abs(events[number].step - from.step);
      return there.reduce((best, number) => (distance(number) < distance(best) ? number : best));
    }
  }
  return state.selected;
}

// The next step of a finding that is shown; after the last one the first.
function nextMarked(direction) {
  const list = marked.filter((number) => state.isShown[number] && !places[number]);
  if (!list.length) return null;
  const found = neighbour(list, direction);
  return found === state.selected ? list[direction > 0 ? 0 : list.length - 1] : found;
}

function describe(event) {
  return `step ${event.step}, ${lanes[event.lane].name}, ${event.name}`;
}

// The spans in which an event lies: those of its lane, and windows of its page.
function spansAround(event) {
  return spans.filter((span) => span.first <= event.step && event.step <= span.last && (span.lane === event.lane ||
    (span.sort === "window" && event.domain === span.domain && event.pages && span.pages &&
      inScope(event, { domain: null, dfn: span.pages[0] }))));
}
