// The table of contents marks the section that one reads; on paper all folded parts are open.

function wakeContents() {
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.getAttribute("href").slice(1), link]));
  const strip = document.querySelector(".contents ul");
  const seen = new Set();
  const mark = () => {
    const current = [...links.keys()].find((name) => seen.has(name));
    for (const [name, link] of links) {
      if (name === current && !link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        strip.scrollTo({ left: link.offsetLeft - 40 }); // on a phone the contents are a strip
      } else if (name === current) continue;
      else link.removeAttribute("aria-current");
    }
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
    mark();
  }, { rootMargin: "-15% 0px -60% 0px" });
  for (const name of links.keys()) if (byId(name)) watch.observe(byId(name));
}

function wakePrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
}
