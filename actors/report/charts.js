// Charts: inline SVG from plain arrays. Every value comes in as given; nothing here knows what it is about.

const SVG = "http://www.w3.org/2000/svg";

function node(make, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) make.setAttribute(name, value);
  }
  for (const child of [children ?? []].flat(2)) make.append(child);
  return make;
}
const el = (tag, attributes, children) => node(document.createElement(tag), attributes, children);
const svg = (tag, attributes, children) => node(document.createElementNS(SVG, tag), attributes, children);
const known = (value) => value !== null && value !== undefined;

// Steps of 1, 2 or 5 times a power of ten that cover low to high.
function ticks(low, high, about) {
  const span = high - low || 1, raw = span / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((times) => times * power >= raw) * power;
  const found = [];
  for (let at = Math.floor(low / step); at <= Math.ceil(high / step - 1e-9); at++) found.push(at * step);
  return found;
}

const PLOT = { width: 1120, left: 52, right: 10, top: 10, bottom: 26 };

// The frame that all charts over intervals share: axes, zero line, shaded intervals, labels of time.
function frame(options, low, high) {
  const size = { ...PLOT, width: options.width || PLOT.width, height: options.height || 240 };
  const marks = ticks(low, high, options.height < 180 ? 3 : 5), count = options.labels.length;
  const [from, to] = [marks[0], marks[marks.length - 1]];
  const inner = size.width - size.left - size.right;
  const x = (place) => size.left + (inner * place) / count;
  const y = (value) => size.top + (size.height - size.top - size.bottom) * (1 - (value - from) / (to - from || 1));
  const axis = svg("g", { class: "axis" });
  for (const mark of marks) {
    axis.append(svg("line", { x1: size.left, x2: size.width - size.right, y1: y(mark), y2: y(mark), class: mark === 0 ? "zero" : null }));
    axis.append(svg("text", { x: size.left - 8, y: y(mark) + 4, "text-anchor": "end" }, short(mark)));
  }
  const every = Math.max(1, Math.ceil(count / (size.width / 95)));
  for (let place = 0; place < count; place += every) {
    if (x(place) > size.width - 78) break;
    axis.append(svg("line", { x1: x(place), x2: x(place), y1: size.height - size.bottom, y2: size.height - size.bottom + 4 }));
    axis.append(svg("text", { x: x(place), y: size.height - 6 }, options.labels[place]));
  }
  const root = svg("svg", { viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": options.title });
  (options.shade || []).forEach((shaded, place) => {
    if (shaded) root.append(svg("rect", { x: x(place), y: size.top, width: inner / count, height: size.height - size.top - size.bottom, fill: "var(--shade)" }));
  });
  root.append(axis);
  return { root, size, x, y, count };
}

// A tip with the values of the interval under the pointer; a click chooses it.
function follow(chart, options, rows) {
  const { root, size, x, count } = chart;
  const cursor = svg("line", { class: "cursor", y1: size.top, y2: size.height - size.bottom, visibility: "hidden" });
  const area = svg("rect", { x: size.left, y: size.top, width: size.width - size.left - size.right, height: size.height - size.top - size.bottom, fill: "transparent" });
  const at = (event) => {
    const box = area.getBoundingClientRect();
    return Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * count)));
  };
  area.addEventListener("pointermove", (event) => {
    const place = at(event), middle = (x(place) + x(place + 1)) / 2;
    node(cursor, { x1: middle, x2: middle, visibility: "visible" });
    showTip(event, options.labels[place], rows(place));
  });
  area.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); hideTip(); });
  if (options.choose) area.addEventListener("click", (event) => options.choose(at(event)));
  root.append(cursor, area);
}

function showTip(event, title, rows) {
  const tip = document.getElementById("tip");
  const lines = rows.map(([name, value, color]) =>
    el("tr", {}, [el("td", {}, [color ? el("i", { style: `display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px;background:${color}` }) : "", name]), el("td", { class: "number" }, value)]));
  tip.replaceChildren(el("strong", {}, title), el("table", {}, lines));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.max(8, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
}
function hideTip() { document.getElementById("tip").hidden = true; }

// Values hold for a whole interval, so lines are steps. Series: {name, color, values, low, high}.
function stepLines(options) {
  const all = options.series.flatMap((one) => [...one.values, ...(one.low || []), ...(one.high || [])]).filter(known);
  const chart = frame(options, Math.min(0, ...all), Math.max(0, ...all));
  const path = (values, back) => {
    let text = "", open = false;
    const order = values.map((value, place) => [value, place]);
    for (const [value, place] of back ? order.reverse() : order) {
      if (!known(value)) { open = false; continue; }
      const [a, b] = back ? [place + 1, place] : [place, place + 1];
      text += `${open || back ? "L" : "M"}${chart.x(a)} ${chart.y(value)}L${chart.x(b)} ${chart.y(value)}`;
      open = true;
    }
    return text;
  };
  for (const one of options.series) {
    if (one.low && one.values.length && one.values.every(known)) {
      chart.root.append(svg("path", { d: `${path(one.high)}${path(one.low, true)}Z`, fill: one.color, opacity: 0.14 }));
    }
  }
  for (const one of options.series) {
    chart.root.append(svg("path", { d: path(one.values), fill: "none", stroke: one.color, "stroke-width": 2.2, "stroke-linejoin": "round" }));
  }
  follow(chart, options, (place) => options.series.map((one) => [one.name, options.format(one.values[place]), one.color]));
  return chart.root;
}

// Layers stacked up from zero where positive and down where negative; `line` on top. Layers: {name, color, values}.
function stackedBars(options) {
  const count = options.labels.length, up = Array(count).fill(0), down = Array(count).fill(0);
  const boxes = [];
  for (const layer of options.layers) {
    layer.values.forEach((value, place) => {
      if (!known(value) || value === 0) return;
      const base = value > 0 ? up : down;
      boxes.push({ place, from: base[place], to: base[place] + value, color: layer.color });
      base[place] += value;
    });
  }
  const chart = frame(options, Math.min(0, ...down), Math.max(0, ...up, 1e-9));
  const width = (chart.size.width - chart.size.left - chart.size.right) / count, gap = Math.min(2, width * 0.14);
  for (const box of boxes) {
    const [top, bottom] = [chart.y(Math.max(box.from, box.to)), chart.y(Math.min(box.from, box.to))];
    chart.root.append(svg("rect", { x: chart.x(box.place) + gap / 2, width: Math.max(0.5, width - gap), y: top, height: Math.max(0, bottom - top), fill: box.color }));
  }
  follow(chart, options, (place) => options.layers.filter((layer) => known(layer.values[place]) && layer.values[place] !== 0)
    .map((layer) => [layer.name, options.format(layer.values[place]), layer.color]).reverse());
  return chart.root;
}

// One horizontal diverging bar a row, of parts, with a mark at their sum. Rows: {name, parts: [{name, color, value}]}.
function divergingBars(rows, format) {
  const sums = rows.flatMap((row) => [1, -1].map((sign) => row.parts.reduce((sum, part) => sum + Math.max(0, sign * part.value), 0)));
  const most = Math.max(...sums, 1e-9), width = 560, left = 90, height = 34;
  const x = (value) => left + ((width - left - 14) / 2) * (1 + value / most);
  const root = svg("svg", { viewBox: `0 0 ${width} ${rows.length * height + 8}`, role: "img", "aria-label": "received and paid by area" });
  root.append(svg("line", { x1: x(0), x2: x(0), y1: 0, y2: rows.length * height, stroke: "var(--soft)" }));
  rows.forEach((row, number) => {
    const y = number * height + 6, at = { up: 0, down: 0 };
    root.append(svg("text", { x: left - 12, y: y + 16, "text-anchor": "end" }, row.name));
    for (const part of row.parts) {
      const side = part.value > 0 ? "up" : "down", from = at[side];
      at[side] += part.value;
      const [a, b] = [x(Math.min(from, at[side])), x(Math.max(from, at[side]))];
      const box = svg("rect", { x: a, y, width: Math.max(0, b - a), height: 22, fill: part.color });
      box.addEventListener("pointermove", (event) => showTip(event, row.name, [[part.name, format(part.value), part.color]]));
      box.addEventListener("pointerleave", hideTip);
      root.append(box);
    }
    const sum = at.up + at.down;
    root.append(svg("path", { d: `M${x(sum)} ${y - 4}v30`, stroke: "var(--ink)", "stroke-width": 2.5 }));
  });
  return root;
}

// A table of cells: texts, or elements. `kinds` says which columns are numbers.
function grid(headings, rows, kinds, sums) {
  const cell = (tag, value, place) => el(tag, { class: kinds[place] === "n" ? "number" : null }, [value ?? "–"]);
  const head = el("tr", {}, headings.map((heading, place) => cell("th", heading, place)));
  const body = rows.map((row) => el("tr", {}, row.map((value, place) => cell("td", value, place))));
  if (sums) body.push(el("tr", { class: "sum" }, sums.map((value, place) => cell("td", value, place))));
  return el("div", { class: "scroll" }, el("table", {}, [el("thead", {}, head), el("tbody", {}, body)]));
}

function legend(entries) {
  return el("p", { class: "key" }, entries.map(([name, color]) => el("span", {}, [el("i", { style: `background:${color}` }), name])));
}

// Numbers as people read them.
const grouped = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const number = (value, digits = 0) => {
  if (!known(value)) return "–";
  const text = grouped(value, digits);
  return (/[1-9]/.test(text) ? text : text.replace("-", "")).replace("-", "−");
};
function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(value / 1e6, size % 1e6 ? 1 : 0)}M`;
  if (size >= 1e4) return `${number(value / 1e3, size % 1e3 ? 1 : 0)}k`;
  return number(value, size > 0 && size < 1 ? 2 : Number.isInteger(value) ? 0 : 1);
}
const raised = (digits) => [...String(digits)].map((digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])).join("");
function exponent(value) {
  if (value === 0 || Math.abs(value) >= 0.01) return number(value, value === 0 || Number.isInteger(value) ? 0 : 2);
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits}·10${raised(Number(power))}`;
}
