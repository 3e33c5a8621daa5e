"use strict";
(() => {
  const table = document.getElementById("models");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const words = document.getElementById("words");
  const order = document.getElementById("order");
  const boxes = [...document.querySelectorAll("input[name=verdict]")];
  const shown = document.getElementById("shown");
  const place = new Map(rows.map((row, index) => [row, index]));
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const column = new Map(heads.map((head, index) => [head.dataset.order, index]));
  let descending = false;

  const text = (row, key) => row.cells[column.get(key)].textContent.trim();
  const byText = (key) => (a, b) => {
    const [one, other] = [text(a, key), text(b, key)];
    // What has none stands last, whichever way.
    if (!one || !other) return (one ? 0 : 1) - (other ? 0 : 1) || 0;
    return turned(one.localeCompare(other, "en", { numeric: true }));
  };
  const byNumber = (key) => (a, b) => {
    const [one, other] = [a.dataset[key], b.dataset[key]];
    if (one === "" || other === "") return (one === "" ? 1 : 0) - (other === "" ? 1 : 0);
    return turned(Number(one) - Number(other));
  };
  const turned = (comparison) => (descending ? -comparison : comparison);
  const compare = { verdict: byNumber("rank"), p: byNumber("p"), model: byText("model"), pair: byText("pair"), why: byText("why") };

  const sort = () => {
    const by = compare[order.value];
    const sorted = [...rows].sort((a, b) => by(a, b) || place.get(a) - place.get(b));
    body.append(...sorted);
    for (const head of heads) {
      if (head.dataset.order !== order.value) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    }
  };
  const filter = () => {
    const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden = !(verdicts.has(row.dataset.verdict) && wanted.every((word) => texts.get(row).includes(word)));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length} shown`;
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      descending = order.value === head.dataset.order && !descending;
      order.value = head.dataset.order;
      sort();
    });
  }
  order.addEventListener("change", () => { descending = false; sort(); });
  words.addEventListener("input", filter);
  for (const box of boxes) box.addEventListener("change", filter);
  document.getElementById("controls").hidden = false;
  filter();
})();
