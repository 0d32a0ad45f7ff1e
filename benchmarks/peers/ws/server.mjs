// A broadcast with ws: what is posted to /publish goes to every WebSocket.
import { createServer } from "node:http";
import { Sender, WebSocket, WebSocketServer } from "ws";

const TEXT = 1;
const BACKLOG = 4096;

const server = createServer(async (request, response) => {
  if (request.method !== "POST" || request.url !== "/publish") {
    response.writeHead(404).end();
    return;
  }
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  broadcast(Buffer.concat(chunks));
  response.writeHead(204).end();
});
const sockets = new WebSocketServer({ server, clientTracking: true });

// As the README of ws shows it. Each send() makes the header anew and corks the socket.
function sendToEach(data) {
  for (const client of sockets.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
  }
}

// One frame for all, made by the library and written past its public interface, as Socket.IO
// does it on top of ws.
function writeOneFrame(data) {
  const options = { fin: true, rsv1: false, opcode: TEXT, mask: false, readOnly: false };
  const frame = [Buffer.concat(Sender.frame(data, options))];
  for (const client of sockets.clients) {
    if (client.readyState === WebSocket.OPEN) client._sender.sendFrame(frame);
  }
}

const broadcast = process.env.BROADCAST === "one-frame" ? writeOneFrame : sendToEach;

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: BACKLOG });
