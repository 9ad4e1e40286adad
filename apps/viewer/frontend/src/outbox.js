/** What has not arrived yet is sent again until the server says so: a page that is being drawn anew may lose a message. */

const FIRST_MS = 2000 // then twice as long each time: a server that is slow is not asked faster than it can answer
const MOST_MS = 30000
let last = 0

/** A number that grows, also over a component that is mounted anew. */
export function nextSerial() {
  last = Math.max(Date.now(), last + 1)
  return last
}

/** Calls again and again, ever more slowly, until it is stopped. */
class Repeater {
  constructor(run) {
    this.run = run
  }

  start(wait = FIRST_MS) {
    this.stop()
    this.run()
    this.timer = setTimeout(() => this.start(Math.min(2 * wait, MOST_MS)), wait)
  }

  stop() {
    clearTimeout(this.timer)
  }
}

/** What was drawn: every drawing counts, in its order. */
export class Outbox {
  /** @param {(drawings: import('../contract.js').Drawing[]) => void} send */
  constructor(send) {
    /** @type {import('../contract.js').Drawing[]} */
    this.waiting = []
    this.repeater = new Repeater(() => send([...this.waiting]))
  }

  /** @param {'add' | 'change' | 'remove'} act @param {import('../contract.js').Drawing['measurement']} measurement */
  put(act, measurement) {
    this.waiting.push({ serial: nextSerial(), act, measurement })
    this.repeater.start()
  }

  /** Everything up to this serial has arrived; what has not. */
  answered(serial) {
    this.waiting = this.waiting.filter((d) => d.serial > serial)
    if (!this.waiting.length) this.repeater.stop()
    return this.waiting
  }

  close() {
    this.repeater.stop()
  }
}

/** Single messages that bear a serial, such as a key that was chosen: of each event only the newest counts. */
export class Post {
  constructor() {
    this.send = null
    /** @type {Map<string, { serial: number }>} */
    this.waiting = new Map()
    this.repeater = new Repeater(() => this.waiting.forEach((value, event) => this.send(event, value)))
  }

  /** A part is there (again), which sends by this: what waits goes out. */
  open(send) {
    this.send = send
    if (this.waiting.size) this.repeater.start()
  }

  tell(event, value) {
    if (typeof value?.serial !== 'number') return this.send(event, value)
    this.waiting.set(event, value)
    this.repeater.start()
  }

  /** @param {Record<string, number>} serials the newest that arrived, by event */
  heard(serials) {
    this.waiting.forEach((value, event) => { if ((serials[event] ?? 0) >= value.serial) this.waiting.delete(event) })
    if (!this.waiting.size) this.repeater.stop()
  }

  close() {
    this.repeater.stop()
  }
}
