// Small helpers for the page. Text always goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function show(id, text) {
  const target = byId(id);
  target.hidden = !text;
  target.textContent = text || "";
}

// A label with its score as a bar, a mark at the threshold, and what that means in words.
export function scoreBar(name, threshold, meaning) {
  const fill = element("div", { className: "fill" });
  const mark = element("div", { className: "mark", title: `Threshold ${threshold.toFixed(2)}` });
  mark.style.left = `${threshold * 100}%`;
  const value = element("span", { className: "value" });
  const bar = element("div", { className: "bar", role: "meter", "aria-valuemin": "0", "aria-valuemax": "1" }, fill, mark);
  bar.setAttribute("aria-label", `${name}, threshold ${threshold.toFixed(2)}`);
  const words = element("div", { className: "meaning" }, `${threshold.toFixed(2)}: ${meaning}`);
  const root = element("div", { className: "score" }, element("span", { className: "name" }, name), value, bar, words);
  const set = (score, detected) => {
    fill.style.width = score === null ? "0" : `${score * 100}%`;
    value.textContent = score === null ? "–" : score.toFixed(2);
    bar.setAttribute("aria-valuenow", String(score ?? 0));
    root.classList.toggle("detected", detected);
  };
  set(null, false);
  return { root, set };
}
