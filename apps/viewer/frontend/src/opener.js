/** A worklist opens as in a PACS: a double click on a row, or Enter, presses the button that opens the chosen case. */

import { hear } from './dom.js'

const WAIT_MS = 5000 // for the server to know which row was chosen

export class Opener {
  constructor() {
    this.off = [
      hear(document, 'dblclick', (e) => this.#listed(e) && this.#open()),
      hear(document, 'keydown', (e) => e.key === 'Enter' && !e.isComposing && this.#listed(e) && this.#open(), true),
    ]
  }

  #listed(event) {
    return event.composedPath().some((x) => x instanceof HTMLElement && x.dataset.testid === 'stDataFrame')
  }

  /** The button comes, or changes to the new row, only when the choice has reached the server. */
  #open() {
    clearInterval(this.timer)
    const started = Date.now()
    this.timer = setInterval(() => {
      const running = document.querySelector('[data-testid=stStatusWidget], [data-test-script-state=running]')
      const button = /** @type {HTMLButtonElement | null} */ (document.querySelector('.st-key-open button'))
      if (Date.now() - started > WAIT_MS) clearInterval(this.timer)
      else if (button && !button.disabled && !running && Date.now() - started > 400) { clearInterval(this.timer); button.click() }
    }, 100)
  }

  update() {}

  stand() {}

  close() {
    clearInterval(this.timer)
    this.off.forEach((f) => f())
  }
}
