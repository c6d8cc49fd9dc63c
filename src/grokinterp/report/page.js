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
      copy[axis] = Object.assign({ gridcolor: c.line, zerolinecolor: c.line, linecolor: c.line, automargin: true }, copy[axis]);
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
    return Plotly.react(node, figure.data, layout(figure.layout), options).then(function () { return clear(node, 3); });
  }

  // Where a page is so narrow that a legend of many rows lies on the curves, the figure grows by as much.
  function clear(node, tries) {
    var legend = node.querySelector(".legend"), area = node.querySelector(".nsewdrag");
    if (!legend || !area || !tries) return;
    var rows = legend.getBoundingClientRect(), curves = area.getBoundingClientRect();
    var over = Math.min(rows.bottom, curves.bottom) - Math.max(rows.top, curves.top);
    if (over < 2 || rows.left > curves.right || rows.right < curves.left) return;
    return Plotly.relayout(node, { height: node._fullLayout.height + 2 * over + 40 }).then(function () { return clear(node, tries - 1); });
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
