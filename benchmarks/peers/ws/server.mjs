// A broadcast with ws: what is posted to /publish goes to every WebSocket.
import { createServer } from "node:http";
import { Sender, WebSocketServer } from "ws";

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

// One frame for all, made by the library, as Socket.IO does it on top of ws: client.send()
// would make the same header anew for each and hand it to the socket in a write of its own.
function broadcast(data) {
  const options = { fin: true, rsv1: false, opcode: TEXT, mask: false, readOnly: false };
  const frame = [Buffer.concat(Sender.frame(data, options))];
  for (const client of sockets.clients) {
    if (client.readyState === client.OPEN) client._sender.sendFrame(frame);
  }
}

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: BACKLOG });
