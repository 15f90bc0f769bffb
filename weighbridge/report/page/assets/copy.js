// Copy buttons. A page from file:// may have no clipboard: then a text field is selected and copied, as browsers always could.

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const before = document.activeElement;
  const field = make("textarea", { "aria-hidden": "true", tabindex: -1, class: "hidden-text" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}

/** The button says what came of it, for two seconds. */
async function copyFrom(button) {
  const text = button.parentElement.querySelector("pre").textContent;
  const label = button.getAttribute("aria-label");
  const says = (await copyText(text)) ? "Copied" : "Select and copy";
  button.textContent = says;
  button.setAttribute("aria-label", says);
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = String(setTimeout(() => {
    button.textContent = "Copy";
    button.setAttribute("aria-label", button.dataset.label ?? label);
  }, 2000));
}

/** A block with its button, as the server writes it. */
function copyBlock(text, label, prose) {
  return make("div", { class: "copied" }, make("pre", { class: prose ? "fix prose" : "fix", tabindex: 0 }, text),
    make("button", { type: "button", class: "copy no-print", "aria-label": `Copy: ${label}`, "data-label": `Copy: ${label}` }, "Copy"));
}

function wakeCopies() {
  for (const button of document.querySelectorAll("button.copy")) button.dataset.label = button.getAttribute("aria-label");
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.copy");
    if (button) copyFrom(button);
  });
}
