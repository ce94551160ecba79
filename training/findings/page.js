"use strict";
// Which accuracy, runs and repetitions are shown; values under the pointer or the arrow keys. No network, no library.
(() => {
  const GAP = 14;
  const curves = JSON.parse(document.getElementById("curves").textContent);
  const controls = document.getElementById("controls");
  const charts = [...document.querySelectorAll("figure.live svg[data-x]")].map(openChart);

  function openChart(svg) {
    const [left, right, first, last] = svg.dataset.x.split(" ").map(Number);
    const [bottom, top, low, high] = svg.dataset.y.split(" ").map(Number);
    const lines = [...svg.querySelectorAll(".line")].map((node) => ({
      node,
      name: node.dataset.label,
      runs: [...node.querySelectorAll(".run")],
    }));
    const chart = {
      svg, lines, left, right, bottom, first, last, at: null,
      of: curves[svg.closest("[data-metric]").dataset.metric],
      across: (epoch) => left + ((right - left) * (epoch - first)) / (last - first),
      up: (value) => bottom - ((bottom - top) * (value - low)) / (high - low),
      tip: svg.closest("figure").querySelector(".tip"),
      cursor: svg.querySelector(".cursor"),
    };
    svg.tabIndex = 0;
    svg.addEventListener("pointerenter", () => svg.after(chart.tip));
    svg.addEventListener("focus", () => svg.after(chart.tip));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const place = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      const epoch = first + ((place - left) / (right - left)) * (last - first);
      show(chart, nearest(epochsOf(chart), epoch));
    });
    svg.addEventListener("pointerleave", () => show(chart, null));
    svg.addEventListener("blur", () => show(chart, null));
    svg.addEventListener("keydown", (event) => {
      const epochs = epochsOf(chart);
      const place = chart.at === null ? -1 : epochs.indexOf(chart.at);
      const next = {
        ArrowRight: Math.min(place + 1, epochs.length - 1), ArrowLeft: Math.max(place - 1, 0),
        Home: 0, End: epochs.length - 1, Escape: -1,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(chart, next < 0 || !epochs.length ? null : epochs[next]);
    });
    return chart;
  }

  const visible = (line) => line.runs.filter((run) => !run.classList.contains("off"));
  const drawn = (line) => getComputedStyle(line.node).display !== "none";
  const nearest = (epochs, wanted) =>
    epochs.length ? epochs.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a)) : null;

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // Map of epoch to the values of a line's visible runs.
  function valuesOf(chart, line) {
    const found = new Map();
    for (const run of visible(line)) {
      const [epochs, values] = chart.of[run.dataset.run];
      epochs.forEach((epoch, i) => found.set(epoch, [...(found.get(epoch) ?? []), values[i]]));
    }
    return new Map([...found].sort(([a], [b]) => a - b));
  }

  function epochsOf(chart) {
    const all = chart.lines.filter(drawn).flatMap((line) => [...valuesOf(chart, line).keys()]);
    return [...new Set(all)].sort((a, b) => a - b);
  }

  // Median and band over the repetitions that are switched on; a line of one run keeps its band of standard errors.
  function redraw(chart) {
    for (const line of chart.lines) {
      const found = [...valuesOf(chart, line)];
      const points = (of) => found.map(([e, v]) => `${chart.across(e).toFixed(1)},${chart.up(of(v)).toFixed(1)}`);
      const around = [...points((v) => Math.max(...v)), ...points((v) => Math.min(...v)).reverse()];
      line.node.querySelector(".median").setAttribute("points", points(median).join(" "));
      const band = line.node.querySelector(".band");
      line.error ??= line.runs.length === 1 ? band.getAttribute("points") : "";
      band.setAttribute("points", (found.length && line.error) || around.join(" "));
      line.label = line.node.querySelector(".end");
      line.last = found.length ? median(found.at(-1)[1]) : null;
      line.label.textContent = line.last?.toFixed(1) ?? "";
    }
    // Labels in the order of their values, a row apart: downwards first, then back up from the lower end.
    const placed = chart.lines.filter((line) => line.last !== null).sort((a, b) => b.last - a.last);
    const at = placed.map((line) => chart.up(line.last) + 4);
    for (let i = 1; i < at.length; i++) at[i] = Math.max(at[i], at[i - 1] + GAP);
    for (let i = at.length - 1, most = chart.bottom; i >= 0; i--, most = at[i + 1] - GAP) at[i] = Math.min(at[i], most);
    placed.forEach((line, i) => line.label.setAttribute("y", at[i].toFixed(1)));
  }

  function show(chart, epoch) {
    chart.at = epoch;
    chart.cursor.style.visibility = epoch === null ? "hidden" : "visible";
    chart.tip.replaceChildren();
    if (epoch === null) return;
    chart.cursor.setAttribute("transform", `translate(${chart.across(epoch)} 0)`);
    const rows = [document.createElement("div")];
    rows[0].textContent = `epoch ${epoch}`;
    for (const line of chart.lines.filter(drawn)) {
      const values = valuesOf(chart, line).get(epoch);
      if (!values) continue;
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const row = document.createElement("div");
      row.className = line.node.getAttribute("class").replace("line", "");
      const name = document.createElement("span");
      name.textContent = line.name;
      const ends = values.length > 1 ? `, mean ${mean.toFixed(1)}, ${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}` : "";
      row.append(name, ` ${median(values).toFixed(1)}${ends}`);
      rows.push(row);
    }
    chart.tip.append(...rows);
    const share = (chart.across(epoch) / chart.svg.viewBox.baseVal.width) * 100;
    Object.assign(chart.tip.style, share < 50 ? { left: `${share + 3}%`, right: "" } : { left: "", right: `${103 - share}%` });
  }

  function apply() {
    for (const block of document.querySelectorAll("[data-metric]"))
      block.hidden = block.dataset.metric !== controls.elements.metric.value;
    for (const name of ["runs", "spread", "controls"])
      document.body.classList.toggle(`without-${name}`, !controls.elements[name].checked);
    const shown = new Set([...controls.querySelectorAll("[name=group]:checked")].map((box) => box.value));
    for (const run of document.querySelectorAll("figure.live .run"))
      run.classList.toggle("off", !shown.has(run.dataset.group));
    charts.forEach(redraw);
  }

  for (const button of document.querySelectorAll("figcaption button")) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      for (const line of button.closest("figure").querySelectorAll(".line"))
        if (line.dataset.label === button.dataset.label) line.classList.toggle("off", !on);
    });
  }
  controls.addEventListener("change", apply);
  controls.hidden = false;
  apply();
})();
