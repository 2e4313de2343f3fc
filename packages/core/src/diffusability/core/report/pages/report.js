// The page is complete without this script. It remembers the colours that a reader chose, opens what is folded before
// printing, and shows the values of figures under the pointer, or by arrow keys when a figure has the focus.
(() => {
  "use strict";

  const KEPT = "diffusability-theme";
  const reach = 5; // points of a figure within which lines count as being at one abscissa
  const mostRows = 14;

  try {
    const chosen = document.getElementById(localStorage.getItem(KEPT) || "");
    if (chosen) chosen.checked = true;
  } catch { /* storage may be forbidden, as in files that are opened from a mail */ }
  for (const input of document.querySelectorAll("input[name=theme]")) {
    input.addEventListener("change", () => {
      try { localStorage.setItem(KEPT, input.id); } catch { /* it holds until the page is closed */ }
    });
  }

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.querySelector("main").append(tip);

  const element = (name, text, className) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const format = (value) => {
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(value);
    return text.replace("-", "\u2212");
  };
  const nearest = (values, wanted) => {
    let best = 0;
    values.forEach((value, place) => {
      if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = place;
    });
    return best;
  };

  function place(x, y) {
    tip.style.left = "0";
    tip.style.top = "0";
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > document.documentElement.clientWidth ? x - 16 - box.width : x + 16;
    const top = Math.min(y + 16, window.innerHeight - box.height - 4);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, top)}px`;
  }

  for (const svg of document.querySelectorAll("svg[data-series]")) {
    const series = JSON.parse(svg.dataset.series).filter((line) => line.px.length);
    if (!series.length) continue;
    const stops = [...new Set(series.flatMap((line) => line.px))].sort((one, other) => one - other);
    const mark = document.createElementNS(svg.namespaceURI, "g");
    svg.append(mark);
    svg.tabIndex = 0;
    let stop = 0;

    const hide = () => {
      tip.hidden = true;
      mark.replaceChildren();
    };
    const draw = (name, attributes) => {
      const shape = document.createElementNS(svg.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
      mark.append(shape);
    };
    const show = (px, py, x, y) => {
      const box = svg.viewBox.baseVal;
      const rows = series
        .map((line) => [line, nearest(line.px, px)])
        .filter(([line, index]) => Math.abs(line.px[index] - px) <= reach)
        .sort(([one, i], [other, j]) => Math.abs(one.py[i] - py) - Math.abs(other.py[j] - py));
      const shown = rows.slice(0, mostRows).sort(([one, i], [other, j]) => one.py[i] - other.py[j]);
      mark.replaceChildren();
      draw("line", { x1: px, x2: px, y1: box.y, y2: box.y + box.height, class: "cursor" });
      tip.replaceChildren();
      if (svg.dataset.title) tip.append(element("b", svg.dataset.title));
      const [line, index] = rows[0];
      tip.append(element("p", `${svg.dataset.axis || "x"}: ${format(line.x[index])}`, "quiet"));
      const table = element("table", "");
      for (const [drawn, at] of shown) {
        const row = table.insertRow();
        const key = row.insertCell();
        const swatch = element("span", "", "dot");
        swatch.style.background = drawn.color;
        key.append(swatch, drawn.label);
        row.insertCell().textContent = format(drawn.y[at]);
        draw("circle", { cx: drawn.px[at], cy: drawn.py[at], r: 3, style: `fill: ${drawn.color}` });
      }
      tip.append(table);
      if (rows.length > shown.length) tip.append(element("p", `and ${rows.length - shown.length} more`, "quiet"));
      tip.hidden = false;
      place(x, y);
    };
    const follow = (event) => {
      const box = svg.getBoundingClientRect();
      const view = svg.viewBox.baseVal;
      const px = view.x + ((event.clientX - box.left) / box.width) * view.width;
      const py = view.y + ((event.clientY - box.top) / box.height) * view.height;
      stop = nearest(stops, px);
      show(stops[stop], py, event.clientX, event.clientY);
    };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: stops.length - 1 };
      if (event.key === "Escape") hide();
      if (!(event.key in steps)) return;
      event.preventDefault();
      stop = Math.min(Math.max(steps[event.key], 0), stops.length - 1);
      const box = svg.getBoundingClientRect();
      const view = svg.viewBox.baseVal;
      const x = box.left + ((stops[stop] - view.x) / view.width) * box.width;
      show(stops[stop], view.y, x, box.top + box.height / 3);
    });
  }
})();
