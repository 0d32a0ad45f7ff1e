// The official JavaScript client as a process: what it is told, one JSON object a line.
//
//   node centrifuge.mjs WS_URL CHANNEL...
//
// Ends when standard input ends, so that it cannot outlive the test.

import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'

const [url, ...channels] = process.argv.slice(2)
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)

const client = new Centrifuge(url, {
  websocket: WebSocket,
  minReconnectDelay: 20,
  maxReconnectDelay: 200
})
client.on('connected', () => tell({ kind: 'connected' }))
client.on('connecting', ({ code, reason }) => tell({ kind: 'connecting', code, reason }))
client.on('disconnected', ({ code, reason }) => tell({ kind: 'disconnected', code, reason }))

for (const channel of channels) {
  const subscription = client.newSubscription(channel, {
    recoverable: true,
    positioned: true,
    minResubscribeDelay: 20,
    maxResubscribeDelay: 200
  })
  subscription.on('subscribed', ({ streamPosition, wasRecovering, recovered }) =>
    tell({ kind: 'joined', channel, ...streamPosition, wasRecovering, recovered })
  )
  subscription.on('publication', ({ offset, data }) => tell({ kind: 'event', channel, offset, data }))
  subscription.on('error', ({ error }) => tell({ kind: 'error', channel, ...error }))
  subscription.subscribe()
}
client.connect()

process.stdin.on('end', () => process.exit(0)).resume()
