// What was heard last, with its recording.

import { address, request } from "./api.js";
import { byId, element } from "./dom.js";

const SHOWN = 20;
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// Why there is no recording, where that is worth a word.
const WITHHELD = {
  coming: "recording follows",
  event_only: "not recorded",
  speech: "speech: recording dropped",
  check_failed: "recording dropped",
  muted: "muted: not recorded",
  lost: "not recorded",
  not_stored: "recording not stored",
};

function duration(event) {
  const seconds = (new Date(event.ended_at) - new Date(event.started_at)) / 1000;
  return seconds < 90 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}

export class Events {
  constructor() {
    this.events = new Map();
  }

  add(event) {
    this.events.set(event.id, { over: this.events.get(event.id)?.over, ...event });
    const newest = [...this.events.values()].sort((a, b) => b.started_at.localeCompare(a.started_at)).slice(0, SHOWN);
    this.events = new Map(newest.map((kept) => [kept.id, kept]));
    this.draw();
  }

  // All others that began are over, even if their end was lost.
  goingOn(ids) {
    for (const event of this.events.values()) {
      if (event.ended_at === null) this.events.set(event.id, { ...event, over: !ids.includes(event.id) });
    }
    this.draw();
  }

  draw() {
    const list = byId("events");
    const rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
    const wanted = [...this.events.values()].map((event) => {
      const state = JSON.stringify(event);
      const row = rows.get(event.id);
      // A row that did not change stays, so that a recording goes on playing.
      return row?.dataset.state === state ? row : this.row(event, state);
    });
    wanted.forEach((row, index) => list.children[index] !== row && list.insertBefore(row, list.children[index] ?? null));
    while (list.children.length > wanted.length) list.lastChild.remove();
    byId("no-events").hidden = wanted.length > 0;
  }

  row(event, state) {
    const when = element("time", { dateTime: event.started_at }, TIME.format(new Date(event.started_at)));
    const now = event.ended_at === null && !event.over;
    const chip = now ? element("span", { className: "chip bad" }, "now") : null;
    const pattern = event.pattern === null ? "" : ` · pattern ${event.pattern}`;
    const withheld = event.clip_withheld in WITHHELD ? ` · ${WITHHELD[event.clip_withheld]}` : "";
    const lasted = event.ended_at === null ? "" : `${duration(event)} · `;
    const row = element(
      "li",
      {},
      element(
        "div",
        { className: "what" },
        element("strong", {}, event.label_name),
        ` in ${event.microphone_name} `,
        chip,
        element("div", { className: "when" }, when, ` · ${lasted}score ${event.peak_score.toFixed(2)}${pattern}${withheld}`),
      ),
    );
    row.dataset.id = event.id;
    row.dataset.state = state;
    const actions = element("div", { className: "actions" });
    if (event.has_clip) {
      const play = element("button", { className: "quiet small", type: "button" }, "Play");
      play.setAttribute("aria-label", `Play ${event.label_name} in ${event.microphone_name}`);
      play.onclick = () => this.open(row, play, event);
      actions.append(play);
    }
    if (!now) actions.append(...this.feedback(event));
    row.append(actions);
    return row;
  }

  open(row, play, event) {
    play.remove();
    const path = `api/events/${encodeURIComponent(event.id)}`;
    const picture = element("img", { src: address(`${path}/spectrogram.png`), alt: "Spectrogram of the recording" });
    const audio = element("audio", { controls: true, src: address(`${path}/clip.mp3`) });
    audio.onerror = () => audio.replaceWith(element("p", { className: "error" }, "The recording cannot be had."));
    picture.onerror = () => picture.remove();
    row.append(picture, audio);
    audio.focus();
    audio.play().catch(() => {});
  }

  feedback(event) {
    return [
      ["correct", "Right"],
      ["false_alarm", "False alarm"],
    ].map(([verdict, text]) => {
      const button = element("button", { className: "quiet small", type: "button" }, text);
      button.setAttribute("aria-pressed", String(event.feedback === verdict));
      button.onclick = async () => {
        try {
          this.add(await request("POST", `api/events/${encodeURIComponent(event.id)}/feedback`, { verdict }));
        } catch (problem) {
          button.title = problem.message;
        }
      };
      return button;
    });
  }
}
