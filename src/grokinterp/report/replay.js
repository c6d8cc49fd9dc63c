(function () {
  "use strict";
  const page = JSON.parse(document.getElementById("replay").textContent);
  const last = page.steps.length - 1, spansOf = page.spans, root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const slider = $("slider"), play = $("play"), scaleChoice = $("axis"), sliderChoice = $("along"), loop = $("loop"), tip = $("tip");
  const whole = new Intl.NumberFormat("en");
  const SPEEDS = [0.25, 0.5, 1, 2, 4, 8], bySteps = () => sliderChoice.value === "steps";
  let at = 0, theme = {}, timer = 0, touched = 0, speed = SPEEDS.indexOf(1);

  // ---- numbers ----
  // Every array of the page has the step as its first dimension; levels are differences from step to step.
  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    packed.data = null;
    packed.frame = packed.shape.slice(1).reduce((size, length) => size * length, 1);
    if (packed.type === "float32") { packed.values = new Float32Array(buffer); return; }
    packed.values = new Int8Array(buffer);
    for (let i = packed.frame; i < packed.values.length; i++) packed.values[i] += packed.values[i - packed.frame];
  }

  function packedIn(value) {
    if (!value || typeof value !== "object") return [];
    if (value.type && value.data) return [value];
    return Object.values(value).flatMap(packedIn);
  }

  const frame = (packed, step) => packed.values.subarray(step * packed.frame, (step + 1) * packed.frame);
  const ofLevel = (packed, q, level) => level === -128 ? NaN : packed.low[q] + (level + 127) / 254 * (packed.high[q] - packed.low[q]);

  function number(v) {
    if (!Number.isFinite(v)) return "–";
    const size = Math.abs(v);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return power(v);
    if (size >= 1e3) return whole.format(Math.round(v)).replace("-", "−");
    return String(+v.toPrecision(4)).replace("-", "−");
  }
  const raised = (n) => String(n).replace(/./g, (c) => c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[+c]);
  function power(v) {
    const [digits, exponent] = v.toExponential(2).split("e");
    return (digits + " × 10" + raised(+exponent)).replace("-", "−");
  }
  const noted = (s, i) => s.notes && s.notes[i] ? s.unit + ", " + s.notes[i] : s.unit;
  const withUnit = (text, unit) => unit && text !== "–" ? text + " " + unit : text;

  // ---- axes ----
  // An axis has `low`, `high`, a `label`, and perhaps `log`, `steps` (a step axis), `name` (what stands at a tick), `whole` (whole numbers only).
  const stepUnit = page.steps.find((s) => s > 0) || 1;
  const along = (axis, v) => axis.log ? Math.log10(v) : axis.steps && scaleChoice.value === "log" ? Math.log10(v + stepUnit) : v;

  function ticks(axis, room) {
    if (axis.log) {
      const from = Math.ceil(Math.log10(axis.low) - 1e-9), to = Math.floor(Math.log10(axis.high) + 1e-9);
      if (to - from >= 1) {
        const every = Math.max(1, Math.ceil((to - from) / room));
        return Array.from({ length: Math.floor((to - from) / every) + 1 }, (_, i) => 10 ** (from + i * every));
      }
    }
    if (axis.steps && scaleChoice.value === "log") {
      const found = axis.low <= 0 ? [0] : [];
      for (let v = 10 ** Math.ceil(Math.log10(stepUnit)); v <= axis.high; v *= 10) found.push(v);
      return found;
    }
    const rough = (axis.high - axis.low) / Math.max(1, room), base = 10 ** Math.floor(Math.log10(rough));
    let every = base * [1, 2, 5, 10].find((m) => m * base >= rough * 0.999);
    if (axis.whole) every = Math.max(1, Math.round(every));
    const found = [];
    for (let i = Math.ceil(axis.low / every - 1e-9); i * every <= axis.high + every * 1e-9; i++) found.push(i * every || 0);  // no −0
    return found;
  }

  function tickText(axis, v) {
    if (axis.name) return axis.name(v);
    if (axis.log) {
      const e = Math.round(Math.log10(v));
      return Math.abs(Math.log10(v) - e) > 1e-9 ? number(v) : e === 0 || e === 1 ? String(10 ** e) : "10" + raised(e);
    }
    return axis.steps ? whole.format(v) : Math.abs(v) < 1e-12 ? "0" : number(+v.toPrecision(6));
  }

  // Words in as many lines as they take at a width.
  const FONT = "12px system-ui, sans-serif", LINE = 14, pen = document.createElement("canvas").getContext("2d");
  function inLines(text, width) {
    const found = [];
    pen.font = FONT;
    for (const word of text.split(" ")) {
      const longer = found.length ? found[found.length - 1] + " " + word : word;
      if (found.length && pen.measureText(longer).width <= width) found[found.length - 1] = longer; else found.push(word);
    }
    return found;
  }

  // Draws both axes of a box; gives the functions from values to pixels. `y.down`: the first row is on top.
  function axes(c, box, x, y) {
    const sx = (v) => box.x + (along(x, v) - along(x, x.low)) / (along(x, x.high) - along(x, x.low) || 1) * box.w;
    const share = (v) => (along(y, v) - along(y, y.low)) / (along(y, y.high) - along(y, y.low) || 1) * box.h;
    const sy = (v) => y.down ? box.y + share(v) : box.y + box.h - share(v);
    c.font = FONT;
    c.lineWidth = 1;
    c.strokeStyle = theme.line;
    c.fillStyle = theme.soft;
    c.textAlign = "right"; c.textBaseline = "middle";
    for (const v of ticks(y, box.h / 34)) {
      const py = Math.round(sy(v)) + 0.5;
      if (!y.down) { c.beginPath(); c.moveTo(box.x, py); c.lineTo(box.x + box.w, py); c.stroke(); }
      c.fillText(tickText(y, v), box.x - 6, py);
    }
    c.textAlign = "center"; c.textBaseline = "top";
    let free = -Infinity;
    for (const v of ticks(x, box.w / 60)) {
      const text = tickText(x, v), half = c.measureText(text).width / 2, px = Math.round(sx(v)) + 0.5;
      if (px - half < free) continue;
      free = px + half + 6;
      c.beginPath(); c.moveTo(px, box.y + box.h); c.lineTo(px, box.y + box.h + 4); c.stroke();
      c.fillText(text, px, box.y + box.h + 6);
    }
    c.strokeRect(Math.round(box.x) + 0.5, Math.round(box.y) + 0.5, Math.round(box.w), Math.round(box.h));
    c.fillStyle = theme.text;
    if (x.label) inLines(x.label, box.w + BESIDE).forEach((line, i) => c.fillText(line, box.x + box.w / 2, box.y + box.h + 23 + i * LINE));
    if (y.label) {
      c.save(); c.translate(box.x - (y.far || 44), box.y + box.h / 2); c.rotate(-Math.PI / 2);
      c.textBaseline = "bottom"; c.fillText(y.label, 0, 0); c.restore();
    }
    return { sx, sy };
  }

  // Square boxes for several pictures, in as many columns as fit and as many rows as are needed; `top` is left free above each, and more where a title
  // or what stands at an axis takes several lines.
  const LEFT = 56, BETWEEN = 50, BELOW = 46, SMALLEST = 110, BESIDE = 30;
  function tiles(titles, labels, width, widest, top) {
    const count = titles.length;
    const most = Math.max(1, Math.min(count, Math.floor((width - LEFT - 12 + BETWEEN) / (SMALLEST + BETWEEN))));
    const rows = Math.ceil(count / most), columns = Math.ceil(count / rows);
    const side = Math.floor(Math.min(widest, (width - LEFT - 12 + BETWEEN) / columns - BETWEEN));
    const more = (texts, room) => LINE * (Math.max(...texts.map((text) => inLines(text, room).length)) - 1);
    const above = top + more(titles, side), each = above + side + BELOW + more(labels, side + BESIDE);
    const boxes = titles.map((_, i) => ({
      x: LEFT + (i % columns) * (side + BETWEEN), y: above + Math.floor(i / columns) * each, w: side, h: side,
      first: i % columns === 0, lowest: i + columns >= count,
    }));
    return { boxes, height: rows * each };
  }
  // The axes of maps: what stands at them is written once where it is the same for all.
  const labelsOf = (sides) => sides.map((side) => side.label), same = (sides) => sides.every((side) => side.label === sides[0].label);
  const sideAxis = (sides, q, is, far) => ({
    low: -0.5, high: sides[q].ticks.length - 0.5, whole: true, label: is || !same(sides) ? sides[q].label : "", far, name: (v) => sides[q].ticks[v] });
  const mapAxes = (c, p, q, box) => axes(c, box, sideAxis(p.columns, q, box.lowest), { ...sideAxis(p.rows, q, box.first, 32), down: true });

  function nothing(c, box) {
    inside(c, box, "no value at this step");
  }

  // Words in place of what a box would show.
  function inside(c, box, text) {
    const lines = inLines(text, box.w - 8), wide = 8 + Math.max(...lines.map((line) => pen.measureText(line).width));
    c.fillStyle = theme.card; c.fillRect(box.x + (box.w - wide) / 2, box.y + (box.h - lines.length * LINE) / 2 - 2, wide, lines.length * LINE + 4);
    c.fillStyle = theme.soft; c.font = FONT; c.textAlign = "center"; c.textBaseline = "middle";
    lines.forEach((line, i) => c.fillText(line, box.x + box.w / 2, box.y + box.h / 2 + (i - (lines.length - 1) / 2) * LINE));
  }

  function extent(arrays, keep) {
    let low = Infinity, high = -Infinity;
    for (const values of arrays) for (const v of values) if (Number.isFinite(v) && keep(v)) { if (v < low) low = v; if (v > high) high = v; }
    return low <= high ? [low, high] : null;
  }

  // ---- kinds of panel ----
  // Each has `height(panel, width)`, `draw(panel, c, width, height)`, `values(panel)`: what it shows of the step `at`, and `hit(panel, x, y)`: the
  // text for a point. Curves have `still`, what no step changes, which is drawn once.
  const kinds = {};

  kinds.curves = {
    prepare(p) {
      const arrays = p.series.flatMap((s) => [s.values.values, ...(s.line ? [s.line.y.values] : [])]);
      const found = extent(arrays, (v) => !p.log || v > 0) || [p.log ? 0.1 : 0, 1];
      let [low, high] = found;
      if (p.log) {
        low /= 1.5; high *= 1.5;
        for (const [, level] of p.levels) if (level <= high) high = Math.max(high, level * (high / low) ** 0.09);  // room for its words
      } else {
        if (p.floor !== null) low = Math.min(low, p.floor);
        if (p.limits) { low = Math.min(low, p.limits[0]); high = Math.max(high, p.limits[1]); }
        const pad = (high - low || Math.abs(high) || 1) * 0.05;
        high += pad; low -= p.floor === low ? 0 : pad;
      }
      p.smallest = found[0];
      p.yAxis = { low, high, log: p.log, label: p.y, far: 46 };
      const until = extent([page.steps, ...p.series.flatMap((s) => s.line ? [s.line.x.values] : [])], () => true);
      p.xAxis = { low: until[0], high: until[1] > until[0] ? until[1] : until[0] + 1, steps: true, label: page.axis };
      const table = document.createElement("table");
      table.className = "legend numbers";
      const body = table.createTBody();
      p.cells = p.series.map((s) => {
        const row = body.insertRow(), name = row.insertCell(), value = row.insertCell();
        const swatch = document.createElement("span");
        swatch.className = "swatch" + (s.dashed ? " dashed" : "");
        swatch.style.borderTopColor = s.colour;
        name.append(swatch, s.label);
        value.className = "value";
        const unit = row.insertCell();
        unit.textContent = s.unit;
        return [value, unit];
      });
      p.section.append(table);
    },
    height: () => 270,
    still(p, c, width, height) {
      const box = p.box = { x: 62, y: 20, w: width - 84, h: height - 64 };
      const { sx, sy } = p.to = axes(c, box, p.xAxis, p.yAxis);
      spansOf.forEach((span) => {
        const from = Math.max(sx(Math.max(span.start, p.xAxis.low)), box.x), to = Math.min(sx(Math.min(span.end, p.xAxis.high)), box.x + box.w);
        if (to <= from) return;
        c.globalAlpha = 0.16; c.fillStyle = colourOf(span.name); c.fillRect(from, box.y, to - from, box.h); c.globalAlpha = 1;
        c.textAlign = "center"; c.textBaseline = "bottom"; c.fillStyle = theme.soft;
        if (c.measureText(span.name).width < to - from) c.fillText(span.name, (from + to) / 2, box.y - 3);
      });
      c.textAlign = "right"; c.textBaseline = "bottom"; c.fillStyle = theme.soft; c.strokeStyle = theme.soft; c.setLineDash([4, 4]);
      p.levels.filter(([, v]) => v >= p.yAxis.low && v <= p.yAxis.high).forEach(([words, v]) => {
        c.beginPath(); c.moveTo(box.x, sy(v)); c.lineTo(box.x + box.w, sy(v)); c.stroke();
        c.fillText(words, box.x + box.w - 4, sy(v) - 1, box.w - 8);
      });
      c.setLineDash([]);
      const shown = (v) => sy(p.log ? Math.max(v, p.smallest) : v);
      c.save(); c.beginPath(); c.rect(box.x, box.y - 4, box.w + 5, box.h + 8); c.clip();
      for (const s of p.series) {
        const xs = s.line ? s.line.x.values : page.steps, ys = s.line ? s.line.y.values : s.values.values;
        c.strokeStyle = c.fillStyle = s.colour; c.lineWidth = 1.6; c.setLineDash(s.dashed ? [5, 4] : []);
        c.beginPath();
        let down = false;
        for (let i = 0; i < ys.length; i++) {
          if (!Number.isFinite(ys[i])) { down = false; continue; }
          down ? c.lineTo(sx(xs[i]), shown(ys[i])) : c.moveTo(sx(xs[i]), shown(ys[i]));
          down = true;
        }
        c.stroke(); c.setLineDash([]);
        page.steps.forEach((step, i) => {
          const v = s.values.values[i];
          if (Number.isFinite(v)) { c.beginPath(); c.arc(sx(step), shown(v), 1.8, 0, 7); c.fill(); }
        });
      }
      c.restore();
    },
    draw(p, c) {
      const { sx, sy } = p.to, px = sx(page.steps[at]);
      c.strokeStyle = theme.text; c.lineWidth = 1.2;
      c.beginPath(); c.moveTo(px, p.box.y); c.lineTo(px, p.box.y + p.box.h); c.stroke();
      p.series.forEach((s, i) => {
        const v = s.values.values[at];
        p.cells[i][0].textContent = number(v);
        if (s.notes) p.cells[i][1].textContent = noted(s, at);
        if (!Number.isFinite(v)) return;
        c.fillStyle = s.colour; c.strokeStyle = theme.card; c.lineWidth = 1.5;
        c.beginPath(); c.arc(px, sy(p.log ? Math.max(v, p.smallest) : v), 4.5, 0, 7); c.fill(); c.stroke();
      });
    },
    values: (p) => Object.fromEntries(p.series.map((s) => [s.label, s.values.values[at]])),
    nearest(p, x) {
      let best = 0;
      page.steps.forEach((step, i) => { if (Math.abs(p.to.sx(step) - x) < Math.abs(p.to.sx(page.steps[best]) - x)) best = i; });
      return best;
    },
    hit(p, x) {
      const i = kinds.curves.nearest(p, x);
      return [moment(i), ...p.series.map((s) => s.label + ": " + withUnit(number(s.values.values[i]), noted(s, i)))].join("\n");
    },
  };

  kinds.bars = {
    prepare() {},
    height: () => 250,
    draw(p, c, width, height) {
      const box = p.box = { x: 62, y: 10, w: width - 84, h: height - 58 }, places = p.positions, first = places[0], final = places[places.length - 1];
      const pad = (p.limits[1] - p.limits[0] || 1) * 0.05;
      const { sx, sy } = axes(c, box, { low: first - 0.6, high: final + 0.6, whole: true, label: p.x },
        { low: p.limits[0] - (p.limits[0] < 0 ? pad : 0), high: p.limits[1] + pad, label: p.y, far: 46 });
      const room = box.w / (final - first + 1.2), bar = room * 0.8 / p.groups.length, zero = sy(0);
      let any = false;
      const alike = kinds.bars.alike(p);
      if (alike) { any = true; inside(c, box, alike); }
      p.groups.forEach((group, g) => {
        const values = frame(group.values, at);
        if (alike) return;
        c.globalAlpha = g ? 0.55 : 1;
        places.forEach((place, i) => {
          if (!Number.isFinite(values[i])) return;
          any = true;
          c.fillStyle = p.colours[i];
          const y = sy(values[i]);
          c.fillRect(sx(place) - room * 0.4 + g * bar, Math.min(y, zero), bar, Math.abs(y - zero));
        });
      });
      c.globalAlpha = 1;
      if (!any) nothing(c, box);
      if (p.marks) frame(p.marks, at).forEach((is, i) => {
        if (is > 0) { c.fillStyle = p.markColours[i] || theme.text; c.beginPath(); c.arc(sx(places[i]), box.y + box.h + 4, 2.6, 0, 7); c.fill(); }
      });
      p.to = (x) => Math.round(first - 0.6 + (x - box.x) / box.w * (final - first + 1.2)) - first;
    },
    // The sentence that stands in place of bars of one height.
    alike(p) {
      const values = frame(p.groups[0].values, at);
      if (!p.of || p.groups.length > 1 || values.length < 2 || !values.every((v) => v === values[0])) return "";
      return withUnit(number(values[0]), p.unit) + " for all " + whole.format(values.length) + " " + p.of;
    },
    values: (p) => p.groups.map((g) => Array.from(frame(g.values, at))),
    hit(p, x) {
      const i = p.to(x);
      if (!(i >= 0 && i < p.positions.length)) return null;
      const values = p.groups.map((g) => (g.label ? g.label + ": " : "") + withUnit(number(frame(g.values, at)[i]), p.unit));
      return [p.names[i], ...values].join("\n");
    },
  };

  kinds.points = {
    prepare() {},
    tiles: (p, width) => tiles(p.titles, [p.x], width, p.titles.length > 2 ? 240 : 360, 20),
    height: (p, width) => kinds.points.tiles(p, width).height,
    draw(p, c, width) {
      const values = frame(p.values, at), count = p.names.length, limit = p.limit * 1.06 || 1;
      p.boxes = kinds.points.tiles(p, width).boxes;
      p.points = [];
      p.boxes.forEach((box, q) => {
        const { sx, sy } = axes(c, box, { low: -limit, high: limit, label: box.lowest ? p.x : "" },
          { low: -limit, high: limit, label: box.first ? p.y : "", far: 34 });
        above(c, box, p.titles[q]);
        if (Number.isNaN(values[q * count * 2])) { nothing(c, box); return; }
        const place = (i) => [sx(values[(q * count + i) * 2]), sy(values[(q * count + i) * 2 + 1])];
        c.lineWidth = 1.4;
        for (const [from, to, colour] of p.lines) {
          c.strokeStyle = colour;
          c.beginPath(); c.moveTo(...place(from)); c.lineTo(...place(to)); c.stroke();
        }
        for (let i = 0; i < count; i++) {
          const j = (q * count + i) * 2, x = sx(values[j]), y = sy(values[j + 1]);
          c.fillStyle = p.colours[q][i];
          c.beginPath(); c.arc(x, y, 3, 0, 7); c.fill();
          p.points.push({ x, y, name: p.names[i] + ", " + p.titles[q], right: values[j], up: values[j + 1] });
        }
      });
    },
    values: (p) => Array.from(frame(p.values, at)),
    hit(p, x, y) {
      let best = null, near = 144;
      for (const point of p.points) { const d = (point.x - x) ** 2 + (point.y - y) ** 2; if (d < near) { near = d; best = point; } }
      return best && best.name + "\n(" + number(best.right) + ", " + number(best.up) + ") " + p.unit;
    },
  };

  kinds.heatmaps = {
    prepare(p) {
      p.palette = new Uint32Array(256);
      for (let i = 0; i < 255; i++) p.palette[i + 1] = between(p.colours, i / 254);  // index 0: level −128, no value, is transparent
      p.image = document.createElement("canvas");
      [p.image.height, p.image.width] = p.values.shape.slice(-2);
    },
    tiles: (p, width) => tiles(p.titles, labelsOf(p.columns), width, 300, 46),
    height: (p, width) => kinds.heatmaps.tiles(p, width).height,
    draw(p, c, width) {
      const [rows, columns] = p.values.shape.slice(-2), levels = frame(p.values, at), size = rows * columns;
      p.boxes = kinds.heatmaps.tiles(p, width).boxes;
      p.boxes.forEach((box, q) => {
        if (levels[q * size] === -128) nothing(c, box); else {
          const context = p.image.getContext("2d"), image = context.createImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
          for (let i = 0; i < size; i++) pixels[i] = p.palette[levels[q * size + i] + 128];
          context.putImageData(image, 0, 0);
          c.imageSmoothingEnabled = false;
          c.drawImage(p.image, box.x, box.y, box.w, box.h);
        }
        mapAxes(c, p, q, box);
        colourbar(c, p, q, box);
      });
    },
    values(p) {
      const size = p.values.frame / p.titles.length;
      return Array.from(frame(p.values, at), (level, i) => ofLevel(p.values, Math.floor(i / size), level));
    },
    hit(p, x, y) {
      const [rows, columns] = p.values.shape.slice(-2), q = p.boxes.findIndex((box) => x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h);
      if (q < 0) return null;
      const box = p.boxes[q], j = Math.floor((x - box.x) / box.w * columns), i = Math.floor((y - box.y) / box.h * rows);
      const level = frame(p.values, at)[(q * rows + i) * columns + j], value = withUnit(number(+ofLevel(p.values, q, level).toPrecision(3)), p.unit);
      const beyond = !p.values.beyond[q] ? "" : level === 127 ? "≥ " : level === -127 && p.values.low[q] < 0 ? "≤ " : "";
      const place = p.rows[q].names[i] + ", " + p.columns[q].names[j];
      return (p.titles[q] ? p.titles[q] + "\n" : "") + place + ": " + beyond + value;
    },
  };

  // Since which snapshot each place of a map is as it should be: one array for all steps, of numbers of snapshots; −1 for never, NaN where nothing is.
  kinds.since = {
    prepare(p) {
      p.shades = Array.from({ length: 256 }, (_, i) => between(p.colours, i / 255));
      p.image = document.createElement("canvas");
      [p.image.height, p.image.width] = p.since.shape.slice(-2);
    },
    said: (p, q, share) => p.titles[q] + ": " + share + "\u00a0% by now",
    tiles: (p, width) => tiles(p.titles.map((_, q) => kinds.since.said(p, q, "99.99")), labelsOf(p.columns), width, 380, 46),
    height: (p, width) => kinds.since.tiles(p, width).height,
    draw(p, c, width) {
      const [rows, columns] = p.since.shape.slice(-2), since = frame(p.since, 0), size = rows * columns;
      const axis = { low: page.steps[0], high: page.steps[last], steps: true }, from = along(axis, axis.low), range = along(axis, axis.high) - from || 1;
      const shadeOf = page.steps.map((step) => p.shades[Math.round((along(axis, step) - from) / range * 255)]);
      const waiting = between([theme.line, theme.line], 0);
      p.boxes = kinds.since.tiles(p, width).boxes;
      p.boxes.forEach((box, q) => {
        const context = p.image.getContext("2d"), image = context.createImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
        let there = 0, done = 0;
        for (let i = 0; i < size; i++) {
          const s = since[q * size + i];
          if (Number.isNaN(s)) continue;
          there++;
          const is = s >= 0 && s <= at;
          if (is) done++;
          pixels[i] = is ? shadeOf[s] : waiting;
        }
        context.putImageData(image, 0, 0);
        c.imageSmoothingEnabled = false;
        c.drawImage(p.image, box.x, box.y, box.w, box.h);
        mapAxes(c, p, q, box);
        // Not all is not 100 %.
        const share = done < there ? Math.min(99.99, +(100 * done / there).toFixed(2)) : 100;
        bar(c, box, p.colours, kinds.since.said(p, q, number(share)), whole.format(axis.low), "step " + whole.format(axis.high));
      });
    },
    values: (p) => Array.from(frame(p.since, 0), (s) => s >= 0 && s <= at ? page.steps[s] : NaN),
    hit(p, x, y) {
      const [rows, columns] = p.since.shape.slice(-2), q = p.boxes.findIndex((box) => x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h);
      if (q < 0) return null;
      const box = p.boxes[q], j = Math.floor((x - box.x) / box.w * columns), i = Math.floor((y - box.y) / box.h * rows);
      const s = frame(p.since, 0)[(q * rows + i) * columns + j], place = p.rows[q].names[i] + ", " + p.columns[q].names[j];
      if (Number.isNaN(s)) return null;
      return place + "\n" + (s < 0 ? p.never : p.happened + " " + page.moments[s] + (s ? ", not yet at " + page.moments[s - 1] : ""));
    },
  };

  function above(c, box, text) {
    c.fillStyle = theme.text; c.textAlign = "left"; c.textBaseline = "bottom"; c.fillText(text, box.x, box.y - 3);
  }

  function between(colours, t) {
    const place = t * (colours.length - 1), i = Math.min(Math.floor(place), colours.length - 2), part = place - i;
    const of = (j, n) => parseInt(colours[j].slice(1 + 2 * n, 3 + 2 * n), 16);
    const [red, green, blue] = [0, 1, 2].map((n) => Math.round(of(i, n) * (1 - part) + of(i + 1, n) * part));
    return (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  }

  // Title, colours and their limits above a heatmap.
  function bar(c, box, colours, title, low, high, unit) {
    const gradient = c.createLinearGradient(box.x, 0, box.x + box.w, 0);
    colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
    c.fillStyle = gradient; c.fillRect(box.x, box.y - 24, box.w, 7);
    c.font = FONT; c.fillStyle = theme.text; c.textBaseline = "bottom"; c.textAlign = "left";
    inLines(title, box.w).reverse().forEach((line, i) => c.fillText(line, box.x, box.y - 27 - i * LINE));
    c.fillStyle = theme.soft;
    c.fillText(low, box.x, box.y - 1);
    const full = withUnit(high, unit);  // without its unit where there is no room for that
    c.textAlign = "right"; c.fillText(c.measureText(low + "   " + full).width < box.w ? full : high, box.x + box.w, box.y - 1);
  }
  const colourbar = (c, p, q, box) => bar(c, box, p.colours, p.titles[q], number(+p.values.low[q].toPrecision(3)),
    (p.values.beyond[q] ? "≥ " : "") + number(+p.values.high[q].toPrecision(3)), p.unit);

  const colourOf = (name) => (spansOf.find((span) => span.name === name) || { colour: "transparent" }).colour;

  // ---- drawing ----
  function fitted(p) {
    const width = Math.max(120, Math.floor(p.canvas.clientWidth)), height = Math.round(kinds[p.kind].height(p, width)), scale = window.devicePixelRatio || 1;
    p.width = width; p.height = height; p.scale = scale;
    p.canvas.style.height = height + "px";
    p.canvas.width = Math.round(width * scale); p.canvas.height = Math.round(height * scale);
    p.context = p.canvas.getContext("2d");
    if (kinds[p.kind].still) {
      p.background = document.createElement("canvas");
      p.background.width = p.canvas.width; p.background.height = p.canvas.height;
      const c = p.background.getContext("2d");
      c.scale(scale, scale);
      kinds[p.kind].still(p, c, width, height);
    }
  }

  function drawPanel(p) {
    if (p.section.hidden) return;
    const c = p.context;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, p.canvas.width, p.canvas.height);
    if (p.background) c.drawImage(p.background, 0, 0);
    c.setTransform(p.scale, 0, 0, p.scale, 0, 0);
    kinds[p.kind].draw(p, c, p.width, p.height);
    p.canvas.setAttribute("aria-label", p.title + ", " + moment());
  }

  const moment = (i = at) => page.moments[i] + (page.phases[i] ? " · " + page.phases[i] : "");

  function show(index) {
    const started = performance.now();
    at = Math.max(0, Math.min(last, index));
    slider.value = bySteps() ? page.steps[at] : at;
    if (at > 0) $("invitation").hidden = true;
    for (const button of $("phases").querySelectorAll("button")) button.setAttribute("aria-current", button.dataset.phase === page.phases[at]);
    const text = moment() + " · snapshot " + (at + 1) + " of " + (last + 1);
    $("now").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    tip.hidden = true;
    page.panels.forEach(drawPanel);
    window.grokinterpReplay.lastRedraw = performance.now() - started;
    remember();
  }

  function layout() {
    const style = getComputedStyle(root);
    for (const name of ["text", "soft", "line", "card"]) theme[name] = style.getPropertyValue("--" + name).trim();
    page.panels.filter((p) => !p.section.hidden).forEach(fitted);
    show(at);
  }

  // ---- where we are, in the fragment: #step=4860&x=log&panels=loss,accuracy ----
  let writing = 0;
  function remember() {
    clearTimeout(writing);
    writing = setTimeout(write, 120);
  }
  function write() {
    const shown = page.panels.filter((p) => !p.section.hidden), parts = ["step=" + (page.reload && at === last ? "last" : page.steps[at])];
    if (scaleChoice.value === "log") parts.push("x=log");
    if (bySteps()) parts.push("slider=steps");
    if (page.panels.some((p) => p.section.hidden === p.shown)) parts.push("panels=" + shown.map((p) => p.id).join(","));
    const fragment = "#" + parts.join("&");
    try { if (location.hash !== fragment) history.replaceState(null, "", fragment); } catch (refused) { /* some browsers limit how often */ }
  }
  function nearestStep(step) {
    let best = 0;
    page.steps.forEach((s, i) => { if (Math.abs(s - step) < Math.abs(page.steps[best] - step)) best = i; });
    return best;
  }
  function read(fragment) {
    const given = new URLSearchParams(fragment.slice(1)), step = given.get("step");
    scaleChoice.value = given.get("x") === "log" ? "log" : "linear";
    sliderChoice.value = given.get("slider") === "steps" ? "steps" : "snapshots";
    const wanted = given.has("panels") ? given.get("panels").split(",") : null;
    page.panels.forEach((p) => { p.tick.checked = wanted ? wanted.includes(p.id) : p.shown; p.section.hidden = !p.tick.checked; });
    // A page that is being rewritten is at its end, any other at the start, where it can be played.
    at = step === "last" ? last : step && Number.isFinite(+step) ? nearestStep(+step) : page.reload ? last : 0;
  }

  // ---- what the reader does ----
  function stop() {
    clearTimeout(timer); timer = 0;
    play.textContent = "▶"; play.setAttribute("aria-label", "Play");
  }
  function start() {
    if (at === last) show(0);
    $("invitation").hidden = true;
    play.textContent = "❚❚"; play.setAttribute("aria-label", "Pause");
    timer = setTimeout(onward, pause());
  }
  function onward() {
    if (at === last && !loop.checked) { stop(); return; }
    show(at === last ? 0 : at + 1);
    if (at === last && !loop.checked) stop(); else timer = setTimeout(onward, pause());
  }
  // How long the current snapshot stands, in ms: all alike, or as long as it is until the next.
  function pause() {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches, usual = calm ? 1500 : Math.max(100, Math.min(400, 12000 / (last + 1)));
    const share = bySteps() && at < last ? (page.steps[at + 1] - page.steps[at]) / (page.steps[last] - page.steps[0]) * last : 1;
    return Math.max(16, usual * share / SPEEDS[speed]);
  }
  function faster(by) {
    speed = Math.max(0, Math.min(SPEEDS.length - 1, speed + by));
    $("speed").textContent = SPEEDS[speed] + " ×";
  }
  const toggle = () => timer ? stop() : start();
  const go = (index) => { stop(); show(index); };
  function shortcuts() {
    const dialog = $("shortcuts");
    dialog.open ? dialog.close() : dialog.showModal();
  }
  const KEYS = {
    " ": toggle, ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(last),
    "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1), l: () => { loop.checked = !loop.checked; }, "?": shortcuts,
  };

  function listen() {
    slider.addEventListener("input", () => go(bySteps() ? nearestStep(+slider.value) : +slider.value));
    play.addEventListener("click", toggle);
    $("invitation").addEventListener("click", start);
    $("faster").addEventListener("click", () => faster(1));
    $("slower").addEventListener("click", () => faster(-1));
    $("ask").addEventListener("click", shortcuts);
    scaleChoice.addEventListener("change", layout);
    sliderChoice.addEventListener("change", () => { ruler(); show(at); });
    // What the reader is done with does not keep the keys to itself.
    for (const choice of [scaleChoice, sliderChoice]) choice.addEventListener("change", () => choice.blur());
    document.addEventListener("click", (event) => {
      const pressed = event.target.closest("#bar button, #controls button, #controls input, #choices input, summary");
      if (event.detail && pressed) pressed.blur();  // by the mouse
    });
    document.addEventListener("keydown", (event) => {
      const where = event.target.tagName, onSlider = event.target === slider, name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (event.ctrlKey || event.metaKey || event.altKey || where === "SELECT") return;
      if ($("shortcuts").open && name !== "?") return;
      if (name === " " && /^(BUTTON|SUMMARY|INPUT)$/.test(where) && !onSlider) return;  // which the browser presses
      const also = onSlider ? { ArrowUp: KEYS.ArrowRight, ArrowDown: KEYS.ArrowLeft } : {}, action = KEYS[name] || also[name];
      if (!action) return;
      event.preventDefault(); action();
    });
    // The fragment of the event: what was about to be remembered may have replaced that of the page by now.
    window.addEventListener("hashchange", (event) => { stop(); read(new URL(event.newURL).hash); ruler(); layout(); });
    let width = window.innerWidth;
    window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; layout(); } });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", layout);
    for (const p of page.panels) {
      const point = (event) => { const r = p.canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
      const hover = (event) => {
        const text = kinds[p.kind].hit(p, ...point(event));
        tip.hidden = !text;
        if (!text) return;
        tip.textContent = text;
        tip.style.left = Math.max(4, Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 4)) + "px";
        tip.style.top = Math.max(4, Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 4)) + "px";
      };
      p.canvas.addEventListener("pointermove", hover);
      p.canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
      p.canvas.addEventListener("pointerdown", (event) => {
        if (p.kind === "curves") { stop(); show(kinds.curves.nearest(p, point(event)[0])); }
        hover(event);
      });
      p.section.querySelector(".png").addEventListener("click", () => save(p));
      p.tick.addEventListener("change", () => { p.section.hidden = !p.tick.checked; layout(); });
    }
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) document.addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
    // A page that is being rewritten loads itself again, but not under the reader's hands.
    if (page.reload) setInterval(() => {
      if (!timer && !document.hidden && Date.now() - touched > 1000 * page.reload) { write(); location.reload(); }
    }, 1000 * page.reload);
  }

  function choices() {
    for (const p of page.panels) {
      const label = document.createElement("label");
      p.tick = document.createElement("input");
      p.tick.type = "checkbox";
      label.append(p.tick, " " + p.title);
      $("choices").append(label);
    }
  }

  // The slider and the phases above it: over the snapshots, or over the steps.
  function ruler() {
    const [low, high] = bySteps() ? [page.steps[0], page.steps[last]] : [0, last];
    slider.min = low; slider.max = high;
    if (!page.spans.length) return;
    const part = 100 / (last + 1), share = (step) => Math.max(0, Math.min(100, 100 * (step - low) / (high - low || 1)));
    const stretches = bySteps() ? page.spans.map((span) => [span.name, share(span.start), share(span.end)])
      : page.phases.map((name, i) => [name, i * part, (i + 1) * part]);
    $("strip").style.background = "linear-gradient(to right, " +
      stretches.map(([name, from, to]) => colourOf(name) + " " + from + "% " + to + "%").join(", ") + ")";
  }

  function phases() {
    for (const span of page.spans) {
      const button = document.createElement("button"), swatch = document.createElement("span"), first = page.steps.findIndex((s) => s >= span.start);
      button.type = "button";
      button.dataset.phase = span.name;
      button.title = "steps " + whole.format(span.start) + " to " + whole.format(span.end);
      swatch.className = "swatch";
      swatch.style.background = span.colour;
      button.append(swatch, span.name);
      button.addEventListener("click", () => go(first < 0 ? last : first));
      $("phases").append(button);
    }
  }

  // A panel as a picture that says what it is: title and moment above, the legend with its values below.
  function save(p) {
    const rows = p.kind === "curves" ? p.series.length : 0, sheet = document.createElement("canvas"), c = sheet.getContext("2d"), scale = p.scale;
    sheet.width = (p.width + 24) * scale; sheet.height = (p.height + 62 + 20 * rows) * scale;
    c.scale(scale, scale);
    c.fillStyle = theme.card; c.fillRect(0, 0, sheet.width, sheet.height);
    c.fillStyle = theme.text; c.textBaseline = "top"; c.font = "bold 15px system-ui, sans-serif"; c.fillText(p.title, 12, 10);
    c.font = "13px system-ui, sans-serif"; c.fillStyle = theme.soft; c.fillText(page.task + ", " + moment(), 12, 30);
    c.drawImage(p.canvas, 12, 52, p.width, p.height);
    for (let i = 0; i < rows; i++) {
      const s = p.series[i], y = 58 + p.height + 20 * i;
      c.fillStyle = s.colour; c.fillRect(12, y + 6, 18, 3);
      c.fillStyle = theme.text; c.fillText(s.label + "  " + withUnit(number(s.values.values[at]), noted(s, at)), 38, y);
    }
    sheet.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = page.run + "_" + p.id + "_step" + page.steps[at] + ".png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }

  window.grokinterpReplay = {
    lastRedraw: NaN,
    // What each panel that is open shows of the current step, for scripts.
    current: () => ({
      step: page.steps[at],
      panels: Object.fromEntries(page.panels.filter((p) => !p.section.hidden).map((p) => [p.id, kinds[p.kind].values(p)])),
    }),
  };

  async function open() {
    for (const p of page.panels) {
      p.section = $("panel-" + p.id);
      p.canvas = p.section.querySelector("canvas");
    }
    choices();
    phases();
    read(location.hash);
    ruler();
    await Promise.all(packedIn(page.panels).map(unpack));
    page.panels.forEach((p) => kinds[p.kind].prepare(p));
    listen();
    layout();
    root.dataset.ready = "yes";
  }

  open().catch((error) => {
    $("trouble").hidden = false;
    $("trouble").textContent = "This page cannot be drawn: " + error.message + ". It needs a browser of 2023 or later.";
    throw error;
  });
})();
