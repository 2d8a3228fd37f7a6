"use strict";
// Saves a plot with its title, which stands above it as text, when one of the buttons beside the title is pressed.
// The page and the report share it; both have Plotly as a global name.
if (!window.labSaves) {
  window.labSaves = true;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-save]");
    const place = button?.closest("[class*=st-key-plot-], .drawing")?.querySelector(".js-plotly-plot");
    if (!place || !window.Plotly) return;
    const { data, layout } = place, ink = { color: getComputedStyle(place).color };
    const readable = (axis = {}) => ({
      ...axis, tickfont: { ...axis.tickfont, ...ink }, title: { ...axis.title, font: { ...axis.title?.font, ...ink } },
    });
    // A file has no fonts of the page, so its margins are measured in one that every viewer has.
    const font = { ...layout.font, ...ink, family: "Arial, sans-serif" };
    const axes = { xaxis: readable(layout.xaxis), yaxis: readable(layout.yaxis), font };
    const { width, height, filename, ...titled } = layout.meta.saved;
    const background = { paper_bgcolor: getComputedStyle(document.querySelector("[data-testid=stApp]") ?? document.body).backgroundColor };
    window.Plotly.downloadImage({ data, layout: { ...layout, ...titled, ...axes, ...background, width, height } }, {
      format: button.dataset.save, width, height, scale: button.dataset.save === "png" ? 2 : 1, filename,
    });
  });
}
