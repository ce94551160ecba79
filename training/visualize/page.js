"use strict";
// The clip of the video under the pointer or the arrow keys, and single classes. No network, no library.
(() => {
  const cloud = document.querySelector(".cloud");
  if (!cloud) return;
  const side = JSON.parse(document.getElementById("sizes").textContent).film;
  const chart = cloud.querySelector(".points");
  const tip = cloud.querySelector(".tip");
  const circles = [...chart.querySelectorAll("circle")];
  const texts = circles.map((circle) => circle.querySelector("title").textContent);
  let at = -1;
  for (const circle of circles) circle.querySelector("title").remove(); // the tip says it, with the clip

  function show(number) {
    circles[at]?.classList.remove("at");
    at = number;
    tip.hidden = at < 0;
    if (at < 0) return;
    const circle = circles[at];
    circle.classList.add("at");
    tip.querySelector(".film").style.backgroundPosition = `0 -${side * at}px`;
    tip.querySelector("span").textContent = texts[at];
    const box = circle.getBoundingClientRect(), frame = cloud.getBoundingClientRect();
    const beside = box.right - frame.left + 8;
    const left = beside + tip.offsetWidth > frame.width ? box.left - frame.left - 8 - tip.offsetWidth : beside;
    Object.assign(tip.style, { left: `${Math.max(0, left)}px`, top: `${box.bottom - frame.top + 4}px` });
  }

  chart.addEventListener("pointerover", (event) => {
    if (event.target.tagName === "circle") show(circles.indexOf(event.target));
  });
  chart.addEventListener("pointerleave", () => show(-1));
  chart.addEventListener("blur", () => show(-1));
  chart.addEventListener("keydown", (event) => {
    const shown = circles.flatMap((circle, i) => (circle.classList.contains("off") ? [] : [i]));
    const place = shown.indexOf(at);
    const next = {
      ArrowRight: Math.min(place + 1, shown.length - 1), ArrowLeft: Math.max(place - 1, 0),
      Home: 0, End: shown.length - 1, Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(next < 0 ? -1 : shown[next]);
  });
  const buttons = [...cloud.querySelectorAll("button")];
  for (const button of buttons) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const alone = buttons.every((other) => (other.getAttribute("aria-pressed") === "true") === (other === button));
      for (const other of buttons) other.setAttribute("aria-pressed", alone || other === button);
      for (const circle of circles)
        circle.classList.toggle("off", !alone && circle.dataset.label !== button.dataset.label);
      show(-1);
    });
  }
})();
