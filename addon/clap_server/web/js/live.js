// The WebSocket: comes back by itself, resumes after the last event that it saw.

import { address } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;

export class Live {
  constructor(after, handlers) {
    this.after = after;
    this.handlers = handlers;
    this.wait = FIRST_WAIT_MS;
    this.stopped = false;
    this.connect();
  }

  connect() {
    const url = address("api/ws");
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    this.socket.onclose = () => this.closed();
  }

  receive(message) {
    if (message.type === "info") {
      this.wait = FIRST_WAIT_MS;
      this.socket.send(JSON.stringify({ type: "subscribe", after: this.after, topics: ["scores", "levels"] }));
      this.handlers.connected();
    }
    if (message.type === "event") this.after = message.sequence;
    if (message.type === "replayed") this.after = message.last_sequence;
    this.handlers[message.type]?.(message);
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
