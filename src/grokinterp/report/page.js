(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot")), drawn = new Map();

  // Text and grid take the page's colours, so one figure serves light and dark.
  function colours() {
    var style = getComputedStyle(root);
    return { text: style.getPropertyValue("--text").trim(), line: style.getPropertyValue("--line").trim() };
  }

  function layout(original) {
    var c = colours(), copy = JSON.parse(JSON.stringify(original));
    copy.paper_bgcolor = copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.font = { color: c.text, family: "system-ui, sans-serif", size: 12 };
    copy.dragmode = false;
    copy.autosize = true;
    var axes = Object.keys(copy).filter(function (name) { return /^[xy]axis\d*$/.test(name); });
    ["xaxis", "yaxis"].concat(axes).forEach(function (axis) {
      var usual = { gridcolor: c.line, zerolinecolor: c.line, linecolor: c.line, automargin: true };
      copy[axis] = Object.assign(usual, { separatethousands: true, exponentformat: "power", minexponent: 6 }, copy[axis]);
    });
    return copy;
  }

  // Numbers in cells too narrow for them are told where the mouse is instead.
  function thinned(node, traces) {
    traces.forEach(function (trace) {
      var columns = trace.texttemplate && trace.text && trace.text[0].length;
      if (columns && (node.clientWidth - 160) / columns < 26) delete trace.texttemplate;
    });
    return traces;
  }

  function draw(node) {
    var figure = JSON.parse(node.nextElementSibling.textContent);
    drawn.set(node, true);
    thinned(node, figure.data);
    var options = { responsive: true, displaylogo: false, displayModeBar: false };
    return Plotly.react(node, figure.data, layout(figure.layout), options).then(function () {
      if (!node.listens) { node.listens = true; node.on("plotly_restyle", function () { return fit(node, 4); }); }  // the reader hides a line
      return fit(node, 4);
    }).then(function () { node.dataset.drawn = "yes"; });
  }

  // How much room there is for curves and labels is known once a figure is drawn: then it grows until the curves have theirs beside a legend of many
  // rows, or the cells of a heatmap are square, and its logarithmic axes get as many labels as fit.
  function fit(node, tries) {
    var change = tries && Object.assign(taller(node), labelled(node), wrapped(node));
    if (!change || !Object.keys(change).length) return;
    return Plotly.relayout(node, change).then(function () { return fit(node, tries - 1); });
  }

  var LEAST = 0.8;  // of the room that a figure is made with is left to the curves
  function taller(node) {
    var full = node._fullLayout, legend = node.querySelector(".legend"), area = node.querySelector(".nsewdrag");
    if (full.yaxis2 || !area) return {};
    var made = node.getAttribute("data-height") - 60, wanted = node.classList.contains("square") ? full._size.w : LEAST * made;
    var missing = wanted - full._size.h, rows = legend && legend.getBoundingClientRect(), curves = area.getBoundingClientRect();
    if (rows && rows.left < curves.right && rows.right > curves.left) missing = Math.max(missing, rows.bottom - curves.top);
    return missing > 2 || node.classList.contains("square") && missing < -2 ? { height: full.height + missing } : {};
  }

  function labelled(node) {
    var full = node._fullLayout, change = {};
    ["xaxis", "yaxis"].forEach(function (name) {
      var axis = full[name], ticks = axis && axis.type === "log" && powers(axis.range, axis._length / (name === "xaxis" ? 48 : 22));
      if (!ticks || String(axis.tickvals) === String(ticks.map(function (tick) { return tick[0]; }))) return;
      change[name + ".tickmode"] = "array";
      change[name + ".tickvals"] = ticks.map(function (tick) { return tick[0]; });
      change[name + ".ticktext"] = ticks.map(function (tick) { return tick[1]; });
    });
    return change;
  }

  // A title of an axis that goes beyond the figure stands in two lines.
  function wrapped(node) {
    var title = node.querySelector(".xtitle"), text = node._fullLayout.xaxis && node._fullLayout.xaxis.title.text;
    if (!title || text.includes("<br>")) return {};
    var at = title.getBoundingClientRect(), all = node.getBoundingClientRect(), half = text.lastIndexOf(" ", 0.6 * text.length);
    if (half < 0 || at.right < all.right && at.left > all.left) return {};
    return { "xaxis.title.text": text.slice(0, half) + "<br>" + text.slice(half + 1) };
  }

  // Powers of ten between two of them, at most so many; 2 and 5 times them as well where they are few. None where plotly's own labels do.
  function powers(range, room) {
    var low = Math.min(range[0], range[1]), high = Math.max(range[0], range[1]), few = high - low < 2, ticks = [];
    var every = few ? 1 : Math.max(1, Math.ceil((high - low) / Math.max(1, room - 1)));
    for (var e = Math.floor(low / every) * every; e <= high; e += every)
      (few ? [1, 2, 5] : [1]).forEach(function (m) {
        var at = e + Math.log10(m);
        if (at >= low - 1e-9 && at <= high + 1e-9) ticks.push([m * Math.pow(10, e), (m > 1 ? m + (e ? " × " : "") : "") + (e || m === 1 ? power(e) : "")]);
      });
    return ticks.length > 1 && ticks.length <= room + 1 ? ticks : null;
  }
  function power(e) {
    var raised = String(e).replace(/./g, function (c) { return c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[+c]; });
    return e === 0 ? "1" : e === 1 ? "10" : "10" + raised;
  }

  // A figure is drawn when it comes near what is seen; all of them before the page is printed.
  var near = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting && !drawn.has(entry.target)) { near.unobserve(entry.target); draw(entry.target); }
    });
    root.dataset.ready = "yes";
  }, { rootMargin: "800px 0px" });
  plots.forEach(function (node) { near.observe(node); });
  if (!plots.length) root.dataset.ready = "yes";
  window.addEventListener("beforeprint", function () {
    plots.forEach(function (node) { if (!drawn.has(node)) { near.unobserve(node); draw(node); } });
  });
  var width = window.innerWidth;
  window.addEventListener("resize", function () {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawn.forEach(function (_, node) { draw(node); });
  });
  dark.addEventListener("change", function () { drawn.forEach(function (_, node) { draw(node); }); });

  // The cell of a still heatmap that the mouse is at, or a finger touched, in words.
  function tell(script) {
    var said = JSON.parse(script.textContent), area = script.parentNode, cells = null, tip = document.createElement("output");
    var stream = new Blob([Uint8Array.from(atob(said.cells), function (c) { return c.charCodeAt(0); })]).stream();
    new Response(stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer().then(function (buffer) { cells = new Uint16Array(buffer); });
    tip.className = "tip";
    area.appendChild(tip);
    area.addEventListener("pointermove", function (event) {
      var box = area.getBoundingClientRect(), size = said.names.map(function (names) { return names.length || names; });
      var row = Math.floor((event.clientY - box.top) / box.height * size[0]), column = Math.floor((event.clientX - box.left) / box.width * size[1]);
      if (!cells || row < 0 || column < 0 || row >= size[0] || column >= size[1]) return;
      var at = { y: said.names[0][row] || row, x: said.names[1][column] || column, z: said.words[cells[row * size[1] + column]] };
      tip.textContent = said.template.replace(/%{(x|y|z)}/g, function (_, name) { return at[name]; });
    });
    area.addEventListener("pointerleave", function () { tip.textContent = ""; });
  }
  document.querySelectorAll(".cells").forEach(tell);

  // What a link leads to is opened where it is folded away.
  function open() {
    var target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (var node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target && target.closest("details")) target.scrollIntoView();
  }
  window.addEventListener("hashchange", open);
  open();
})();
