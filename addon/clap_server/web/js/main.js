// Starts the page: signs in, then shows what the server hears.

import { request } from "./api.js";
import { setUpClassify, suggest } from "./classify.js";
import { byId, show } from "./dom.js";
import { Events } from "./events.js";
import { Live } from "./live.js";
import { Microphones } from "./microphones.js";

const RETRY_MS = 2000;
let live = null;

function connection(kind, text) {
  show("connection", text);
  byId("connection").className = `chip ${kind}`;
}

function showInfo(info) {
  show("problem", [info.storage.problem, info.overload, info.model.problem].filter(Boolean).join(" · "));
  byId("model").textContent =
    `CLAP Sound ${info.version} · model ${info.model.name} on ${info.model.device} (${info.model.dtype})`;
  show("choice", info.model.choice ?? "");
}

function showSignIn() {
  live?.stop();
  live = null;
  byId("app").hidden = true;
  show("problem", "");
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  show("connection", "");
  byId("token").focus();
}

async function start() {
  let info;
  let signedIn;
  try {
    [info, signedIn] = await Promise.all([request("GET", "api/info"), request("GET", "api/session")]);
  } catch (problem) {
    if (problem.status === 401) showSignIn();
    else {
      connection("bad", problem.status === 503 ? "starting" : "no connection");
      setTimeout(start, RETRY_MS);
    }
    return;
  }
  byId("sign-in").hidden = true;
  byId("app").hidden = false;
  byId("sign-out").hidden = !signedIn.cookie;
  showInfo(info);
  request("GET", "api/labels").then(suggest, () => {});
  await follow();
}

async function follow() {
  const events = new Events();
  const microphones = new Microphones();
  const past = await request("GET", "api/events?limit=20");
  events.draw();
  for (const event of past.events) events.add(event);
  live = new Live({ after: past.last_sequence, epoch: past.epoch }, {
    connected: () => {
      microphones.coming = [];
      connection("good", "live");
    },
    disconnected: () => {
      connection("bad", "no connection");
      // The server may have got another token meanwhile.
      request("GET", "api/info").catch((problem) => problem.status === 401 && showSignIn());
    },
    info: showInfo,
    microphones: (message) => microphones.list(message),
    microphone_changed: (message) => microphones.changed(message),
    microphone_removed: (message) => microphones.removed(message),
    microphone: (message) => microphones.status(message),
    event: (message) => {
      if (!live.isPast(message)) microphones.event(message);
      events.add(message.event);
    },
    event_confirmed: (message) => events.add(message.event),
    event_clip: (message) => events.add(message.event),
    replayed: (message) => events.goingOn(message.active),
    scores: (message) => microphones.scores(message),
    level: (message) => microphones.level(message),
  });
}

byId("sign-in-form").onsubmit = async (submit) => {
  submit.preventDefault();
  show("sign-in-error", "");
  try {
    await request("POST", "api/session", { token: byId("token").value });
    byId("token").value = "";
    await start();
  } catch (problem) {
    show("sign-in-error", problem.message);
  }
};

byId("sign-out").onclick = async () => {
  await request("DELETE", "api/session").catch(() => {});
  showSignIn();
};

setUpClassify(showSignIn);
start();
