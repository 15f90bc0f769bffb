// Findings that are shown: those whose severity and reader are ticked.

function wakeFindings() {
  const boxes = [...document.querySelectorAll("input[data-filter]")];
  const articles = [...document.querySelectorAll("#findings > article")];
  if (boxes.length === 0) return;
  const show = () => {
    const off = (key, value) => boxes.some((box) => box.dataset.filter === key && box.value === value && !box.checked);
    for (const article of articles) article.hidden = off("severity", article.dataset.severity) || off("reader", article.dataset.reader);
    const shown = articles.filter((article) => !article.hidden).length;
    byId("findings-count").textContent = shown === articles.length ? countText(shown, "finding") : `${commas(shown)} of ${countText(articles.length, "finding")}`;
  };
  for (const box of boxes) box.addEventListener("change", show);
  show(); // a browser may bring ticks back when one comes back to the page
}
