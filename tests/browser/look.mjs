// Measures of a picture or a page that has been laid out: what hangs over, what is cut, what covers what.

/** Elements and words that reach beyond the right edge of the window and are not inside something that scrolls by itself. */
export const overhanging = () => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => {
    let free = element instanceof Element && getComputedStyle(element).position === "absolute"; // no box holds it that is not positioned itself
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement) {
      const style = getComputedStyle(up);
      if (free && style.position === "static") continue;
      if (["auto", "scroll", "hidden", "clip"].includes(style.overflowX)) return true;
      free = style.position === "absolute";
    }
    return false;
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !scrolls(element)) {
      found.push(`${element.tagName.toLowerCase()}${element.id ? "#" + element.id : ""} ends at ${Math.round(box.right)} of ${width}: ${element.textContent.trim().slice(0, 60)}`);
    }
  }
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = words.nextNode(); text; text = words.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(text);
    const { right } = range.getBoundingClientRect();
    if (right > width + 1 && !scrolls(text)) found.push(`text ends at ${Math.round(right)} of ${width}: ${text.data.trim().slice(0, 60)}`);
  }
  return found.slice(0, 5);
};

/** Labels of each SVG that its edge cuts, and pairs of labels of which one covers the other. */
export const labels = () => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    if (!frame.width) continue;
    const cuts = getComputedStyle(svg).overflowX !== "visible" || svg === document.documentElement;
    const texts = [...svg.querySelectorAll("text")].filter((each) => each.textContent.trim() && each.getBoundingClientRect().width);
    const boxes = texts.map((each) => each.getBoundingClientRect());
    const named = (i) => JSON.stringify(texts[i].textContent.trim().slice(0, 60));
    const where = svg.id || svg.closest("[id]")?.id || svg.querySelector("title")?.textContent || "svg";
    boxes.forEach((box, i) => {
      const air = 0.2 * box.height; // a line of text is higher than its letters
      if (cuts && (box.left < frame.left - 1.5 || box.right > frame.right + 1.5 || box.top < frame.top - air || box.bottom > frame.bottom + air)) {
        found.push(`${where}: ${named(i)} is cut by the edge`);
      }
    });
    const order = boxes.map((_, i) => i).sort((a, b) => boxes[a].left - boxes[b].left);
    order.forEach((i, place) => {
      for (const j of order.slice(place + 1)) {
        if (boxes[j].left >= boxes[i].right) break;
        // Two fifths of the lesser height may be shared before letters touch.
        const across = Math.min(boxes[i].right, boxes[j].right) - boxes[j].left;
        const down = Math.min(boxes[i].bottom, boxes[j].bottom) - Math.max(boxes[i].top, boxes[j].top);
        if (across > 1.5 && down > 0.4 * Math.min(boxes[i].height, boxes[j].height)) found.push(`${where}: ${named(i)} and ${named(j)} lie on each other`);
      }
    });
  }
  return found.slice(0, 8);
};
