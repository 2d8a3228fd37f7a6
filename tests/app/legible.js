// What a reader would stumble over on the page, as a list of sentences.
() => {
  const found = [], rgba = (text) => {
    const scale = text.startsWith("color(") ? 255 : 1, parts = text.match(/[\d.]+/g).map(Number);
    return [...parts.slice(0, 3).map((part) => part * scale), parts[3] ?? 1];
  };
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3]));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map((p) => (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const cross = (a, b, gap) => a.left < b.right - gap && a.right > b.left + gap && a.top < b.bottom - gap && a.bottom > b.top + gap;
  const texts = document.createTreeWalker(document.querySelector("[data-testid=stMain]"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, e = text.parentElement, look = getComputedStyle(e), svg = e.closest("svg"), range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    // Texts on bars and cells have the ink of their own ground, which another test computes; a table's copy is not seen.
    if (!text.data.trim() || box.width < 1 || e.closest("canvas, style, script, .bartext-inside, tspan[style*=fill], [disabled], [aria-disabled=true]")) continue;
    const size = parseFloat(look.fontSize), below = ground(svg ? svg.parentElement : e);
    if (size <= 13.01) {
      const [a, b] = [luminance(over(rgba(svg ? look.fill : look.color), below)), luminance(below)].sort((x, y) => y - x);
      if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(2)} of ${text.data}`);
    }
    const edge = svg?.classList.contains("main-svg") && svg.getBoundingClientRect();
    if (edge && (box.left < edge.left - 1 || box.right > edge.right + 1 || box.top < edge.top - 1 || box.bottom > edge.bottom + 1)) found.push(`cut: ${text.data}`);
  }
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    if (!plot._fullLayout?._size) { found.push("a plot is not drawn yet"); continue; }
    const boxes = [...plot.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
    const lines = [...plot.querySelectorAll(".shapelayer path, .errorbar path")].map((e) => e.getBoundingClientRect());
    const thin = lines.filter((line) => line.width < 12 || line.height < 12).map((line) => ({
      left: line.left, top: line.top, bottom: line.bottom, right: Math.min(line.right, plot._fullLayout._size.l + plot._fullLayout._size.w + plot.getBoundingClientRect().left),
    }));
    for (const [text, box] of boxes) if (thin.some((line) => cross(box, line, 2))) found.push(`struck through: ${text}`);
    boxes.forEach(([text, box], i) => boxes.slice(i + 1).forEach(([other, b]) => cross(box, b, 3) && found.push(`${text} on ${other}`)));
  }
  return found;
}
