// Search for tensors. Every key stroke counts all names; the first 200 are shown.

const SHOWN = 200;

/** A link to one tensor: names of tensors may hold anything, a fragment may not. */
const tensorLink = (name) => `#t=${encodeURIComponent(name)}`;

/** Returns {search(query), choose(name)} for other parts of the page. */
function wakeSearch(data) {
  const names = new Names(data.tensors.groups);
  const input = byId("search");
  const list = byId("search-results");
  const show = () => showResults(names, input.value, list, data.tensors.total);
  const choose = (name) => showTensor(names, name, data);
  input.addEventListener("focus", () => names.find("first", 0), { once: true }); // names are written out before the first key, not after it
  input.addEventListener("input", show);
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) location.hash = tensorLink(button.textContent);
    if (button && chosenName() === button.textContent) choose(button.textContent);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") moveIn(list, null, 1, event);
    if (event.key === "Enter") list.querySelector("button")?.click();
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") moveIn(list, event.target, 1, event);
    if (event.key === "ArrowUp" && !moveIn(list, event.target, -1, event)) input.focus();
  });
  addEventListener("hashchange", () => chosenName() && choose(chosenName()));
  if (chosenName()) input.value = chosenName();
  show(); // a browser may bring text back when one comes back to the page
  if (chosenName()) {
    choose(chosenName());
    byId("tensors").scrollIntoView({ behavior: "instant" });
  }
  return {
    choose,
    search: (query) => {
      input.value = query;
      show();
      byId("tensors").scrollIntoView();
      input.focus({ preventScroll: true });
    },
  };
}

/** The name in the address, or empty. */
function chosenName() {
  if (!location.hash.startsWith("#t=")) return "";
  try {
    return decodeURIComponent(location.hash.slice(3));
  } catch {
    return "";
  }
}

/** Focus on the next or the previous result; false at the edge. */
function moveIn(list, from, step, event) {
  const buttons = [...list.querySelectorAll("button")];
  const to = buttons[from === null ? 0 : buttons.indexOf(from) + step];
  if (!to) return false;
  event.preventDefault();
  to.focus();
  return true;
}

function showResults(names, query, list, all) {
  const { total, hits } = names.find(query, SHOWN);
  const shown = total > hits.length ? `, the first ${SHOWN} are shown` : "";
  byId("search-count").textContent = `${commas(total)} of ${countText(all, "tensor")}${shown}`;
  fill(list, ...hits.map((name) => make("li", {}, make("button", { type: "button" }, name))));
  list.scrollTop = 0;
}

function showTensor(names, name, data) {
  const box = byId("tensor");
  const found = names.exact(name);
  if (!found) {
    fill(box, make("p", {}, "No tensor has the name ", make("span", { class: "mono" }, name), "."));
    return;
  }
  const group = data.tensors.groups[found.group];
  const numbers = numbersAt(group, found.index);
  const scale = group.scale >= 0 ? names.at(group.scale, numbers) : "";
  const rows = [["dtype", make("span", { class: `chip b-${group.kind}` }, group.dtype)], ["shape", shapeText(group.shape)],
    ["bytes", commas(group.bytes)], ["role", group.role], ["file", fileAt(group, found.index, data.tensors.files)], ["scale", scale && nameLink(scale)]];
  const facts = rows.filter(([, value]) => value).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]);
  fill(box, make("h3", { class: "mono" }, name), make("dl", { class: "facts" }, ...facts), ...wayOf(group, numbers, data.ways));
}

const nameLink = (name) => make("a", { class: "mono", href: tensorLink(name) }, name);

/** The way of a tensor: each step in words, then where its values lie. */
function wayOf(group, numbers, ways) {
  if (!ways) return [];
  if (group.way < 0) return [make("p", { class: "quiet-text" }, `The layout ${ways.to} does not hold it.`)];
  const way = filledWay(ways.list[group.way], numbers);
  const ends = [...way.destination, ...(way.scale ? [way.scale] : [])];
  const more = way.more ? make("p", { class: "quiet-text" }, `and ${commas(way.more)} more`) : null;
  return [make("h4", {}, `Its way to ${ways.to}`), make("ol", { class: "steps" }, ...way.steps.map(stepItem)),
    make("h4", {}, "Where its values and scales lie then"), make("ul", { class: "ends" }, ...ends.map(endItem)), more].filter(Boolean);
}

const stepItem = (step) => make("li", {}, make("b", {}, step.op), step.detail ? ` ${step.detail}` : "", step.lossy ? make("strong", { class: "warning-text" }, " (lossy)") : "");

/** One destination: name, slice, dtype, shape and file. */
function endItem(end) {
  return make("li", {}, make("span", { class: "mono" }, end.name), " ", make("span", { class: "mono slice" }, end.slice), make("br"),
    make("span", { class: "quiet-text" }, `${end.dtype}, ${shapeText(end.shape)}, ${end.file}`));
}
