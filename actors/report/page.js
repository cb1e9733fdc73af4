// The page: each section takes its part of the figures and draws it. Money is in micro-units until it is shown.

const DATA = JSON.parse(document.getElementById("figures").textContent);
const MICRO = 1e6;
const REGION_COLORS = ["#2f6db5", "#d07c1f", "#2e8b6f", "#9a5fb4", "#c2485c", "#6a7f2f", "#3a9bb0", "#8a6a4f"];
const KIND_COLORS = {
  nuclear: "#7b5ea7", steam: "#5d6673", coal: "#5d6673", cc: "#b07a4a", ct: "#d19a66", gas: "#c08a58", oil: "#8c5a3c",
  hydro: "#3b7fb8", wind: "#5fb3a3", csp: "#e08e2b", pv: "#f0b93a", rtpv: "#f6d774", battery: "#c2578f", unit: "#9aa7b7", load: "#93a4b8",
};
const KIND_NAMES = { ct: "combustion turbine", cc: "combined cycle", pv: "solar", rtpv: "rooftop solar", csp: "solar thermal" };
const REASONS = {
  energy: ["energy", "#2f6db5", "exports at the prices of the own boundary, less imports"],
  loop_flow: ["loop flow", "#d07c1f", "what flows of others through the own lines are worth"],
  interface_share: ["tie-line rent", "#2e8b6f", "half of the congestion rent of the own tie-lines"],
  links: ["links", "#9a5fb4", "paid for controllable links at the own buses"],
  exchange: ["metered exchange", "#c2485c", "what tie-lines carried other than scheduled, by their meters"],
};
const CHECK_MEANINGS = {
  optimum: "agreed cost equals a central optimum over the same offers",
  schedule_cost: "cost of the schedules along the offers equals that optimum",
  balance: "injections sum to zero",
  limits: "no line carries more than it may",
  shadow_prices: "only limits that are reached have a price",
  prices: "prices follow from energy price and shadow prices",
  acceptance: "what is worth its price is accepted fully, nothing else is",
  bills: "bills recomputed equal the region's books",
  bills_paid: "what a bill moved equals what it comes to",
  metered_energy: "billed energy equals the signed readings",
  transfers: "transfers recomputed equal what was agreed and opened",
  metered_exchange: "metered exchange follows from the meters at tie-lines",
  zero_sum: "transfers and settlements sum to zero",
  neutral_accounts: "what came in less what bills moved is what is held",
  audits: "every chain follows from its genesis, block by block",
  tips: "all organizations have the same blocks",
};

const labels = DATA.intervals.map((one) => clock(one.interval));
const alone = DATA.intervals.map((one) => !one.coupled || one.excluded.length > 0);
const regionColor = (region) => REGION_COLORS[DATA.regions.indexOf(region) % REGION_COLORS.length];
const kindColor = (kind) => KIND_COLORS[kind] || "#9aa7b7";
const kindName = (kind) => KIND_NAMES[kind] || kind;
const area = (region) => (/^\d+$/.test(region) ? `Area ${region}` : region);
const put = (id, ...children) => document.getElementById(id).replaceChildren(...children.flat());
const sum = (values) => values.reduce((total, value) => total + (value || 0), 0);
const eur = (micro, digits = 0) => number(micro / MICRO, digits);
const minus = (micro) => (Math.round(micro / MICRO) < 0 ? "minus" : null);
const signed = (micro) => el("span", { class: minus(micro) }, eur(micro));

function clock(iso) {
  const at = new Date(iso), two = (value) => String(value).padStart(2, "0");
  const month = at.toLocaleString("en", { month: "short", timeZone: "UTC" });
  return `${at.getUTCDate()} ${month} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
}

// What a figure shows, with the value it was made from: a test compares it with the tables.
function figure(name, value, text) {
  return el("b", { "data-figure": name, "data-value": String(value) }, text);
}

function showHead() {
  document.title = `${DATA.title} · GridAccord`;
  put("title", DATA.title);
  put("facts", Object.entries(DATA.facts).map(([name, value]) => `${name} ${value}`).join(" · "));
  const failed = DATA.failures.length, checked = sum(DATA.checks.map((check) => check.checked));
  const verdict = document.getElementById("verdict");
  verdict.className = `verdict ${failed ? "bad" : "good"}`;
  verdict.replaceChildren(failed ? `✗ ${number(failed)} of ${number(checked)} conditions do not hold` : `✓ verified: ${number(checked)} conditions hold`);
}

function showTiles() {
  const intervals = DATA.intervals, hours = (one) => one.duration_s / 3600;
  const cost = sum(intervals.map((one) => (one.objective_eur_per_h || 0) * hours(one)));
  const coupled = intervals.filter((one) => one.coupled).length;
  const lows = DATA.regions.flatMap((region) => DATA.prices[region].min).filter(known);
  const highs = DATA.regions.flatMap((region) => DATA.prices[region].max).filter(known);
  const [low, high] = [Math.min(...lows), Math.max(...highs)];
  const rounds = intervals.map((one) => one.rounds), mean = sum(rounds) / (rounds.length || 1);
  const moved = sum(DATA.regions.map((region) => Math.max(0, DATA.transfers[region].settled)));
  const bills = sum(DATA.bills.map((one) => one.bills)), optimum = DATA.checks.find((check) => check.check === "optimum");
  const tile = (value, text) => el("div", { class: "tile" }, [value, el("span", {}, text)]);
  put("tiles",
    tile(figure("cost_eur", cost, `${number(cost)} EUR`), "cost of what was agreed"),
    tile(figure("coupled", coupled, `${number(coupled)} of ${number(intervals.length)}`), "intervals coupled"),
    tile(figure("price_range", `${low} ${high}`, lows.length ? `${number(low, 1)} to ${number(high, 1)}` : "–"), "EUR/MWh, over all buses"),
    tile(figure("rounds_mean", mean, number(mean, 2)), `rounds, mean; at most ${number(Math.max(0, ...rounds))}`),
    tile(figure("moved_micro", moved, `${eur(moved)} EUR`), "settled between areas"),
    tile(figure("bills", bills, number(bills)), "bills, to the micro-unit"),
    tile(figure("optimum_worst", optimum ? optimum.worst : "", optimum ? exponent(optimum.worst) : "–"), "from the central optimum, at worst"));
}

// Areas and tie-lines.

const most = Math.max(1, ...DATA.ties.flatMap((tie) => tie.flow_mw.filter(known).map(Math.abs)));

function loading(tie, place) {
  const flow = tie.flow_mw[place], limit = tie.limit_mw[place];
  const share = known(flow) && limit ? Math.abs(flow) / limit : 0;
  if (tie.binding[place]) return ["var(--binding)", share];
  return [share >= 0.9 ? "var(--full)" : share >= 0.6 ? "var(--busy)" : "var(--calm)", share];
}

function spots() {
  const count = DATA.regions.length, found = {};
  DATA.regions.forEach((region, place) => {
    const turn = -Math.PI / 2 + (2 * Math.PI * place) / count, far = count === 1 ? 0 : 1;
    found[region] = [320 + far * 225 * Math.cos(turn), (count === 3 ? 232 : 205) + far * (count === 3 ? 165 : 145) * Math.sin(turn)];
  });
  return found;
}

function showGraph(place) {
  const at = spots(), root = svg("svg", { viewBox: "0 0 640 400", role: "img", "aria-label": "areas and tie-lines" });
  const between = {}, texts = [];
  for (const tie of DATA.ties) {
    const pair = [tie.from_region, tie.to_region].sort().join("\u0000");
    (between[pair] = between[pair] || []).push(tie);
  }
  for (const [pair, ties] of Object.entries(between)) {
    const [one, other] = pair.split("\u0000").map((region) => at[region]);
    ties.forEach((tie, row) => {
      const beside = row - (ties.length - 1) / 2;
      edge(root, texts, tie, place, one, other, beside * 84, 0.5 + beside * 0.13);
    });
  }
  DATA.regions.forEach((region) => area_(root, region, place, at[region]));
  root.append(...texts);
  put("graph", root);
}

// A curve between two areas: as wide as its flow, with an arrow in the flow's direction; `along` is where its label is.
function edge(root, texts, tie, place, one, other, bend, along) {
  const [color, share] = loading(tie, place), flow = tie.flow_mw[place];
  const [dx, dy] = [other[0] - one[0], other[1] - one[1]], length = Math.hypot(dx, dy) || 1;
  const normal = [-dy / length, dx / length];
  const control = [(one[0] + other[0]) / 2 + normal[0] * bend, (one[1] + other[1]) / 2 + normal[1] * bend];
  const on = (at) => [0, 1].map((axis) => one[axis] * (1 - at) ** 2 + control[axis] * 2 * at * (1 - at) + other[axis] * at ** 2);
  const middle = on(along);
  const wide = known(flow) ? 1.5 + (7 * Math.abs(flow)) / most : 1;
  const sorted = [tie.from_region, tie.to_region].sort()[0] === tie.from_region;
  const ahead = (flow || 0) >= 0 === sorted ? 1 : -1, turn = (Math.atan2(dy * ahead, dx * ahead) * 180) / Math.PI;
  const line = svg("path", { d: `M${one} Q${control} ${other}`, fill: "none", stroke: color, "stroke-width": wide, "stroke-linecap": "round", "data-tie": tie.branch, "data-flow": known(flow) ? flow : "" });
  const size = 6 + wide / 2;
  const arrow = svg("path", { d: `M${-size} ${-size}L${size} 0L${-size} ${size}Z`, fill: color, transform: `translate(${middle}) rotate(${turn})` });
  const rows = [["flow", `${number(Math.abs(flow), 1)} MW`], ["limit", `${number(tie.limit_mw[place], 0)} MW`], ["shadow price", `${number(tie.shadow_price_eur_per_mwh[place], 2)} EUR/MWh`]];
  for (const part of [line, arrow]) {
    part.addEventListener("pointermove", (event) => showTip(event, `tie-line ${tie.branch} (${tie.from_bus}–${tie.to_bus})`, rows));
    part.addEventListener("pointerleave", hideTip);
  }
  root.append(line, arrow);
  if (known(flow)) {
    const text = `${number(Math.abs(flow))} MW${share ? ` · ${number(share * 100)} %` : ""}`;
    texts.push(svg("text", { x: middle[0], y: middle[1] - 13, "text-anchor": "middle", class: "halo" }, text));
  }
}

function area_(root, region, place, [x, y]) {
  const interval = DATA.intervals[place], price = DATA.prices[region].mean[place];
  const itself = interval && (interval.excluded.includes(region) || !interval.coupled);
  root.append(svg("circle", { cx: x, cy: y, r: 46, fill: "var(--card)", stroke: regionColor(region), "stroke-width": 3.5, "stroke-dasharray": itself ? "6 5" : null }));
  root.append(svg("circle", { cx: x, cy: y, r: 46, fill: regionColor(region), opacity: 0.13 }));
  const text = (dy, value, more) => root.append(svg("text", { x, y: y + dy, "text-anchor": "middle", ...more }, value));
  text(-10, area(region), { style: "font-weight:600;font-size:13px" });
  text(10, known(price) ? number(price, 2) : "–", { style: "font-size:16px;font-weight:650" });
  const lines = interval ? DATA.congested[place].filter((line) => line.region === region).length : 0;
  if (lines) {
    const badge = svg("g", {}, [svg("circle", { cx: x + 38, cy: y - 34, r: 11, fill: "var(--binding)" }), svg("text", { x: x + 38, y: y - 30, "text-anchor": "middle", style: "fill:#fff;font-weight:650" }, lines)]);
    badge.append(svg("title", {}, `limits that bind in ${area(region)}: ${lines}`));
    root.append(badge);
  }
  text(26, itself ? "by itself" : "EUR/MWh", { class: "soft" });
}

function showInterval(place) {
  const interval = DATA.intervals[place];
  if (!interval) return put("interval", el("p", { class: "note" }, "No interval has ended yet."));
  const rows = DATA.regions.map((region) => {
    const mix = Object.entries(DATA.mix[region] || {}).map(([kind, values]) => [kind, values[place]]);
    const load = -sum(mix.filter(([kind]) => kind === "load").map(([, value]) => value));
    const made = sum(mix.filter(([kind]) => kind !== "load").map(([, value]) => value));
    return [area(region), number(DATA.prices[region].mean[place], 2), number(load), number(made), number(made - load)];
  });
  const ties = DATA.ties.filter((tie) => tie.binding[place]).map((tie) => ({ ...tie, tie: true, flow: tie.flow_mw[place], shadow: tie.shadow_price_eur_per_mwh[place] }));
  const lines = DATA.congested[place].map((line) => ({ ...line, flow: line.flow_mw, shadow: line.shadow_price_eur_per_mwh }));
  const binding = [...ties, ...lines].map((line) => [`${line.tie ? "tie-line" : "branch"} ${line.branch} (${line.from_bus}–${line.to_bus})`, `${number(Math.abs(line.flow))} MW`, number(line.shadow, 2)]);
  const said = interval.coupled
    ? `Agreed in ${interval.rounds} round${interval.rounds === 1 ? "" : "s"}, ${number(interval.message_bytes / 1000, 1)} kB, at ${number(interval.objective_eur_per_h)} EUR/h.`
    : "Not coupled: every area cleared by itself.";
  const without = interval.excluded.length ? ` Without ${interval.excluded.map(area).join(", ")}.` : "";
  put("interval",
    grid(["", "EUR/MWh", "load MW", "made MW", "export MW"], rows, "tnnnn"),
    el("h3", {}, "Binding limits"),
    binding.length ? grid(["", "flow", "EUR/MWh more"], binding, "tnn") : el("p", { class: "note" }, "None: one price everywhere."),
    el("p", { class: "note" }, said + without));
}

let chosen = 0, timer = 0;

function choose(place) {
  chosen = place;
  document.getElementById("slider").value = place;
  put("when", labels[place] ? `${labels[place]} UTC` : "");
  showGraph(place);
  showInterval(place);
}

function play() {
  const button = document.getElementById("play"), last = DATA.intervals.length - 1;
  if (timer) { clearInterval(timer); timer = 0; button.textContent = "▶"; return; }
  button.textContent = "❚❚";
  timer = setInterval(() => choose(chosen >= last ? 0 : chosen + 1), 700);
}

function showGrid() {
  const slider = document.getElementById("slider");
  slider.max = Math.max(0, DATA.intervals.length - 1);
  slider.addEventListener("input", () => choose(Number(slider.value)));
  document.getElementById("play").addEventListener("click", play);
  const key = legend([["below 60 % of the limit", "var(--calm)"], ["from 60 %", "var(--busy)"], ["from 90 %", "var(--full)"], ["binding; in an area, so many lines", "var(--binding)"]]);
  document.getElementById("graph-key").replaceWith(key);
  const dearest = DATA.intervals.map((_, place) => DATA.ties.filter((tie) => tie.binding[place]).length + DATA.congested[place].length);
  choose(Math.max(0, dearest.indexOf(Math.max(...dearest))));
}

// Prices and mix.

function showPrices() {
  const series = DATA.regions.map((region) => ({
    name: area(region), color: regionColor(region), values: DATA.prices[region].mean, low: DATA.prices[region].min, high: DATA.prices[region].max,
  }));
  const chart = stepLines({ title: "prices by area", labels, series, shade: alone, choose, height: 260, format: (value) => number(value, 2) });
  const shaded = alone.some(Boolean) ? [["an area cleared by itself", "var(--shade)"]] : [];
  put("prices", chart, legend([...series.map((one) => [one.name, one.color]), ...shaded]));
}

function showMix(regions) {
  const kinds = Object.keys(KIND_COLORS), found = {};
  for (const region of regions) {
    for (const [kind, values] of Object.entries(DATA.mix[region] || {})) {
      found[kind] = (found[kind] || values.map(() => null)).map((value, place) => (known(values[place]) ? (value || 0) + values[place] : value));
    }
  }
  const order = Object.keys(found).filter((kind) => found[kind].some(Boolean)).sort((a, b) => kinds.indexOf(a) - kinds.indexOf(b));
  const layers = order.map((kind) => ({ name: kindName(kind), color: kindColor(kind), values: found[kind] }));
  const chart = stackedBars({ title: "energy mix", labels, layers, shade: alone, choose, height: 300, format: (value) => `${number(value)} MW` });
  put("mix", chart, legend(layers.map((layer) => [layer.name, layer.color])));
}

function showMixChoice() {
  const choices = [["All areas", DATA.regions], ...DATA.regions.map((region) => [area(region), [region]])];
  const buttons = choices.map(([name, regions]) => {
    const button = el("button", { type: "button", "aria-pressed": "false" }, name);
    button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      showMix(regions);
    });
    return button;
  });
  put("mix-choice", buttons);
  buttons[0].click();
}

// Money.

function showMoney() {
  const used = Object.keys(REASONS).filter((reason) => DATA.regions.some((region) => DATA.transfers[region][reason]));
  const rows = DATA.regions.map((region) => ({
    name: area(region),
    parts: used.map((reason) => ({ name: REASONS[reason][0], color: REASONS[reason][1], value: DATA.transfers[region][reason] })),
  }));
  const table = DATA.regions.map((region) => [area(region), ...used.map((reason) => signed(DATA.transfers[region][reason])),
    el("span", { "data-figure": `settled/${region}`, "data-value": DATA.transfers[region].settled, class: minus(DATA.transfers[region].settled) }, eur(DATA.transfers[region].settled))]);
  const { commit, abort, open } = DATA.nettings;
  put("transfers",
    el("p", { class: "note" }, "EUR received over the whole run, paid to the left of the line; the mark is the sum."),
    divergingBars(rows, (micro) => `${eur(micro)} EUR`),
    grid(["EUR", ...used.map((reason) => REASONS[reason][0]), "settled"], table, `t${"n".repeat(used.length + 1)}`),
    el("dl", { class: "reasons" }, used.flatMap((reason) => [el("dt", {}, REASONS[reason][0]), el("dd", {}, REASONS[reason][2])])),
    el("p", { class: "note", style: "margin-top:10px" }, `${number(commit)} settlements committed, ${number(abort)} aborted, ${number(open)} open: all legs of one move, or none.`));
  showBills();
}

// Each kind's money by area; below it what was settled with other areas, and what is left: the area's congestion rent.
function showBills() {
  const areas = DATA.regions.length <= 6 ? DATA.regions : [];
  const total = (name, test) => sum(DATA.bills.filter(test).map((one) => one[name]));
  const of = (region) => (one) => region === null || one.region === region;
  const settled = (region) => (region === null ? sum(DATA.regions.map((one) => DATA.transfers[one].settled)) : DATA.transfers[region].settled);
  const columns = [...areas, null], order = Object.keys(KIND_COLORS);
  const kinds = [...new Set(DATA.bills.filter((one) => one.injected_mwh || one.withdrawn_mwh).map((one) => one.kind))];
  kinds.sort((one, other) => order.indexOf(one) - order.indexOf(other));
  const rows = kinds.map((kind) => {
    const here = (region) => (one) => of(region)(one) && one.kind === kind;
    return [kindName(kind), number(total("injected_mwh", here(null)) - total("withdrawn_mwh", here(null))), ...columns.map((region) => signed(total("credit_micro", here(region))))];
  });
  const bills = columns.map((region) => {
    const value = total("credit_micro", of(region));
    return el("span", { "data-figure": `credit_micro/${region ?? ""}`, "data-value": value, class: minus(value) }, eur(value));
  });
  rows.push([el("strong", {}, "bills"), "", ...bills]);
  rows.push(["settled with other areas", "", ...columns.map((region) => signed(settled(region)))]);
  const left = columns.map((region) => signed(settled(region) - total("credit_micro", of(region))));
  put("bills",
    el("p", { class: "note" }, `EUR received for metered energy at the price of each bus; negative is paid. ${number(total("corrections", of(null)))} bills were corrected by late readings; in ${number(total("substituted", of(null)))} the schedule stands in for a reading.`),
    grid(["", "MWh", ...areas.map(area), "all"], rows, `tn${"n".repeat(columns.length)}`, ["stays: congestion rent", "", ...left]));
}

// Agreement, faults, proof, columns.

function showAgreement() {
  const layers = [
    { name: "rounds", color: "var(--accent)", values: DATA.intervals.map((one) => one.rounds) },
    { name: "earlier attempts", color: "var(--full)", values: DATA.intervals.map((one) => one.attempts - 1) },
  ];
  const small = { labels, width: 560, height: 170, choose };
  put("rounds", stackedBars({ ...small, title: "rounds", layers, format: (value) => number(value) }), legend(layers.map((one) => [one.name, one.color])));
  const stages = [["agree", "to agreement", "#2f6db5"], ["schedule", "to schedules", "#2e8b6f"], ["bill", "to bills", "#d07c1f"]];
  const parts = stages.map(([key, name, color]) => ({ name, color, values: DATA.intervals.map((one) => one.stage_seconds[key]) }));
  put("stages", stackedBars({ ...small, title: "seconds by stage", layers: parts, format: (value) => `${number(value, 2)} s` }), legend(parts.map((one) => [one.name, one.color])));
  const rows = DATA.blocks.map((chain) => [chain.chain, number(chain.blocks), number(chain.transactions), number(chain.payload_bytes / 1000), number(chain.median_step_s, 2), number(chain.longest_step_s, 1),
    Object.entries(chain.signed).map(([name, count]) => `${name} ${number((100 * count) / chain.certificates)} %`).join(", ")]);
  put("chains-pace", grid(["chain", "blocks", "transactions", "kB", "s a block, median", "longest", "stands in so many of the certificates"], rows, "tnnnnnt"));
}

function showFaults() {
  const alonely = DATA.intervals.filter((one) => one.coupled && one.excluded.length);
  const uncoupled = DATA.intervals.filter((one) => !one.coupled);
  const notes = [];
  if (alonely.length) notes.push(`In ${number(alonely.length)} intervals the others went on without an area, which cleared by itself (shaded above).`);
  if (uncoupled.length) notes.push(`${number(uncoupled.length)} intervals were not coupled.`);
  const rows = DATA.faults.map((one) => [
    `${number(one.elapsed_s, 1)} s`, one.interval ? clock(one.interval) : "",
    el("span", { class: one.kind === "recovered" ? "good-text" : "bad-text" }, one.kind), (one.fault || "").replaceAll("_", " "), one.target,
    known(one.absent_s) ? `signed again after ${number(one.absent_s, 1)} s` : "",
  ]);
  const refused = DATA.refused.map((one) => [number(one.count), one.kind.replaceAll("_", " "), one.reason]);
  put("faults", el("p", { class: "note" }, notes.join(" ") || "Every interval was coupled with every area."),
    rows.length ? grid(["after", "interval", "", "", "at", "in certificates"], rows, "nttttt") : el("p", { class: "note" }, "No faults were injected."),
    refused.length ? [el("h3", {}, "Refused"), grid(["times", "", "because"], refused, "ntt")] : []);
}

function showProof() {
  const rows = DATA.checks.map((check) => [
    el("span", { class: check.failures ? "bad-text" : "good-text" }, check.failures ? "✗" : "✓"),
    CHECK_MEANINGS[check.check] || check.check,
    el("span", { "data-figure": `checked/${check.check}`, "data-value": check.checked }, number(check.checked)),
    check.unit ? `${exponent(check.worst)} ${check.unit}` : "",
    check.unit ? exponent(check.tolerance) : "",
  ]);
  const failures = DATA.failures.slice(0, 40).map((one) => [one.check, one.interval ? clock(one.interval) : "", one.region ? area(one.region) : "", one.element, one.problem]);
  put("checks", grid(["", "", "looked at", "worst", "accepted"], rows, "ttnnn"),
    failures.length ? [el("h3", {}, "What does not hold"), grid(["check", "interval", "area", "", ""], failures, "ttttt")] : []);
  const chains = DATA.chains.map((chain) => [
    chain.chain, el("code", { title: chain.chain_id }, `${chain.chain_id.slice(0, 16)}…`), number(chain.height), el("code", { title: chain.tip }, `${chain.tip.slice(0, 16)}…`),
    el("span", { class: chain.valid ? "good-text" : "bad-text" }, chain.valid ? `✓ ${number(chain.certificates)} certificates` : `✗ ${chain.finding}`),
    chain.agreeing.join(", "),
  ]);
  put("chains", grid(["chain", "id", "height", "tip", "audit from genesis", `same at the common height`], chains, "ttnttt"));
}

function showColumns() {
  put("columns", DATA.columns.map((one) => el("details", { id: `table-${one.table}` }, [
    el("summary", {}, [el("code", {}, `${one.table}.parquet`), el("span", { class: "soft" }, `  ${number(one.rows)} rows, ${one.row}`)]),
    grid(["column", "unit", ""], one.columns.map((column) => [el("code", {}, column.name), column.unit, column.meaning]), "ttt"),
  ])));
}

for (const show of [showHead, showTiles, showGrid, showPrices, showMixChoice, showMoney, showAgreement, showFaults, showProof, showColumns]) show();
