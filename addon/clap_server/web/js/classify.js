// Scores of a recording that the user uploads.

import { Problem, request } from "./api.js";
import { byId, element, scoreBar, show } from "./dom.js";
import { promiseWords } from "./words.js";

const MAX_BYTES = 200_000_000;
const SUGGESTIONS = 8;

export function setUpClassify(onSignedOut) {
  const threshold = byId("threshold");
  threshold.oninput = () => {
    const chosen = Number(threshold.value);
    byId("threshold-value").textContent = `${chosen.toFixed(2)}: ${promiseWords(chosen)}`;
  };
  threshold.oninput();
  byId("classify-form").onsubmit = async (submit) => {
    submit.preventDefault();
    const button = byId("classify-button");
    button.disabled = true;
    button.textContent = "Listening…";
    show("classify-error", "");
    byId("classify-result").replaceChildren();
    try {
      draw(await send());
    } catch (problem) {
      if (problem.status === 401) onSignedOut();
      else show("classify-error", problem.message);
    }
    button.disabled = false;
    button.textContent = "Listen";
  };
}

async function send() {
  const file = byId("audio").files[0];
  if (file.size > MAX_BYTES) {
    throw new Problem(413, "The recording is larger than 200 MB. Take a shorter one or a compressed one.");
  }
  const form = new FormData();
  form.append("labels", byId("labels").value);
  form.append("threshold", byId("threshold").value);
  form.append("audio", file);
  return request("POST", "api/classify", form);
}

function draw(result) {
  const isNormal = (label) => label.label.toLowerCase() === "normal";
  const heard = result.labels.filter((label) => label.detected && !isNormal(label)).map((label) => label.label);
  const verdict = heard.length ? `Heard: ${heard.join(", ")}` : "Nothing reaches the threshold";
  const bars = result.labels.map((label) => {
    const bar = scoreBar(label.label, result.threshold, label.meaning);
    bar.set(label.score, label.detected && !isNormal(label));
    return bar.root;
  });
  byId("classify-result").replaceChildren(
    element("p", { className: "verdict" }, `${verdict}; the recording lasts ${result.duration_s.toFixed(1)} s`),
    ...bars,
    ...(result.windows.length > 1 ? [timeline(result)] : []),
  );
}

// One row a label, one cell a window: the stronger, the higher its score.
function timeline(result) {
  const rows = result.labels.map(({ label }) => {
    const cells = result.windows.map((window) => {
      const score = window.scores[label];
      const cell = element("span", { className: "cell", title: `${window.start_s.toFixed(1)} s: ${score.toFixed(2)}` });
      cell.style.opacity = String(0.06 + 0.94 * score);
      return element("td", {}, cell);
    });
    return element("tr", {}, element("th", { scope: "row" }, label), ...cells);
  });
  const table = element("table", {}, element("caption", { className: "hint" }, "Scores over time"), ...rows);
  return element("div", { className: "timeline", tabIndex: 0, role: "group", "aria-label": "Scores over time" }, table);
}

export function suggest(library) {
  const target = byId("suggestions");
  const field = byId("labels");
  const buttons = library.labels.slice(0, SUGGESTIONS).map((label) => {
    const name = label.names.en;
    const button = element("button", { className: "quiet suggestion", type: "button" }, `+ ${name}`);
    button.onclick = () => {
      const known = field.value.split(/[,，、،]/).map((text) => text.trim()).filter(Boolean);
      if (!known.some((text) => text.toLowerCase() === name.toLowerCase())) {
        field.value = [...known, name].join(", ");
      }
    };
    return button;
  });
  target.replaceChildren(...buttons);
  target.hidden = buttons.length === 0;
}
