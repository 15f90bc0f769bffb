// Boxes that scroll take the focus, so that arrow keys move them; a box that shows everything is no stop for the Tab key.

function markBoxes() {
  const boxes = [...document.querySelectorAll(".wide, pre.fix")];
  const scrolls = boxes.map((box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight); // all measures first: one layout
  boxes.forEach((box, place) => {
    if (scrolls[place]) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  });
}

function wakeBoxes() {
  const soon = onNextFrame(markBoxes);
  addEventListener("resize", soon);
  document.addEventListener("toggle", soon, true); // a folded part that opens; this event does not bubble
  soon();
  return soon;
}
