// Draws the charts of the report and copies commands. Knows no metric: a chart says what its axes count, what its
// series stand for, and which windows to shade. Nothing here fetches anything.
(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const drawn = new Map();
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const THIN = new Set(["faint", "allocator", "budget"]);
  const DASHED = new Set(["critical", "elevated", "ceiling"]);
  const FILLED = new Set(["main", "hog"]);
  const BYTES = new Set(["bytes", "bytes_per_second"]);
  const STATES = ["normal", "elevated", "critical"];
  const NOTHING = "–";

  // Numbers for people, as the tables have them.
  const digits = (v, n) => v.toLocaleString("en-US", { maximumFractionDigits: n });
  const significant = (v) => digits(v, Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2);
  const bytes = (v) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    while (Math.abs(v) >= 1024 && i < units.length - 1) { v /= 1024; i += 1; }
    return `${digits(v, i === 0 ? 0 : 1)} ${units[i]}`;
  };
  const micros = (v) => v < 1e3 ? `${significant(v)} µs` : v < 1e6 ? `${significant(v / 1e3)} ms` : `${significant(v / 1e6)} s`;
  const short = {
    bytes,
    micros,
    per_second: (v) => `${Math.abs(v) < 10 ? significant(v) : digits(v, 0)}/s`,
    ratio: (v) => `${significant(v * 100)} %`,
    state: (v) => STATES[v] ?? String(v),
    lanes: () => "",
    cores: (v) => `${significant(v)} cores`,
    count: (v) => Math.abs(v) < 1000 ? significant(v) : digits(v, 0),
    seconds: (v) => Math.abs(v) >= 1 || v === 0 ? `${significant(v)} s` : Math.abs(v) >= 1e-3 ? `${significant(v * 1e3)} ms` : `${significant(v * 1e6)} µs`,
    bytes_per_second: (v) => `${bytes(v)}/s`,
  };
  const exact = {
    bytes: (v) => `${digits(v, 0)} bytes`,
    micros: (v) => `${digits(v, 0)} µs`,
    per_second: (v) => `${digits(v, 3)} per second`,
    ratio: (v) => digits(v, 6),
    state: (v) => String(v),
    lanes: () => "",
    cores: (v) => `${digits(v, 6)} cores`,
    count: (v) => digits(v, 6),
    seconds: (v) => `${digits(v, 6)} s`,
    bytes_per_second: (v) => `${digits(v, 0)} bytes per second`,
  };
  const axisShort = {
    ...short,
    cores: (v) => digits(v, 2),
    count: (v) => v >= 1e6 ? `${significant(v / 1e6)}M` : v >= 1e4 ? `${significant(v / 1e3)}k` : digits(v, 2),
    per_second: (v) => v >= 1e6 ? `${significant(v / 1e6)}M` : v >= 1e4 ? `${significant(v / 1e3)}k` : digits(v, 2),
  };
  const percentile = (x) => `p${digits((1 - 1 / x) * 100, 6)}`;
  const atX = (spec, x) => spec.x_axis === "tail" ? percentile(x) : spec.x_axis === "run" ? spec.x_labels[x] ?? "" : `${digits(x, 1)} s`;

  const scales = (spec) => {
    const y = spec.y_axis === "micros"
      ? { distr: 3, range: (u, lo, hi) => [10 ** Math.floor(Math.log10(Math.max(lo ?? 1, 1))), 10 ** Math.ceil(Math.log10(Math.max(hi ?? 10, spec.y_max ?? 10, 10) * 1.0001))] }
      : spec.y_axis === "state" ? { range: [-0.15, 2.15] }
      : spec.y_axis === "lanes" ? { dir: -1, range: [0.4, spec.series.length + 0.6] }
      : { range: (u, lo, hi) => [Math.min(0, (lo ?? 0) * 1.08), spec.y_max ?? ((hi ?? 0) * 1.08 || 1)] };
    if (spec.y_axis === "ratio") y.range = [0, 1.02];
    const x = spec.x_axis === "tail" ? { time: false, distr: 3, range: (u, lo, hi) => [1, Math.max(hi ?? 10, 10)] }
      : spec.x_range ? { time: false, range: spec.x_range } : { time: false };
    return { x, y };
  };

  // Steps of 1, 2, 5 read badly as bytes: use binary ones.
  const byteSplits = (u, axis, lo, hi, step) => {
    const wanted = 2 ** Math.ceil(Math.log2(Math.max(step, 1)));
    const splits = [];
    for (let v = Math.ceil(lo / wanted) * wanted; v <= hi; v += wanted) splits.push(v);
    return splits;
  };
  // Powers of ten, every second or third of them where they would crowd.
  const decades = (space) => (u, axis, lo, hi) => {
    const [first, last] = [Math.ceil(Math.log10(lo) - 1e-9), Math.floor(Math.log10(hi) + 1e-9)];
    const room = (axis === 0 ? u.bbox.width : u.bbox.height) / (window.devicePixelRatio || 1);
    const step = Math.max(1, Math.ceil((last - first + 1) * space / Math.max(room, 1)));
    const splits = [];
    for (let power = first; power <= last; power += step) splits.push(10 ** power);
    return splits;
  };

  // The name of a lane at its side, as far as it fits into a third of the chart.
  const LANE = 17;
  const names = (spec, width) => {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `11px ${style("--sans")}`;
    const fit = spec.series.map((s) => fitted(pen, s.label, width / 3));
    return { fit, wide: Math.max(...fit.map((text) => pen.measureText(text).width)) };
  };

  const axes = (spec, width) => {
    const base = { stroke: style("--c-axis"), grid: { stroke: style("--c-grid"), width: 1 }, ticks: { show: false }, font: `11px ${style("--sans")}` };
    const x = { ...base, size: 26, values: (u, splits) => splits.map((v) => v == null ? "" : spec.x_axis === "tail" ? percentile(v) : `${digits(v, 2)} s`) };
    if (spec.x_axis === "tail") { x.splits = decades(66); x.space = 10; }
    if (spec.x_axis === "run") {
      // Days and hours are enough below the axis; the pointer shows the rest.
      x.values = (u, splits) => splits.map((v) => Number.isInteger(v) ? (spec.x_labels[v] ?? "").slice(5, 16).replace("T", " ") : "");
      x.space = 90;
      x.incrs = [1, 2, 5, 10, 20, 50, 100];
    }
    const y = { ...base, size: 66, values: (u, splits) => splits.map((v) => v == null ? "" : axisShort[spec.y_axis](v)) };
    if (spec.y_axis === "micros") { y.splits = decades(18); y.space = 8; }
    if (BYTES.has(spec.y_axis)) { y.splits = byteSplits; y.space = 30; }
    if (spec.y_axis === "state") { y.splits = () => [0, 1, 2]; y.space = 4; y.grid = { ...base.grid }; }
    if (spec.y_axis === "ratio") y.splits = () => [0, 0.25, 0.5, 0.75, 1];
    if (spec.y_axis === "lanes") {
      const { fit, wide } = names(spec, width);
      Object.assign(y, { size: wide + 16, splits: () => fit.map((_, i) => i + 1), values: () => fit, space: 1 });
    }
    return [x, y];
  };

  const line = (spec, s) => {
    const colour = style(`--c-${s.role}`);
    const seldom = s.values.filter((v) => v != null).length < 3;
    const lane = spec.y_axis === "lanes";
    return {
      label: s.label,
      show: s.shown,
      stroke: colour,
      width: lane ? 7 : s.role === "main" ? 1.8 : THIN.has(s.role) ? 1 : 1.4,
      dash: DASHED.has(s.role) && spec.y_axis === "bytes" ? [5, 4] : undefined,
      fill: FILLED.has(s.role) && spec.y_axis === "bytes" || spec.y_axis === "state" ? `${colour}26` : undefined,
      paths: spec.y_axis === "state" ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: lane ? { show: true, size: 6 } : { show: seldom || spec.x_axis === "run" ? true : undefined, size: 4 },
      spanGaps: spec.joined,
    };
  };

  // Fault windows under the lines; their names stand above the plot, in the rows that the chart keeps for them.
  const shade = (spec) => (u) => {
    const { ctx } = u;
    const ratio = window.devicePixelRatio || 1;
    const { left, top, width, height } = u.bbox;
    const [lo, hi] = [u.scales.x.min, u.scales.x.max];
    const at = (x) => Math.round(u.valToPos(Math.min(Math.max(x, lo), hi), "x", true));
    const rows = Array(spec.label_rows).fill(-Infinity);
    ctx.save();
    ctx.font = `${11 * ratio}px ${style("--sans")}`;
    ctx.textBaseline = "bottom";
    ctx.textAlign = "left";
    for (const band of spec.bands) {
      if (band.to < lo || band.from > hi) continue;
      const [a, b] = [at(band.from), Math.max(at(band.to), at(band.from) + ratio)];
      ctx.fillStyle = style("--c-band");
      ctx.fillRect(a, top, b - a, height);
      const text = fitted(ctx, band.label, width - 8 * ratio);
      const wide = ctx.measureText(text).width;
      const from = Math.min(a, left + width - wide);
      const row = rows.findIndex((end) => end < from);
      if (row < 0) continue;
      rows[row] = from + wide + 10 * ratio;
      ctx.fillStyle = style("--c-band-ink");
      ctx.fillText(text, from, top - (3 + row * 14) * ratio);
    }
    ctx.restore();
  };
  const fitted = (ctx, text, width) => {
    while (text.length > 4 && ctx.measureText(text).width > width) text = `${text.slice(0, -2).trimEnd()}…`;
    return text;
  };
  const marks = (spec) => (u) => {
    const { ctx } = u;
    const ratio = window.devicePixelRatio || 1;
    const { left, top, width, height } = u.bbox;
    ctx.save();
    ctx.font = `600 ${11 * ratio}px ${style("--sans")}`;
    ctx.textBaseline = "bottom";
    ctx.textAlign = "left";
    let row = 0;
    for (const mark of spec.marks) {
      if (mark.at < u.scales.x.min || mark.at > u.scales.x.max) continue;
      const x = Math.round(u.valToPos(mark.at, "x", true));
      ctx.strokeStyle = ctx.fillStyle = style(mark.kill ? "--c-critical" : "--c-axis");
      ctx.lineWidth = (mark.kill ? 2 : 1) * ratio;
      ctx.setLineDash(mark.kill ? [] : [3 * ratio, 3 * ratio]);
      ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
      if (spec.y_axis === "state") continue;
      const text = fitted(ctx, mark.label, width - 8 * ratio);
      const wide = ctx.measureText(text).width;
      const y = top + height - (4 + (row % 4) * 15) * ratio;
      const from = Math.max(left + 3 * ratio, Math.min(x + 5 * ratio, left + width - wide - 4 * ratio));
      ctx.save();
      ctx.globalAlpha = 0.85; ctx.fillStyle = style("--card");
      ctx.fillRect(from - 2 * ratio, y - 13 * ratio, wide + 4 * ratio, 14 * ratio);
      ctx.restore();
      ctx.fillText(text, from, y);
      row += 1;
    }
    ctx.restore();
  };

  const swatch = (spec, s) => {
    const i = document.createElement("i");
    i.style.borderColor = style(`--c-${s.role}`);
    if (DASHED.has(s.role) && spec.y_axis === "bytes") i.className = "dash";
    return i;
  };

  // The legend is made of real buttons, so that series can be toggled without a mouse.
  const legend = (id, spec, plot) => {
    const box = document.getElementById(`${id}-legend`);
    if (spec.y_axis === "lanes") {
      // Their names stand beside them; a canvas is not read out.
      const read = document.createElement("span");
      read.className = "sr";
      read.textContent = spec.series.map((s) => s.label).join(", ");
      box.replaceChildren(read);
    } else box.replaceChildren(...spec.series.map((s, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Show or hide";
      button.setAttribute("aria-pressed", String(s.shown));
      button.append(swatch(spec, s), s.label);
      button.addEventListener("click", () => {
        s.shown = !s.shown;
        button.setAttribute("aria-pressed", String(s.shown));
        plot().setSeries(i + 1, { show: s.shown });
      });
      return button;
    }));
    if (spec.bands.length) {
      const key = document.createElement("span");
      key.className = "key-band";
      key.append(document.createElement("i"), "fault acts");
      box.append(key);
    }
  };

  // Values beside the pointer: short, and as recorded. Only the plot that is pointed at or focused shows them; the
  // others of the scenario follow with their crosshair.
  const reader = (element, spec) => {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    element.append(tip);
    return (u) => {
      const i = u.cursor.idx;
      tip.hidden = i == null || !element.matches(":hover, :focus");
      if (tip.hidden) return;
      const head = document.createElement("p");
      head.textContent = atX(spec, u.data[0][i]);
      const rows = spec.series.flatMap((s, n) => {
        const v = u.data[n + 1][i];
        if (!s.shown || (spec.joined || spec.y_axis === "lanes") && v == null) return [];
        const row = document.createElement("div");
        const value = document.createElement("b");
        const whole = document.createElement("small");
        value.textContent = v == null ? NOTHING : short[spec.y_axis](v);
        whole.textContent = v == null ? "no value" : exact[spec.y_axis](v);
        row.append(swatch(spec, s), s.label, value, whole);
        return [row];
      });
      tip.replaceChildren(head, ...rows);
      const x = u.cursor.left + u.over.offsetLeft;
      const right = x + tip.offsetWidth + 18 > element.clientWidth;
      tip.style.left = `${Math.max(0, right ? x - tip.offsetWidth - 12 : x + 14)}px`;
      tip.style.top = `${u.over.offsetTop + 6}px`;
    };
  };

  // Charts are drawn for paper while the page still has the window's width. These fit A4 and Letter within their margins; one that
  // did not would make the browser print everything smaller.
  const PAPER = { full: 690, half: 330 };
  const printing = () => document.documentElement.classList.contains("printing");
  const room = (element) => !printing() ? Math.max(element.clientWidth, 200) : element.closest(".full") ? PAPER.full : PAPER.half;

  const size = (element, spec) => {
    const width = room(element);
    if (spec.y_axis === "lanes") return { width, height: 40 + 14 * spec.label_rows + LANE * spec.series.length };
    return { width, height: spec.y_axis === "state" ? 96 : element.closest(".full") && width > 700 ? 320 : 240 };
  };

  const draw = (element) => {
    const spec = charts[element.id];
    if (!spec) return;
    drawn.get(element)?.destroy();
    element.classList.toggle("low", ["state", "lanes"].includes(spec.y_axis));
    let plot = null;
    element.replaceChildren();
    legend(element.id, spec, () => plot);
    const read = reader(element, spec);
    plot = new uPlot({
      ...size(element, spec),
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, sync: spec.x_axis === "time" ? { key: element.id.split("-")[0], setSeries: false, scales: ["x", null] } : undefined, drag: { x: true, y: false } },
      scales: scales(spec),
      axes: axes(spec, room(element)),
      series: [{}, ...spec.series.map((s) => line(spec, s))],
      hooks: { drawClear: [shade(spec)], draw: [marks(spec)], setCursor: [read] },
      padding: [8 + 14 * spec.label_rows, 14, 0, 0],
    }, [spec.x, ...spec.series.map((s) => s.values)], element);
    drawn.set(element, plot);
  };

  const plots = [...document.querySelectorAll(".plot")];
  // One chart per turn, from the top: the page reacts at once however many there are.
  const drawNext = (i) => {
    if (i >= plots.length) return;
    if (!drawn.has(plots[i])) draw(plots[i]);
    setTimeout(drawNext, 0, i + 1);
  };
  drawNext(0);
  const redraw = () => [...drawn.keys()].forEach(draw);
  new ResizeObserver(() => printing() || drawn.forEach((plot, element) => {
    const wanted = size(element, charts[element.id]);
    if (plot.width !== wanted.width) plot.setSize(wanted);
  })).observe(document.getElementById("report"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Arrow keys read a focused chart value by value.
  plots.forEach((element) => element.addEventListener("keydown", (event) => {
    const plot = drawn.get(element);
    if (!plot || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    element.querySelector(".tip").setAttribute("aria-live", "polite");
    const last = plot.data[0].length - 1;
    if (event.key === "Escape") { plot.setCursor({ left: -10, top: -10 }); return; }
    const now = plot.cursor.idx ?? 0;
    const step = Math.max(1, Math.round(last / 200));
    const next = { ArrowLeft: now - step, ArrowRight: now + step, Home: 0, End: last }[event.key];
    const x = plot.data[0][Math.min(Math.max(next, 0), last)];
    plot.setCursor({ left: plot.valToPos(x, "x"), top: 10 });
  }));

  // Paper is light and shows everything.
  let closed = [];
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((d) => { d.open = true; });
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    closed.forEach((d) => { d.open = false; });
    redraw();
  });

  const copied = async (text, code) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Without clipboard permission: select it, so that one key press copies.
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return document.execCommand("copy");
    }
  };
  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    const done = await copied(code.textContent, code);
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  }));
})();
