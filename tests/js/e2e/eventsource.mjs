// The npm package `eventsource` as a process: what it is told, one JSON object a line.
//
//   node eventsource.mjs FEED_URL
//
// It reconnects by itself and sends the Last-Event-ID by itself; that is what is tested.
// Ends when standard input ends, so that it cannot outlive the test.

import { EventSource } from 'eventsource'

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)
const source = new EventSource(process.argv[2])

source.onopen = () => tell({ kind: 'open' })
source.onerror = ({ code, message }) => tell({ kind: 'error', code, message })
source.onmessage = ({ data, lastEventId }) => {
  const { channel, pub } = JSON.parse(data)
  const { offset, skipped = 0, data: published } = pub
  tell({ kind: 'event', channel, offset, skipped, data: published, cursor: lastEventId })
}
source.addEventListener('gap', ({ data }) => tell({ kind: 'gap', ...JSON.parse(data) }))
source.addEventListener('close', ({ data }) => tell({ kind: 'close', ...JSON.parse(data) }))

process.stdin.on('end', () => process.exit(0)).resume()
