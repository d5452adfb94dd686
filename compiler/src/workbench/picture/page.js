const text = e => e.querySelector("title").textContent;
for (const svg of document.querySelectorAll("svg")) {
  const edges = [...svg.querySelectorAll(".edge")];
  const boxes = [...svg.querySelectorAll(".box")];
  const light = (n, on) => {
    for (const e of edges) {
      if (e.dataset.from === n || e.dataset.to === n) {
        e.classList.toggle("lit", on);
        for (const other of [e.dataset.from, e.dataset.to]) boxes[other].classList.toggle("lit", on);
      }
    }
  };
  for (const box of boxes) {
    box.addEventListener("mouseenter", () => {
      const lines = [...box.querySelectorAll("text")].map(t => t.textContent);
      document.getElementById("detail").textContent = text(box) + "\n\n" + lines.join("\n");
      light(box.dataset.n, true);
    });
    box.addEventListener("mouseleave", () => light(box.dataset.n, false));
  }
}
document.getElementById("search").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(w => w);
  let first = null, count = 0;
  for (const box of document.querySelectorAll(".box")) {
    const all = (text(box) + " " + box.textContent).toLowerCase();
    const hit = words.every(w => all.includes(w));
    box.classList.toggle("faint", !hit);
    if (hit && words.length) { count += 1; first = first || box; }
  }
  for (const item of document.querySelectorAll("aside details")) {
    const all = item.textContent.toLowerCase();
    item.hidden = !words.every(w => all.includes(w));
  }
  document.getElementById("found").textContent = words.length ? count + " found" : "";
  if (first) first.scrollIntoView({ block: "center", inline: "center" });
});
