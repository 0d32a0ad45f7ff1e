/** An EventSource whose server is the test. */
export class FakeEventSource {
  static all = [];

  constructor(address) {
    this.url = new URL(address);
    this.readyState = 0;
    this.listeners = {};
    FakeEventSource.all.push(this);
  }

  static get last() {
    return FakeEventSource.all.at(-1);
  }

  get channels() {
    return this.url.searchParams.getAll("channel");
  }

  get cursor() {
    return this.url.searchParams.get("last_event_id");
  }

  get ticket() {
    return this.url.searchParams.get("ticket");
  }

  addEventListener(kind, listener) {
    this.listeners[kind] = listener;
  }

  open() {
    this.readyState = 1;
    this.onopen({});
  }

  publish(channel, offset, data, lastEventId = `${channel}:${offset}`) {
    this.message(JSON.stringify({ channel, pub: { offset, data } }), lastEventId);
  }

  message(data, lastEventId = "") {
    if (this.readyState !== 2) this.onmessage({ data, lastEventId });
  }

  emit(kind, value, lastEventId = "") {
    if (this.readyState !== 2) this.listeners[kind]({ data: JSON.stringify(value), lastEventId });
  }

  /** The stream broke and the browser tries again by itself. */
  break() {
    this.readyState = 0;
    this.onerror({});
  }

  /** The browser gives up, as it does for any status but 200. */
  giveUp() {
    this.readyState = 2;
    this.onerror({});
  }

  close() {
    this.readyState = 2;
  }
}
