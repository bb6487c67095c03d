"use strict";
(() => {
  // Sounds: a picture plays its sound, one at a time; a second press stops it.
  let current = null;
  const stop = () => {
    if (!current) return;
    const { audio, button } = current;
    current = null;
    audio.pause();
    audio.currentTime = 0;
    button.setAttribute("aria-pressed", "false");
    button.style.removeProperty("--progress");
  };
  const follow = () => {
    if (!current) return;
    const { audio, button } = current;
    button.style.setProperty("--progress", audio.duration ? audio.currentTime / audio.duration : 0);
    requestAnimationFrame(follow);
  };
  const play = (button) => {
    stop();
    const audio = document.getElementById(button.dataset.sound);
    current = { audio, button };
    button.setAttribute("aria-pressed", "true");
    audio.onended = stop;
    audio.play().then(follow, () => { if (current && current.audio === audio) stop(); });
  };
  for (const button of document.querySelectorAll("button[data-sound]")) {
    button.addEventListener("click", () => (current && current.button === button ? stop() : play(button)));
  }

  // Curves: the values at the epoch under the pointer, in all charts at once; arrow keys move along.
  const charts = [...document.querySelectorAll("svg[data-points]")].map((svg) => ({
    svg,
    points: JSON.parse(svg.dataset.points),
    cursor: svg.querySelector(".cursor"),
    output: svg.closest("figure").querySelector("output"),
  }));
  let shown = null;
  const show = (place) => {
    shown = place;
    for (const { points, cursor, output } of charts) {
      const point = points.find((p) => p[2] === place);
      cursor.setAttribute("visibility", point ? "visible" : "hidden");
      output.textContent = point ? point[3] : place === null ? output.dataset.last : "";
      if (!point) continue;
      const [line, circle] = cursor.children;
      line.setAttribute("x1", point[0]);
      line.setAttribute("x2", point[0]);
      circle.setAttribute("cx", point[0]);
      circle.setAttribute("cy", point[1]);
    }
  };
  for (const { svg, points } of charts) {
    svg.addEventListener("pointermove", (event) => {
      const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      show(points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))[2]);
    });
    svg.addEventListener("pointerleave", () => show(null));
    svg.addEventListener("blur", () => show(null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const at = points.findIndex((p) => p[2] === shown);
      const next = at < 0 ? (step > 0 ? 0 : points.length - 1) : Math.min(points.length - 1, Math.max(0, at + step));
      show(points[next][2]);
    });
  }
})();
