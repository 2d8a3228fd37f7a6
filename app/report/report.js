"use strict";
// Draws every figure of the page in the colours of its theme, on paper too, and saves tables as CSV. Asks nothing of any network.
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function themed(layout) {
  const style = getComputedStyle(document.body);
  const grid = "rgba(127, 132, 142, 0.25)";
  const axis = { gridcolor: grid, zeroline: false, linecolor: grid };
  const own = (name) => Object.assign({}, axis, layout[name]);
  return Object.assign({}, layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: Object.assign({}, layout.font, { color: style.color, family: style.fontFamily }),
    xaxis: own("xaxis"), yaxis: own("yaxis"),
  });
}

function draw() {
  for (const place of document.querySelectorAll(".plot")) {
    const data = place.querySelector("script");
    if (data) { place.figure = JSON.parse(data.textContent); data.remove(); }
    Plotly.react(place, place.figure.data, themed(place.figure.layout), {
      responsive: true, displayModeBar: false,
    });
  }
}

function csv(table) {
  const cell = (c) => '"' + c.textContent.replaceAll('"', '""') + '"';
  return [...table.rows].map((r) => [...r.cells].map(cell).join(",")).join("\r\n");
}

for (const button of document.querySelectorAll(".csv")) {
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(button.previousElementSibling.querySelector("table"))], { type: "text/csv" }));
    link.download = "table.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(plain).text();
  document.head.append(script);
}

function onPaper(printing) {
  document.documentElement.classList.toggle("paper", printing);
  draw();
}

unpack().then(() => {
  draw();
  dark.addEventListener("change", draw);
  window.addEventListener("beforeprint", () => onPaper(true));
  window.addEventListener("afterprint", () => onPaper(false));
}).catch((error) => {
  for (const place of document.querySelectorAll(".plot")) place.textContent = `This browser cannot draw the plot: ${error}`;
});
