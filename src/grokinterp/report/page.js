(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Text and grid take the page's colours, so one figure serves light and dark.
  function colours() {
    var style = getComputedStyle(document.documentElement);
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

  function draw(node) {
    var figure = JSON.parse(node.nextElementSibling.textContent);
    return Plotly.react(node, figure.data, layout(figure.layout), { responsive: true, displaylogo: false, displayModeBar: false });
  }

  function drawAll() {
    return Promise.all(Array.prototype.map.call(document.querySelectorAll(".plot"), draw));
  }

  dark.addEventListener("change", drawAll);
  drawAll().then(function () { document.documentElement.dataset.ready = "yes"; });
})();
