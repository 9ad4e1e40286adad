/** What was drawn and has not arrived yet: sent again until the server says so, as a page drawn anew may lose a message. */

const AGAIN_MS = 2000
let last = 0

export class Outbox {
  /** @param {(drawings: import('../contract.js').Drawing[]) => void} send */
  constructor(send) {
    this.send = send
    /** @type {import('../contract.js').Drawing[]} */
    this.waiting = []
  }

  /** @param {'add' | 'change' | 'remove'} act @param {import('../contract.js').Drawing['measurement']} measurement */
  put(act, measurement) {
    last = Math.max(Date.now(), last + 1) // grows, also over a component that is mounted anew
    this.waiting.push({ serial: last, act, measurement })
    this.#again()
  }

  /** Everything up to this serial has arrived; what has not. */
  answered(serial) {
    this.waiting = this.waiting.filter((d) => d.serial > serial)
    if (!this.waiting.length) clearTimeout(this.timer)
    return this.waiting
  }

  #again() {
    clearTimeout(this.timer)
    if (!this.waiting.length) return
    this.send([...this.waiting])
    this.timer = setTimeout(() => this.#again(), AGAIN_MS)
  }

  close() {
    clearTimeout(this.timer)
  }
}
