// The WebSocket: comes back by itself, resumes after the last event that it saw.

import { address } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;

export class Live {
  // `seen`: number and epoch of the last change that is known, and the event that changed.
  constructor(seen, handlers) {
    this.seen = seen;
    this.handlers = handlers;
    this.wait = FIRST_WAIT_MS;
    this.stopped = false;
    this.connect();
  }

  connect() {
    const url = address("api/ws");
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.greeting = null;
    this.replayed = false;
    this.socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    this.socket.onclose = () => this.closed();
  }

  receive(message) {
    if (message.type === "info") {
      if (this.greeting === null) this.subscribe(message);
      this.epoch = message.epoch;
    }
    if (message.type === "event") {
      this.seen = { after: message.sequence, epoch: this.epoch, event_id: message.event.id };
    }
    if (message.type === "replayed") {
      this.replayed = true;
      if (message.last_sequence !== this.seen.after || this.epoch !== this.seen.epoch) {
        this.seen = { after: message.last_sequence, epoch: this.epoch };
      }
    }
    this.handlers[message.type]?.(message);
  }

  subscribe(greeting) {
    this.greeting = greeting;
    this.wait = FIRST_WAIT_MS;
    this.socket.send(JSON.stringify({ type: "subscribe", ...this.seen, topics: ["scores", "levels"] }));
    this.handlers.connected();
  }

  // Whether an event's change is older than the list of microphones, which says what sounds.
  isPast(message) {
    return !this.replayed && message.sequence <= this.greeting.last_sequence;
  }

  closed() {
    if (this.stopped) return;
    this.handlers.disconnected();
    setTimeout(() => !this.stopped && this.connect(), this.wait * (0.8 + 0.4 * Math.random()));
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }

  stop() {
    this.stopped = true;
    this.socket.close();
  }
}
