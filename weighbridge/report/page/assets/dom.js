// Small helpers. Text from files becomes text nodes only: nothing here reads markup.

const byId = (name) => document.getElementById(name);

/** A new element: attributes by name (a function becomes a listener), children as elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** The element shows these children and no other. */
const fill = (element, ...children) => element.replaceChildren(...children.filter((child) => child !== null && child !== ""));

/** Calls `act` once, in the next frame, however often it is asked. */
function onNextFrame(act) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      act();
    });
  };
}
