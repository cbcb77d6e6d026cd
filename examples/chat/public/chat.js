// SPDX-License-Identifier: Apache-2.0
// A room is the address chat/ROOM. Whoever publishes there takes part, over whatever protocol: messages are JSON {"from", "text"}, and
// a body that is not is shown as it came.
"use strict";

const KEPT = 500; // messages in the list

const $ = (id) => document.getElementById(id);
const client = new StompJs.Client({
  brokerURL: location.origin.replace(/^http/, "ws") + "/ws",
  reconnectDelay: 500,
  maxReconnectDelay: 10000,
  reconnectTimeMode: StompJs.ReconnectionTimeMode.EXPONENTIAL,
  connectionTimeout: 5000,
  heartbeatIncoming: 10000,
  heartbeatOutgoing: 10000,
});
let subscription = null;
let sending = false;
let receipts = 0;

function show(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("send").disabled = state !== "connected" || sending;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

// ---- What comes

function read(body) {
  try {
    const { from, text } = JSON.parse(body);
    if (typeof text === "string") {
      return { from: typeof from === "string" ? from : "", text };
    }
  } catch {
    // not JSON, or null: plain text
  }
  return { from: "", text: body };
}

function add(message) {
  const { from, text } = read(message.body);
  const list = $("messages");
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const by = document.createElement("span");
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const item = document.createElement("li");
  by.className = "by";
  by.textContent = `${from || "Somebody"}, ${time}`;
  item.className = from !== "" && from === $("name").value ? "mine" : "";
  item.append(by, text);
  list.append(item);
  while (list.childElementCount > KEPT) {
    list.firstElementChild.remove();
  }
  if (wasAtEnd) {
    list.scrollTop = list.scrollHeight;
  }
}

// Connected means that nothing said from now on is missed: the receipt comes once RabbitMQ has bound the room.
function enter() {
  const receipt = `entered-${++receipts}`;
  subscription?.unsubscribe();
  client.watchForReceipt(receipt, () => show("connected", "Connected"));
  subscription = client.subscribe(`/chat/${$("room").value}`, add, { receipt });
}

// ---- What goes

// The gateway sends the receipt once RabbitMQ has the message; until then the text stays in its field.
function say(event) {
  event.preventDefault();
  const body = JSON.stringify({ from: $("name").value, text: $("text").value });
  const receipt = `said-${++receipts}`;
  if (!client.connected || sending || !$("where").reportValidity()) {
    return;
  }
  sending = true;
  $("send").disabled = true;
  client.watchForReceipt(receipt, () => {
    sending = false;
    $("send").disabled = false;
    $("text").value = "";
    notice("");
  });
  client.publish({
    destination: `/chat/${$("room").value}`,
    body,
    headers: { "content-type": "application/json", receipt },
  });
}

// ---- Coming and going

client.onConnect = () => {
  notice("");
  subscription = null; // the old one went with its connection
  enter();
};
client.onStompError = (frame) => {
  notice(`${frame.headers.message}. ${frame.body.split("\n")[1] ?? ""}`);
};
client.onWebSocketClose = () => {
  if (sending) {
    notice("The connection broke before RabbitMQ had confirmed this message: it may have arrived.");
  }
  sending = false;
  show("connecting", "Reconnecting");
};

function changeRoom() {
  // A room is one level of the address.
  const room = $("room").value.trim().replace(/[/+#*]/g, "-") || "lobby";
  $("room").value = room;
  if (location.hash !== "#" + encodeURIComponent(room)) {
    history.replaceState(null, "", "#" + encodeURIComponent(room));
    $("messages").replaceChildren();
    if (client.connected) {
      enter();
    }
  }
}

function roomOfUrl() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

$("say").addEventListener("submit", say);
$("where").addEventListener("submit", (event) => {
  event.preventDefault();
  $("text").focus();
});
$("room").addEventListener("change", changeRoom);
$("name").addEventListener("change", () => localStorage.setItem("name", $("name").value));
window.addEventListener("hashchange", () => {
  $("room").value = roomOfUrl();
  $("messages").replaceChildren();
  changeRoom();
  if (client.connected) {
    enter();
  }
});

$("room").value = roomOfUrl();
$("name").value = localStorage.getItem("name") ?? `guest-${Math.floor(Math.random() * 1000)}`;
changeRoom();
show("connecting", "Connecting");
client.activate();
