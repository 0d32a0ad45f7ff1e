// An event to everybody with Socket.IO: what is posted to /publish is emitted to the namespace.
import { createServer } from "node:http";
import { Server } from "socket.io";

const BACKLOG = 4096;

const server = createServer(async (request, response) => {
  if (request.method !== "POST" || request.url !== "/publish") {
    response.writeHead(404).end();
    return;
  }
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  io.emit("message", JSON.parse(Buffer.concat(chunks)));
  response.writeHead(204).end();
});
const io = new Server(server, { transports: ["websocket"], serveClient: false });

// Its guide to memory usage: nothing here reads the handshake's request again.
io.engine.on("connection", (connection) => {
  connection.request = null;
});

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: BACKLOG });
