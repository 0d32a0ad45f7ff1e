// The official JavaScript client, told by a test what to do: one JSON object a line on
// standard input, one on standard output for whatever happens.

import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';

const [url, firstToken] = process.argv.slice(2);
const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');

const client = new Centrifuge(url, {
  websocket: WebSocket,
  minReconnectDelay: 50,
  maxReconnectDelay: 200,
  timeout: 1_000, // Node 20 does not say when a handshake is refused
  ...(firstToken ? { token: firstToken, getToken: async () => (say('getToken'), 'fresh') } : {}),
});
for (const event of ['connected', 'connecting', 'disconnected', 'error'])
  client.on(event, (context) => say(event, { code: context.code ?? context.error?.code }));

const subscriptions = new Map();

function subscribe({ channel, since, data }) {
  let subscription = subscriptions.get(channel);
  if (!subscription) {
    subscription = client.newSubscription(channel, { ...(since && { since }), ...(data && { data }) });
    subscription.on('publication', ({ offset, data, info }) =>
      say('publication', { offset, data, user: info?.client }));
    subscription.on('subscribed', ({ recovered, wasRecovering, streamPosition, data: told }) =>
      say('subscribed', { recovered, wasRecovering, position: streamPosition, data: told }));
    subscription.on('unsubscribed', ({ code }) => say('unsubscribed', { code }));
    subscription.on('error', ({ error }) => say('subscription error', { code: error.code }));
    subscriptions.set(channel, subscription);
  }
  subscription.subscribe();
}

const commands = {
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe,
  unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
  publish: async ({ channel, data }) => {
    await client.publish(channel, data);
    say('published');
  },
  history: async ({ channel, ...options }) => {
    const { publications, epoch, offset } = await client.history(channel, options);
    say('history', { offsets: publications.map((each) => each.offset), epoch, offset });
  },
  presence: async ({ channel }) => {
    await client.presence(channel);
  },
};

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { do: name, ...options } = JSON.parse(line);
    try {
      await commands[name](options);
    } catch (error) {
      say('failed', { code: error.code });
    }
  })
  .on('close', () => process.exit(0));
