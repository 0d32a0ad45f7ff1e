// `connect` of fanwire.js with the npm package `eventsource`: what its handlers are told, one JSON
// object a line.
//
//   node feed.mjs HUB_URL OPTIONS
//
// Ends when standard input ends, so that it cannot outlive the test.

import { EventSource } from 'eventsource'
import { connect } from '../../clients/js/fanwire.js'

const [url, options] = process.argv.slice(2)
const tell = (kind) => (what) => process.stdout.write(`${JSON.stringify({ kind, ...what })}\n`)

connect({
  url,
  ...JSON.parse(options),
  EventSource,
  onSnapshot: tell('snapshot'),
  onPublication: tell('publication'),
  onGap: tell('gap'),
  onState: tell('state'),
  onError: (error) => tell('error')({ message: error.message }),
})

process.stdin.on('end', () => process.exit(0)).resume()
