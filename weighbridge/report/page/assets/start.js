// Wakes the page. Without this script it is a page of text, tables and pictures.

const data = JSON.parse(byId("data").textContent);
wakeCopies();
wakeFindings();
const boxesChanged = wakeBoxes();
if (data.memory) wakeMemory(data.memory, boxesChanged);
const found = data.tensors ? wakeSearch(data) : { search: () => {}, choose: () => {} };
wakeMap(found.search);
wakeScales(found.choose);
wakeContents();
wakePrint();
