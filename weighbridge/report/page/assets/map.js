// The map: what the pointer or the focus is on, in words below it; arrow keys go from run to run; a click searches.

function wakeMap(search) {
  const picture = byId("map-picture");
  if (!picture) return;
  const cells = [...picture.querySelectorAll(".cell")];
  const line = byId("map-cell");
  const layerAt = (cell, event) => {
    if (!event) return null;
    const x = event.clientX - picture.getBoundingClientRect().left - Number(picture.dataset.left);
    return Math.min(Number(cell.dataset.last), Math.max(Number(cell.dataset.first), Math.floor(x / Number(picture.dataset.cell))));
  };
  const tell = (cell, event) => {
    const layer = layerAt(cell, event);
    const many = cell.dataset.first !== cell.dataset.last;
    line.textContent = (layer !== null && many ? `At layer ${layer}. ` : "") + cell.getAttribute("aria-label");
  };
  const go = (cell) => {
    for (const other of cells) other.setAttribute("tabindex", other === cell ? "0" : "-1");
    cell.focus();
  };
  picture.addEventListener("pointermove", (event) => event.target.classList?.contains("cell") && tell(event.target, event));
  picture.addEventListener("focusin", (event) => event.target.classList?.contains("cell") && tell(event.target, null));
  picture.addEventListener("click", (event) => event.target.classList?.contains("cell") && search(mapQuery(event.target.dataset, layerAt(event.target, event))));
  picture.addEventListener("keydown", (event) => {
    const cell = event.target.closest?.(".cell");
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") search(mapQuery(cell.dataset, null));
    else if (ARROWS[event.key]) go(nextCell(cells, cell, event.key));
    else return;
    event.preventDefault();
  });
}

const ARROWS = { ArrowLeft: true, ArrowRight: true, ArrowUp: true, ArrowDown: true, Home: true, End: true };

/** The run that a key goes to: the next in its row, or the one of the next row that lies nearest. The edge stays. */
function nextCell(cells, cell, key) {
  const at = (one) => ({ row: Number(one.dataset.column), first: Number(one.dataset.first), last: Number(one.dataset.last) });
  const here = at(cell);
  const row = (number) => cells.filter((one) => at(one).row === number);
  const own = row(here.row);
  if (key === "Home") return own[0];
  if (key === "End") return own[own.length - 1];
  if (key === "ArrowLeft" || key === "ArrowRight") return own[own.indexOf(cell) + (key === "ArrowRight" ? 1 : -1)] ?? cell;
  const rows = [...new Set(cells.map((one) => at(one).row))].sort((a, b) => a - b);
  const other = rows[rows.indexOf(here.row) + (key === "ArrowDown" ? 1 : -1)];
  if (other === undefined) return cell;
  const distance = (one) => Math.max(0, at(one).first - here.last, here.first - at(one).last);
  return row(other).reduce((best, one) => (distance(one) < distance(best) ? one : best));
}

/** Words that find a module's tensors: its name, with a star as a gap; and the layer where one is meant. */
function mapQuery({ module, first, last }, layer) {
  const one = first === last ? first : layer;
  const words = module.split("*").map((part, place) => (place === 0 ? `.${part}` : part));
  return [...(one === null ? [] : [`layers.${one}.`]), ...words].join(" ");
}
