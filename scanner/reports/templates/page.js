"use strict";
(() => {
  const fixed = (value, digits) => (value === null ? "n/a" : String(Number(value.toPrecision(digits))));
  const percent = (rate) => (rate === null ? "n/a" : `${(100 * rate).toFixed(1).replace(/\.0$/, "")}%`);

  for (const table of document.querySelectorAll("table[data-matrix]")) {
    const id = table.dataset.matrix;
    const data = JSON.parse(document.getElementById(`${id}-data`).textContent);
    const details = document.getElementById(`${id}-details`);
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1));
    const initial = details.textContent;
    let pinned = null;
    let curve = null;

    const describe = (key) => {
      const [source, target] = key.split("-").map(Number);
      const [status, size, rate, initialRate, reciprocal, steps] = data.pairs[key];
      return `${data.names[source]} → ${data.names[target]}: size ${fixed(size, 3)} (${data.norm}), ` +
        `rate ${percent(rate)} (without the pattern ${percent(initialRate)}), reciprocal ${fixed(reciprocal, 3)}, ` +
        `${steps} steps; ${data.statuses[status]}`;
    };
    const highlight = (key) => {
      if (curve) curve.classList.remove("shown");
      curve = key && document.getElementById(`${table.dataset.curves}curve-${key}`);
      if (curve) curve.classList.add("shown");
    };
    const show = (cell) => {
      const key = cell ? cell.dataset.pair : null;
      details.textContent = key ? describe(key) : cell ? "source and target are the same class" : initial;
      highlight(key);
    };
    const focusable = (cell) => {
      for (const each of rows.flat()) each.tabIndex = each === cell ? 0 : -1;
    };
    const pin = (cell) => {
      if (pinned) pinned.classList.remove("pinned");
      pinned = pinned === cell ? null : cell;
      if (pinned) pinned.classList.add("pinned");
      show(pinned);
    };
    const place = (cell) => {
      const row = rows.findIndex((cells) => cells.includes(cell));
      return [row, rows[row].indexOf(cell)];
    };
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const next = (cell, event) => {
      const [row, column] = place(cell);
      const last = rows.length - 1;
      if (event.key === "Home") return rows[event.ctrlKey ? 0 : row][0];
      if (event.key === "End") return rows[event.ctrlKey ? last : row][last];
      const [down, right] = moves[event.key] || [0, 0];
      return (rows[row + down] || rows[row])[column + right] || cell;
    };

    const found = table.querySelector("td.found");
    const frame = table.parentElement;
    const bringIntoSight = () => {
      if (found) frame.scrollLeft = found.offsetLeft + found.offsetWidth - frame.clientWidth;
    };
    bringIntoSight();
    const folded = table.closest("details");
    if (folded) folded.addEventListener("toggle", bringIntoSight);

    const cellOf = (event) => event.target.closest("td[role=gridcell]");
    table.addEventListener("mouseover", (event) => { const cell = cellOf(event); if (cell) show(cell); });
    table.addEventListener("mouseleave", () => show(pinned));
    table.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell) { focusable(cell); show(cell); } });
    table.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) { focusable(cell); pin(cell); } });
    table.addEventListener("keydown", (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      if (event.key === "Enter" || event.key === " ") pin(cell);
      else if (event.key in moves || event.key === "Home" || event.key === "End") next(cell, event).focus();
      else return;
      event.preventDefault();
    });
  }

  window.addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
})();
