// Outliers of scales: their names lead to the search.

function wakeScales(choose) {
  for (const link of document.querySelectorAll("a[data-tensor]")) {
    link.setAttribute("href", tensorLink(link.dataset.tensor));
    link.addEventListener("click", () => choose(link.dataset.tensor));
  }
}
