// A tensor's way through the plan, with its numbers filled in.

/** A way with the numbers of one tensor in all of its texts. */
function filledWay(way, numbers) {
  const put = (value) => {
    if (typeof value === "string") return filled(value, numbers);
    if (Array.isArray(value)) return value.map(put);
    if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, held]) => [key, put(held)]));
    return value;
  };
  return put(way);
}

const shapeText = (shape) => (shape.length === 0 ? "scalar" : shape.join(" × "));
