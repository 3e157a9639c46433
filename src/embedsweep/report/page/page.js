"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const printed = matchMedia("print");
  // Okabe and Ito's colours, which differ for the colour-blind too; darker on white, lighter on black.
  const palettes = {
    light: {
      marks: ["#0072b2", "#c44500", "#00795a", "#a3477f", "#8a6d00", "#2b7bba", "#5c5c5c", "#7a4fa3"],
      text: "#1c1f23", muted: "#79828d", line: "#c9ced6", ground: "#ffffff",
    },
    dark: {
      marks: ["#56b4e9", "#ff8a3d", "#2fd0a3", "#e59bc8", "#f0e442", "#9fd0ff", "#c0c0c0", "#c9a6f5"],
      text: "#e6e9ed", muted: "#8d97a3", line: "#3d444d", ground: "#15181c",
    },
  };

  function coloured(trace, palette) {
    const name = trace.meta.color;
    const color = palette[name] ?? palette.marks[name % palette.marks.length];
    const painted = { ...trace, marker: { ...trace.marker, color } };
    if (trace.line) painted.line = { ...trace.line, color };
    if (trace.type === "box") painted.line = { color, width: 1.5 };
    if (trace.type === "box") painted.fillcolor = "rgba(0,0,0,0)";
    if (trace.error_x) painted.error_x = { ...trace.error_x, color };
    return painted;
  }

  function axisOf(axis, palette) {
    return { gridcolor: palette.line, linecolor: palette.line, tickcolor: palette.line, ...axis };
  }

  function draw(place) {
    const figure = figures[Number(place.dataset.chart)];
    const palette = palettes[dark.matches && !printed.matches ? "dark" : "light"];
    const layout = figure.layout;
    const themed = {
      ...layout,
      autosize: true,
      height: layout.height ?? 380,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: palette.text, family: "system-ui, sans-serif", size: 12 },
      margin: { l: 50, r: 20, t: 34, b: 40 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: palette.muted, activecolor: palette.text },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: palette.text, font: { color: palette.text === "#e6e9ed" ? "#15181c" : "#ffffff" } },
      xaxis: axisOf(layout.xaxis, palette),
      yaxis: axisOf(layout.yaxis, palette),
      shapes: (layout.shapes ?? []).map((shape) => ({ ...shape, line: { ...shape.line, color: palette.muted } })),
    };
    themed.annotations = (layout.annotations ?? []).map((label) => ({ ...label, bgcolor: palette[label.bgcolor] }));
    const traces = figure.data.map((trace) => coloured(trace, palette));
    const options = { responsive: true, displaylogo: false, showSendToCloud: false, displayModeBar: "hover" };
    Plotly.react(place, traces, themed, options);
    place.dataset.drawn = "";
  }

  const places = [...document.querySelectorAll("[data-chart]")];
  // One after another, so that the page can be read and scrolled from the start.
  const waiting = [...places];
  function drawNext() {
    const place = waiting.shift();
    if (place) {
      draw(place);
      setTimeout(drawNext);
    }
  }
  drawNext();

  function drawAll() {
    waiting.length = 0;
    places.forEach(draw);
  }
  dark.addEventListener("change", drawAll);
  printed.addEventListener("change", drawAll);
})();
