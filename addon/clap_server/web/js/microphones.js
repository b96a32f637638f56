// The microphones as they are now: state, level, scores.

import { byId, element, scoreBar } from "./dom.js";

const LOWEST_DBFS = -80;
const STATES = {
  listening: ["good", "listening"],
  connecting: ["warn", "connecting"],
  stalled: ["bad", "stalled"],
  failed: ["bad", "failed"],
  disabled: ["", "off"],
  muted: ["warn", "muted"],
};

// What a threshold costs and finds, and why a default is low.
const meaning = (label) => [label.meaning, label.lowered?.words].filter(Boolean).join("; ");

class Card {
  constructor(microphone) {
    this.active = new Set();
    this.scores = new Map();
    this.chip = element("span", { className: "chip" });
    this.reason = element("p", { className: "reason" });
    this.levelFill = element("div", { className: "fill" });
    this.levelValue = element("span", { className: "value" });
    this.level = element(
      "div",
      { className: "level" },
      element("div", { className: "bar", "aria-hidden": "true" }, this.levelFill),
      this.levelValue,
    );
    this.name = element("h3");
    this.bars = element("div");
    this.root = element(
      "li",
      { className: "card" },
      element("div", { className: "card-head" }, this.name, this.chip),
      this.reason,
      this.level,
      this.bars,
    );
    this.update(microphone);
  }

  update(microphone) {
    this.name.textContent = microphone.name;
    const watched = JSON.stringify(
      microphone.labels.map((label) => [label.id, label.name, label.threshold, meaning(label)]),
    );
    if (watched !== this.watched) {
      this.watched = watched;
      this.scores = new Map(
        microphone.labels.map((label) => [
          label.id,
          { ...scoreBar(label.name, label.threshold, meaning(label)), last: null },
        ]),
      );
      this.bars.replaceChildren(...[...this.scores.values()].map((score) => score.root));
    }
    this.active = new Set(microphone.labels.filter((label) => label.active).map((label) => label.id));
    this.setStatus(microphone.status);
    this.draw();
  }

  setStatus(status) {
    const [kind, word] = STATES[status.state];
    this.chip.className = `chip ${kind}`;
    this.chip.textContent = word;
    const remarks = [status.reason === word ? null : status.reason, status.notice].filter(Boolean);
    this.reason.textContent = remarks.join(" · ");
    this.reason.hidden = remarks.length === 0;
    if (status.state !== "listening") {
      this.levelFill.style.width = "0";
      this.levelValue.textContent = "";
      for (const score of this.scores.values()) score.last = null;
    }
    this.level.hidden = status.state !== "listening";
    this.draw();
  }

  setScores(scores) {
    for (const [id, value] of Object.entries(scores)) {
      const score = this.scores.get(id);
      if (score) score.last = value;
    }
    this.draw();
  }

  setLevel(message) {
    const share = Math.max(0, Math.min(1, 1 - message.level_dbfs / LOWEST_DBFS));
    this.levelFill.style.width = `${share * 100}%`;
    this.level.classList.toggle("gated", message.gated);
    const quiet = message.gated ? "quiet, " : "";
    this.levelValue.textContent = `${quiet}${message.level_dbfs.toFixed(0)} dBFS`;
    if (message.gated) {
      for (const score of this.scores.values()) score.last = null;
      this.draw();
    }
  }

  setActive(labelId, active) {
    if (active) this.active.add(labelId);
    else this.active.delete(labelId);
    this.draw();
  }

  draw() {
    for (const [id, score] of this.scores) score.set(score.last, this.active.has(id));
    this.root.classList.toggle("active", this.active.size > 0);
  }
}

export class Microphones {
  constructor() {
    this.cards = new Map();
    this.coming = [];
  }

  // The whole list comes in one or more messages, all but the last with `more`.
  list(message) {
    this.coming.push(...message.microphones);
    if (message.more) return;
    const before = this.cards;
    this.cards = new Map();
    for (const microphone of this.coming) this.put(microphone, before.get(microphone.id));
    this.coming = [];
    this.draw();
  }

  changed(message) {
    this.put(message.microphone, this.cards.get(message.microphone.id));
    this.draw();
  }

  removed(message) {
    this.cards.delete(message.microphone_id);
    this.draw();
  }

  put(microphone, card) {
    card?.update(microphone);
    this.cards.set(microphone.id, card ?? new Card(microphone));
  }

  draw() {
    byId("microphones").replaceChildren(...[...this.cards.values()].map((card) => card.root));
    byId("no-microphones").hidden = this.cards.size > 0;
  }

  status(message) {
    this.cards.get(message.microphone_id)?.setStatus(message.status);
  }

  scores(message) {
    this.cards.get(message.microphone_id)?.setScores(message.scores);
  }

  level(message) {
    this.cards.get(message.microphone_id)?.setLevel(message);
  }

  event(message) {
    this.cards.get(message.event.microphone_id)?.setActive(message.event.label_id, message.change === "started");
  }
}
