// Knobs on the page, figures from the kernel: what is shown was simulated there, and nothing is worked out here.

let pages = 0;

function made(tag, attributes = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

function drawn(tag, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

const cap = (tokens) => (tokens === null ? "no cap" : tokens.toLocaleString("en"));
const same = (one, other) =>
  Object.keys(one).length === Object.keys(other).length && Object.keys(one).every((key) => one[key] === other[key]);

function render({ model, el }) {
  const page = ++pages;
  const knobs = model.get("knobs");
  const about = model.get("about");
  const controls = new Map();
  const trail = [];
  let setting = { ...model.get("setting") };
  let asked_ms = null;

  const figures = made("tbody");
  const error = made("p", { class: "error", role: "alert" });
  const said = made("p", { class: "said", role: "status" });
  const picture = made("div", { class: "picture" });
  const command = made("code", { tabindex: "0", "aria-label": "command line of this setting" });
  const copy = made("button", { type: "button" }, "Copy");
  const back = made("button", { type: "button" }, "Back to the base");
  const results = made(
    "section",
    { class: "results", "aria-label": "What it comes to" },
    error,
    made(
      "table",
      {},
      made("caption", {}, "This setting beside the base, with 95% intervals"),
      made(
        "thead",
        {},
        made("tr", {}, ...["", "this setting", "base", "difference"].map((name) => made("th", { scope: "col" }, name))),
      ),
      figures,
    ),
    said,
    picture,
    made("div", { class: "command" }, made("span", {}, "To carry it out:"), command, copy),
    made("p", { class: "rests" }, [about.rests, ...about.notes].join(". ") + "."),
  );
  const panel = made("form", { class: "knobs", "aria-label": "What may be moved" });
  panel.addEventListener("submit", (event) => event.preventDefault());
  // JupyterLab takes arrow keys for its own, in two ways, unless it is kept from it.
  const root = made(
    "div",
    { class: "ttc-explorer", "data-lm-suppress-shortcuts": "true" },
    made("div", { class: "columns" }, made("header", {}, made("strong", {}, about.title), back), panel, results),
  );
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el.append(root);

  function move(name, value) {
    const knob = knobs.find((one) => one.name === name);
    if (value === knob.value) delete setting[name];
    else setting[name] = value;
    place(name);
    send();
  }

  function send() {
    asked_ms = performance.now();
    root.setAttribute("aria-busy", "true");
    model.set("setting", { ...setting });
    model.save_changes();
  }

  function place(name) {
    const { knob, range, number, output } = controls.get(name);
    const value = name in setting ? setting[name] : knob.value;
    if (knob.options.length) {
      range.value = knob.options.indexOf(value);
      range.setAttribute("aria-valuetext", `${cap(value)} ${value === null ? "" : knob.unit}`.trim());
      output.textContent = cap(value);
    } else {
      range.value = value;
      range.setAttribute("aria-valuetext", `${value} ${knob.unit}`.trim());
      if (document.activeElement !== number || Number(number.value) !== value) number.value = value;
    }
    controls.get(name).box.toggleAttribute("data-moved", name in setting);
  }

  let group = null;
  for (const [k, knob] of knobs.entries()) {
    if (group === null || group.dataset.name !== knob.group) {
      group = made("fieldset", {}, made("legend", {}, knob.group));
      group.dataset.name = knob.group;
      panel.append(group);
    }
    const id = `ttc-explorer-${page}-${k}`;
    const label = made("label", { for: id }, knob.label);
    const several = knob.options.length > 0;
    const ends = several ? [0, knob.options.length - 1, 1] : [knob.low, knob.high, knob.step];
    const range = made("input", { type: "range", id, min: ends[0], max: ends[1], step: ends[2], "data-knob": knob.name });
    const number = made("input", { type: "number", step: "any", "aria-label": `${knob.label}, ${knob.unit || "number"}` });
    const output = made("output", { for: id });
    const box = made(
      "div",
      { class: "knob" },
      label,
      range,
      several ? output : number,
      made("span", { class: "unit" }, knob.unit),
    );
    controls.set(knob.name, { knob, range, number, output, box });
    range.addEventListener("input", () => {
      const at = Number(range.value);
      move(knob.name, several ? knob.options[at] : at);
    });
    number.addEventListener("change", () => {
      if (number.value.trim() !== "") move(knob.name, Number(number.value));
    });
    group.append(box);
  }
  if (!knobs.length) panel.append(made("p", {}, "Nothing in this scenario can be moved."));

  back.addEventListener("click", () => {
    setting = {};
    for (const name of controls.keys()) place(name);
    send();
  });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });

  function show() {
    const shown = model.get("shown");
    error.textContent = shown.error;
    results.toggleAttribute("data-wrong", shown.error !== "");
    if (!shown.error) redraw(shown);
    if (same(shown.setting, setting) && asked_ms !== null) root.dataset.redrawnMs = performance.now() - asked_ms;
    compare();
  }

  // Intervals and differences come a moment after the figures that they are of.
  function compare() {
    const [shown, compared] = [model.get("shown"), model.get("compared")];
    if (!same(shown.setting, compared.setting)) return;
    for (const [name, row] of Object.entries(compared.rows)) {
      const [, now, , cell] = figures.querySelector(`[data-figure="${name}"]`)?.children ?? [];
      if (!cell) continue;
      const between = row.difference_between && made("small", {}, row.difference_between);
      now.replaceChildren(now.firstChild, made("small", {}, row.now_between));
      cell.replaceChildren(made("b", {}, row.difference), between);
      if (row.noise) cell.append(made("small", { class: "noise" }, "no more than noise"));
    }
    if (compared.point !== null) draw({ point: compared.point });
    if (!same(shown.setting, setting)) return;
    root.removeAttribute("aria-busy");
    if (asked_ms === null) return;
    root.dataset.comparedMs = performance.now() - asked_ms;
    root.dataset.moves = Number(root.dataset.moves || 0) + 1;
    asked_ms = null;
  }

  function redraw(shown) {
    figures.replaceChildren(
      ...shown.rows.map((row) => {
        const cell = (name, value, between, more = {}) =>
          made("td", { "data-name": name, ...more }, made("b", {}, value), between && made("small", {}, between));
        return made(
          "tr",
          { "data-figure": row.name, "data-value": row.value },
          made("th", { scope: "row" }, row.label),
          cell("this setting", row.now, ""),
          cell("base", row.base, row.base_between),
          cell("difference", "…", ""),
        );
      }),
    );
    const arms = shown.arms.map(([name, share]) => `${share} ${name}`).join(", ");
    const behind = { stable: "Servers keep up.", backlogged: "Servers fall behind, and catch up." }[shown.verdict];
    said.textContent = `Sent to: ${arms}. ${behind || "Overloaded: more is sent than can be served."}`;
    said.toggleAttribute("data-wrong", shown.verdict === "overloaded");
    command.textContent = shown.command;
    if (shown.point.up !== null) trail.push(shown.point);
    if (trail.length > 40) trail.shift();
    draw(shown);
  }

  function ticks(low, high) {
    const rough = (high - low) / 6;
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((k) => k * size >= rough) * size;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  function draw(shown) {
    const width = Math.max(picture.clientWidth || 480, 240);
    const height = Math.round(Math.min(Math.max(0.55 * width, 220), 340));
    const [left, right, top, bottom] = [52, 14, 14, 44];
    const base = about.base_point || trail[0];
    const points = [base, shown.point, ...about.alone, ...trail].filter((one) => one && one.up !== null);
    if (!points.length) return picture.replaceChildren();
    const times = about.accuracy ? 100 : 1;
    const span = (values) => {
      const known = values.filter((x) => x !== null);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const room = 0.08 * (high - low) || 0.1 * Math.abs(high) || 1;
      return [Math.max(low - room, 0), high + room];
    };
    const [x_low, x_high] = span([...points.map((one) => one.usd[0]), ...shown.point.usd]);
    const ends = [...points.map((one) => times * one.up[0]), ...shown.point.up.map((x) => x && times * x)];
    const [y_low, y_high] = span(ends);
    const x = (usd) => left + ((usd - x_low) / (x_high - x_low)) * (width - left - right);
    const y = (up) => height - bottom - ((times * up - y_low) / (y_high - y_low)) * (height - top - bottom);
    const up = about.accuracy ? "accuracy, %" : "latency, 95th percentile, s";
    const alt = `US dollars of 1,000 requests and ${up}: this setting, the base, and each arm alone`;
    const svg = drawn("svg", { width, height, role: "img", "aria-label": alt });
    for (const tick of ticks(x_low, x_high)) {
      svg.append(drawn("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: height - bottom }));
      svg.append(drawn("text", { x: x(tick), y: height - bottom + 15, "text-anchor": "middle" }, String(tick)));
    }
    for (const tick of ticks(y_low, y_high)) {
      const at = y(tick / times);
      svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
      svg.append(drawn("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, String(tick)));
    }
    const middle = (top + height - bottom) / 2;
    svg.append(drawn("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "US dollars of 1,000 requests"));
    svg.append(drawn("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, up));
    for (const one of trail) svg.append(drawn("circle", { class: "trail", cx: x(one.usd[0]), cy: y(one.up[0]), r: 2 }));
    const taken = [];
    for (const one of [...about.alone].filter((one) => one.up).sort((a, b) => b.up[0] - a.up[0])) {
      const [px, py] = [x(one.usd[0]), y(one.up[0])];
      let at = py + 4;
      while (taken.some(([tx, ty]) => Math.abs(tx - px) < 110 && Math.abs(ty - at) < 13)) at += 13;
      taken.push([px, at]);
      const before = px > width - right - 110;
      svg.append(drawn("rect", { class: "alone", x: px - 4, y: py - 4, width: 8, height: 8 }));
      svg.append(drawn("text", { class: "alone", x: px + (before ? -8 : 8), y: at, "text-anchor": before ? "end" : "start" }, one.name));
    }
    const now = shown.point;
    if (now.up !== null) {
      const [px, py] = [x(now.usd[0]), y(now.up[0])];
      const side = (value, otherwise) => (value === null ? otherwise : y(value));
      svg.append(drawn("line", { class: "sure", x1: x(now.usd[1]), x2: x(now.usd[2]), y1: py, y2: py }));
      svg.append(drawn("line", { class: "sure", x1: px, x2: px, y1: side(now.up[1], height - bottom), y2: side(now.up[2], top) }));
      if (base.up !== null) svg.append(drawn("circle", { class: "base", cx: x(base.usd[0]), cy: y(base.up[0]), r: 7 }));
      svg.append(drawn("circle", { class: "now", cx: px, cy: py, r: 5 }));
    }
    picture.replaceChildren(svg, made("p", { class: "key" }, "● this setting with its intervals, ○ base, ■ an arm alone, · what was tried"));
  }

  const moved = () => {
    setting = { ...model.get("setting") };
    for (const name of controls.keys()) place(name);
  };
  model.on("change:shown", show);
  model.on("change:compared", compare);
  model.on("change:setting", moved);
  moved();
  show();
  let seen = picture.clientWidth;
  const watch = new ResizeObserver(() => {
    if (picture.clientWidth === seen) return;
    seen = picture.clientWidth;
    const point = model.get("compared").point ?? model.get("shown").point;
    if (!model.get("shown").error) draw({ point });
  });
  watch.observe(picture);
  return () => {
    watch.disconnect();
    model.off("change:shown", show);
    model.off("change:compared", compare);
    model.off("change:setting", moved);
  };
}

export default { render };
