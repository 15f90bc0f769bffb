// All names of tensors. The data holds groups: a name with places for numbers, and the range of each place.
// A group is written out when the first search needs it, and kept: 96,103 names are 7 MB.

/** How many tensors a group stands for. */
const groupSize = (group) => group.ranges.reduce((product, [first, last]) => product * (last - first + 1), 1);

/** The numbers of tensor `index` of a group; the last range turns fastest. */
function numbersAt(group, index) {
  const numbers = new Array(group.ranges.length);
  for (let place = group.ranges.length - 1; place >= 0; place -= 1) {
    const [first, last] = group.ranges[place];
    const width = last - first + 1;
    numbers[place] = first + (index % width);
    index = Math.floor(index / width);
  }
  return numbers;
}

/** `text` with places replaced by numbers: {0}, {0+2} (two more), {0:02} (two digits). What is no place of them stays as it is. */
const filled = (text, numbers) => text.replace(/\{(\d+)(?:\+(\d+))?(?::0(\d+))?\}/g,
  (whole, place, more, width) => (place in numbers ? String(numbers[place] + Number(more ?? 0)).padStart(Number(width ?? 0), "0") : whole));

/** Every name of a group, one after another. A group without ranges is one tensor, its name is as it stands: it may hold braces. */
function* namesOf(group) {
  if (group.ranges.length === 0) {
    yield group.name;
    return;
  }
  const parts = group.name.split(/\{(\d+)\}/);
  const total = groupSize(group);
  for (let index = 0; index < total; index += 1) {
    const numbers = numbersAt(group, index);
    let name = parts[0];
    for (let part = 1; part < parts.length; part += 2) {
      name += (parts[part] in numbers ? numbers[parts[part]] : `{${parts[part]}}`) + parts[part + 1];
    }
    yield name;
  }
}

/** The file of tensor `index`: `group.files` is [run length, file], … */
function fileAt(group, index, files) {
  let left = index;
  for (const [length, file] of group.files) {
    if (left < length) return files[file];
    left -= length;
  }
  return "";
}

/** Holds groups and their names once they were asked for. */
class Names {
  constructor(groups) {
    this.groups = groups;
    this.written = new Array(groups.length);
    this.small = new Array(groups.length);
  }

  of(place) {
    this.written[place] ??= Array.from(namesOf(this.groups[place]));
    return this.written[place];
  }

  /** The same in small letters; most names are so already, and then nothing is held twice. */
  lower(place) {
    const name = this.groups[place].name;
    this.small[place] ??= name === name.toLowerCase() ? this.of(place) : this.of(place).map((one) => one.toLowerCase());
    return this.small[place];
  }

  /** The name of the same numbers in another group: a weight's scale. Empty where that group does not hold them. */
  at(place, numbers) {
    const group = this.groups[place];
    const inside = group && numbers.length === group.ranges.length && group.ranges.every(([first, last], k) => first <= numbers[k] && numbers[k] <= last);
    return inside ? filled(group.name, numbers) : "";
  }

  /** {group, index} of a full name, or null. */
  exact(name) {
    for (let place = 0; place < this.groups.length; place += 1) {
      const index = this.of(place).indexOf(name);
      if (index >= 0) return { group: place, index };
    }
    return null;
  }

  /** How many names hold all words of `query` in any case of letters, and the first of them. An empty query finds all, and writes out few. */
  find(query, limit) {
    const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
    if (words.length === 0) return { total: this.groups.reduce((sum, group) => sum + groupSize(group), 0), hits: this.first(limit) };
    const hits = [];
    let total = 0;
    for (let place = 0; place < this.groups.length; place += 1) {
      const low = this.lower(place);
      for (let index = 0; index < low.length; index += 1) {
        if (!words.every((word) => low[index].includes(word))) continue;
        if (hits.length < limit) hits.push(this.of(place)[index]);
        total += 1;
      }
    }
    return { total, hits };
  }

  first(limit) {
    const hits = [];
    for (const group of this.groups) {
      for (const name of namesOf(group)) {
        if (hits.length >= limit) return hits;
        hits.push(name);
      }
    }
    return hits;
  }
}
